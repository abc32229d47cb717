//! Filters of system calls.

use rustix::io::Errno;

use crate::{Result, check};

/// One instruction of a filter, as the kernel has it (`struct sock_filter` of linux/filter.h).
#[derive(Debug, Clone, Copy)]
pub struct Instruction {
    /// What to do.
    pub code: u16,
    /// Distance of the jump if a test holds.
    pub jt: u8,
    /// Distance of the jump if it does not.
    pub jf: u8,
    /// The constant.
    pub k: u32,
}

/// seccomp(2): all later system calls of this process and what comes from it go through `program`. The kernel checks
/// the program, and that we may: with `CAP_SYS_ADMIN` or without new privileges.
pub fn set_filter(program: &[Instruction]) -> Result<()> {
    let mut filter: Vec<libc::sock_filter> =
        program.iter().map(|i| libc::sock_filter { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    let len = u16::try_from(filter.len()).map_err(|_| Errno::INVAL)?;
    let whole = libc::sock_fprog { len, filter: filter.as_mut_ptr() };
    // SAFETY: `whole` and the instructions it points to outlive the call, which copies them, and `len` is their number.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const whole) };
    check(result as libc::c_int).map(drop)
}
