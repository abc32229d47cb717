//! This program itself: `cd`, `connect`, `echo`, `exit`, `pwd`, `quit`, and the other end of `lxc+ssh`.
//!
//! Does not know domains.

use crate::cmd::define::plain;
use crate::connect;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::relay;
use crate::session::Session;

/// `cd`
pub static CD: Command = Command::new("cd", Group::Shell, "change the current directory", cd)
    .about("Changes the folder that file names are relative to.")
    .options(&[Opt::text("dir", "where to go (default: home or else root)").positional().from(Values::Files)])
    .offline();

/// `connect`
pub static CONNECT: Command = Command::new("connect", Group::Shell, "(re)connect to hypervisor", reconnect)
    .about("Connects to another daemon, or to the same one again.")
    .options(&[
        Opt::text("name", "URI to connect to").positional(),
        Opt::flag("readonly", "give up the right to change anything"),
    ])
    .offline();

/// `echo`
pub static ECHO: Command =
    Command::new("echo", Group::Shell, "echo arguments. Used for internal testing.", echo)
        .about("Prints its arguments, quoted if wanted.")
        .options(&[
            Opt::flag("shell", "quote for a shell"),
            Opt::flag("xml", "escape for XML"),
            Opt::flag("split", "cut each argument at ','; ',,' is a comma"),
            Opt::flag("err", "print as an error"),
            Opt::list("string", "what to print"),
        ])
        .offline();

/// `exit`
pub static EXIT: Command =
    Command::new("exit", Group::Shell, "quit this interactive terminal", quit).offline();

/// `quit`
pub static QUIT: Command =
    Command::new("quit", Group::Shell, "quit this interactive terminal", quit).offline();

/// `pwd`
pub static PWD: Command = Command::new("pwd", Group::Shell, "print the current directory", pwd).offline();

/// `serve-stdio`
pub static SERVE_STDIO: Command =
    Command::new("serve-stdio", Group::Shell, "connect standard input and output to the daemon", serve)
        .options(&[Opt::text("socket", "path of the socket")])
        .offline()
        .hidden();

fn cd(session: &mut Session, args: &Args) -> Result<(), Failure> {
    if !session.interactive {
        return Err(Failure::line("cd: command valid only in interactive mode"));
    }
    let home = || std::env::var("HOME").ok().filter(|h| !h.is_empty()).unwrap_or_else(|| "/".into());
    let dir = args.text("dir").map_or_else(home, str::to_owned);
    std::env::set_current_dir(&dir).map_err(|e| Failure::line(format!("cd: {dir}: {}", plain(&e))))
}

fn pwd(session: &mut Session, _: &Args) -> Result<(), Failure> {
    let dir = std::env::current_dir()
        .map_err(|e| Failure::line(format!("pwd: cannot get current directory: {}", plain(&e))))?;
    session.out.print(&format!("{}\n", dir.display()));
    Ok(())
}

fn quit(session: &mut Session, _: &Args) -> Result<(), Failure> {
    session.done = true;
    Ok(())
}

fn reconnect(session: &mut Session, args: &Args) -> Result<(), Failure> {
    session.disconnect();
    if let Some(uri) = args.text("name") {
        session.options.uri = Some(uri.to_owned());
    }
    session.options.readonly = args.has("readonly");
    session.connect().map(|_| ())
}

fn echo(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let mut words: Vec<String> = args.list("string").map(str::to_owned).collect();
    if args.has("split") {
        words = words.iter().flat_map(|w| split(w)).collect();
    }
    if args.has("xml") {
        words = words.iter().map(|w| xml(w)).collect();
    }
    if args.has("shell") {
        words = words.iter().map(|w| shell(w)).collect();
    }
    let text = words.join(if args.has("split") { "\n" } else { " " });
    match (args.has("err"), args.has("split")) {
        (true, _) => session.out.fail(&Failure::line(text)),
        (false, true) => session.out.print(&format!("{text}\n")),
        (false, false) => session.out.print(&text),
    }
    Ok(())
}

fn split(word: &str) -> Vec<String> {
    word.replace(",,", "\0").split(',').map(|part| part.replace('\0', ",")).collect()
}

fn xml(word: &str) -> String {
    let escaped = word.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    escaped.replace('\'', "&apos;").replace('"', "&quot;")
}

/// Quotes a word for a shell where it needs it.
pub fn shell(word: &str) -> String {
    let safe = |c: char| c.is_ascii_alphanumeric() || "_-+=:,./@%^".contains(c);
    if !word.is_empty() && word.chars().all(safe) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

fn serve(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let path = match (args.text("socket"), session.address()) {
        (Some(path), _) => path.to_owned(),
        (None, Ok(connect::Address { target: connect::Target::Socket(path), .. })) => path,
        (None, _) => connect::SYSTEM_SOCKET.to_owned(),
    };
    let socket = connect::local(&path)?;
    relay::stdio(&socket).map_err(|e| Failure::line(e.to_string()))
}
