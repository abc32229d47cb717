//! `berthd`: the daemon that owns definitions, state and host resources.
//!
//! The way of one request is `api` (decode, authorise) -> `engine` (find the domain) -> `container` (may it, and how)
//! -> `host` (control groups, controllers). No module looks back up.
//!
//! This crate never opens a path of a container's root, and never waits for a controller with anything held.

pub mod account;
pub mod api;
pub mod config;
pub mod container;
pub mod engine;
pub mod failure;
pub mod files;
pub mod host;
pub mod journal;
pub mod killpoint;
pub mod network;
pub mod paths;
pub mod seccomp;
pub mod service;
pub mod wire;
