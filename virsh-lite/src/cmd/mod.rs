//! The commands, a file for each group of them.

use crate::grammar::{Command, Group};

pub mod console;
pub mod define;
pub mod document;
pub mod help;
pub mod info;
pub mod list;
pub mod start;
pub mod stop;

/// Every command, hidden ones last; inside a group in the order of `help`.
pub static ALL: &[&Command] = &[
    // Domain Management
    &console::CONSOLE,
    &define::CREATE,
    &define::DEFINE,
    &stop::DESTROY,
    &info::DOMID,
    &info::DOMNAME,
    &info::DOMUUID,
    &document::DUMPXML,
    &stop::REBOOT,
    &stop::SHUTDOWN,
    &start::START,
    &define::UNDEFINE,
    // Domain Monitoring
    &info::DOMINFO,
    &info::DOMSTATE,
    &list::LIST,
    // Virsh itself
    &help::HELP,
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
