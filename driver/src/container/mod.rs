//! One domain: who may ask what when, the task that owns it, how it is started and ended.
//!
//! Does not know clients.

mod active;
pub mod adoption;
mod changes;
pub mod credentials;
pub mod ending;
mod handed;
pub mod hotplug;
pub mod lifecycle;
pub mod links;
pub mod messages;
pub mod plan;
pub mod plan_devices;
pub mod plug;
pub mod start;
pub mod stop;
pub mod task;
pub mod tune;
pub mod tune_interface;
