//! Berth's own settings, below `<metadata>` where libvirt lets applications keep theirs.
//!
//! This module does not know what a setting does.

use crate::model::Domain;
use crate::tree::{Element, Pos};
use crate::{Diagnostic, printable};

/// Namespace of `<berth:settings>`.
pub const SETTINGS_NAMESPACE: &str = "urn:berth:domain:1";

/// Whether a domain without `<idmap>` has ids of its own: `<berth:idmap mode='...'/>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdMapMode {
    /// A range is chosen for it.
    Auto,
    /// Root inside is root outside.
    None,
}

/// Settings that are an element with a mode.
const MODES: &[(&str, [&str; 2])] =
    &[("idmap", ["auto", "none"]), ("view", ["own", "none"]), ("cpu-times", ["counted", "none"])];

/// What `sysinfo` of `<berth:view>` may be.
const SYSINFO: [&str; 2] = ["own", "host"];

/// What is said of the settings: errors and warnings.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// What makes the document a bad one.
    pub errors: Vec<Diagnostic>,
    /// What has no meaning here.
    pub warnings: Vec<Diagnostic>,
}

impl Domain {
    /// `<berth:settings>`.
    pub(crate) fn own_settings(&self) -> Option<&Element> {
        self.metadata_of(SETTINGS_NAMESPACE).filter(|s| local(s) == "settings")
    }

    /// Whether the settings of Berth are the same in another definition, to the letter.
    pub fn has_settings_of(&self, other: &Self) -> bool {
        self.metadata_elements(SETTINGS_NAMESPACE).eq(other.metadata_elements(SETTINGS_NAMESPACE))
    }

    /// How the document wants its ids, if it says so.
    pub fn id_map_mode(&self) -> Option<IdMapMode> {
        mode(self.mode_of("idmap")?)
    }

    /// Whether it sees /proc and /sys as its limits make them: `<berth:view mode='own'/>`, or `none` for the host's.
    pub fn has_view(&self) -> bool {
        self.mode_of("view") != Some("none")
    }

    /// Whether sysinfo(2) tells the same as these files, and not about the host: `<berth:view sysinfo='host'/>` for the latter.
    pub fn has_own_sysinfo(&self) -> bool {
        self.has_view() && self.value_of("view", "sysinfo") != Some("host")
    }

    /// Whether its processor time is counted by processor also where the kernel does not do that by itself:
    /// `<berth:cpu-times mode='counted'/>`.
    pub fn counts_cpu_times(&self) -> bool {
        self.mode_of("cpu-times") == Some("counted")
    }

    fn mode_of(&self, name: &str) -> Option<&str> {
        self.value_of(name, "mode")
    }

    fn value_of(&self, name: &str, attribute: &str) -> Option<&str> {
        let settings = self.metadata_of(SETTINGS_NAMESPACE)?;
        settings.elements().find(|e| local(e) == name)?.value(attribute)
    }

    /// Checks all settings.
    pub(crate) fn settings_remarks(&self) -> Remarks {
        let mut remarks = Remarks::default();
        let Some(settings) = self.metadata_of(SETTINGS_NAMESPACE) else { return remarks };
        let path = "domain/metadata/berth:settings";
        let mut unknown = |pos: Pos, what: String| {
            remarks.warnings.push(Diagnostic::new(pos, path, format!("the setting {what} is unknown")));
        };
        if local(settings) != "settings" {
            unknown(settings.pos, format!("'{}'", printable(settings.name.clone())));
            return remarks;
        }
        let mut seen = Vec::new();
        for element in settings.elements() {
            let name = local(element);
            // These have modules of their own, which are as strict.
            if ["seccomp", "apparmor", "limits", "rlimit", "pressure", "forward", "credential"]
                .contains(&name)
            {
                continue;
            }
            let Some((_, modes)) = MODES.iter().find(|(n, _)| *n == name) else {
                unknown(element.pos, format!("'{name}'"));
                continue;
            };
            let sysinfo = element.value("sysinfo").filter(|_| name == "view");
            let known = |name: &str| name == "mode" || name == "sysinfo" && sysinfo.is_some();
            for attr in element.attrs.iter().filter(|a| !known(&a.name) && !a.name.starts_with("xmlns")) {
                unknown(attr.pos, format!("'{}' of '{name}'", attr.name));
            }
            let mode = element.value("mode");
            let message = match (mode, sysinfo) {
                _ if seen.contains(&name) => "there is a second one".to_owned(),
                (Some(mode), _) if !modes.contains(&mode) => neither("the mode", mode, modes),
                (_, Some(sysinfo)) if !SYSINFO.contains(&sysinfo) => neither("'sysinfo'", sysinfo, &SYSINFO),
                (Some("none"), Some("own")) => "without a view there is no sysinfo of its own".to_owned(),
                (None, None) => "the attribute 'mode' is missing".to_owned(),
                _ => String::new(),
            };
            seen.push(name);
            if !message.is_empty() {
                let place = format!("{path}/berth:{name}");
                remarks.errors.push(Diagnostic::new(element.pos, place, message));
            }
        }
        self.read_limits(&mut remarks.errors);
        self.read_pressure(&mut remarks.errors);
        self.read_forwards(&mut remarks.errors);
        self.read_credentials(&mut remarks.errors);
        remarks
    }
}

fn neither(what: &str, value: &str, [one, other]: &[&str; 2]) -> String {
    format!("{what} '{}' is neither '{one}' nor '{other}'", value.escape_debug())
}

fn mode(text: &str) -> Option<IdMapMode> {
    match text {
        "auto" => Some(IdMapMode::Auto),
        "none" => Some(IdMapMode::None),
        _ => None,
    }
}

/// The name without the prefix: what is inside the element of a namespace belongs to its owner.
pub(crate) fn local(element: &Element) -> &str {
    element.name.rsplit(':').next().unwrap_or_default()
}
