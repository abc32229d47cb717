//! `help`, `--help` and the version.
//!
//! Everything here is written from the command table.

use crate::absent;
use crate::cmd;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::options;
use crate::parse::Args;
use crate::session::Session;

/// `help`
pub static HELP: Command = Command::new("help", Group::Shell, "print help", run)
    .about("Prints the list of commands, the commands of one group, or all about one command.")
    .options(&[Opt::text("command", "name of a command or of a group").positional().from(Values::Commands)])
    .offline();

fn run(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let text = match args.text("command") {
        None => all(),
        Some(word) => page(Some(word))?,
    };
    session.out.print(&text);
    Ok(())
}

/// What `--help [COMMAND]` prints.
pub fn page(about: Option<&str>) -> Result<String, Failure> {
    let Some(word) = about else { return Ok(usage()) };
    if let Some(command) = cmd::find(word) {
        return Ok(of_command(command));
    }
    match Group::ALL.iter().find(|g| g.keyword() == word) {
        Some(group) => Ok(of_group(*group, ":")),
        None => {
            let failure = Failure::line(format!("command or command group '{word}' doesn't exist"));
            Err(absent::instead(word).into_iter().fold(failure, Failure::hint))
        }
    }
}

/// All about one command.
pub fn of_command(command: &Command) -> String {
    let mut text = format!(
        "  NAME\n    {} - {}\n\n  SYNOPSIS\n    {}\n",
        command.name,
        command.summary,
        command.synopsis()
    );
    if !command.description.is_empty() {
        text.push_str("\n  DESCRIPTION\n");
        for line in command.description.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    let options: Vec<&Opt> = command.all_options().filter(|o| o.refused.is_none()).collect();
    if !options.is_empty() {
        text.push_str("\n  OPTIONS\n");
        for option in options {
            text.push_str(&format!("    {:<15}  {}\n", option.label(), option.help));
        }
    }
    text.push('\n');
    text
}

/// The commands of a group, a line each.
fn of_group(group: Group, end: &str) -> String {
    let mut text = format!(" {} (help keyword '{}'){end}\n", group.title(), group.keyword());
    for command in cmd::of_group(group) {
        text.push_str(&format!("    {:<30} {}\n", command.name, command.summary));
    }
    text
}

/// What `help` prints.
fn all() -> String {
    let groups: Vec<String> = Group::ALL.iter().map(|g| of_group(*g, ":")).collect();
    format!("Grouped commands:\n\n{}\n", groups.join("\n"))
}

/// What `--help` prints.
fn usage() -> String {
    let mut text = String::from(
        "\nvirsh-lite [options]... [<command_string>]\nvirsh-lite [options]... <command> [args...]\n\n  options:\n",
    );
    for option in options::ALL {
        let value = if option.value.is_empty() { String::new() } else { format!("={}", option.value) };
        let names = match (option.short, option.long) {
            (Some(short), "") => format!("-{short}"),
            (Some(short), long) => format!("-{short} | --{long}{value}"),
            (None, long) => format!("     --{long}{value}"),
        };
        text.push_str(&format!("    {names:<31}  {}\n", option.help));
    }
    text.push_str("  commands (non interactive mode):\n\n");
    for group in Group::ALL {
        text.push_str(&of_group(*group, ""));
        text.push('\n');
    }
    text.push_str("\n  (specify help <group> for details about the commands in the group)\n");
    text.push_str("\n  (specify help <command> for details about the command)\n\n");
    text
}

/// What `--version` prints.
pub fn version(long: bool) -> String {
    let version = env!("CARGO_PKG_VERSION");
    if long {
        format!(
            "Virsh command line tool of Berth {version}\nSpeaks: {}, {}, {}\n",
            berth_schemas::domain::NAME,
            berth_schemas::network::NAME,
            berth_schemas::node::NAME
        )
    } else {
        format!("{version}\n")
    }
}
