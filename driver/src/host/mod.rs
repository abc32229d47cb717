//! The host's side of containers: control groups, ids, confinement, controllers, and what the host is.
//!
//! Does not know definitions, phases or clients.

pub mod apparmor;
pub mod borrowed;
pub mod cgroups;
pub mod confine;
pub mod descriptors;
pub mod freezer;
pub mod idmap;
pub mod images;
pub mod ksm;
pub mod limits;
pub mod link;
pub mod links;
pub mod listening;
pub mod messages;
pub mod namespaces;
pub mod node;
pub mod node_stats;
pub mod pressure;
pub mod process;
pub mod program;
pub mod resources;
pub mod shares;
pub mod sysinfo;
pub mod systemd;
pub mod usb;
