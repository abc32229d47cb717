//! What a probe finds.

use crate::raw;

/// What a probe found.
#[derive(Debug)]
pub enum Verdict {
    /// It can be reached.
    Open(String),
    /// It cannot.
    Blocked(String),
    /// This kernel does not have it.
    NotHere(String),
}

impl Verdict {
    /// Open if something was found.
    pub fn open_if(open: bool, detail: impl Into<String>) -> Self {
        if open { Self::Open(detail.into()) } else { Self::Blocked(detail.into()) }
    }

    /// What an errno says about a call: only a refusal is one, any complaint about its arguments came from behind it.
    pub fn of_call<T>(result: Result<T, i32>) -> Self {
        match result {
            Ok(_) => Self::Open("done".into()),
            Err(e) if is_refusal(e) => Self::Blocked(name(e)),
            Err(e) => Self::Open(name(e)),
        }
    }

    /// The same for something that has to work to count.
    pub fn of_success<T>(result: Result<T, i32>) -> Self {
        match result {
            Ok(_) => Self::Open("done".into()),
            Err(e @ (libc::ENODEV | libc::ENOENT)) => Self::NotHere(name(e)),
            Err(e) => Self::Blocked(name(e)),
        }
    }

    /// Word and detail.
    pub fn shown(&self) -> (&'static str, &str) {
        match self {
            Self::Open(d) => ("OPEN", d),
            Self::Blocked(d) => ("BLOCKED", d),
            Self::NotHere(d) => ("NA", d),
        }
    }
}

fn is_refusal(e: i32) -> bool {
    matches!(e, libc::EPERM | libc::ENOSYS | libc::EACCES | libc::EAFNOSUPPORT | libc::EPROTONOSUPPORT)
}

/// The text of an errno.
pub fn name(e: i32) -> String {
    std::io::Error::from_raw_os_error(e).to_string().split(" (os").next().unwrap_or_default().to_owned()
}

/// The result of a function of the C library that answers -1 on failure.
pub fn check(result: libc::c_int) -> Result<libc::c_int, i32> {
    if result == -1 { Err(raw::errno()) } else { Ok(result) }
}
