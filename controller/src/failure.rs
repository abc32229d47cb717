//! The steps of a container's life by name, and what is told when one of them fails.
//!
//! This module does not know what the steps do.

use berth_schemas::controller::StepFailure;
use rustix::io::Errno;

/// A step that failed. Boxed: it is large, and nearly every function of the set-up can return it.
pub type Failure = Box<StepFailure>;

/// Result of a part of a step.
pub type Outcome<T> = Result<T, Failure>;

macro_rules! steps {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// All steps, in the order in which they are taken. The names are part of the interface: `StepFailure.step`
        /// and `LaunchPlan.killAtStep` have them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Step { $($(#[$doc])* $variant,)* }

        impl Step {
            /// All of them.
            pub const ALL: &'static [Step] = &[$(Self::$variant,)*];

            /// Name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

steps! {
    // In the controller, before the container's first process.
    /// The plan is checked.
    Plan = "plan",
    /// The descriptors that came with it are taken.
    Descriptors = "descriptors",
    /// Groups are made below the domain's v2 group; the controller moves into its own.
    Cgroup = "cgroup",
    /// The user namespace is made.
    Ids = "ids",
    /// Logs, host PTYs, the container's devpts and the masters of its consoles.
    Consoles = "consoles",
    /// The tmpfs that becomes /dev.
    Dev = "dev",
    /// Devices of the host and images become device files.
    Nodes = "nodes",
    /// The root and all mounted host paths are cloned as detached trees.
    Sources = "sources",
    /// Which devices may be opened is put in force.
    Rules = "rules",
    /// The future init is made.
    Clone = "clone",
    // In the future init.
    /// Joins the control groups and makes or joins namespaces.
    Namespaces = "namespaces",
    /// In the controller meanwhile: limits of processes are raised as far as they are going to be needed.
    Limits = "limits",
    /// In the controller meanwhile: interfaces of the host are moved.
    Interfaces = "interfaces",
    /// Attaches the root.
    Root = "root",
    /// Makes it the root directory and leaves the host's mounts.
    Pivot = "pivot",
    /// Mounts /proc.
    Proc = "proc",
    /// Mounts /sys and the control groups.
    Sys = "sys",
    /// Mounts /dev with what is in it.
    Devices = "devices",
    /// Mounts /run.
    Run = "run",
    /// Mounts the plan's filesystems.
    Filesystems = "filesystems",
    /// Makes the root read-only.
    Readonly = "readonly",
    /// Hides paths and makes paths read-only.
    Hide = "hide",
    /// Puts the container's own view over files of /proc and /sys. In the controller before that: makes it.
    View = "view",
    /// Sets the loopback interface up.
    Network = "network",
    /// Sets host name and personality.
    Hostname = "hostname",
    /// Looks up user and groups.
    User = "user",
    /// Gets a session with the first console as its terminal.
    Terminal = "terminal",
    /// Gives up capabilities.
    Capabilities = "capabilities",
    /// Changes to the AppArmor profile.
    Profile = "profile",
    /// Gets the filter of system calls; becomes the user.
    SystemCalls = "system-calls",
    /// Goes to the working directory.
    Directory = "directory",
    /// Becomes init.
    Exec = "exec",
    // In the controller again.
    /// Init runs.
    Running = "running",
    /// Init ended in a way that asks for another one, which is about to be made.
    Restart = "restart",
    /// Everything inside is about to be killed on request.
    Stop = "stop",
    /// The container is gone; the exit record is about to be written.
    Ended = "ended",
}

impl Step {
    /// The step with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|s| s.name() == name)
    }
}

/// What is being tried: becomes a [`Failure`] if it does not work.
#[derive(Debug, Clone, Copy)]
pub struct Doing<'a> {
    step: Step,
    operation: &'static str,
    path: Option<&'a str>,
    target: Option<&'a str>,
}

impl<'a> Doing<'a> {
    /// An operation of a step.
    pub fn new(step: Step, operation: &'static str) -> Self {
        Self { step, operation, path: None, target: None }
    }

    /// With the path it is about.
    pub fn path(self, path: &'a str) -> Self {
        Self { path: Some(path), ..self }
    }

    /// With the second path.
    pub fn target(self, target: &'a str) -> Self {
        Self { target: Some(target), ..self }
    }

    /// Failed with an error of the kernel.
    pub fn failed(self, errno: Errno) -> Failure {
        self.failure(Some(errno), None)
    }

    /// Failed with an error of the kernel that needs a word more.
    pub fn failed_because(self, errno: Errno, detail: impl Into<String>) -> Failure {
        self.failure(Some(errno), Some(detail.into()))
    }

    /// Refused by ourselves.
    pub fn refused(self, detail: impl Into<String>) -> Failure {
        self.failure(None, Some(detail.into()))
    }

    fn failure(self, errno: Option<Errno>, detail: Option<String>) -> Failure {
        Box::new(StepFailure {
            step: self.step.name().to_owned(),
            operation: self.operation.to_owned(),
            path: self.path.map(str::to_owned),
            target: self.target.map(str::to_owned),
            errno: errno.map(|e| i64::from(e.raw_os_error())),
            detail,
        })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn names_are_unique_and_found() {
        for step in Step::ALL {
            assert_eq!(Step::from_name(step.name()), Some(*step));
        }
        assert_eq!(Step::from_name("nope"), None);
    }
}
