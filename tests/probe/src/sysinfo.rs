//! sysinfo(2) from inside of a container: what it tells, how long it takes, and how bad addresses are answered.
//!
//! Not a part of the probes: `berth-probe --sysinfo ...`. It does not know what should be told.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Instant;

use crate::raw::{self, errno};
use crate::verdict::name;

/// The structure of 64-bit programs, whole.
const SIZE: usize = 112;

/// Tells what is asked for.
pub fn tell(mut words: impl Iterator<Item = String>) {
    match words.next().as_deref() {
        None => println!("{}", asked().map_or_else(name, |info| shown(&info))),
        #[cfg(target_arch = "x86_64")]
        Some("i386") => println!("{}", i386()),
        Some("bad") => bad(),
        Some("time") => time(words.next().and_then(|n| n.parse().ok()).unwrap_or(1000)),
        Some("flood") => flood(Path::new(&words.next().unwrap_or_default())),
        Some("into") => into(&words.next().unwrap_or_default(), Path::new(&words.next().unwrap_or_default())),
        Some("timer") => timer(words.next().and_then(|n| n.parse().ok()).unwrap_or(1000)),
        Some("listen") => println!("{}", listen().map_or_else(name, |()| "listens".into())),
        Some(other) => println!("'{other}' is unknown"),
    }
}

fn asked() -> Result<libc::sysinfo, i32> {
    // SAFETY: all bits zero are a value of this structure of numbers.
    let mut info: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the structure, which is alive during the call.
    if unsafe { libc::sysinfo(&raw mut info) } == -1 { Err(errno()) } else { Ok(info) }
}

fn shown(info: &libc::sysinfo) -> String {
    let unit = u64::from(info.mem_unit);
    let [one, five, fifteen] = info.loads;
    format!(
        "up {} total {} free {} shared {} buffers {} swap {} freeswap {} procs {} loads {one} {five} {fifteen}",
        info.uptime,
        info.totalram * unit,
        info.freeram * unit,
        info.sharedram * unit,
        info.bufferram * unit,
        info.totalswap * unit,
        info.freeswap * unit,
        info.procs,
    )
}

/// Pages of zeros.
fn pages(count: usize, protection: i32, flags: i32) -> u64 {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: new memory wherever the kernel likes, which nobody else has.
    unsafe { libc::mmap(std::ptr::null_mut(), 4096 * count, protection, flags, -1, 0) as u64 }
}

/// By the table of i386: number 116.
#[cfg(target_arch = "x86_64")]
fn i386() -> String {
    let at = pages(1, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_32BIT);
    if let Err(e) = raw::call_i386(116, [at as u32, 0, 0, 0]) {
        return name(e);
    }
    // SAFETY: a page of our own, of which the kernel has written 64 bytes and the rest is zero.
    let words = unsafe { std::slice::from_raw_parts(at as *const u32, 28) };
    let unit = u64::from(words[13]);
    let beyond = words[16..].iter().any(|word| *word != 0);
    format!(
        "up {} total {} free {} procs {}{}",
        words[0],
        u64::from(words[4]) * unit,
        u64::from(words[5]) * unit,
        words[10] & 0xffff,
        if beyond { " and beyond its end" } else { "" }
    )
}

/// Addresses at which nothing can be written, and one at which only a part can.
fn bad() {
    let three = pages(3, libc::PROT_READ | libc::PROT_WRITE, 0);
    let hole = three + 4096;
    // SAFETY: the second of our own three pages, which nothing else uses.
    unsafe { libc::munmap(hole as *mut libc::c_void, 4096) };
    let addresses = [
        ("null", 0),
        ("low", 1),
        ("kernel", 0xffff_8000_0000_0000),
        ("high", u64::MAX - 200),
        ("hole", hole),
        ("across", hole - SIZE as u64 / 2),
        ("file", shared().unwrap_or(hole)),
        ("good", hole - SIZE as u64),
    ];
    let told = addresses.map(|(_, at)| raw::call(libc::SYS_sysinfo, [at, 0, 0, 0, 0, 0]).map_err(name));
    for ((what, _), told) in addresses.into_iter().zip(told) {
        println!("{what}: {told:?}");
    }
}

/// A file that cannot be written to.
fn shared() -> Option<u64> {
    let file = std::fs::File::open("/bin/busybox").ok()?;
    let at = std::ptr::null_mut();
    // SAFETY: new memory wherever the kernel likes, which nobody else has.
    let at = unsafe { libc::mmap(at, 4096, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    (at != libc::MAP_FAILED).then_some(at as u64)
}

/// Asks for the answer in memory that is a file's, of which nothing is there yet, until another file is there.
fn into(file: &str, stop: &Path) {
    let Ok(file) = std::fs::File::open(file) else { return println!("no such file") };
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let mut times = 0;
    while !stop.exists() {
        let at = std::ptr::null_mut();
        // SAFETY: new memory wherever the kernel likes, which nobody else has.
        let at = unsafe { libc::mmap(at, 4096, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
        // Whether it works is of no interest.
        let _ = raw::call(libc::SYS_sysinfo, [at as u64, 0, 0, 0, 0, 0]);
        // SAFETY: what was made above, and nobody else has.
        unsafe { libc::munmap(at, 4096) };
        times += 1;
    }
    println!("{times}");
}

/// The median and the longest of some calls, in nanoseconds.
fn time(count: usize) {
    let mut took: Vec<u128> = Vec::with_capacity(count);
    for _ in 0..count.max(1) {
        let begin = Instant::now();
        let _ = asked();
        took.push(begin.elapsed().as_nanos());
    }
    took.sort_unstable();
    println!("median {} longest {}", took[took.len() / 2], took[took.len() - 1]);
}

extern "C" fn nothing(_: libc::c_int) {}

/// How many of some calls are interrupted by a timer of 10 ms whose handler was set without SA_RESTART.
fn timer(count: usize) {
    // SAFETY: all bits zero are a value of this structure: no flags, and no signal is blocked meanwhile.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as *const () as usize;
    let each = libc::timeval { tv_sec: 0, tv_usec: 10_000 };
    let each = libc::itimerval { it_interval: each, it_value: each };
    // SAFETY: both structures are alive during the calls, and the handler touches nothing.
    unsafe {
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        libc::setitimer(libc::ITIMER_REAL, &raw const each, std::ptr::null_mut());
    }
    let interrupted = (0..count).filter(|_| asked().err() == Some(libc::EINTR)).count();
    println!("interrupted {interrupted}");
}

/// Asks until a file is there; how often each amount of memory, or error, was told.
fn flood(stop: &Path) {
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    while !stop.exists() {
        for _ in 0..20 {
            let what =
                asked().map_or_else(name, |info| (info.totalram * u64::from(info.mem_unit)).to_string());
            *told.entry(what).or_default() += 1;
        }
    }
    for (what, times) in told {
        println!("{times} {what}");
    }
}

/// Tries to be the one who listens to a filter that lets everything through.
fn listen() -> Result<(), i32> {
    let mut all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut all };
    raw::call(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS as u64, 1, 0, 0, 0, 0])?;
    // SECCOMP_SET_MODE_FILTER with SECCOMP_FILTER_FLAG_NEW_LISTENER.
    raw::call(libc::SYS_seccomp, [1, 1 << 3, &raw const program as u64, 0, 0, 0]).map(drop)
}
