//! `virsh-lite`: the commands and output of virsh, over varlink.
//!
//! One command is one or a few calls of the daemon, printed as virsh prints. Reading order: `options`, `parse`,
//! `session`, then the commands in `cmd`. What reads bytes of others is public, for those who want to try it alone.

use std::process::ExitCode;

mod absent;
mod again;
mod bash;
pub mod client;
mod cmd;
mod complete;
pub mod connect;
mod editor;
mod error;
pub mod globs;
mod grammar;
mod live;
pub mod options;
mod output;
pub mod parse;
mod relay;
mod session;
mod shell;
pub mod snippet;
mod terminal;
mod times;

use error::Failure;
use options::{Action, Options};
use session::Session;

/// The whole program.
pub fn main() -> ExitCode {
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let (mut session, result) = match options::parse(&words) {
        Ok((options, action)) => {
            let mut session = Session::new(options);
            let result = act(&mut session, action);
            (session, result)
        }
        Err(failure) => (Session::new(Options::default()), Err(failure)),
    };
    if let Err(failure) = &result {
        session.out.fail(failure);
    }
    session.out.flush();
    if result.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Does what the command line asks for.
fn act(session: &mut Session, action: Action) -> Result<(), Failure> {
    for remark in std::mem::take(&mut session.options.remarks) {
        session.out.fail(&Failure::line(remark));
    }
    let good = match action {
        Action::Version { long } => {
            session.out.print(&cmd::help::version(long));
            true
        }
        Action::Help(about) => {
            let text = cmd::help::page(about.as_deref())?;
            session.out.print(&text);
            true
        }
        Action::Run(words) if words.is_empty() => {
            shell::run(session)?;
            true
        }
        Action::Run(words) => session.run_all(&parse::from_words(&words)?),
    };
    if good { Ok(()) } else { Err(Failure::silent()) }
}
