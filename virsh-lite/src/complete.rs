//! What may come next on a command line, from the command table and the names that a daemon knows.
//!
//! Does not know which shell asks, nor how a daemon is asked (that is `live`).

use crate::cmd;
use crate::grammar::{Command, Kind, Opt, Values};
use crate::options::{self, Action};

/// One possible word, and what it is, where there is something to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The word.
    pub word: String,
    /// A few words on it; may be empty.
    pub about: &'static str,
}

/// Names that a daemon knows, as an option wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// What they are names of.
    pub values: Values,
    /// The other options of the command, with the value of each.
    given: Vec<(&'static str, String)>,
}

impl Wanted {
    /// The value of another option of the command.
    pub fn text(&self, option: &str) -> Option<&str> {
        self.given.iter().find(|(name, _)| *name == option).map(|(_, value)| value.as_str())
    }
}

fn plain(word: impl Into<String>) -> Candidate {
    Candidate { word: word.into(), about: "" }
}

/// What fits the last of these words, which come after the program's name. `names` asks the daemon.
pub fn line(words: &[String], names: impl FnOnce(options::Options, Wanted) -> Vec<String>) -> Vec<Candidate> {
    let Some((partial, before)) = words.split_last() else { return Vec::new() };
    if let Some(option) = before.last().and_then(|w| global(w))
        && !option.value.is_empty()
        && leading(before)
    {
        return Vec::new();
    }
    let Ok((given, Action::Run(before))) = options::parse(before) else { return Vec::new() };
    if before.is_empty() && partial.starts_with('-') {
        let long = options::ALL.iter().filter(|o| !o.long.is_empty());
        let all = long.map(|o| Candidate { word: format!("--{}", o.long), about: o.help });
        return fitting(all, partial);
    }
    let words: Vec<String> = before.into_iter().chain([partial.clone()]).collect();
    command(&words, |wanted| names(given, wanted))
}

/// The global option that a word is.
fn global(word: &str) -> Option<&'static options::GlobalOption> {
    options::ALL.iter().find(|o| {
        word.strip_prefix("--").is_some_and(|long| !long.is_empty() && long == o.long)
            || (word.len() == 2 && word.starts_with('-') && o.short.is_some_and(|c| word.ends_with(c)))
    })
}

/// Whether only global options and their values came so far.
fn leading(words: &[String]) -> bool {
    let mut value = false;
    words.iter().all(|word| {
        let is_value = std::mem::replace(&mut value, global(word).is_some_and(|o| !o.value.is_empty()));
        is_value || word.starts_with('-')
    })
}

/// What fits the last word of one command.
pub fn command(words: &[String], names: impl FnOnce(Wanted) -> Vec<String>) -> Vec<Candidate> {
    let Some((partial, before)) = words.split_last() else { return Vec::new() };
    let Some((name, given)) = before.split_first() else {
        return fitting(cmd::visible().map(|c| Candidate { word: c.name.into(), about: c.summary }), partial);
    };
    let Some(command) = cmd::find(name) else { return Vec::new() };
    let given = Given::of(command, given);
    if let Some(option) = given.waiting {
        return values(option, partial, given, names);
    }
    if let Some((option, value)) = partial.strip_prefix("--").and_then(|p| p.split_once('=')) {
        let Some(option) = command.option(option) else { return Vec::new() };
        let mut found = values(option, value, given, names);
        found.iter_mut().for_each(|c| c.word = format!("--{}={}", option.name, c.word));
        return found;
    }
    if partial.starts_with('-') {
        let open = command.all_options().filter(|o| o.refused.is_none() && given.leaves(o));
        let all = open.filter(|o| o.name != "string");
        return fitting(all.map(|o| Candidate { word: format!("--{}", o.name), about: o.help }), partial);
    }
    let place = command.options.iter().find(|o| o.positional && given.leaves(o));
    place.map_or_else(Vec::new, |option| values(option, partial, given, names))
}

/// What the words of a command before the last one are.
#[derive(Default)]
struct Given {
    /// Each option with its value.
    options: Vec<(&'static Opt, String)>,
    /// The option whose value comes next.
    waiting: Option<&'static Opt>,
}

impl Given {
    /// Values without a name are of the options that nothing names, be it behind them.
    fn of(command: &'static Command, words: &[String]) -> Self {
        let mut given = Self::default();
        let mut unnamed = Vec::new();
        for word in words {
            if let Some(option) = given.waiting.take() {
                given.options.push((option, word.clone()));
                continue;
            }
            let Some(long) = word.strip_prefix("--") else {
                unnamed.push(word);
                continue;
            };
            let (name, value) = long.split_once('=').map_or((long, None), |(n, v)| (n, Some(v)));
            match (command.option(name), value) {
                (Some(option), None) if option.kind != Kind::Flag => given.waiting = Some(option),
                (Some(option), value) => given.options.push((option, value.unwrap_or_default().to_owned())),
                (None, _) => {}
            }
        }
        for word in unnamed {
            if let Some(option) = command.options.iter().find(|o| o.positional && given.leaves(o)) {
                given.options.push((option, word.clone()));
            }
        }
        given
    }

    /// Whether the option may still be given.
    fn leaves(&self, option: &Opt) -> bool {
        option.kind == Kind::List || !self.options.iter().any(|(o, _)| o.name == option.name)
    }
}

fn values(
    option: &Opt,
    partial: &str,
    given: Given,
    names: impl FnOnce(Wanted) -> Vec<String>,
) -> Vec<Candidate> {
    let all = match option.values {
        Values::Any => Vec::new(),
        Values::Files => files(partial),
        Values::Commands => {
            cmd::visible().map(|c| Candidate { word: c.name.into(), about: c.summary }).collect()
        }
        Values::Words(words) => words.iter().map(|w| plain(*w)).collect(),
        values => {
            let given = given.options.into_iter().map(|(option, value)| (option.name, value)).collect();
            names(Wanted { values, given }).into_iter().map(plain).collect()
        }
    };
    fitting(all.into_iter(), partial)
}

fn fitting(all: impl Iterator<Item = Candidate>, partial: &str) -> Vec<Candidate> {
    all.filter(|c| c.word.starts_with(partial)).collect()
}

/// Files that begin like this, folders with a slash at the end.
fn files(partial: &str) -> Vec<Candidate> {
    let (dir, start) = partial.rfind('/').map_or(("", partial), |at| partial.split_at(at + 1));
    let Ok(entries) = std::fs::read_dir(if dir.is_empty() { "." } else { dir }) else { return Vec::new() };
    let mut found: Vec<Candidate> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let hidden = name.starts_with('.') && !start.starts_with('.');
            let slash = if entry.path().is_dir() { "/" } else { "" };
            (!hidden).then(|| plain(format!("{dir}{name}{slash}")))
        })
        .collect();
    found.sort();
    found
}

#[cfg(test)]
mod test {
    use super::*;

    fn get(text: &str) -> Vec<String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let names = |_, wanted: Wanted| {
            let names: &[&str] = match (wanted.values, wanted.text("domain")) {
                (Values::InactiveNetworks, _) => &["lan"],
                (Values::InactiveDomains, _) => &["db"],
                (Values::Domains, _) => &["db", "web1", "web2"],
                (Values::ActiveDomains, _) => &["web1", "web2"],
                (Values::Interfaces, Some("web1")) => &["vnet0", "vnet1"],
                _ => &[],
            };
            names.iter().map(|n| (*n).to_owned()).collect()
        };
        line(&words, names).into_iter().map(|c| c.word).collect()
    }

    #[test]
    fn commands_options_and_names() {
        assert_eq!(
            get("domi"),
            [
                "domid",
                "domif-setlink",
                "domiftune",
                "domif-getlink",
                "domifaddr",
                "domiflist",
                "domifstat",
                "dominfo"
            ]
        );
        assert_eq!(get("dominfo w"), ["web1", "web2"]);
        assert_eq!(get("start "), ["db"]);
        assert_eq!(get("destroy web1 web"), ["web1", "web2"]);
        assert_eq!(get("console web1 "), Vec::<String>::new());
        assert_eq!(get("console --domain w"), ["web1", "web2"]);
        assert_eq!(get("console --domain=w"), ["--domain=web1", "--domain=web2"]);
        assert_eq!(get("list --state-r"), ["--state-running"]);
        assert_eq!(get("list --all --al"), Vec::<String>::new());
        assert_eq!(get("shutdown web1 --mode s"), ["signal"]);
        assert_eq!(get("-c lxc:/// -q domn"), ["domname"]);
        assert_eq!(get("net-start l"), ["lan"]);
        assert_eq!(get("-c lx"), Vec::<String>::new());
        assert_eq!(get("--reado"), ["--readonly"]);
        assert_eq!(get("nosuch x"), Vec::<String>::new());
        assert!(!get("start --").iter().any(|w| w == "--paused"));
    }

    #[test]
    fn what_belongs_to_a_domain_is_asked_of_the_one_that_is_named() {
        for line in [
            "domif-getlink web1 ",
            "domif-getlink web1 --interface ",
            "domif-getlink --config web1 vnet",
            "domif-setlink --domain web1 ",
            "domiftune --domain=web1 ",
        ] {
            assert_eq!(get(line), ["vnet0", "vnet1"], "{line}");
        }
        assert_eq!(get("domif-setlink --interface vnet0 w"), ["web1", "web2"]);
        assert_eq!(get("domif-setlink web1 vnet0 d"), ["down"]);
        assert_eq!(get("domif-getlink web2 "), Vec::<String>::new());
        assert_eq!(get("domiflist --domain=web1 "), Vec::<String>::new());
    }
}
