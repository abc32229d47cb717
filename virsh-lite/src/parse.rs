//! Command lines to commands with arguments, by virsh's rules and with its messages.
//!
//! Pure: knows the command table and nothing of sessions, files or the daemon.

use crate::absent;
use crate::cmd;
use crate::error::Failure;
use crate::grammar::{Command, Kind, Opt};

/// The arguments of one command.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Args {
    values: Vec<(&'static str, String)>,
}

impl Args {
    /// Whether an option was given.
    pub fn has(&self, name: &str) -> bool {
        self.values.iter().any(|(n, _)| *n == name)
    }

    /// The value of an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// The value of an option that the parser made sure of.
    pub fn required(&self, name: &str) -> &str {
        self.text(name).unwrap_or_default()
    }

    /// All values of an option.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values.iter().filter(move |(n, _)| *n == name).map(|(_, v)| v.as_str())
    }

    /// The value of an option as a positive number.
    pub fn positive(&self, name: &str) -> Result<Option<u64>, Failure> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse::<u64>() {
            Ok(n) if n > 0 && n < 1 << 31 => Ok(Some(n)),
            _ => Err(Failure::line(format!(
                "Numeric value '{text}' for <{name}> option is malformed or out of range"
            ))),
        }
    }

    /// Fails if both options were given.
    pub fn exclusive(&self, one: &str, other: &str) -> Result<(), Failure> {
        if self.has(one) && self.has(other) {
            return Err(Failure::line(format!("Options --{one} and --{other} are mutually exclusive")));
        }
        Ok(())
    }
}

/// A command and its arguments.
#[derive(Debug)]
pub struct Call {
    /// The command.
    pub command: &'static Command,
    /// Its arguments.
    pub args: Args,
    /// Only its help is wanted.
    pub help: bool,
}

/// Commands from the words after the global options: one word is a line of its own.
pub fn from_words(words: &[String]) -> Result<Vec<Call>, Failure> {
    match words {
        [line] if line.is_empty() => Err(Failure::silent()),
        [line] => from_line(line),
        words => Ok(vec![command(words)?]),
    }
}

/// Commands from a line of text, separated by `;`.
pub fn from_line(line: &str) -> Result<Vec<Call>, Failure> {
    split(line)?.iter().filter(|words| !words.is_empty()).map(|words| command(words)).collect()
}

/// Cuts a line into commands and these into words.
pub fn split(line: &str) -> Result<Vec<Vec<String>>, Failure> {
    let mut cut = Cut::of(line, "");
    match (cut.dangling, cut.quote) {
        (true, _) => Err(Failure::line("dangling \\")),
        (false, Some(quote)) => Err(Failure::line(format!("missing {quote}"))),
        (false, None) => {
            cut.end(false);
            Ok(cut.commands)
        }
    }
}

/// The last command of a line that is still being typed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Typed {
    /// Its words; the last one, which may be empty, is the one at the cursor. None in a comment.
    pub words: Vec<String>,
    /// Where in the line the last word begins.
    pub start: usize,
    /// The quote that is still open.
    pub quote: Option<char>,
    /// How much of the last word, without its quotes, is before what a shell completes: that is what comes after the open
    /// quote, or else after the last of its break characters.
    pub fixed: usize,
}

/// Cuts a line that is still being typed: a quote that is open is as good as closed. `breaks` are the characters at which
/// a shell cuts words before it asks.
pub fn typed(line: &str, breaks: &str) -> Typed {
    let mut cut = Cut::of(line, breaks);
    if cut.comment {
        return Typed::default();
    }
    let (start, quote) = (cut.word.as_ref().map_or(line.len(), |_| cut.start), cut.quote);
    let fixed = if quote.is_some() { cut.opened } else { cut.broken };
    cut.word.get_or_insert_default();
    cut.end(false);
    Typed { words: cut.commands.pop().unwrap_or_default(), start, quote, fixed }
}

/// A line as far as it is cut.
#[derive(Debug, Default)]
struct Cut {
    commands: Vec<Vec<String>>,
    /// The word at the end.
    word: Option<String>,
    /// Where in the line it begins.
    start: usize,
    /// Its length when its last quote was opened, and behind its last break character.
    opened: usize,
    broken: usize,
    /// The quote that is open.
    quote: Option<char>,
    /// The line ends with a backslash.
    dangling: bool,
    /// The line ends with a comment.
    comment: bool,
}

impl Cut {
    fn of(line: &str, breaks: &str) -> Self {
        let mut cut = Self { commands: vec![Vec::new()], ..Self::default() };
        let mut chars = line.char_indices();
        while let Some((at, c)) = chars.next() {
            match (c, cut.quote) {
                ('\\', None | Some('"')) => {
                    let next = chars.next();
                    cut.dangling = next.is_none();
                    next.into_iter().for_each(|(_, c)| cut.word(at).push(c));
                }
                (c, Some(quote)) if c == quote => cut.quote = None,
                (c, Some(_)) => cut.word(at).push(c),
                (';' | '\n', None) => cut.end(true),
                (' ' | '\t', None) => cut.end(false),
                ('#', None) if cut.word.is_none() => {
                    cut.comment = !chars.any(|(_, c)| c == '\n');
                    cut.end(true);
                }
                ('\'' | '"', None) => {
                    cut.opened = cut.word(at).len();
                    cut.quote = Some(c);
                }
                (c, None) => {
                    cut.word(at).push(c);
                    if breaks.contains(c) {
                        cut.broken = cut.word(at).len();
                    }
                }
            }
        }
        cut
    }

    /// The word that a character of the line belongs to.
    fn word(&mut self, at: usize) -> &mut String {
        if self.word.is_none() {
            (self.start, self.opened, self.broken) = (at, 0, 0);
        }
        self.word.get_or_insert_default()
    }

    /// Ends a word, and the command if another one comes.
    fn end(&mut self, command: bool) {
        if let (Some(word), Some(last)) = (self.word.take(), self.commands.last_mut()) {
            last.push(word);
        }
        (self.opened, self.broken) = (0, 0);
        if command {
            self.commands.push(Vec::new());
        }
    }
}

/// One command from its words.
fn command(words: &[String]) -> Result<Call, Failure> {
    let Some((name, words)) = words.split_first() else { return Err(Failure::silent()) };
    let Some(command) = cmd::find(name) else { return Err(unknown(name)) };
    let mut call = Call { command, args: Args::default(), help: false };
    let mut words = words.iter();
    let mut only_values = false;
    while let Some(word) = words.next() {
        match word.strip_prefix("--") {
            Some("") if !only_values => only_values = true,
            Some("help") if !only_values => call.help = true,
            Some(option) if !only_values && option.starts_with("help=") => {
                return Err(Failure::line("invalid '=' after option --help"));
            }
            Some(option) if !only_values => named(&mut call, option, &mut words)?,
            _ => unnamed(&mut call, word)?,
        }
    }
    if !call.help {
        check_required(&call)?;
    }
    Ok(call)
}

/// Takes an option with its name.
fn named(call: &mut Call, text: &str, words: &mut std::slice::Iter<'_, String>) -> Result<(), Failure> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let Some(option) = call.command.option(name) else { return Err(no_option(call.command, name)) };
    if call.args.has(option.name) && option.kind != Kind::List {
        return Err(Failure::line(format!("option --{name} already seen")));
    }
    let value = match (option.kind, value) {
        (Kind::Flag, Some(_)) => {
            return Err(Failure::line(format!("invalid '=' after option --{name}")));
        }
        (Kind::Flag, None) => String::new(),
        (_, Some(value)) => value.to_owned(),
        (_, None) => match words.next() {
            Some(word) if !is_option(word) => word.clone(),
            _ => {
                let expected = option.expected();
                return Err(Failure::line(format!("expected syntax: --{name} <{expected}>")));
            }
        },
    };
    call.args.values.push((option.name, value));
    Ok(())
}

/// Whether a word cannot be a value unless written with `=` or behind `--`.
fn is_option(word: &str) -> bool {
    word.len() > 2 && word.starts_with("--")
}

/// Takes a value without a name: it belongs to the first option that still wants one.
fn unnamed(call: &mut Call, word: &str) -> Result<(), Failure> {
    let wants = |o: &&Opt| o.positional && (o.kind == Kind::List || !call.args.has(o.name));
    match call.command.options.iter().find(wants) {
        Some(option) => {
            call.args.values.push((option.name, word.to_owned()));
            Ok(())
        }
        None => Err(Failure::line(format!("unexpected data '{word}'"))),
    }
}

/// Fails with a line for each required option that is not there.
fn check_required(call: &Call) -> Result<(), Failure> {
    let missing: Vec<String> = call
        .command
        .options
        .iter()
        .filter(|o| o.required && !call.args.has(o.name))
        .map(|o| format!("command '{}' requires <{}> option", call.command.name, o.name))
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(Failure::lines(missing)) }
}

fn unknown(name: &str) -> Failure {
    let names = cmd::visible().map(|c| c.name);
    let failure = Failure::line(format!("unknown command: '{name}'"));
    if let Some(instead) = absent::instead(name) {
        return failure.hint(instead);
    }
    match nearest(name, names) {
        Some(near) => failure.hint(format!("did you mean '{near}'?")),
        None => failure,
    }
}

fn no_option(command: &Command, name: &str) -> Failure {
    let failure = Failure::line(format!("command '{}' doesn't support option --{name}", command.name));
    match nearest(name, command.all_options().map(|o| o.name)) {
        Some(near) => failure.hint(format!("did you mean --{near}?")),
        None => failure,
    }
}

/// The candidate that is a slip of the finger away, if there is one.
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (word.len() / 3).clamp(1, 3);
    let letters = word.chars().count();
    candidates
        // The lengths alone tell of most that they are too far apart, and of all if the word is endless.
        .filter(|c| letters.abs_diff(c.chars().count()) <= limit || c.starts_with(word))
        .map(|c| (distance(word, c), c))
        .filter(|(d, c)| *d <= limit || (word.len() >= 3 && c.starts_with(word)))
        .min_by_key(|(d, _)| *d)
        .map(|(_, c)| c)
}

/// Number of letters to insert, remove, change or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut next = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            next[j] = (row[j - 1] + cost).min(row[j] + 1).min(next[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                next[j] = next[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod test {
    use super::*;

    fn error(line: &str) -> String {
        from_line(line).map_or_else(|e| e.to_string(), |calls| format!("no error: {calls:?}"))
    }

    fn args(line: &str) -> Vec<(String, Vec<(&'static str, String)>)> {
        from_line(line)
            .map(|calls| calls.into_iter().map(|c| (c.command.name.to_owned(), c.args.values)).collect())
            .unwrap_or_default()
    }

    #[test]
    fn values_with_and_without_names() {
        let console = |v: &[(&'static str, &str)]| {
            vec![("console".to_owned(), v.iter().map(|(n, v)| (*n, (*v).to_owned())).collect::<Vec<_>>())]
        };
        assert_eq!(args("console x console1"), console(&[("domain", "x"), ("devname", "console1")]));
        assert_eq!(args("console --domain x console1"), console(&[("domain", "x"), ("devname", "console1")]));
        assert_eq!(error("console console1 --domain x"), "error: option --domain already seen\n");
        assert_eq!(args("console --domain=x --force"), console(&[("domain", "x"), ("force", "")]));
        assert_eq!(args("console -- --x"), console(&[("domain", "--x")]));
        assert_eq!(args("console 'a b'"), console(&[("domain", "a b")]));
        let setmem = vec![("domain", "x".to_owned()), ("size", "1".to_owned())];
        assert_eq!(args("setmem x --kilobytes 1"), [("setmem".to_owned(), setmem)]);
        assert_eq!(error("setmem x 1 --kilobytes 2"), "error: option --kilobytes already seen\n");
        assert_eq!(args("start a b --console c").first().map(|c| c.1.len()), Some(4));
    }

    #[test]
    fn lines_are_cut_as_virsh_cuts_them() {
        let words = |line| split(line).unwrap_or_default();
        assert_eq!(words("a 'b c' \"d\\\"e\" f\\ g h'i'"), [["a", "b c", "d\"e", "f g", "hi"]]);
        assert_eq!(words("a;b # c ; d"), vec![vec!["a"], vec!["b"], vec![]]);
        assert_eq!(words("a#b"), [["a#b"]]);
        assert_eq!(words("a ''"), [["a", ""]]);
        assert_eq!(args("list;;list").len(), 2);
        assert_eq!(args(";list").len(), 1);
        assert_eq!(args("").len(), 0);
    }

    #[test]
    fn what_is_being_typed() {
        let words = |line| typed(line, "").words;
        assert_eq!(words("a b"), ["a", "b"]);
        assert_eq!(words("a b "), ["a", "b", ""]);
        assert_eq!(words("a; b 'c"), ["b", "c"]);
        assert_eq!(words("a; "), [""]);
        assert_eq!(words(""), [""]);
        assert_eq!(words("a \""), ["a", ""]);
        assert_eq!(words("a \"b c "), ["a", "b c "]);
        assert_eq!(words("a \"b; c"), ["a", "b; c"]);
        assert_eq!(words("a 'b\\"), ["a", "b\\"]);
        assert_eq!(words("a b\\ "), ["a", "b "]);
        assert_eq!(words("a b\\"), ["a", "b"]);
        assert_eq!(words("a # b"), Vec::<String>::new());
        assert_eq!(words("a # b\nc"), ["c"]);
        let place = |line| {
            let typed = typed(line, ":=");
            (typed.start, typed.quote, typed.fixed)
        };
        assert_eq!(place("a b"), (2, None, 0));
        assert_eq!(place("a "), (2, None, 0));
        assert_eq!(place("a --b=c"), (2, None, 4));
        assert_eq!(place("a=b c"), (4, None, 0));
        assert_eq!(place("a b='c"), (2, Some('\''), 2));
        assert_eq!(place("a \"b=c"), (2, Some('"'), 0));
        assert_eq!(place("a 'b=c'd"), (2, None, 0));
        assert_eq!(place("a b\\=c"), (2, None, 0));
    }

    #[test]
    fn errors_are_those_of_virsh() {
        assert_eq!(error("frobnicate"), "error: unknown command: 'frobnicate'\n");
        assert_eq!(error("list; frob"), "error: unknown command: 'frob'\n");
        assert_eq!(error("list --bogus"), "error: command 'list' doesn't support option --bogus\n");
        assert_eq!(error("dominfo"), "error: command 'dominfo' requires <domain> option\n");
        assert_eq!(
            error("metadata"),
            "error: command 'metadata' requires <domain> option\nerror: command 'metadata' requires <uri> option\n"
        );
        assert_eq!(error("list foo"), "error: unexpected data 'foo'\n");
        assert_eq!(error("list --all=3"), "error: invalid '=' after option --all\n");
        assert_eq!(error("console --domain"), "error: expected syntax: --domain <string>\n");
        assert_eq!(error("event --timeout --all"), "error: expected syntax: --timeout <number>\n");
        assert_eq!(error("console x --domain x"), "error: option --domain already seen\n");
        assert_eq!(error("domstate \"x"), "error: missing \"\n");
        assert_eq!(error("domstate 'x"), "error: missing '\n");
        assert_eq!(error("domstate x\\"), "error: dangling \\\n");
        assert_eq!(error("domstate \"x\\"), "error: dangling \\\n");
    }

    #[test]
    fn slips_of_the_finger_get_a_hint() {
        assert_eq!(error("strat x"), "error: unknown command: 'strat'\nhint: did you mean 'start'?\n");
        assert_eq!(
            error("list --al"),
            "error: command 'list' doesn't support option --al\nhint: did you mean --all?\n"
        );
        assert_eq!(
            error("pool-list x"),
            "error: unknown command: 'pool-list'\nhint: Berth has no storage pools: a domain's document names folders, devices and \
             images by their paths\n"
        );
        assert_eq!(error("dumpxmk x"), "error: unknown command: 'dumpxmk'\nhint: did you mean 'dumpxml'?\n");
        assert_eq!(nearest("xyzzy", ["list", "start"].into_iter()), None);
        assert_eq!(distance("lsit", "list"), 1);
    }
}
