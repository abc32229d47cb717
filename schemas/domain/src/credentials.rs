//! `<berth:credential>` in `<berth:settings>`: what services inside are told in confidence, as systemd's container
//! interface has it.
//!
//! Does not know how it gets there.

use crate::Diagnostic;
use crate::model::Domain;
use crate::settings::local;
use crate::tree::Element;

/// One credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The name of its file.
    pub name: String,
    /// Where it comes from.
    pub source: CredentialSource,
}

/// Where a credential comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialSource {
    /// A file on the host, read at each start.
    File(String),
    /// The document itself, which everybody may read who may look at the domain.
    Value(String),
}

const PATH: &str = "domain/metadata/berth:settings/berth:credential";

/// Most of them that a domain can have.
const MAX_CREDENTIALS: usize = 64;

/// Longest name, in bytes: NAME_MAX of limits.h.
const MAX_NAME: usize = 255;

impl Domain {
    /// The credentials. Of a document that was refused only what is good.
    pub fn credentials(&self) -> Vec<Credential> {
        self.read_credentials(&mut Vec::new())
    }

    /// Reads them and says what is wrong with them.
    pub(crate) fn read_credentials(&self, problems: &mut Vec<Diagnostic>) -> Vec<Credential> {
        let mut found: Vec<Credential> = Vec::new();
        let Some(settings) = self.own_settings() else {
            return found;
        };
        for element in settings.elements().filter(|e| local(e) == "credential") {
            let mut say = |message: String| problems.push(Diagnostic::new(element.pos, PATH, message));
            match read(element) {
                Ok(_) if found.len() == MAX_CREDENTIALS => {
                    say(format!("there are more than {MAX_CREDENTIALS} credentials"));
                }
                Ok(one) if found.iter().any(|other| other.name == one.name) => {
                    say(format!("there is a second one with the name '{}'", one.name));
                }
                Ok(one) => found.push(one),
                Err(message) => say(message),
            }
        }
        found
    }
}

fn read(element: &Element) -> Result<Credential, String> {
    let known = ["name", "file", "value"];
    let strange = |name: &str| !known.contains(&name) && !name.starts_with("xmlns");
    if let Some(attr) = element.attrs.iter().find(|a| strange(&a.name)) {
        return Err(format!("the attribute '{}' is unknown", attr.name));
    }
    let name = element.value("name").ok_or("the attribute 'name' is missing")?;
    if !is_name(name) {
        return Err(format!(
            "'{}' is no name of a credential: 1 to {MAX_NAME} printable ASCII characters without '/' and ':', \
             and not '.' or '..'",
            name.escape_debug()
        ));
    }
    let source = match (element.value("file"), element.value("value")) {
        (Some(file), None) if file.starts_with('/') => CredentialSource::File(file.to_owned()),
        (Some(file), None) => {
            return Err(format!("the path '{}' is not absolute", file.escape_debug()));
        }
        (None, Some(value)) => CredentialSource::Value(value.to_owned()),
        _ => return Err("one of the attributes 'file' and 'value' must be there, and not both".into()),
    };
    Ok(Credential { name: name.to_owned(), source })
}

/// What systemd takes: systemd.exec(5), `LoadCredential=`. That is what can name a file and a descriptor, blanks too.
fn is_name(name: &str) -> bool {
    let is_good = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && !b"/:".contains(&byte);
    (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(is_good) && !matches!(name, "." | "..")
}
