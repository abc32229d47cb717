//! What applications keep in a definition: reading and changing it.
//!
//! Does not know where a definition is kept or whether it runs.

use berth_domain::tree::is_xml_char;
use berth_domain::{Domain, SETTINGS_NAMESPACE};
use berth_schemas::domain::{Affect, MetadataKind};

use crate::container::hotplug::targets;
use crate::failure::Failure;

/// A change of title, description or one application's element.
#[derive(Debug, Clone)]
pub struct MetadataChange {
    /// Of what.
    pub kind: MetadataKind,
    /// Namespace of the element.
    pub uri: Option<String>,
    /// Prefix of that namespace.
    pub key: Option<String>,
    /// The new value; none removes it.
    pub value: Option<String>,
    /// In which definitions.
    pub affect: Vec<Affect>,
}

impl MetadataChange {
    /// Whether the running and whether the kept definition are to be changed.
    pub fn targets(&self, active: bool) -> (bool, bool) {
        targets(&self.affect, active)
    }

    /// Whether something that runs is to be changed.
    pub fn wants_live(&self, active: bool) -> bool {
        self.targets(active).0
    }

    /// Whether it is one of Berth's own settings.
    pub fn is_of_settings(&self) -> bool {
        self.kind == MetadataKind::Element && self.uri.as_deref() == Some(SETTINGS_NAMESPACE)
    }

    /// The definition with the change.
    pub fn apply(&self, domain: &Domain) -> Result<Domain, Failure> {
        const SET: &str = "virDomainSetMetadata";
        of_element_only(self.kind, "uri", self.uri.as_deref(), SET)?;
        of_element_only(self.kind, "key", self.key.as_deref(), SET)?;
        let mut domain = domain.clone();
        let value = self.value.clone().filter(|v| !v.is_empty());
        // An element is checked where it is read.
        if self.kind != MetadataKind::Element
            && let Some(bad) = value.iter().flat_map(|v| v.chars()).find(|c| !is_xml_char(*c))
        {
            let what = if self.kind == MetadataKind::Title { "title" } else { "description" };
            return Err(Failure::Failed(format!(
                "a {what} cannot have the character U+{:04X}, which no document can keep",
                u32::from(bad)
            )));
        }
        match self.kind {
            MetadataKind::Title if value.as_ref().is_some_and(|v| v.contains('\n')) => {
                return Err(Failure::InvalidValue {
                    parameter: "value",
                    message: "metadata title can't contain newlines".into(),
                });
            }
            MetadataKind::Title => domain.title = value,
            MetadataKind::Description => domain.description = value,
            MetadataKind::Element => {
                let uri = self.uri.as_deref().ok_or(Failure::Missing("uri"))?;
                if value.is_some() && self.key.is_none() {
                    return Err(Failure::Missing("key"));
                }
                let key = self.key.as_deref().unwrap_or_default();
                domain
                    .set_metadata_element(uri, key, value.as_deref())
                    .map_err(|e| Failure::InvalidDocument(e.diagnostics))?;
            }
        }
        // Escapes make text longer: what is written must be readable when the daemon starts again.
        domain.check_output().map_err(|e| Failure::InvalidDocument(e.diagnostics))?;
        Ok(domain)
    }
}

/// Title and description have no namespace: whoever names one would take what happens for something else. `function` is
/// libvirt's, whose words these are.
fn of_element_only(
    kind: MetadataKind,
    parameter: &'static str,
    given: Option<&str>,
    function: &str,
) -> Result<(), Failure> {
    if kind == MetadataKind::Element || given.is_none() {
        return Ok(());
    }
    Err(Failure::InvalidValue { parameter, message: format!("{parameter} in {function} must be NULL") })
}

/// What a definition keeps.
pub fn read(domain: &Domain, kind: MetadataKind, uri: Option<&str>) -> Result<String, Failure> {
    of_element_only(kind, "uri", uri, "virDomainGetMetadata")?;
    let value = match kind {
        MetadataKind::Title => domain.title.clone(),
        MetadataKind::Description => domain.description.clone(),
        MetadataKind::Element => domain.metadata_element(uri.ok_or(Failure::Missing("uri"))?),
    };
    value.ok_or(Failure::NoSuchMetadata)
}

#[cfg(test)]
mod test {
    use super::*;

    const XML: &str = "<domain type='lxc'><name>x</name><memory>1024</memory><os><type>exe</type><init>/i</init></os>\
        <devices><filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem></devices></domain>";

    #[test]
    fn a_text_that_could_not_be_read_again_is_refused() {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let domain = berth_domain::parse(XML, &host).expect("a good document").domain;
        let change = |value: String| MetadataChange {
            kind: MetadataKind::Description,
            uri: None,
            key: None,
            value: Some(value),
            affect: Vec::new(),
        };
        assert!(change("short & good".into()).apply(&domain).is_ok());
        // Each of these becomes five bytes.
        assert!(change("&".repeat(300_000)).apply(&domain).is_err());
    }

    #[test]
    fn a_title_of_a_namespace_is_refused() {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let domain = berth_domain::parse(XML, &host).expect("a good document").domain;
        for kind in [MetadataKind::Title, MetadataKind::Description] {
            for (uri, key, parameter) in
                [(Some("urn:x"), Some("k"), "uri"), (Some("urn:x"), None, "uri"), (None, Some("k"), "key")]
            {
                let change = MetadataChange {
                    kind,
                    uri: uri.map(str::to_owned),
                    key: key.map(str::to_owned),
                    value: Some("text".into()),
                    affect: Vec::new(),
                };
                let message = format!("{parameter} in virDomainSetMetadata must be NULL");
                let refused = Failure::InvalidValue { parameter, message };
                assert_eq!(change.apply(&domain).expect_err("refused"), refused);
            }
            let message = "uri in virDomainGetMetadata must be NULL".into();
            let refused = Failure::InvalidValue { parameter: "uri", message };
            assert_eq!(read(&domain, kind, Some("urn:x")).expect_err("refused"), refused);
        }
    }

    #[test]
    fn a_character_that_no_document_can_keep_is_refused() {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let domain = berth_domain::parse(XML, &host).expect("a good document").domain;
        for (kind, text, says) in [
            (
                MetadataKind::Title,
                "a\u{1}b",
                "a title cannot have the character U+0001, which no document can keep",
            ),
            (
                MetadataKind::Description,
                "\u{fffe}",
                "a description cannot have the character U+FFFE, which no document can keep",
            ),
        ] {
            let change = |text: &str| MetadataChange {
                kind,
                uri: None,
                key: None,
                value: Some(text.into()),
                affect: Vec::new(),
            };
            assert_eq!(change(text).apply(&domain).expect_err(says).to_string(), says);
            let kept = change("tab\tand \u{fffd}\u{1f600}").apply(&domain).expect("changed");
            let again = berth_domain::parse(&kept.to_xml(), &host).expect("a good document").domain;
            assert_eq!((again.title, again.description), (kept.title, kept.description));
        }
    }
}
