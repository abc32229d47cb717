//! Answers that change nothing: documents, figures, metadata, console logs.
//!
//! Does not ask a domain's task: everything comes from its published snapshot, its control groups and its files.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use berth_domain::model::Rate;
use berth_domain::{Domain, Live, LiveConsole, LiveIds, LiveInterface};
use berth_schemas::domain::{Affect, MetadataKind, Resources, StatsGroup};
use rustix::fs::OFlags;

use crate::account::Buffer;
use crate::container::{tune, tune_interface};
use crate::engine::snapshot::{Run, Snapshot};
use crate::engine::{Engine, metadata};
use crate::failure::Failure;
use crate::host::limits::cpus;
use crate::host::links::Link;

/// Figures of a domain.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// Virtual processors.
    pub vcpus: u32,
    /// Processor time in nanoseconds, while it is active.
    pub cpu_time_nsec: Option<i64>,
    /// Upper limit of memory.
    pub max_memory_kib: u64,
    /// Memory in use, or that of the definition.
    pub used_memory_kib: u64,
    /// Processes, while it is active.
    pub processes: Option<i64>,
}

/// Limits of throughput, into the container and out of it; none: as much as there is.
pub type Limits = (Option<Rate>, Option<Rate>);

fn inactive(snapshot: &Snapshot) -> Failure {
    Failure::InvalidState { message: "domain is not running".into(), state: snapshot.state }
}

impl Engine {
    /// The document of what runs, or of the next start.
    pub fn xml(&self, snapshot: &Snapshot, want_next: bool) -> Result<String, Failure> {
        match (&snapshot.run, &snapshot.next) {
            (Some(run), _) if !want_next => Ok(live_xml(run)),
            (_, Some(next)) => Ok(next.to_xml()),
            // A transient domain has no next start; libvirt shows what runs without its live parts.
            (Some(run), None) => Ok(run.live.to_xml()),
            (None, None) => Err(Failure::NoSuchDomain(snapshot.name.to_string())),
        }
    }

    /// Figures. Reads files of the kernel: for a thread that may block.
    pub fn usage(&self, snapshot: &Snapshot) -> Result<Usage, Failure> {
        let domain = snapshot.current().ok_or_else(|| Failure::NoSuchDomain(snapshot.name.to_string()))?;
        let mut usage = Usage {
            vcpus: domain.vcpu.current.unwrap_or(domain.vcpu.count),
            cpu_time_nsec: None,
            max_memory_kib: domain.memory_kib,
            used_memory_kib: domain.current_memory_kib,
            processes: None,
        };
        if let Some(run) = &snapshot.run {
            let wanted = [StatsGroup::Cpu, StatsGroup::Memory];
            let figures = self.figures(snapshot, run, &wanted, &mut Buffer::default());
            usage.cpu_time_nsec = figures.cpu.and_then(|c| c.total_n_sec);
            usage.processes = self.cgroups.of(snapshot.name.as_str(), run.partition()).processes();
            if let Some(bytes) = figures.memory.and_then(|m| m.usage_bytes) {
                usage.used_memory_kib = bytes.cast_unsigned() / 1024;
            }
        }
        Ok(usage)
    }

    /// What a domain may use. Reads files of the kernel: for a thread that may block.
    pub fn resources(&self, snapshot: &Snapshot, affect: Affect) -> Result<Resources, Failure> {
        let domain = self.definition(snapshot, affect)?;
        let mut resources = tune::resources(domain);
        // The next run may have others, even if nothing else of the definition is different.
        if let Some(run) = snapshot.run.as_ref().filter(|_| affect != Affect::Config) {
            let groups = self.cgroups.of(snapshot.name.as_str(), run.partition());
            resources.cpus = Some(cpus::show(&groups.cpus().unwrap_or_else(|| groups.online())));
        }
        Ok(resources)
    }

    /// Metadata of the running or the kept definition.
    pub fn metadata(
        &self,
        snapshot: &Snapshot,
        kind: MetadataKind,
        uri: Option<&str>,
        affect: Affect,
    ) -> Result<String, Failure> {
        metadata::read(self.definition(snapshot, affect)?, kind, uri)
    }

    /// The limits of an interface, into the container and out of it. Those of what runs are the ones that hold: where the
    /// interface says nothing, what its network gives.
    pub fn bandwidth(&self, snapshot: &Snapshot, interface: &str, affect: Affect) -> Result<Limits, Failure> {
        let domain = self.definition(snapshot, affect)?;
        let run =
            snapshot.run.as_ref().filter(|run| affect != Affect::Config && Arc::ptr_eq(&run.live, domain));
        let links = run.map_or(&[][..], |run| &run.links);
        let found = tune_interface::find(interface, domain, links)?;
        let given = links.iter().find(|l| l.mac == found.mac).and_then(|l| l.given.as_ref());
        let own = found.bandwidth.as_ref();
        let inbound = own.and_then(|own| own.inbound.clone());
        let outbound = own.and_then(|own| own.outbound.clone());
        Ok((
            inbound.or_else(|| given.and_then(|g| g.inbound())),
            outbound.or_else(|| given.and_then(|g| g.outbound())),
        ))
    }

    /// The definition that is meant.
    pub fn definition<'a>(&self, snapshot: &'a Snapshot, affect: Affect) -> Result<&'a Arc<Domain>, Failure> {
        Ok(match affect {
            Affect::Current => {
                snapshot.current().ok_or_else(|| Failure::NoSuchDomain(snapshot.name.to_string()))?
            }
            Affect::Live => &snapshot.run.as_ref().ok_or_else(|| inactive(snapshot))?.live,
            Affect::Config => snapshot.next.as_ref().ok_or_else(|| Failure::InvalidState {
                message: "transient domains do not have any persistent config".into(),
                state: snapshot.state,
            })?,
        })
    }

    /// What runs, or that nothing does.
    pub fn running<'a>(&self, snapshot: &'a Snapshot) -> Result<&'a Run, Failure> {
        snapshot.run.as_ref().ok_or_else(|| inactive(snapshot))
    }

    /// Number and name of a console; the first if none is named.
    pub fn console(&self, snapshot: &Snapshot, device: Option<&str>) -> Result<(usize, String), Failure> {
        let count = snapshot.current().map_or(0, |d| d.devices.consoles.len());
        let number = match device {
            None => Some(0),
            Some(name) => name.strip_prefix("console").and_then(|n| n.parse().ok()),
        };
        match number.filter(|n: &usize| *n < count) {
            Some(n) => Ok((n, format!("console{n}"))),
            None => Err(Failure::NoSuchConsole(match device {
                Some(device) => format!("cannot find console device '{device}'"),
                None => format!("domain '{}' has no console", snapshot.name),
            })),
        }
    }

    /// The log files of a console, oldest first.
    pub fn console_logs(&self, snapshot: &Snapshot, console: usize) -> Vec<PathBuf> {
        let current = self.layout.console_log(snapshot.name.as_str(), console);
        let rotated = (1..=u16::from(self.config().console_log.keep)).rev().map(|n| {
            let mut path = current.clone().into_os_string();
            path.push(format!(".{n}"));
            path.into()
        });
        rotated.chain(std::iter::once(current.clone())).collect()
    }
}

fn live_xml(run: &Run) -> String {
    let consoles =
        run.consoles.iter().map(|c| LiveConsole { path: c.path.clone(), alias: c.device.clone() }).collect();
    let ids = run.ids.map(|r| LiveIds { first: r.first, count: r.count });
    let label = run.label.as_ref().map(|l| l.name.clone());
    let interface = |link: &Link| LiveInterface {
        mac: link.mac.clone(),
        target: run.host_end(link).map(str::to_owned),
        inside: link.inside.clone(),
        bridge: link.bridge.clone(),
        inbound: link.given.as_ref().and_then(|g| g.inbound()),
        outbound: link.given.as_ref().and_then(|g| g.outbound()),
    };
    let interfaces = run.links.iter().map(interface).collect();
    run.live.to_live_xml(&Live { id: run.id.cast_unsigned(), consoles, ids, label, interfaces })
}

/// Opens a log; one that is not there is empty.
pub fn open_log(path: &std::path::Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}
