//! Commands typed by a person, or read from standard input line by line.
//!
//! Does not know any command; lines go to `parse` and `session` as they are.

use std::io::BufRead;
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::Validator;
use rustyline::{CompletionType, Config, Context, Editor, Helper};

use crate::cmd::builtin;
use crate::complete;
use crate::error::Failure;
use crate::live;
use crate::options::Options;
use crate::parse;
use crate::session::Session;
use crate::terminal::is_terminal;

/// How many lines the history keeps unless `VIRSH_HISTSIZE` says otherwise.
const HISTORY_SIZE: usize = 500;

const WELCOME: &str = "Welcome to virsh-lite, the virtualization interactive terminal.\n\n\
                       Type:  'help' for help with commands\n       'quit' to quit\n\n";

/// Reads commands until the end.
pub fn run(session: &mut Session) -> Result<(), Failure> {
    session.interactive = true;
    if !is_terminal() {
        return read_lines(session);
    }
    if let Err(failure) = session.connect().map(|_| ()) {
        if session.options.uri.is_some() {
            return Err(failure);
        }
        session.out.fail(&failure);
    }
    session.out.extra(WELCOME);
    session.out.flush();
    let failed = |e: ReadlineError| Failure::line(format!("cannot read commands: {e}"));
    let size = std::env::var("VIRSH_HISTSIZE").ok().and_then(|v| v.parse().ok()).unwrap_or(HISTORY_SIZE);
    let config = Config::builder()
        .max_history_size(size)
        .map_err(failed)?
        .auto_add_history(true)
        .completion_type(CompletionType::List)
        .build();
    let mut editor: Editor<Words, FileHistory> = Editor::with_config(config).map_err(failed)?;
    let history = history_file();
    if let Some(path) = &history {
        let _ = editor.load_history(path);
    }
    while !session.done {
        editor.set_helper(Some(Words { options: session.options.clone() }));
        let prompt = if session.options.readonly { "virsh-lite > " } else { "virsh-lite # " };
        match editor.readline(prompt) {
            Ok(line) => run_line(session, &line),
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => {
                session.out.print("\n");
                break;
            }
            Err(e) => return Err(failed(e)),
        }
    }
    if let Some(path) = &history {
        let _ = path.parent().map(std::fs::create_dir_all);
        let _ = editor.save_history(path);
    }
    Ok(())
}

fn read_lines(session: &mut Session) -> Result<(), Failure> {
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Failure::line(format!("cannot read commands: {e}")))?;
        run_line(session, &line);
        if session.done {
            break;
        }
    }
    Ok(())
}

fn run_line(session: &mut Session, line: &str) {
    match parse::from_line(line) {
        Ok(calls) => {
            session.run_all(&calls);
        }
        Err(failure) => session.out.fail(&failure),
    }
}

fn history_file() -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let cache = variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|h| h.join(".cache")))?;
    Some(cache.join("virsh-lite/history"))
}

/// Completes words of the line.
struct Words {
    options: Options,
}

impl Completer for Words {
    type Candidate = Pair;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        let typed = parse::typed(&line[..at], "");
        let options = self.options.clone();
        let found = complete::command(&typed.words, |wanted| live::names(options, wanted));
        let pair = |c: complete::Candidate| {
            let end = if c.word.ends_with('/') { "" } else { " " };
            Pair { replacement: format!("{}{end}", builtin::shell(&c.word)), display: c.word }
        };
        Ok((typed.start, found.into_iter().map(pair).collect()))
    }
}

impl Hinter for Words {
    type Hint = String;
}
impl Highlighter for Words {}
impl Validator for Words {}
impl Helper for Words {}
