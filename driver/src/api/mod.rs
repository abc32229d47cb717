//! The doors through which requests come. Each is a folder here that decodes, authorises, asks the engine, encodes.
//!
//! Does not decide anything about domains.

pub mod access;
pub mod audit;
pub mod dbus;
pub mod metrics;
pub mod varlink;
