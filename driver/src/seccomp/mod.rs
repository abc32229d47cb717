//! The filter of system calls that every container has (invariant I12): from what a document asks for to the program
//! that the controller hands to the kernel.
//!
//! Pure. It does not know how a program is installed, or what a container is besides.

pub mod compile;
pub mod rules;

use berth_domain::seccomp::Seccomp;
use berth_domain::syscalls;

/// Why there is no filter, and so no container.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// A profile of ours or a name that is not understood.
    #[error("cannot read the filter of system calls: {0}")]
    Rules(String),
    /// A machine without a table.
    #[error("there is no table of the system calls of '{0}' machines")]
    Machine(String),
    /// Too many additions.
    #[error("the filter of system calls is larger than the kernel takes")]
    TooLarge,
}

/// The filter for a domain on a machine, one number per instruction. `own_ids`: whether it has ids of its own; `given`:
/// whether the document gives a capability by name; `own_sysinfo`: the controller answers sysinfo(2).
pub fn filter(
    wanted: &Seccomp,
    machine: &str,
    own_ids: bool,
    given: impl Fn(&str) -> bool,
    own_sysinfo: bool,
) -> Result<Vec<i64>, FilterError> {
    let ways = compile::ways(machine).ok_or_else(|| FilterError::Machine(machine.to_owned()))?;
    let rules = rules::resolve(wanted, own_ids, given).map_err(FilterError::Rules)?;
    let asked = syscalls::find("sysinfo").filter(|_| own_sysinfo);
    let program = compile::compile(&rules, ways, asked.as_slice()).ok_or(FilterError::TooLarge)?;
    Ok(program.into_iter().map(compile::Instruction::packed).collect())
}
