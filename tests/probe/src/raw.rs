//! Raw system calls, with arguments that harm nobody.
//!
//! All arguments in this program are numbers, null, or the addresses of live constants: no call is given memory that
//! it may write to beyond what its callers own.

use std::ffi::CStr;

/// One call; its result or its errno. x86_64 and aarch64 take the numbers of their own tables.
pub fn call(number: libc::c_long, a: [u64; 6]) -> Result<i64, i32> {
    // SAFETY: see the module: the probes pass numbers, null pointers, addresses that fault, or live C strings.
    let result = unsafe { libc::syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]) };
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// The errno of the last call of the C library.
pub fn errno() -> i32 {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)
}

/// The address of a constant, as an argument.
pub fn text(text: &'static CStr) -> u64 {
    text.as_ptr() as u64
}

/// One call through the table of i386, which any 64-bit program can make too. An emulation that the kernel lacks would
/// end the process with SIGSEGV, which the caller sees.
#[cfg(target_arch = "x86_64")]
pub fn call_i386(number: u32, a: [u32; 4]) -> Result<i32, i32> {
    let result: i32;
    // SAFETY: int 0x80 enters the kernel with the numbers above; rbx, which the compiler keeps for itself, is saved, and
    // the registers that the kernel does not keep on this way (r8 to r11) are given up.
    unsafe {
        std::arch::asm!(
            "push rbx",
            "mov ebx, {first:e}",
            "int 0x80",
            "pop rbx",
            first = in(reg) a[0],
            inlateout("eax") number as i32 => result,
            in("ecx") a[1],
            in("edx") a[2],
            in("esi") a[3],
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    if (-4095..0).contains(&result) { Err(-result) } else { Ok(result) }
}
