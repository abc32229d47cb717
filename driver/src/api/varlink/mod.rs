//! Varlink: the socket, its connections, and two interfaces.
//!
//! Does not know what a domain may do when.

mod connection;
mod console;
mod convert;
mod domain;
mod network;
mod node;
mod reply;
mod server;
mod stats;
mod subscribe;

pub use server::{Listener, ServeError, serve};
