//! A small vocabulary for tests that run the real programs: a private daemon, the command, a terminal, raw varlink,
//! a root of busybox, and a comparison of the host before and after.
//!
//! It knows the programs only from outside: their arguments, their files and their sockets.

pub mod bus;
pub mod canary;
pub mod daemon;
pub mod host;
pub mod lab;
pub mod peer;
pub mod picture;
pub mod roots;
pub mod suite;
pub mod terminal;
pub mod varlink;

/// What a test says when it fails.
pub type Outcome = Result<(), String>;

/// Fails a test with a message unless a condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// Fails a test unless two values are equal, and shows both.
#[macro_export]
macro_rules! ensure_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {
        match (&$left, &$right) {
            (left, right) => {
                if left != right {
                    return Err(format!("{}:\n  is     {left:?}\n  not    {right:?}", format!($($message)+)));
                }
            }
        }
    };
}

/// By how much things may take longer here than on a real processor: `BERTH_PATIENCE`. The virtual machine sets it,
/// because its processors are emulated.
pub fn patience() -> u32 {
    std::env::var("BERTH_PATIENCE").ok().and_then(|v| v.parse().ok()).unwrap_or(1)
}

/// How long something may take here that takes this many seconds at most on a real processor.
pub fn patient(seconds: u64) -> std::time::Duration {
    std::time::Duration::from_secs(seconds) * patience()
}

/// Asks again and again until something is there, or a deadline is over.
pub fn wait_for<T>(what: &str, seconds: u64, mut ask: impl FnMut() -> Option<T>) -> Result<T, String> {
    let deadline = std::time::Instant::now() + patient(seconds);
    loop {
        if let Some(found) = ask() {
            return Ok(found);
        }
        if std::time::Instant::now() > deadline {
            return Err(format!("{what}: not after {} s", patient(seconds).as_secs()));
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}
