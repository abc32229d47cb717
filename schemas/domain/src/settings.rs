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

/// What is said of the settings: errors and warnings.
#[derive(Debug, Default)]
pub(crate) struct Remarks {
    /// What makes the document a bad one.
    pub errors: Vec<Diagnostic>,
    /// What has no meaning here.
    pub warnings: Vec<Diagnostic>,
}

impl Domain {
    /// How the document wants its ids, if it says so.
    pub fn id_map_mode(&self) -> Option<IdMapMode> {
        let settings = self.metadata_of(SETTINGS_NAMESPACE)?;
        let element = settings.elements().find(|e| local(e) == "idmap")?;
        mode(element.value("mode")?)
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
        let mut seen = false;
        for element in settings.elements() {
            // These have modules of their own, which are as strict.
            if ["seccomp", "apparmor", "limits", "rlimit", "pressure", "forward"].contains(&local(element)) {
                continue;
            }
            if local(element) != "idmap" {
                unknown(element.pos, format!("'{}'", local(element)));
                continue;
            }
            for attr in element.attrs.iter().filter(|a| a.name != "mode" && !a.name.starts_with("xmlns")) {
                unknown(attr.pos, format!("'{}' of 'idmap'", attr.name));
            }
            let message = match element.value("mode") {
                _ if seen => "there is a second one".to_owned(),
                Some(value) if mode(value).is_some() => String::new(),
                Some(value) => format!("the mode '{}' is neither 'auto' nor 'none'", value.escape_debug()),
                None => "the attribute 'mode' is missing".to_owned(),
            };
            seen = true;
            if !message.is_empty() {
                let place = format!("{path}/berth:idmap");
                remarks.errors.push(Diagnostic::new(element.pos, place, message));
            }
        }
        self.read_limits(&mut remarks.errors);
        self.read_pressure(&mut remarks.errors);
        self.read_forwards(&mut remarks.errors);
        remarks
    }
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
