//! Model to wire, by hand.
//!
//! Does not know where a value goes.

use berth_schemas::domain::{Diagnostic, DomainStatus, DomainUsage, Event, Security};
use berth_schemas::node::{CpuTimes, MemoryFigures, NodeInfo};

use crate::engine::publish::Happened;
use crate::engine::reads::Usage;
use crate::engine::snapshot::Snapshot;
use crate::host::apparmor::Label;
use crate::host::node::Node;
use crate::host::node_stats::Figures;

/// One domain. `model`: the host's security module.
pub fn status(snapshot: &Snapshot, model: Option<&str>) -> DomainStatus {
    let run = snapshot.run.as_ref();
    DomainStatus {
        name: snapshot.name.to_string(),
        uuid: snapshot.uuid.to_string(),
        id: run.map(|r| r.id.into()),
        state: snapshot.state,
        reason: snapshot.reason,
        persistent: snapshot.next.is_some(),
        autostart: snapshot.autostart,
        pending_change: snapshot.pending_change(),
        title: snapshot.current().and_then(|d| d.title.clone()),
        init_pid: run.and_then(|r| r.init_pid),
        started_u_sec: run.map(|r| r.started_usec),
        restarts: run.map_or(0, |r| r.restarts),
        ready: run.and_then(|r| r.ready),
        last_exit: snapshot.last_exit.clone(),
        security: model.map(|model| security(run.and_then(|r| r.label.as_ref()), model)),
    }
}

fn security(label: Option<&Label>, model: &str) -> Security {
    Security {
        model: model.to_owned(),
        label: label.map(|l| l.name.clone()),
        enforcing: label.is_some_and(|l| l.enforcing),
    }
}

/// Figures.
pub fn usage(usage: &Usage) -> DomainUsage {
    DomainUsage {
        os_type: "exe".into(),
        vcpus: usage.vcpus.into(),
        cpu_time_n_sec: usage.cpu_time_nsec,
        max_memory_ki_b: usage.max_memory_kib.try_into().unwrap_or(i64::MAX),
        used_memory_ki_b: usage.used_memory_kib.try_into().unwrap_or(i64::MAX),
        processes: usage.processes,
    }
}

/// A remark.
pub fn diagnostic(from: &berth_domain::Diagnostic) -> Diagnostic {
    Diagnostic {
        line: from.line.into(),
        column: from.column.into(),
        element: from.element.clone(),
        message: from.message.clone(),
        hint: from.hint.clone(),
    }
}

/// An event.
pub fn event(from: &Happened) -> Event {
    Event {
        sequence: from.sequence,
        at_u_sec: from.at_usec,
        kind: from.kind,
        name: from.name.clone(),
        uuid: from.uuid.to_string(),
        detail: from.detail.clone(),
        metadata: from.metadata,
        exit: from.exit.clone(),
        count: from.count,
        pressure: from.pressure.clone(),
        tunables: (!from.tunables.is_empty()).then(|| from.tunables.clone()),
    }
}

/// Time of processors of the host.
pub fn cpu_times(figures: &Figures) -> CpuTimes {
    let of = |name| figure(figures, name).unwrap_or(0);
    CpuTimes {
        user_n_sec: of("user"),
        kernel_n_sec: of("kernel"),
        idle_n_sec: of("idle"),
        io_wait_n_sec: of("iowait"),
    }
}

/// Memory of the host.
pub fn memory(figures: &Figures) -> MemoryFigures {
    let of = |name| figure(figures, name);
    MemoryFigures {
        total_ki_b: of("total").unwrap_or(0),
        free_ki_b: of("free").unwrap_or(0),
        buffers_ki_b: of("buffers"),
        cached_ki_b: of("cached"),
    }
}

fn figure(figures: &Figures, name: &str) -> Option<i64> {
    figures.get(name).map(|n| i64::try_from(*n).unwrap_or(i64::MAX))
}

/// The host. `security`: its security module.
pub fn node(node: &Node, model: &str, security: Option<&str>) -> NodeInfo {
    NodeInfo {
        model: model.to_owned(),
        memory_ki_b: node.memory_kib,
        cpus: node.cpus,
        mhz: node.mhz,
        numa_cells: node.numa_cells,
        sockets: node.sockets,
        cores: node.cores,
        threads: node.threads,
        security_model: security.map(str::to_owned),
    }
}
