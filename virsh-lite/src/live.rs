//! The names that a daemon knows, for completions.
//!
//! Does not know what was typed beyond the values of options. Never waits long: whoever presses a key waits for it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use berth_schemas::domain::DomainStatus;
use berth_schemas::network::{GetLeasesIn, GetLeasesOut, Method};
use berth_schemas::node::{self, HostInterface, ListInterfacesIn, ListInterfacesOut};

use crate::cmd::disk::{attribute, disks};
use crate::cmd::document::fetch;
use crate::cmd::net;
use crate::cmd::nic::{Nic, nics};
use crate::complete::Wanted;
use crate::grammar::Values;
use crate::options::Options;
use crate::session::Session;

/// How long a daemon may take to answer, or to be reached.
const PATIENCE: Duration = Duration::from_secs(2);

/// The names that are wanted; none if the daemon cannot be reached, or does not answer in time.
pub fn names(options: Options, wanted: Wanted) -> Vec<String> {
    let (done, answer) = mpsc::channel();
    // A thread of its own: a socket whose daemon takes no connections has no deadline.
    let asking = move || drop(done.send(ask(options, &wanted).unwrap_or_default()));
    match thread::Builder::new().spawn(asking) {
        Ok(_) => answer.recv_timeout(PATIENCE).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

fn ask(options: Options, wanted: &Wanted) -> Option<Vec<String>> {
    let mut session = Session::new(Options { unattended: true, ..options });
    let session = &mut session;
    session.connect().ok()?.set_deadline(Some(Instant::now() + PATIENCE)).ok()?;
    match wanted.values {
        Values::Networks | Values::ActiveNetworks | Values::InactiveNetworks => {
            let all = net::all(session).ok()?.into_iter();
            Some(all.filter(|n| fits(wanted.values, n.active)).map(|n| n.name).collect())
        }
        Values::NetworkUuids => Some(net::all(session).ok()?.into_iter().map(|n| n.uuid).collect()),
        Values::Sources if wanted.text("type") != Some("network") => {
            interfaces(session, wanted.text("type")?)
        }
        Values::Sources => Some(net::all(session).ok()?.into_iter().map(|n| n.name).collect()),
        Values::LeaseMacs => leases(session, wanted.text("network")?),
        Values::Domains | Values::ActiveDomains | Values::InactiveDomains | Values::DomainUuids => {
            Some(domains(session.all_domains().ok()?, wanted.values))
        }
        _ => {
            let domain = session.domain(wanted.text("domain")?).ok()?;
            let inactive = wanted.text("config").is_some() && wanted.text("live").is_none();
            Some(of_document(&fetch(session, &domain, inactive).ok()?, wanted))
        }
    }
}

fn domains(all: Vec<DomainStatus>, values: Values) -> Vec<String> {
    let all = all.into_iter().filter(|d| fits(values, d.id.is_some()));
    all.map(|d| if values == Values::DomainUuids { d.uuid } else { d.name }).collect()
}

/// Whether a name is wanted of something that is active, or is not.
fn fits(values: Values, active: bool) -> bool {
    match values {
        Values::ActiveDomains | Values::ActiveNetworks => active,
        Values::InactiveDomains | Values::InactiveNetworks => !active,
        _ => true,
    }
}

/// Interfaces of the host that a domain's interface of this type can be attached to.
fn interfaces(session: &mut Session, kind: &str) -> Option<Vec<String>> {
    let out: ListInterfacesOut =
        session.call_named(node::Method::ListInterfaces.name(), &ListInterfacesIn {}).ok()?;
    let fits = |i: &HostInterface| match kind {
        "bridge" => i.is_bridge,
        // Of what is in a bridge the kernel makes no macvlan.
        "direct" => !i.is_taken,
        _ => false,
    };
    Some(out.interfaces.into_iter().filter(fits).map(|i| i.name).collect())
}

fn leases(session: &mut Session, network: &str) -> Option<Vec<String>> {
    let network = net::find(session, network).ok()?;
    let ask = GetLeasesIn { name: Some(network.name), uuid: Some(network.uuid), mac: None };
    let out: GetLeasesOut = net::call(session, Method::GetLeases, &ask).ok()?;
    let mut found: Vec<String> = out.leases.into_iter().filter_map(|lease| lease.mac).collect();
    found.sort();
    found.dedup();
    Some(found)
}

/// What is wanted of a domain's document as the daemon writes it.
fn of_document(document: &str, wanted: &Wanted) -> Vec<String> {
    let nics = || nics(document).into_iter();
    let name = |nic: Nic| nic.interface.unwrap_or(nic.mac);
    match wanted.values {
        Values::Interfaces => nics().map(name).collect(),
        Values::InterfaceNames if matches!(wanted.text("source"), Some("lease" | "arp")) => {
            nics().filter_map(|nic| nic.interface).collect()
        }
        Values::InterfaceNames => nics().filter_map(|nic| nic.guest).collect(),
        Values::Macs => {
            let wants = |nic: &Nic| wanted.text("type").is_none_or(|kind| kind == nic.kind);
            nics().filter(wants).map(|nic| nic.mac).collect()
        }
        Values::Disks => disks(document).into_iter().map(|disk| disk.target).collect(),
        Values::Consoles => {
            let count = document.lines().filter(|l| l.starts_with("    <console ")).count();
            (0..count).map(|n| format!("console{n}")).collect()
        }
        Values::Vcpus => {
            let line = document.lines().find(|l| l.starts_with("  <vcpu"));
            let text = line.and_then(|l| l.split_once('>')).and_then(|(_, rest)| rest.split_once('<'));
            let count = text.and_then(|(number, _)| number.parse().ok()).unwrap_or(0_u16);
            (0..count).map(|n| n.to_string()).collect()
        }
        Values::Namespaces => namespaces(document),
        _ => Vec::new(),
    }
}

/// The namespaces of the elements in `<metadata>`.
fn namespaces(document: &str) -> Vec<String> {
    let inside = document.lines().skip_while(|l| *l != "  <metadata>").skip(1);
    let elements = inside.take_while(|l| *l != "  </metadata>").filter(|l| l.starts_with("    <"));
    let uri = |line: &str| {
        let tag = line.trim_start().split('>').next()?;
        let prefix = tag.split_once(':').map(|(prefix, _)| prefix.trim_start_matches('<'));
        let named = prefix.and_then(|prefix| attribute(tag, &format!("xmlns:{prefix}")));
        named.or_else(|| attribute(tag, "xmlns"))
    };
    elements.filter_map(uri).collect()
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::complete;

    const DOCUMENT: &str = "<domain type='lxc'>
  <name>web</name>
  <metadata>
    <app:note xmlns:app='urn:app:1'>
      <app:inner xmlns:x='urn:inner'/>
    </app:note>
    <plain xmlns='urn:a:b'/>
  </metadata>
  <vcpu placement='static'>2</vcpu>
  <devices>
    <disk type='block' device='disk'>
      <source dev='/dev/sdz'/>
      <target dev='vda'/>
    </disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default'/>
      <target dev='vnet0'/>
      <guest dev='lan' actual='lan'/>
    </interface>
    <interface type='bridge'>
      <mac address='52:54:00:00:00:02'/>
    </interface>
    <console type='pty'/>
    <console type='pty'/>
  </devices>
</domain>
";

    fn get(line: &str) -> Vec<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let found = complete::command(&words, |wanted| of_document(DOCUMENT, &wanted));
        found.into_iter().map(|c| c.word).collect()
    }

    #[test]
    fn what_a_document_has() {
        assert_eq!(get("domif-setlink web "), ["vnet0", "52:54:00:00:00:02"]);
        assert_eq!(get("domif-getlink web --interface v"), ["vnet0"]);
        assert_eq!(get("domifstat web "), ["vnet0", "52:54:00:00:00:02"]);
        assert_eq!(get("domifaddr web "), ["lan"]);
        assert_eq!(get("domifaddr web --source arp --interface "), ["vnet0"]);
        assert_eq!(get("detach-interface web bridge --mac "), ["52:54:00:00:00:02"]);
        assert_eq!(get("detach-disk web "), ["vda"]);
        assert_eq!(get("domblkstat web "), ["vda"]);
        assert_eq!(get("console web "), ["console0", "console1"]);
        assert_eq!(get("vcpupin web --vcpu "), ["0", "1"]);
        assert_eq!(get("metadata web "), ["urn:app:1", "urn:a:b"]);
    }
}
