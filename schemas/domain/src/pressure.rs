//! `<berth:pressure>` in `<berth:settings>`: how much waiting for a resource is worth an event.
//!
//! Does not know how the kernel is asked for it.

use crate::Diagnostic;
use crate::model::Domain;
use crate::settings::local;
use crate::tree::Element;

/// From which share of the time on an event tells that tasks wait, in percent; none means never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PressureSettings {
    /// For a processor.
    pub cpu: Option<u32>,
    /// For memory.
    pub memory: Option<u32>,
    /// For block devices.
    pub io: Option<u32>,
}

const PATH: &str = "domain/metadata/berth:settings/berth:pressure";

impl Domain {
    /// What the settings say of pressure. Of a document that was refused only what is good.
    pub fn pressure_settings(&self) -> PressureSettings {
        self.read_pressure(&mut Vec::new())
    }

    /// Reads it and says what is wrong with it.
    pub(crate) fn read_pressure(&self, problems: &mut Vec<Diagnostic>) -> PressureSettings {
        let mut found = PressureSettings::default();
        let Some(settings) = self.own_settings() else {
            return found;
        };
        for (n, element) in settings.elements().filter(|e| local(e) == "pressure").enumerate() {
            if n == 0 {
                read(element, &mut found, problems);
            } else {
                problems.push(Diagnostic::new(element.pos, PATH, "there is a second one"));
            }
        }
        found
    }
}

fn read(element: &Element, found: &mut PressureSettings, problems: &mut Vec<Diagnostic>) {
    for attr in element.attrs.iter().filter(|a| !a.name.starts_with("xmlns")) {
        let share = match attr.name.as_str() {
            "cpu" => &mut found.cpu,
            "memory" => &mut found.memory,
            "io" => &mut found.io,
            name => {
                let message = format!("the attribute '{name}' is unknown");
                problems.push(Diagnostic::new(attr.pos, PATH, message));
                continue;
            }
        };
        let percent = attr.value.strip_suffix('%').and_then(|n| n.parse().ok());
        *share = percent.filter(|n| (1..=100).contains(n));
        if share.is_none() {
            let value = attr.value.escape_debug();
            let message = format!("'{value}' of '{}' is not a percentage from '1%' to '100%'", attr.name);
            problems.push(Diagnostic::new(attr.pos, PATH, message));
        }
    }
}
