//! What may come next on a command line, from the command table and the live names of domains and networks.
//!
//! Does not know which shell asks.

use berth_schemas::domain::DomainStatus;

use crate::cmd;
use crate::grammar::{Kind, Opt, Values};
use crate::options::{self, Action};
use crate::session::Session;

/// One possible word, and what it is, where there is something to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// The word.
    pub word: String,
    /// A few words on it; may be empty.
    pub about: &'static str,
}

fn plain(word: impl Into<String>) -> Candidate {
    Candidate { word: word.into(), about: "" }
}

/// What fits the last of these words, which come after the program's name. `names` asks the daemon.
pub fn line(words: &[String], names: impl FnOnce(options::Options, Values) -> Vec<String>) -> Vec<Candidate> {
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
    command(&words, |values| names(given, values))
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
pub fn command(words: &[String], names: impl FnOnce(Values) -> Vec<String>) -> Vec<Candidate> {
    let Some((partial, before)) = words.split_last() else { return Vec::new() };
    let Some((name, given)) = before.split_first() else {
        return fitting(cmd::visible().map(|c| Candidate { word: c.name.into(), about: c.summary }), partial);
    };
    let Some(command) = cmd::find(name) else { return Vec::new() };
    let usable = |o: &&Opt| o.refused.is_none();
    let seen = |o: &Opt| given.iter().any(|w| w.strip_prefix("--").is_some_and(|w| w == o.name));
    if let Some(option) = given.last().and_then(|w| w.strip_prefix("--")).and_then(|w| command.option(w))
        && option.kind != Kind::Flag
    {
        return values(option, partial, names);
    }
    if let Some((option, value)) = partial.strip_prefix("--").and_then(|p| p.split_once('=')) {
        let Some(option) = command.option(option) else { return Vec::new() };
        let mut found = values(option, value, names);
        found.iter_mut().for_each(|c| c.word = format!("--{}={}", option.name, c.word));
        return found;
    }
    if partial.starts_with('-') {
        let open = command.all_options().filter(usable).filter(|o| o.kind == Kind::List || !seen(o));
        let all = open.filter(|o| o.name != "string");
        return fitting(all.map(|o| Candidate { word: format!("--{}", o.name), about: o.help }), partial);
    }
    let mut places = command.options.iter().filter(|o| o.positional && (o.kind == Kind::List || !seen(o)));
    let unnamed = unnamed(command, given);
    let mut found = None;
    for _ in 0..=unnamed {
        match places.next() {
            Some(option) if option.kind == Kind::List => {
                found = Some(option);
                break;
            }
            next => found = next,
        }
    }
    found.map_or_else(Vec::new, |option| values(option, partial, names))
}

/// How many words were given without a name.
fn unnamed(command: &crate::grammar::Command, given: &[String]) -> usize {
    let mut value = false;
    given
        .iter()
        .filter(|word| {
            let is_value = std::mem::take(&mut value);
            let option = word.strip_prefix("--");
            value = option.and_then(|o| command.option(o)).is_some_and(|o| o.kind != Kind::Flag);
            !is_value && option.is_none()
        })
        .count()
}

fn values(option: &Opt, partial: &str, names: impl FnOnce(Values) -> Vec<String>) -> Vec<Candidate> {
    let all = match option.values {
        Values::Any => Vec::new(),
        Values::Domains
        | Values::ActiveDomains
        | Values::InactiveDomains
        | Values::Networks
        | Values::ActiveNetworks
        | Values::InactiveNetworks => names(option.values).into_iter().map(plain).collect(),
        Values::Files => files(partial),
        Values::Commands => {
            cmd::visible().map(|c| Candidate { word: c.name.into(), about: c.summary }).collect()
        }
        Values::Words(words) => words.iter().map(|w| plain(*w)).collect(),
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

/// The names that a daemon knows; none if it cannot be reached.
pub fn live_names(options: options::Options, values: Values) -> Vec<String> {
    let mut session = Session::new(options);
    if session.connect().is_err() {
        return Vec::new();
    }
    match values {
        Values::Networks | Values::ActiveNetworks | Values::InactiveNetworks => {
            let all = cmd::net::all(&mut session).unwrap_or_default().into_iter();
            all.filter(|n| fits(values, n.active)).map(|n| n.name).collect()
        }
        _ => domains(&session.all_domains().unwrap_or_default(), values),
    }
}

fn domains(all: &[DomainStatus], values: Values) -> Vec<String> {
    all.iter().filter(|d| fits(values, d.id.is_some())).map(|d| d.name.clone()).collect()
}

/// Whether a name is wanted of something that is active, or is not.
fn fits(values: Values, active: bool) -> bool {
    match values {
        Values::ActiveDomains | Values::ActiveNetworks => active,
        Values::InactiveDomains | Values::InactiveNetworks => !active,
        _ => true,
    }
}

#[cfg(test)]
mod test {
    use super::*;
    use berth_schemas::domain::{Reason, State};

    fn domain(name: &str, id: Option<i64>) -> DomainStatus {
        DomainStatus {
            name: name.into(),
            uuid: String::new(),
            id,
            state: if id.is_some() { State::Running } else { State::Shutoff },
            reason: Reason::Unknown,
            persistent: true,
            autostart: false,
            pending_change: false,
            title: None,
            init_pid: None,
            started_u_sec: None,
            restarts: 0,
            ready: None,
            last_exit: None,
            security: None,
        }
    }

    fn get(text: &str) -> Vec<String> {
        let words: Vec<String> = text.split(' ').map(str::to_owned).collect();
        let all = [domain("db", None), domain("web1", Some(7)), domain("web2", Some(8))];
        let names = |_, values| match values {
            Values::InactiveNetworks => vec!["lan".to_owned()],
            values => domains(&all, values),
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
}
