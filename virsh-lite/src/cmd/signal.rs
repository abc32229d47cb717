//! `send-process-signal`.
//!
//! Does not know what init makes of a signal.

use berth_schemas::domain::{Method, SendProcessSignalIn, SendProcessSignalOut};

use super::resources::number;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::Session;

/// `send-process-signal`
pub static SEND_PROCESS_SIGNAL: Command =
    Command::new("send-process-signal", Group::Domain, "Send signals to processes", send)
        .about(
            "Sends a signal to a process of the domain. Only init, which is process 1, can be reached. It gets the\n\
             signals that it has a handler for, and kill and stop. A signal is a number or a name: term, SIGTERM and\n\
             sig_term are the same; rt0 is number 32, and rt2 is what C programs call SIGRTMIN.",
        )
        .options(&[
            Opt::domain(),
            Opt::number("pid", "the process ID inside the domain").required(),
            Opt::text("signame", "the signal number or name").required().from(Values::Words(NAMES)),
        ]);

/// libvirt's names of the signals that Linux has names for, by their numbers.
const NAMES: &[&str] = &[
    "nop", "hup", "int", "quit", "ill", "trap", "abrt", "bus", "fpe", "kill", "usr1", "segv", "usr2", "pipe",
    "alrm", "term", "stkflt", "chld", "cont", "stop", "tstp", "ttin", "ttou", "urg", "xcpu", "xfsz",
    "vtalrm", "prof", "winch", "poll", "pwr", "sys",
];

/// Number of the first real-time signal of the kernel.
const FIRST_REAL_TIME: i64 = 32;

/// The number of a signal.
fn signal(word: &str) -> Option<i64> {
    let word = word.to_ascii_lowercase();
    if let Ok(number) = word.parse::<i32>() {
        return Some(number.into());
    }
    let name = word.strip_prefix("sig_").or_else(|| word.strip_prefix("sig")).unwrap_or(&word);
    if let Some(number) = NAMES.iter().position(|n| *n == name) {
        return i64::try_from(number).ok();
    }
    let number = name.strip_prefix("rt").filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
    let number: i64 = number.parse().ok()?;
    (number <= 32).then_some(FIRST_REAL_TIME + number)
}

fn send(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let domain = session.domain(args.required("domain"))?;
    let pid = number(args.required("pid"), "--pid")?;
    let word = args.required("signame");
    let malformed = || Failure::line(format!("malformed signal name: {word}"));
    let signal = signal(word).filter(|n| *n >= 0).ok_or_else(malformed)?;
    let ask = SendProcessSignalIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        pid,
        signal,
    };
    let done = session.call::<_, SendProcessSignalOut>(Method::SendProcessSignal, &ask);
    done.map(drop).map_err(|e| session.failure("", &domain, &e))
}

#[cfg(test)]
mod test {
    use super::signal;

    #[test]
    fn signals_have_names_and_numbers() {
        for (word, number) in [
            ("nop", Some(0)),
            ("15", Some(15)),
            ("term", Some(15)),
            ("SIGTERM", Some(15)),
            ("Sig_Usr1", Some(10)),
            ("sys", Some(31)),
            ("rt0", Some(32)),
            ("SIGRT32", Some(64)),
            ("-1", Some(-1)),
            ("rt33", None),
            ("rt", None),
            ("rt+1", None),
            ("sig", None),
            ("", None),
            ("99999999999", None),
        ] {
            assert_eq!(signal(word), number, "{word}");
        }
    }
}
