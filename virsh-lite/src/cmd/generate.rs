//! Hidden commands for packages and shells: `generate` writes completions and the command part of the man page from the
//! command table, `complete` answers the completions.
//!
//! Does not know a command by name.

use crate::bash;
use crate::cmd;
use crate::complete;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt};
use crate::live;
use crate::parse::{self, Args, Typed};
use crate::session::Session;

/// `complete`
pub static COMPLETE: Command =
    Command::new("complete", Group::Shell, "print what may come next on a command line", complete)
        .options(&[
            Opt::flag("describe", "with what each is"),
            Opt::text("line", "the line so far, the program included"),
            Opt::text("bash", "as bash takes it: with quotes, and only what comes after the last of these"),
            Opt::list("word", "the words so far"),
        ])
        .offline()
        .hidden();

/// `generate`
pub static GENERATE: Command =
    Command::new("generate", Group::Shell, "print completions or the man page", generate)
        .options(&[Opt::list("what", "completions bash|zsh|fish, man, or man-commands").required()])
        .offline()
        .hidden();

/// The man page without the commands.
const MAN: &str = include_str!("../../../docs/man/virsh-lite.1.md");

fn complete(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let mut typed = match args.text("line") {
        Some(line) => parse::typed(line, &bash::breaks(args.text("bash").unwrap_or_default())),
        None => Typed { words: args.list("word").map(str::to_owned).collect(), ..Typed::default() },
    };
    if args.has("line") && !typed.words.is_empty() {
        // The program.
        typed.words.remove(0);
    }
    for mut candidate in complete::line(&typed.words, live::names) {
        if args.has("bash") {
            let Some(word) = bash::replacement(&candidate.word, &typed) else { continue };
            candidate.word = word;
        }
        session.out.print(&candidate.word);
        if args.has("describe") && !candidate.about.is_empty() {
            session.out.print(&format!("\t{}", candidate.about));
        }
        session.out.print("\n");
    }
    Ok(())
}

fn generate(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let what: Vec<&str> = args.list("what").collect();
    let text = match what.as_slice() {
        ["completions", "bash"] => include_str!("../../completions/virsh-lite.bash").to_owned(),
        ["completions", "zsh"] => include_str!("../../completions/_virsh-lite").to_owned(),
        ["completions", "fish"] => include_str!("../../completions/virsh-lite.fish").to_owned(),
        ["man-commands"] => man_commands(),
        ["man"] => MAN.replace("@COMMANDS@", man_commands().trim_end()),
        other => return Err(Failure::line(format!("cannot generate '{}'", other.join(" ")))),
    };
    session.out.print(&text);
    Ok(())
}

/// The command reference in Markdown.
fn man_commands() -> String {
    let mut text = String::new();
    for group in Group::ALL {
        text.push_str(&format!("## {}\n\n", group.title()));
        for command in cmd::of_group(*group) {
            text.push_str(&man_command(command));
        }
    }
    text
}

fn man_command(command: &Command) -> String {
    let (name, summary) = (command.name, command.summary.trim_end_matches('.'));
    let usage = command.synopsis();
    let usage = usage.strip_prefix(name).unwrap_or_default();
    let mut text =
        format!("### {name}\n\n**{name}**{usage}\n\n{}{}.", summary[..1].to_uppercase(), &summary[1..]);
    if !command.description.is_empty() {
        text.push(' ');
        text.push_str(&command.description.replace('\n', " "));
    }
    text.push_str("\n\n");
    for option in command.all_options().filter(|o| o.refused.is_none() && o.name != "json") {
        text.push_str(&format!("- `{}`: {}\n", option.label(), option.help));
    }
    if let Some(json) = command.json {
        text.push_str(&format!("- `--json`: print {json}\n"));
    }
    for option in command.options {
        if let Some(reason) = option.refused {
            text.push_str(&format!("- `--{}`: refused: {reason}\n", option.name));
        }
    }
    let items = command.json.is_some() || !command.options.is_empty();
    text.push_str(if items { "\n" } else { "" });
    text
}
