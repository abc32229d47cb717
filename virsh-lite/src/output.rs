//! Standard output and standard error: buffering, quiet mode, colours, tables, the log file, and what happens when the
//! reader is gone.
//!
//! Does not know what is printed.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write};

use serde::Serialize;

use crate::error::Failure;

/// How a process ends that writes to a pipe nobody reads: 128 and SIGPIPE.
const READER_GONE: i32 = 141;

/// When the buffer is written out.
const FLUSH_AT: usize = 64 * 1024;

/// The two streams.
pub struct Output {
    buffer: Vec<u8>,
    quiet: bool,
    log: Option<File>,
}

impl Output {
    /// Output, quiet or not, with a log file or without.
    pub fn new(quiet: bool, log: Option<&str>) -> Self {
        let log = log.and_then(|path| OpenOptions::new().append(true).create(true).open(path).ok());
        Self { buffer: Vec::new(), quiet, log }
    }

    /// Prints data.
    pub fn print(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// Prints data that may not be text.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= FLUSH_AT {
            self.flush();
        }
    }

    /// Prints what `-q` leaves out.
    pub fn extra(&mut self, text: &str) {
        if !self.quiet {
            self.print(text);
        }
    }

    /// Whether `-q` was given.
    pub fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// Prints a JSON document on a line of its own, or on several on a terminal.
    pub fn json<T: Serialize>(&mut self, value: &T) {
        let text = if std::io::stdout().is_terminal() {
            serde_json::to_string_pretty(value)
        } else {
            serde_json::to_string(value)
        };
        self.print(&text.unwrap_or_default());
        self.print("\n");
    }

    /// Prints a JSON document on one line.
    pub fn json_line<T: Serialize>(&mut self, value: &T) {
        self.print(&serde_json::to_string(value).unwrap_or_default());
        self.print("\n");
    }

    /// Prints a failure to standard error.
    pub fn fail(&mut self, failure: &Failure) {
        self.stderr(&failure.render(colour()));
        if let Some(log) = &mut self.log {
            for line in failure.messages() {
                let _ = writeln!(log, "{}[{}] ERROR {line}", crate::times::utc_now(), std::process::id());
            }
        }
    }

    /// Prints to standard error what belongs behind what was printed so far.
    pub fn stderr(&mut self, text: &str) {
        self.flush();
        let _ = std::io::stderr().write_all(text.as_bytes());
    }

    /// Writes the buffer out. Ends the program quietly if nobody reads any more.
    pub fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let mut stdout = std::io::stdout().lock();
        let result = stdout.write_all(&self.buffer).and_then(|()| stdout.flush());
        self.buffer.clear();
        match result {
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
            Err(e) => {
                let _ = writeln!(std::io::stderr(), "error: cannot write: {e}");
                std::process::exit(1);
            }
            Ok(()) => {}
        }
    }
}

/// Whether standard error takes colours.
pub fn colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()) && std::io::stderr().is_terminal()
}

/// A table in virsh's form: a space before, three between columns, a rule under the header.
pub fn table(header: &[&str], rows: &[Vec<String>], quiet: bool) -> String {
    let width = |text: &str| text.chars().count();
    let mut widths: Vec<usize> =
        if quiet { vec![0; header.len()] } else { header.iter().map(|h| width(h)).collect() };
    for row in rows {
        for (w, cell) in widths.iter_mut().zip(row) {
            *w = (*w).max(width(cell));
        }
    }
    let mut text = String::new();
    if !quiet {
        table_line(&mut text, &widths, header.iter().copied());
        text.extend(std::iter::repeat_n('-', widths.iter().map(|w| w + 3).sum()));
        text.push('\n');
    }
    for row in rows {
        table_line(&mut text, &widths, row.iter().map(String::as_str));
    }
    text
}

fn table_line<'a>(text: &mut String, widths: &[usize], cells: impl Iterator<Item = &'a str>) {
    for (i, (cell, width)) in cells.zip(widths).enumerate() {
        text.push(' ');
        text.push_str(cell);
        if i + 1 < widths.len() {
            text.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
    }
    text.push('\n');
}

#[cfg(test)]
mod test {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|r| r.iter().map(|c| (*c).to_owned()).collect()).collect()
    }

    #[test]
    fn tables_are_those_of_virsh() {
        let header = ["Id", "Name", "State"];
        assert_eq!(
            table(&header, &rows(&[&["11085", "deb12", "running"], &["-", "bb", "shut off"]]), false),
            " Id      Name    State\n---------------------------\n 11085   deb12   running\n -       bb      shut off\n"
        );
        assert_eq!(table(&header, &[], false), " Id   Name   State\n--------------------\n");
        assert_eq!(table(&header, &rows(&[&["1", "test", "running"]]), true), " 1   test   running\n");
        assert_eq!(
            table(&["Id", "Name", "State", "Title"], &rows(&[&["1", "test", "running", ""]]), false),
            " Id   Name   State     Title\n------------------------------\n 1    test   running   \n"
        );
    }
}
