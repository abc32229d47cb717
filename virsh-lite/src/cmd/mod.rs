//! The commands, a file for each group of them.
//!
//! This file knows their names and order, and nothing of what they do.

use crate::grammar::{Command, Group};

pub mod autostart;
pub mod blkio;
pub mod builtin;
pub mod console;
pub mod cpu;
pub mod define;
pub mod device;
pub mod disk;
pub mod document;
pub mod domhostname;
pub mod domifaddr;
pub mod domstats;
pub mod edit;
pub mod event;
pub mod figures;
pub mod generate;
pub mod help;
pub mod host;
pub mod info;
pub mod interface;
pub mod limits;
pub mod list;
pub mod memory;
pub mod metadata;
pub mod net;
pub mod nic;
pub mod node;
pub mod pause;
pub mod ready;
pub mod resources;
pub mod signal;
pub mod start;
pub mod stop;
pub mod stop_all;

/// Every command, hidden ones last; inside a group in the order of `help`.
pub static ALL: &[&Command] = &[
    // Domain Management
    &device::ATTACH_DEVICE,
    &disk::ATTACH_DISK,
    &interface::ATTACH_INTERFACE,
    &autostart::AUTOSTART,
    &blkio::BLKIOTUNE,
    &console::CONSOLE,
    &figures::CPU_STATS,
    &define::CREATE,
    &define::DEFINE,
    &metadata::DESC,
    &stop::DESTROY,
    &device::DETACH_DEVICE,
    &disk::DETACH_DISK,
    &interface::DETACH_INTERFACE,
    &info::DOMID,
    &domhostname::DOMHOSTNAME,
    &interface::DOMIF_SETLINK,
    &interface::DOMIFTUNE,
    &info::DOMNAME,
    &info::DOMUUID,
    &document::DUMPXML,
    &edit::EDIT,
    &limits::LIMITS,
    &memory::MEMTUNE,
    &metadata::METADATA,
    &cpu::NUMATUNE,
    &stop::REBOOT,
    &pause::RESUME,
    &cpu::SCHEDINFO,
    &signal::SEND_PROCESS_SIGNAL,
    &memory::SETMAXMEM,
    &memory::SETMEM,
    &cpu::SETVCPUS,
    &stop::SHUTDOWN,
    &start::START,
    &pause::SUSPEND,
    &host::TTYCONSOLE,
    &define::UNDEFINE,
    &device::UPDATE_DEVICE,
    &cpu::VCPUPIN,
    // Domain Monitoring
    &disk::DOMBLKLIST,
    &figures::DOMBLKSTAT,
    &interface::DOMIF_GETLINK,
    &domifaddr::DOMIFADDR,
    &interface::DOMIFLIST,
    &figures::DOMIFSTAT,
    &info::DOMINFO,
    &figures::DOMMEMSTAT,
    &info::DOMSTATE,
    &domstats::DOMSTATS,
    &list::LIST,
    &cpu::VCPUCOUNT,
    // Domain Events
    &event::EVENT,
    // Networking
    &net::life::AUTOSTART,
    &net::life::CREATE,
    &net::life::DEFINE,
    &net::life::DESTROY,
    &net::leases::LEASES,
    &net::info::DUMPXML,
    &net::life::EDIT,
    &net::event::EVENT,
    &net::info::INFO,
    &net::list::LIST,
    &net::info::NAME,
    &net::plug::PLUG,
    &net::life::START,
    &net::life::UNDEFINE,
    &net::plug::UNPLUG,
    &net::update::UPDATE,
    &net::info::UUID,
    // Host and Hypervisor
    &host::CAPABILITIES,
    &node::FREECELL,
    &host::HOSTNAME,
    &host::NODE_MEMORY_TUNE,
    &node::NODECPUMAP,
    &node::NODECPUSTATS,
    &host::NODEINFO,
    &node::NODEMEMSTATS,
    &host::SYSINFO,
    &host::URI,
    &host::VERSION,
    // Virsh itself
    &builtin::CD,
    &builtin::CONNECT,
    &builtin::ECHO,
    &builtin::EXIT,
    &help::HELP,
    &builtin::PWD,
    &builtin::QUIT,
    // Not shown
    &generate::COMPLETE,
    &generate::GENERATE,
    &builtin::SERVE_STDIO,
    &stop_all::STOP_ALL,
];

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    ALL.iter().copied().find(|c| c.name == name)
}

/// The commands that are shown.
pub fn visible() -> impl Iterator<Item = &'static Command> {
    ALL.iter().copied().filter(|c| !c.hidden)
}

/// The commands of a group.
pub fn of_group(group: Group) -> impl Iterator<Item = &'static Command> {
    visible().filter(move |c| c.group == group)
}
