//! A text in the user's editor.
//!
//! Does not know what the text is or who takes it.

use std::io::{Read, Write};
use std::process::Command;

use crate::error::Failure;
use crate::terminal::{Raw, is_terminal};

/// A text in a file of its own, removed when it goes.
pub struct Draft {
    file: tempfile::NamedTempFile,
}

impl Draft {
    /// Writes the text to a new file that nobody else can read.
    pub fn new(text: &str) -> Result<Self, Failure> {
        let failed = |e: std::io::Error| Failure::line(format!("cannot write a temporary file: {e}"));
        let mut file =
            tempfile::Builder::new().prefix("virsh-lite-").suffix(".xml").tempfile().map_err(failed)?;
        file.write_all(text.as_bytes()).and_then(|()| file.flush()).map_err(failed)?;
        Ok(Self { file })
    }

    /// Lets the user change the text.
    pub fn edit(&self) -> Result<String, Failure> {
        let editor = editor();
        let path = self.file.path();
        // The variable may hold arguments, so a shell takes it apart; the path goes as an argument of its own.
        let status =
            Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(path).status();
        match status {
            Ok(status) if status.success() => std::fs::read_to_string(path)
                .map_err(|e| Failure::line(format!("cannot read back '{}': {e}", path.display()))),
            Ok(status) => {
                Err(Failure::line(format!("editor '{editor} {}' ended with {status}", path.display())))
            }
            Err(e) => Err(Failure::line(format!("cannot run editor '{editor}': {e}"))),
        }
    }
}

fn editor() -> String {
    let variable = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    variable("VISUAL").or_else(|| variable("EDITOR")).unwrap_or_else(|| "vi".into())
}

/// What to do with a text that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// Edit it again.
    Edit,
    /// Give up.
    Drop,
    /// Try the same text again.
    Retry,
}

/// Asks for one of the letters; without a terminal the answer is no.
pub fn ask_again() -> Again {
    while is_terminal() {
        eprint!("Failed. Try again? [y,n,i,f,?]: ");
        let key = key().unwrap_or(b'n');
        eprintln!("{}", char::from(key).escape_default());
        match key.to_ascii_lowercase() {
            b'y' => return Again::Edit,
            b'n' | 3 | 4 => return Again::Drop,
            b'i' => eprintln!("checks cannot be turned off here; correct the text or give up"),
            b'f' => return Again::Retry,
            _ => eprint!(
                "y - yes, edit the text again\nn - no, drop the changes\ni - ignore what is wrong (not possible here)\n\
                 f - force, send the same text once more\n? - this list\n"
            ),
        }
    }
    Again::Drop
}

/// One key.
fn key() -> Option<u8> {
    let _raw = Raw::enter().ok()?;
    let mut byte = [0];
    std::io::stdin().read_exact(&mut byte).ok()?;
    Some(byte[0])
}
