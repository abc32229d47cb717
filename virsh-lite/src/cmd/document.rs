//! `dumpxml`, and the document of a domain for other commands.
//!
//! Does not read XML.

use berth_schemas::domain::{GetXMLIn, GetXMLOut, Method};

use crate::cmd::info::one_or_many;
use crate::error::Failure;
use crate::grammar::{Command, Group, Opt, Values};
use crate::parse::Args;
use crate::session::{DomainRef, Session};

/// `dumpxml`
pub static DUMPXML: Command = Command::new("dumpxml", Group::Domain, "domain information in XML", dumpxml)
    .about("Prints the document of each domain: the one it runs with, or the one of its next start.")
    .options(&[
        Opt::domains(Values::Domains),
        Opt::flag("inactive", "print the definition of the next start"),
        Opt::flag("security-info", "accepted; nothing is left out anyway"),
        Opt::flag("migratable", "accepted; changes nothing"),
        Opt::flag("update-cpu", "accepted; changes nothing"),
        Opt::text("xpath", "").refused("pipe the output through xmllint --xpath"),
        Opt::flag("wrap", "").refused("it only goes with --xpath"),
    ])
    .json("name and xml; an array where several domains are asked for");

fn dumpxml(session: &mut Session, args: &Args) -> Result<(), Failure> {
    let mut documents = Vec::new();
    let result = session.each_domain(args, |session, domain| {
        let xml = fetch(session, domain, args.has("inactive"))?;
        documents.push((domain.name.clone(), xml));
        Ok(())
    });
    if session.json {
        let rows = documents.iter().map(|(name, xml)| serde_json::json!({ "name": name, "xml": xml }));
        one_or_many(session, args, rows.collect());
        return result;
    }
    for (i, (_, xml)) in documents.iter().enumerate() {
        session.out.print(if i == 0 { "" } else { "\n" });
        session.out.print(xml.trim_end());
        session.out.print("\n");
    }
    result
}

/// The document of a domain.
pub fn fetch(session: &mut Session, domain: &DomainRef, inactive: bool) -> Result<String, Failure> {
    let ask = GetXMLIn {
        name: Some(domain.name.clone()),
        uuid: domain.uuid.clone(),
        id: None,
        inactive: inactive.then_some(true),
    };
    let what = format!("Failed to get the document of domain '{}'", domain.name);
    match session.call::<_, GetXMLOut>(Method::GetXML, &ask) {
        Ok(out) => Ok(out.xml),
        Err(error) => Err(session.failure(&what, domain, &error)),
    }
}
