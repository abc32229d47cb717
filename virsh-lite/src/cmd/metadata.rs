//! `desc` and `metadata`: what applications and people note about a domain.
//!
//! Does not read XML, and does not know what namespaces mean.

use berth_schemas::domain::{
    self, Affect, GetMetadataIn, GetMetadataOut, MetadataKind, Method, SetMetadataIn, SetMetadataOut,
};

use crate::editor::Draft;
use crate::error::{CallError, Failure};
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};

const LIVE: Opt = Opt::flag("live", "of what runs now");
const CONFIG: Opt = Opt::flag("config", "of what the next start uses");
const CURRENT: Opt = Opt::flag("current", "of what runs now, or else of the definition");

/// `desc`
pub static DESC: Command =
    Command::new("desc", Group::Domain, "show or set domain's description or title", desc)
        .about("Prints the description or the title of the domain; with a text, or --edit, sets it.")
        .options(&[
            Opt::domain(),
            LIVE,
            CONFIG,
            CURRENT,
            Opt::flag("title", "the title instead of the description"),
            Opt::flag("edit", "change it in an editor"),
            Opt::list("new-desc", "the new text; an empty one removes it"),
        ])
        .json("description or title, null where there is none");

/// `metadata`
pub static METADATA: Command =
    Command::new("metadata", Group::Domain, "show or set domain's custom XML metadata", metadata)
        .about("Prints, sets or removes the element that an application keeps under its namespace.")
        .options(&[
            Opt::domain(),
            Opt::text("uri", "URI of the namespace").required().from(Values::Namespaces),
            LIVE,
            CONFIG,
            CURRENT,
            Opt::flag("edit", "change it in an editor"),
            Opt::text("key", "prefix to use for the namespace"),
            Opt::text("set", "the new element"),
            Opt::flag("remove", "remove the element"),
        ])
        .json("uri and xml");

/// One piece of a domain's metadata.
struct Place {
    domain: DomainRef,
    kind: MetadataKind,
    uri: Option<String>,
    key: Option<String>,
    affect: Vec<Affect>,
}

impl Place {
    fn new(session: &mut Session, args: &Args, kind: MetadataKind) -> Result<Self, Failure> {
        args.exclusive("current", "live")?;
        args.exclusive("current", "config")?;
        let choices = [("current", Affect::Current), ("live", Affect::Live), ("config", Affect::Config)];
        Ok(Self {
            domain: session.domain(args.required("domain"))?,
            kind,
            uri: args.text("uri").map(str::to_owned),
            key: args.text("key").map(str::to_owned),
            affect: choices.into_iter().filter(|(name, _)| args.has(name)).map(|(_, a)| a).collect(),
        })
    }

    /// What is there; nothing if nothing is.
    fn get(&self, session: &mut Session, what: &str) -> Result<Option<String>, Failure> {
        let ask = GetMetadataIn {
            name: Some(self.domain.name.clone()),
            uuid: self.domain.uuid.clone(),
            id: None,
            kind: self.kind,
            uri: self.uri.clone(),
            affect: self.affect.last().copied(),
        };
        match session.call::<_, GetMetadataOut>(Method::GetMetadata, &ask) {
            Ok(out) => Ok(Some(out.value)),
            Err(CallError::Domain(domain::Error::NoSuchMetadata { .. })) => Ok(None),
            Err(error) => Err(session.failure(what, &self.domain, &error)),
        }
    }

    /// Sets or removes it.
    fn set(&self, session: &mut Session, value: Option<String>, what: &str) -> Result<(), Failure> {
        let ask = SetMetadataIn {
            name: Some(self.domain.name.clone()),
            uuid: self.domain.uuid.clone(),
            id: None,
            kind: self.kind,
            uri: self.uri.clone(),
            key: self.key.clone(),
            value,
            affect: (!self.affect.is_empty()).then(|| self.affect.clone()),
        };
        let result = session.call::<_, SetMetadataOut>(Method::SetMetadata, &ask);
        result.map(|_| ()).map_err(|e| session.failure(what, &self.domain, &e))
    }
}

fn desc(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let (kind, word) = if args.has("title") {
        (MetadataKind::Title, "title")
    } else {
        (MetadataKind::Description, "description")
    };
    let place = Place::new(session, args, kind)?;
    let given = args.has("new-desc").then(|| args.list("new-desc").collect::<Vec<_>>().join(" "));
    let reading = format!("Failed to get current domain {word}");
    if given.is_none() && !args.has("edit") {
        let value = place.get(session, &reading)?;
        if session.json {
            session.out.json(&serde_json::json!({ word: value }));
        } else {
            match value {
                Some(value) => session.out.print(&value),
                None => session.out.extra(&format!("No {word} for domain: {}", place.domain.name)),
            }
        }
        return Ok(());
    }
    let new = if args.has("edit") {
        let before = match given {
            Some(text) => text,
            None => place.get(session, &reading)?.unwrap_or_default(),
        };
        let text = Draft::new(&before)?.edit()?.trim_end().to_owned();
        if text == before {
            session.out.extra(&format!("Domain {word} not changed\n"));
            return Ok(());
        }
        text
    } else {
        given.unwrap_or_default()
    };
    let value = (!new.is_empty()).then_some(new);
    place.set(session, value, &format!("Failed to set new domain {word}"))?;
    session.out.extra(&format!("Domain {word} updated successfully"));
    Ok(())
}

fn metadata(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let pairs = [("edit", "set"), ("remove", "set"), ("remove", "edit")];
    pairs.iter().try_for_each(|(one, other)| args.exclusive(one, other))?;
    let place = Place::new(session, args, MetadataKind::Element)?;
    let changes = args.has("set") || args.has("edit");
    if changes && !args.has("key") {
        return Err(Failure::line("namespace key is required when modifying metadata"));
    }
    let what = format!("Failed to access metadata of domain '{}'", place.domain.name);
    if args.has("remove") {
        place.set(session, None, &what)?;
        session.out.extra("Metadata removed\n");
        return Ok(());
    }
    let new = if args.has("edit") {
        let before = place.get(session, &what)?.unwrap_or_default();
        let text = Draft::new(&before)?.edit()?;
        if text == before {
            session.out.extra("Metadata not changed");
            return Ok(());
        }
        Some(text)
    } else {
        args.text("set").map(str::to_owned)
    };
    if let Some(new) = new {
        place.set(session, Some(new), &what)?;
        session.out.extra("Metadata modified\n");
        return Ok(());
    }
    let Some(xml) = place.get(session, &what)? else {
        return Err(Failure::line("metadata not found: Requested metadata element is not present"));
    };
    if session.json {
        session.out.json(&serde_json::json!({ "uri": place.uri, "xml": xml }));
    } else {
        session.out.print(&format!("{}\n", xml.trim_end()));
    }
    Ok(())
}
