//! The options before the command, read as getopt_long(3) reads them: clusters of short ones, values attached or not,
//! long ones shortened to a unique beginning.
//!
//! Does not know any command.

use crate::error::Failure;

/// What the options say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `-c`.
    pub uri: Option<String>,
    /// `-r`.
    pub readonly: bool,
    /// `-q`.
    pub quiet: bool,
    /// `-t`.
    pub timing: bool,
    /// `-l`.
    pub log: Option<String>,
    /// `-e`: the character as written.
    pub escape: String,
    /// `--json`.
    pub json: bool,
    /// That nobody is there whom ssh could ask, nor waits for it long.
    pub unattended: bool,
    /// Things to say before anything else.
    pub remarks: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            uri: None,
            readonly: false,
            quiet: false,
            timing: false,
            log: None,
            escape: "^]".into(),
            json: false,
            unattended: false,
            remarks: Vec::new(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run the words as commands; without words, read commands.
    Run(Vec<String>),
    /// Print help on the command, or on all.
    Help(Option<String>),
    /// Print the version.
    Version {
        /// With what it is.
        long: bool,
    },
}

/// Letter, name, whether it takes a value, and its help.
pub struct GlobalOption {
    /// Short form; `None` where it has none.
    pub short: Option<char>,
    /// Long form; empty where it has none.
    pub long: &'static str,
    /// Placeholder of its value; empty where it takes none.
    pub value: &'static str,
    /// One line of help.
    pub help: &'static str,
}

const fn option(
    short: Option<char>,
    long: &'static str,
    value: &'static str,
    help: &'static str,
) -> GlobalOption {
    GlobalOption { short, long, value, help }
}

/// All of them, in the order of `--help`.
pub const ALL: &[GlobalOption] = &[
    option(Some('c'), "connect", "URI", "connect to this URI"),
    option(Some('d'), "debug", "NUM", "debug level [0-4]"),
    option(Some('e'), "escape", "CHAR", "character that leaves a console"),
    option(Some('h'), "help", "", "this help"),
    option(Some('k'), "keepalive-interval", "NUM", "accepted for virsh's sake"),
    option(Some('K'), "keepalive-count", "NUM", "accepted for virsh's sake"),
    option(Some('l'), "log", "FILE", "append messages to this file"),
    option(Some('q'), "quiet", "", "print data only"),
    option(Some('r'), "readonly", "", "give up the right to change anything"),
    option(Some('t'), "timing", "", "print how long each command took"),
    option(Some('v'), "", "", "short version"),
    option(Some('V'), "", "", "long version"),
    option(None, "version", "", "version; --version=long says more"),
    option(None, "json", "", "print JSON where a command prints data"),
];

/// Reads them. Stops at the first word that is no option.
pub fn parse(words: &[String]) -> Result<(Options, Action), Failure> {
    let mut options = Options::default();
    let mut help = false;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == "--" {
            break;
        }
        if let Some(long) = word.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v.to_owned())));
            let found = find_long(name).ok_or_else(|| unsupported(word))?;
            let value = take_value(found, value, words, &mut at)?;
            if let Some(version) = apply(&mut options, &mut help, found, &format!("--{}", found.long), value)?
            {
                return Ok((options, version));
            }
        } else if word.len() > 1 && word.starts_with('-') {
            if let Some(version) = cluster(&mut options, &mut help, &word[1..], words, &mut at)? {
                return Ok((options, version));
            }
        } else {
            at -= 1;
            break;
        }
    }
    let rest = words[at.min(words.len())..].to_vec();
    if help {
        return Ok((options, Action::Help(rest.into_iter().next())));
    }
    Ok((options, Action::Run(rest)))
}

/// Reads a word of short options.
fn cluster(
    options: &mut Options,
    help: &mut bool,
    letters: &str,
    words: &[String],
    at: &mut usize,
) -> Result<Option<Action>, Failure> {
    for (i, letter) in letters.char_indices() {
        let found =
            ALL.iter().find(|o| o.short == Some(letter)).ok_or_else(|| unsupported(&format!("-{letter}")))?;
        let rest = &letters[i + letter.len_utf8()..];
        let attached = (!found.value.is_empty() && !rest.is_empty()).then(|| rest.to_owned());
        let ends = attached.is_some();
        let value = take_value(found, attached, words, at)?;
        let action = apply(options, help, found, &format!("-{letter}"), value)?;
        if action.is_some() || ends {
            return Ok(action);
        }
    }
    Ok(None)
}

fn find_long(name: &str) -> Option<&'static GlobalOption> {
    if let Some(exact) = ALL.iter().find(|o| o.long == name) {
        return Some(exact);
    }
    let mut found = ALL.iter().filter(|o| !name.is_empty() && o.long.starts_with(name));
    match (found.next(), found.next()) {
        (Some(one), None) => Some(one),
        _ => None,
    }
}

fn unsupported(word: &str) -> Failure {
    Failure::line(format!("unsupported option '{word}'. See --help."))
}

fn take_value(
    option: &GlobalOption,
    attached: Option<String>,
    words: &[String],
    at: &mut usize,
) -> Result<Option<String>, Failure> {
    if option.value.is_empty() || attached.is_some() {
        return Ok(attached);
    }
    match words.get(*at) {
        Some(word) => {
            *at += 1;
            Ok(Some(word.clone()))
        }
        None => {
            let short = option.short.unwrap_or(' ');
            Err(Failure::line(format!("option '-{short}'/'--{}' requires an argument", option.long)))
        }
    }
}

/// Applies one option; answers an action where it decides what is done.
fn apply(
    options: &mut Options,
    help: &mut bool,
    option: &GlobalOption,
    spelt: &str,
    value: Option<String>,
) -> Result<Option<Action>, Failure> {
    match (option.short, option.long) {
        (Some('c'), _) => options.uri = value,
        (Some('d'), _) => debug(options, &value.unwrap_or_default(), spelt)?,
        (Some('e'), _) => options.escape = escape(value.unwrap_or_default())?,
        (Some('h'), _) => *help = true,
        (Some(letter @ ('k' | 'K')), _) => {
            if value.is_none_or(|v| v.parse::<i32>().is_err()) {
                return Err(Failure::line(format!("Invalid value for option -{letter}")));
            }
        }
        (Some('l'), _) => options.log = value,
        (Some('q'), _) => options.quiet = true,
        (Some('r'), _) => options.readonly = true,
        (Some('t'), _) => options.timing = true,
        (Some('v'), _) => return Ok(Some(Action::Version { long: false })),
        (Some('V'), _) => return Ok(Some(Action::Version { long: true })),
        (_, "version") => return Ok(Some(Action::Version { long: value.as_deref() == Some("long") })),
        (_, _) => options.json = true,
    }
    Ok(None)
}

fn debug(options: &mut Options, value: &str, spelt: &str) -> Result<(), Failure> {
    match value.parse::<i32>() {
        Ok(0..=4) => Ok(()),
        Ok(level) => {
            options.remarks.push(format!("ignoring debug level {level} out of range [0-4]"));
            Ok(())
        }
        Err(_) => Err(Failure::line(format!("option {spelt} takes a numeric argument"))),
    }
}

/// Checks an escape character: one, or `^` and one.
fn escape(text: String) -> Result<String, Failure> {
    let control = |c: u8| c.is_ascii_alphabetic() || b"@[\\]^_".contains(&c);
    match text.as_bytes() {
        [b'^', c] if control(*c) => Ok(text),
        [c] if *c != b'^' => Ok(text),
        _ => Err(Failure::line(format!("Invalid string '{text}' for escape sequence"))),
    }
}

/// The byte that an escape character is on the wire.
pub fn escape_byte(text: &str) -> u8 {
    match text.as_bytes() {
        [b'^', c, ..] => c.to_ascii_uppercase() ^ 0x40,
        [c, ..] => *c,
        [] => 0x1d,
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn get(line: &str) -> Result<(Options, Action), String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        parse(&words).map_err(|e| e.to_string())
    }

    #[test]
    fn clusters_and_attached_values() {
        let o = get("-qrc lxc:/// -d2 --conn=x --json list --all").unwrap_or_default_for_test();
        assert!(o.0.quiet && o.0.readonly && o.0.json);
        assert_eq!(o.0.uri.as_deref(), Some("x"));
        assert_eq!(o.1, Action::Run(vec!["list".into(), "--all".into()]));
    }

    trait OrPanic<T> {
        fn unwrap_or_default_for_test(self) -> T;
    }
    impl<T> OrPanic<T> for Result<T, String> {
        fn unwrap_or_default_for_test(self) -> T {
            self.unwrap_or_else(|e| panic!("{e}"))
        }
    }

    #[test]
    fn errors_are_those_of_virsh() {
        assert_eq!(
            get("--bogus").err().as_deref(),
            Some("error: unsupported option '--bogus'. See --help.\n")
        );
        assert_eq!(get("-Z").err().as_deref(), Some("error: unsupported option '-Z'. See --help.\n"));
        assert_eq!(get("-c").err().as_deref(), Some("error: option '-c'/'--connect' requires an argument\n"));
        assert_eq!(get("-e ab").err().as_deref(), Some("error: Invalid string 'ab' for escape sequence\n"));
        assert_eq!(get("-k x").err().as_deref(), Some("error: Invalid value for option -k\n"));
        assert_eq!(
            get("--debug x").err().as_deref(),
            Some("error: option --debug takes a numeric argument\n")
        );
    }

    #[test]
    fn escape_characters() {
        assert_eq!(escape_byte("^]"), 0x1d);
        assert_eq!(escape_byte("^a"), 1);
        assert_eq!(escape_byte("a"), b'a');
    }

    #[test]
    fn version_and_help() {
        assert_eq!(get("-v").map(|o| o.1), Ok(Action::Version { long: false }));
        assert_eq!(get("--version=long").map(|o| o.1), Ok(Action::Version { long: true }));
        assert_eq!(get("-h list").map(|o| o.1), Ok(Action::Help(Some("list".into()))));
    }
}
