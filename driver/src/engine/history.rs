//! How domains ended last time, over restarts of the daemon: one file, to which every end is a line.
//!
//! Does not know which domains there still are. All functions block.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use berth_schemas::domain::{Exit, Reason};
use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::files;

/// The file is written anew when it is longer than this.
const MAX_BYTES: u64 = 4 << 20;

/// How a domain ended last time, and what that made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Past {
    /// How.
    pub exit: Exit,
    /// Why it is shut off.
    pub reason: Reason,
}

#[derive(Serialize, Deserialize)]
struct Line {
    uuid: Uuid,
    past: Option<Past>,
}

/// The file.
#[derive(Debug)]
pub struct History {
    path: PathBuf,
    /// One writer at a time.
    turn: Mutex<()>,
}

impl History {
    /// Uses a file, which is made.
    pub fn new(path: PathBuf) -> io::Result<Self> {
        open(&path, true)?;
        Ok(Self { path, turn: Mutex::new(()) })
    }

    /// What was noted last of each domain. A line that a crash cut short says nothing.
    pub fn load(&self) -> io::Result<HashMap<Uuid, Past>> {
        Ok(parse(&files::read(&self.path, files::MOST)?))
    }

    /// Notes an end, or that there is nothing to know any more.
    pub fn note(&self, uuid: Uuid, past: Option<Past>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = serde_json::to_vec(&Line { uuid, past })?;
        line.push(b'\n');
        let mut file = open(&self.path, true)?;
        file.write_all(&line)?;
        if file.metadata()?.len() > MAX_BYTES { self.rewrite(&self.load()?) } else { Ok(()) }
    }

    /// Forgets all others.
    pub fn keep(&self, known: &HashMap<Uuid, Past>) -> io::Result<()> {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.rewrite(known)
    }

    fn rewrite(&self, known: &HashMap<Uuid, Past>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        let mut text = Vec::new();
        for (uuid, past) in known {
            serde_json::to_writer(&mut text, &Line { uuid: *uuid, past: Some(past.clone()) })?;
            text.push(b'\n');
        }
        let mut file = open(&new, false)?;
        file.set_len(0)?;
        file.write_all(&text)?;
        fs::rename(new, &self.path)
    }
}

/// Reads the lines. One that a crash or a bad disk spoilt says nothing, and spoils no other.
pub fn parse(bytes: &[u8]) -> HashMap<Uuid, Past> {
    let mut all = HashMap::new();
    for line in bytes.split(|b| *b == b'\n') {
        match serde_json::from_slice::<Line>(line) {
            Ok(Line { uuid, past: Some(past) }) => drop(all.insert(uuid, past)),
            Ok(Line { uuid, past: None }) => drop(all.remove(&uuid)),
            Err(_) => {}
        }
    }
    all
}

fn open(path: &std::path::Path, append: bool) -> io::Result<fs::File> {
    let flags = OFlags::NOFOLLOW.bits().cast_signed();
    OpenOptions::new().append(append).write(true).create(true).mode(0o600).custom_flags(flags).open(path)
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_schemas::domain::ExitKind;

    #[test]
    fn the_last_line_counts_and_a_torn_one_does_not() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let history = History::new(dir.path().join("ended")).expect("made");
        let past = |at| {
            let exit = Exit { kind: ExitKind::Exited, status: Some(3), signal: None, at_u_sec: at };
            Past { exit, reason: Reason::Crashed }
        };
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        history.note(a, Some(past(1))).expect("noted");
        history.note(b, Some(past(2))).expect("noted");
        history.note(a, Some(past(3))).expect("noted");
        history.note(b, None).expect("noted");
        let mut file = open(&history.path, true).expect("open");
        file.write_all(b"{\"uuid\":\"0000").expect("torn");
        let all = history.load().expect("read");
        assert_eq!(all, HashMap::from([(a, past(3))]));
        history.keep(&all).expect("rewritten");
        assert_eq!(history.load().expect("read"), all);
    }
}
