//! Which AppArmor profile a document asks for: `<seclabel>`, and `<berth:apparmor>` in `<berth:settings>` below
//! `<metadata>` for what libvirt's element has no word for.
//!
//! This module does not know what the profiles contain, or whether the host has AppArmor.

use crate::model::{Closed, Domain, Seclabel, SeclabelKind, closed};
use crate::tree::{Element, Pos};
use crate::{Diagnostic, SETTINGS_NAMESPACE};

/// The model's name in documents.
pub const MODEL: &str = "apparmor";

/// Longest name of a profile, which becomes a part of files of the kernel.
const LONGEST: usize = 255;

closed! {
    /// Which of our profiles a container gets.
    ApparmorProfile {
        Default = "default", Nesting = "nesting", Mounting = "mounting", Unconfined = "unconfined"
    }
}

/// What a document asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Confinement {
    /// One of ours, loaded for the domain alone.
    Profile(ApparmorProfile),
    /// One that somebody else has loaded.
    Label(String),
}

const SETTING: &str = "domain/metadata/berth:settings/berth:apparmor";
const LABEL: &str = "domain/seclabel";

impl Domain {
    /// What the document asks for.
    pub fn confinement(&self) -> Confinement {
        let label = self.apparmor_label();
        match label.map(|l| (l.kind, l.label.as_deref())) {
            Some((SeclabelKind::None, _)) => Confinement::Profile(ApparmorProfile::Unconfined),
            Some((SeclabelKind::Static, Some("unconfined"))) => {
                Confinement::Profile(ApparmorProfile::Unconfined)
            }
            Some((SeclabelKind::Static, Some(name))) => Confinement::Label(name.to_owned()),
            _ => Confinement::Profile(self.apparmor_setting().unwrap_or(ApparmorProfile::Default)),
        }
    }

    /// The label that is about AppArmor. One without a model is about that of the host, and we know no other.
    pub(crate) fn apparmor_label(&self) -> Option<&Seclabel> {
        let of = |model: Option<&str>| self.seclabels.iter().find(|s| s.model.as_deref() == model);
        of(Some(MODEL)).or_else(|| of(None))
    }

    fn apparmor_setting(&self) -> Option<ApparmorProfile> {
        self.apparmor_elements().find_map(|e| ApparmorProfile::find(e.value("profile")?))
    }

    fn apparmor_elements(&self) -> impl Iterator<Item = &Element> {
        let settings = self.metadata_elements(SETTINGS_NAMESPACE).filter(|e| local(e) == "settings");
        settings.flat_map(|s| s.elements().filter(|e| local(e) == "apparmor"))
    }

    /// What is wrong with what it asks for.
    pub(crate) fn check_apparmor(&self, problems: &mut Vec<Diagnostic>) {
        let mut seen = false;
        for element in self.apparmor_elements() {
            let mut bad = |pos: Pos, message: String| problems.push(Diagnostic::new(pos, SETTING, message));
            if seen {
                bad(element.pos, "there already is such an element".into());
            }
            seen = true;
            for attr in element.attrs.iter().filter(|a| a.name != "xmlns" && !a.name.starts_with("xmlns:")) {
                if attr.name != "profile" {
                    bad(attr.pos, format!("the attribute '{}' is unknown", attr.name));
                } else if ApparmorProfile::find(&attr.value).is_none() {
                    let (value, names) = (attr.value.escape_debug(), ApparmorProfile::names());
                    bad(attr.pos, format!("'{value}' is no profile, the profiles are {names}"));
                }
            }
            if element.value("profile").is_none() {
                bad(element.pos, "the attribute 'profile' is missing".into());
            }
            for child in element.elements() {
                bad(child.pos, format!("'{}' has no meaning in here", child.name));
            }
        }
        let Some(label) = self.apparmor_label() else { return };
        if seen && label.kind != SeclabelKind::Dynamic {
            let message = format!(
                "a security label of type '{}' leaves nothing for <berth:apparmor> to choose",
                label.kind
            );
            let mut problem = Diagnostic::new(label.pos, LABEL, message);
            problem.hint = Some("leave out <berth:apparmor>, or the <seclabel>".into());
            problems.push(problem);
        }
        if let (SeclabelKind::Static, Some(name)) = (label.kind, &label.label)
            && !is_label(name)
        {
            let message = format!("'{}' cannot be the name of a profile", name.escape_debug());
            problems.push(Diagnostic::new(label.pos, LABEL, message));
        }
    }
}

/// One word of printable ASCII: it is written to and read from files of the kernel.
fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The name without the prefix.
fn local(element: &Element) -> &str {
    element.name.rsplit(':').next().unwrap_or_default()
}
