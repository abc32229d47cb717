//! `<berth:limits>` and `<berth:rlimit>` in `<berth:settings>`: limits for which libvirt's format has no place.
//!
//! Does not know what the host can do.

use crate::Diagnostic;
use crate::model::{Closed, Domain, closed};
use crate::settings::{SETTINGS_NAMESPACE, local};
use crate::tree::Element;

closed! {
    /// A limit of a process, with the name that it has in limits.conf(5).
    RlimitName {
        As = "as", Core = "core", Cpu = "cpu", Data = "data", Fsize = "fsize", Locks = "locks",
        Memlock = "memlock", Msgqueue = "msgqueue", Nice = "nice", Nofile = "nofile", Nproc = "nproc",
        Rss = "rss", Rtprio = "rtprio", Rttime = "rttime", Sigpending = "sigpending", Stack = "stack",
    }
}

/// What init and everything after it may use at most; see getrlimit(2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rlimit {
    /// Of what.
    pub name: RlimitName,
    /// The limit; none means no limit.
    pub soft: Option<u64>,
    /// How far it can be raised; none means no limit.
    pub hard: Option<u64>,
}

/// What the settings say about limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitSettings {
    /// Processes and threads.
    pub pids: Option<u64>,
    /// How readily the kernel kills here when memory runs out, -1000 to 1000; see proc_pid_oom_score_adj(5).
    pub oom_score: Option<i32>,
    /// CPU time in percent of one CPU.
    pub cpu_allowance: Option<u32>,
    /// Limits of processes, one for each name.
    pub rlimits: Vec<Rlimit>,
}

const PATH: &str = "domain/metadata/berth:settings";
/// The most processes that a kernel has (PID_MAX_LIMIT).
const MAX_PIDS: u64 = 4 << 20;
/// In percent: as many CPUs as a document may ask for.
const MAX_ALLOWANCE: u32 = 16_384 * 100;

impl Domain {
    /// The limits of the settings. Of a document that was refused only those that are good.
    pub fn limit_settings(&self) -> LimitSettings {
        self.read_limits(&mut Vec::new())
    }

    /// Changes the limit of processes; none takes it away.
    pub fn set_pids(&mut self, pids: Option<u64>) -> Result<(), crate::ParseError> {
        self.set_limit("pids", pids.map(|n| n.to_string()))
    }

    /// Changes the CPU time in percent of one CPU; none takes the limit away.
    pub fn set_cpu_allowance(&mut self, percent: Option<u32>) -> Result<(), crate::ParseError> {
        self.set_limit("cpu-allowance", percent.map(|n| format!("{n}%")))
    }

    fn set_limit(&mut self, name: &str, value: Option<String>) -> Result<(), crate::ParseError> {
        let mut settings = match self.metadata_of(SETTINGS_NAMESPACE) {
            Some(settings) => settings.clone(),
            None if value.is_none() => return Ok(()),
            None => Element::new("berth:settings").attr("xmlns:berth", SETTINGS_NAMESPACE),
        };
        let prefix = settings.name.split_once(':').map_or(String::new(), |(p, _)| format!("{p}:"));
        if !settings.elements().any(|e| local(e) == "limits") && value.is_some() {
            settings = settings.child(Element::new(&format!("{prefix}limits")));
        }
        for node in &mut settings.children {
            if let crate::tree::Node::Element(e) = node
                && local(e) == "limits"
            {
                e.attrs.retain(|a| a.name != name);
                if let Some(value) = &value {
                    *e = e.clone().attr(name, value);
                }
            }
        }
        self.replace_metadata(SETTINGS_NAMESPACE, settings)
    }

    /// Reads them all and says what is wrong with them.
    pub(crate) fn read_limits(&self, problems: &mut Vec<Diagnostic>) -> LimitSettings {
        let mut found = LimitSettings::default();
        let Some(settings) = self.own_settings() else {
            return found;
        };
        let mut seen = false;
        for element in settings.elements() {
            match local(element) {
                "limits" if seen => problems.push(at(element, "limits", "there is a second one")),
                "limits" => {
                    seen = true;
                    limits(element, &mut found, problems);
                }
                "rlimit" => rlimit(element, &mut found, problems),
                _ => {}
            }
        }
        // No quota is in the way of nothing, nor is the period of one that there is not.
        let quota =
            self.cputune.as_ref().is_some_and(|c| c.quota.map_or(c.period.is_some(), |quota| quota >= 0));
        if quota && found.cpu_allowance.is_some() {
            let message = "'cpu-allowance' and <quota> or <period> in <cputune> exclude each other";
            problems.push(at(settings, "limits", message));
        }
        found
    }
}

fn at(element: &Element, name: &str, message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(element.pos, format!("{PATH}/berth:{name}"), message)
}

fn limits(element: &Element, found: &mut LimitSettings, problems: &mut Vec<Diagnostic>) {
    for attr in element.attrs.iter().filter(|a| !a.name.starts_with("xmlns")) {
        let value = attr.value.as_str();
        let good = match attr.name.as_str() {
            "pids" => {
                found.pids = value.parse().ok().filter(|n| (1..=MAX_PIDS).contains(n));
                found.pids.is_some()
            }
            "oom-score" => {
                found.oom_score = value.parse().ok().filter(|n| (-1000..=1000).contains(n));
                found.oom_score.is_some()
            }
            "cpu-allowance" => {
                let number = value.strip_suffix('%').and_then(|n| n.parse().ok());
                found.cpu_allowance = number.filter(|n| (1..=MAX_ALLOWANCE).contains(n));
                found.cpu_allowance.is_some()
            }
            name => {
                problems.push(at(element, "limits", format!("the attribute '{name}' is unknown")));
                continue;
            }
        };
        if !good {
            let wanted = match attr.name.as_str() {
                "pids" => format!("a number from 1 to {MAX_PIDS}"),
                "oom-score" => "a number from -1000 to 1000".to_owned(),
                _ => "a percentage of one CPU from '1%' on".to_owned(),
            };
            let message = format!("'{}' of '{}' is not {wanted}", value.escape_debug(), attr.name);
            problems.push(at(element, "limits", message));
        }
    }
}

fn rlimit(element: &Element, found: &mut LimitSettings, problems: &mut Vec<Diagnostic>) {
    let mut bad = |message: String| problems.push(at(element, "rlimit", message));
    for attr in &element.attrs {
        if !["name", "soft", "hard"].contains(&attr.name.as_str()) && !attr.name.starts_with("xmlns") {
            bad(format!("the attribute '{}' is unknown", attr.name));
        }
    }
    let name = element.value("name").unwrap_or_default();
    let Some(name) = RlimitName::find(name) else {
        bad(format!("'{}' is no limit, there are {}", name.escape_debug(), RlimitName::names()));
        return;
    };
    let number = |attribute: &str| match element.value(attribute) {
        Some("unlimited") => Ok(Some(None)),
        Some(text) => match text.parse::<u64>() {
            Ok(n) if n < u64::MAX => Ok(Some(Some(n))),
            _ => {
                Err(format!("'{}' of '{attribute}' is neither a number nor 'unlimited'", text.escape_debug()))
            }
        },
        None => Ok(None),
    };
    let (soft, hard) = match (number("soft"), number("hard")) {
        (Ok(soft), Ok(hard)) => (soft, hard),
        (Err(message), _) | (_, Err(message)) => {
            bad(message);
            return;
        }
    };
    let (soft, hard) = match (soft, hard) {
        (Some(soft), Some(hard)) => (soft, hard),
        (Some(one), None) | (None, Some(one)) => (one, one),
        (None, None) => {
            bad("one of the attributes 'soft' and 'hard' must be there".into());
            return;
        }
    };
    if soft.unwrap_or(u64::MAX) > hard.unwrap_or(u64::MAX) {
        bad("'soft' is more than 'hard'".into());
    } else if found.rlimits.iter().any(|l| l.name == name) {
        bad(format!("there is a second one for '{name}'"));
    } else {
        found.rlimits.push(Rlimit { name, soft, hard });
    }
}
