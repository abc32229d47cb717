//! `<berth:seccomp>` in `<berth:settings>` below `<metadata>`: which system calls a container may use.
//!
//! What is in there and not known is kept, as everything below `<metadata>` is; only inside of an element that is
//! known, such as `<berth:seccomp>`, nothing unknown may stand: it would be taken for a protection that is not there.
//! This module does not know what the profiles contain.

use crate::Diagnostic;
use crate::model::{Closed, Domain, closed};
use crate::syscalls;
use crate::tree::{Element, Node};

/// The namespace of the settings.
pub const NAMESPACE: &str = "urn:berth:domain:1";

/// Most system calls that one document allows or denies.
const MAX_NAMES: usize = 512;

closed! {
    /// Which system calls a container may use where nothing else is said.
    SeccompProfile { System = "default", Application = "application" }
}

/// `<berth:seccomp>`: the filter of system calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seccomp {
    /// The profile.
    pub profile: SeccompProfile,
    /// Calls that are allowed although the profile refuses them.
    pub allow: Vec<String>,
    /// Calls that are refused although the profile allows them.
    pub deny: Vec<String>,
}

impl Default for Seccomp {
    fn default() -> Self {
        Self { profile: SeccompProfile::System, allow: Vec::new(), deny: Vec::new() }
    }
}

const PATH: &str = "domain/metadata/settings/seccomp";

impl Domain {
    /// The filter of system calls that the document asks for, or what is wrong with it.
    pub fn seccomp(&self) -> Result<Seccomp, Vec<Diagnostic>> {
        let mut problems = Vec::new();
        let mut found: Option<Seccomp> = None;
        for settings in self.metadata_elements(NAMESPACE).filter(|e| local(e) == "settings") {
            let outer = prefix(settings);
            // A child is ours if it has the prefix of its parent: nobody gives one namespace two.
            let ours = |e: &&Element| prefix(e) == outer && local(e) == "seccomp";
            for element in settings.elements().filter(ours) {
                if found.is_some() {
                    let message = "there already is such an element";
                    problems.push(Diagnostic::new(element.pos, PATH, message));
                }
                found = Some(seccomp(element, &mut problems));
            }
        }
        if problems.is_empty() { Ok(found.unwrap_or_default()) } else { Err(problems) }
    }
}

fn seccomp(element: &Element, problems: &mut Vec<Diagnostic>) -> Seccomp {
    let mut wanted = Seccomp::default();
    for attr in element.attrs.iter().filter(|a| a.name != "xmlns" && !a.name.starts_with("xmlns:")) {
        match (attr.name.as_str(), SeccompProfile::find(&attr.value)) {
            ("profile", Some(profile)) => wanted.profile = profile,
            ("profile", None) => {
                let message =
                    format!("'{}' is no profile, the profiles are {}", attr.value, SeccompProfile::names());
                let mut problem = Diagnostic::new(attr.pos, PATH, message);
                if attr.value == "none" {
                    problem.hint = Some(
                        "the filter is always there; allow the calls that are needed: <berth:allow>".into(),
                    );
                }
                problems.push(problem);
            }
            (name, _) => {
                problems.push(Diagnostic::new(attr.pos, PATH, format!("the attribute '{name}' is unknown")));
            }
        }
    }
    for child in &element.children {
        let message = match child {
            Node::Comment(_) => continue,
            Node::Text(_) => {
                problems.push(Diagnostic::new(element.pos, PATH, "there is text that belongs to no element"));
                continue;
            }
            Node::Element(e) => name(e, prefix(element), &mut wanted).err().map(|message| (e, message)),
        };
        if let Some((e, (message, hint))) = message {
            let mut problem = Diagnostic::new(e.pos, format!("{PATH}/{}", local(e)), message);
            problem.hint = hint;
            problems.push(problem);
        }
    }
    wanted
}

/// One name of a system call; what is wrong with it and what may help.
fn name(element: &Element, outer: &str, wanted: &mut Seccomp) -> Result<(), (String, Option<String>)> {
    let (list, other) = match local(element) {
        "allow" if prefix(element) == outer => (&mut wanted.allow, &wanted.deny),
        "deny" if prefix(element) == outer => (&mut wanted.deny, &wanted.allow),
        _ => {
            return Err((format!("<{}> is unknown, there are <allow> and <deny>", element.name), None));
        }
    };
    let text: String =
        element.children.iter().map(|n| if let Node::Text(t) = n { t.as_str() } else { "" }).collect();
    let text = text.trim();
    if syscalls::find(text).is_none() {
        let hint = nearest(text).map(|near| format!("did you mean '{near}'?"));
        return Err((format!("'{text}' is no system call"), hint));
    }
    if list.len() >= MAX_NAMES {
        return Err((format!("there are more than {MAX_NAMES}"), None));
    }
    if other.iter().any(|o| o == text) {
        return Err((format!("'{text}' is both allowed and denied"), None));
    }
    if !list.iter().any(|o| o == text) {
        list.push(text.to_owned());
    }
    Ok(())
}

/// A name that differs by one letter, or by what stands around it.
fn nearest(text: &str) -> Option<&'static str> {
    let plain = text.to_ascii_lowercase();
    let plain = plain.trim_start_matches("__nr_").trim_start_matches("sys_");
    syscalls::all().map(|s| s.name).find(|known| *known == plain || one_apart(known, plain))
}

fn one_apart(a: &str, b: &str) -> bool {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let front = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(x, y)| x == y).count();
    a.len().max(b.len()) - front - back <= 1
}

fn local(element: &Element) -> &str {
    element.name.split_once(':').map_or(element.name.as_str(), |(_, local)| local)
}

fn prefix(element: &Element) -> &str {
    element.name.split_once(':').map_or("", |(prefix, _)| prefix)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod test {
    use super::*;
    use crate::{Host, parse};

    fn read(settings: &str) -> Result<Seccomp, Vec<String>> {
        let host = Host { arch: "x86_64".into(), emulator: "/e".into() };
        let text = format!(
            "<domain type='lxc'><name>x</name><memory>1</memory><metadata>\n{settings}\n</metadata>
             <os><type>exe</type><init>/i</init></os><devices><filesystem><source dir='/r'/><target dir='/'/>
             </filesystem></devices></domain>"
        );
        let shown = |d: &Diagnostic| match &d.hint {
            Some(hint) => format!("{d} ({hint})"),
            None => d.to_string(),
        };
        match parse(&text, &host) {
            Ok(parsed) => Ok(parsed.domain.seccomp().unwrap()),
            Err(e) => Err(e.diagnostics.iter().map(shown).collect()),
        }
    }

    const OPEN: &str = "<berth:settings xmlns:berth='urn:berth:domain:1'>";

    #[test]
    fn nothing_said_is_the_default() {
        assert_eq!(read(""), Ok(Seccomp::default()));
        assert_eq!(read(&format!("{OPEN}<berth:other/></berth:settings>")), Ok(Seccomp::default()));
        // Another's element of the same name.
        assert_eq!(
            read("<x:settings xmlns:x='urn:x'><x:seccomp profile='y'/></x:settings>"),
            Ok(Seccomp::default())
        );
    }

    #[test]
    fn profile_and_additions_are_read() {
        let wanted = Seccomp {
            profile: SeccompProfile::Application,
            allow: vec!["ptrace".into()],
            deny: vec!["mseal".into(), "chown32".into()],
        };
        let inside =
            "seccomp profile='application'><P:allow>ptrace</P:allow><!-- why --><P:deny> mseal </P:deny>
            <P:deny>chown32</P:deny><P:deny>mseal</P:deny></P:seccomp>";
        let text = format!("{OPEN}<P:{inside}</berth:settings>").replace("P:", "berth:");
        assert_eq!(read(&text), Ok(wanted.clone()));
        let text = format!("<settings xmlns='{NAMESPACE}'><P:{inside}</settings>").replace("P:", "");
        assert_eq!(read(&text), Ok(wanted));
    }

    #[test]
    fn mistakes_have_a_place() {
        let one = |inside: &str| read(&format!("{OPEN}\n{inside}</berth:settings>")).unwrap_err().join("; ");
        assert_eq!(
            one("<berth:seccomp profile='none'/>"),
            "line 3, column 16: <seccomp>: 'none' is no profile, the profiles are default, application \
             (the filter is always there; allow the calls that are needed: <berth:allow>)"
        );
        assert_eq!(
            one("<berth:seccomp><berth:allow>SYS_ptrace</berth:allow></berth:seccomp>"),
            "line 3, column 16: <allow>: 'SYS_ptrace' is no system call (did you mean 'ptrace'?)"
        );
        assert_eq!(
            one("<berth:seccomp><berth:deny>unshar</berth:deny></berth:seccomp>"),
            "line 3, column 16: <deny>: 'unshar' is no system call (did you mean 'unshare'?)"
        );
        for (inside, what) in [
            ("<berth:seccomp mode='x'/>", "the attribute 'mode' is unknown"),
            ("<berth:seccomp><berth:trap>bpf</berth:trap></berth:seccomp>", "<berth:trap> is unknown"),
            ("<berth:seccomp><allow>bpf</allow></berth:seccomp>", "<allow> is unknown"),
            ("<berth:seccomp>bpf</berth:seccomp>", "belongs to no element"),
            ("<berth:seccomp/><berth:seccomp/>", "there already is"),
            (
                "<berth:seccomp><berth:allow>bpf</berth:allow><berth:deny>bpf</berth:deny></berth:seccomp>",
                "both allowed and denied",
            ),
        ] {
            let message = one(inside);
            assert!(message.contains(what), "{inside}: {message}");
        }
    }
}
