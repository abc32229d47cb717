//! Varlink: the socket, its connections, and its interfaces.
//!
//! Does not know what a domain may do when.

mod connection;
mod console;
mod convert;
mod domain;
mod network;
mod node;
mod places;
mod reply;
mod server;
mod stats;
mod subscribe;

pub use server::{Listener, ServeError, serve};
