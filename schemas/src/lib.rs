//! The contracts of Berth: what its programs say to each other, and the words they use for it.
//!
//! The varlink interfaces in `varlink/` are the source; the types under [`node`], [`domain`], [`network`] and [`controller`] are
//! generated from them (`cargo xtask gen`) and committed. [`wire`] cuts bytes into messages and back,
//! [`words`] what is said of them for people.
//!
//! This crate does not know sockets, files, XML or any program that uses it.

pub mod dbus;
pub mod name;
pub mod service;
pub mod wire;
pub mod words;

#[path = "generated/controller.rs"]
pub mod controller;
#[path = "generated/domain.rs"]
pub mod domain;
#[path = "generated/network.rs"]
pub mod network;
#[path = "generated/node.rs"]
pub mod node;

/// Version of [`controller::LaunchPlan`] that this build writes and understands.
pub const LAUNCH_PLAN_VERSION: i64 = 4;
