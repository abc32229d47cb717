//! AppArmor: what the profiles of containers say, and how they come into the kernel and out of it.
//!
//! Profiles are text, one reason per rule (`src/templates`); [`render`] is pure, [`load`] speaks to the kernel. This
//! crate does not know domains, plans, or when a profile is wanted.

pub mod load;
pub mod name;
pub mod render;

mod complement;
mod template;

/// What a container may do beyond the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// What a distribution needs.
    Default,
    /// And what containers inside of it need: procfs and sysfs of their own.
    Nesting,
    /// And file systems of block devices and of file servers.
    Mounting,
}

impl Variant {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Default, Self::Nesting, Self::Mounting];

    /// Its name in documents.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Nesting => "nesting",
            Self::Mounting => "mounting",
        }
    }
}

/// The files that a package puts into `/etc/apparmor.d`: name and text.
pub const PROGRAMS: [(&str, &str); 2] = [
    ("berthd", include_str!("../profiles/berthd")),
    ("berth-controller", include_str!("../profiles/berth-controller")),
];

/// Profile of the controller, which the daemon asks for as the program has no path to know it by.
pub const CONTROLLER: &str = "berth-controller";
