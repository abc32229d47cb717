//! Sockets: what there is to do in a new network namespace, and not to listen.

use std::os::fd::{AsRawFd, BorrowedFd};

use crate::{Result, check};

/// Drops all messages to a socket from now on: their senders see no error, and nobody wakes up. What is in it already
/// stays. See SO_ATTACH_FILTER in socket(7); a program that returns 0 keeps nothing of a message.
pub fn drop_messages(socket: BorrowedFd<'_>) -> Result<()> {
    // Code of linux/bpf_common.h: BPF_RET | BPF_K.
    let mut program = [libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 }];
    let filter = libc::sock_fprog { len: 1, filter: program.as_mut_ptr() };
    // SAFETY: the filter has as many instructions as it tells, and both outlive the call, which only reads them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    check(result).map(drop)
}

/// Sets the loopback interface up: netdevice(7), SIOCSIFFLAGS.
pub fn loopback_up() -> Result<()> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: an ifreq of all zeros is valid: a name of no length and flags of none.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = *from as libc::c_char;
    }
    // SAFETY: the request is a whole ifreq with a terminated name; the kernel fills in the flags.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request) })?;
    // SAFETY: the flags are what the call before has stored; the kernel reads the request only.
    unsafe {
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request)).map(drop)
    }
}
