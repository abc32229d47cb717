//! Figures of domains: what the definition says and what the meters read.
//!
//! Does not know how they travel.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use berth_schemas::controller::{self, Method};
use berth_schemas::domain::{DomainStats, State, StatsGroup};
use tokio::runtime::Handle;

use crate::account::{Buffer, Figures, IDLE, Places, Who, host_ends};
use crate::engine::Engine;
use crate::engine::disks::{self, Counted, Loops};
use crate::engine::interfaces;
use crate::engine::publish::now_usec;
use crate::engine::snapshot::{Run, Snapshot};
use crate::host::links::names_of_hostdevs;
use crate::paths::Layout;

/// What is read if nobody says what.
pub const USUAL: &[StatsGroup] =
    &[StatsGroup::Cpu, StatsGroup::Memory, StatsGroup::Block, StatsGroup::Interface, StatsGroup::Tasks];

/// How long a controller is waited for that has to be asked for figures: it answers in some microseconds, and others'
/// figures wait behind.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a call keeps from one domain to the next; one for each thread.
#[derive(Debug, Default)]
pub struct Reading {
    buffer: Buffer,
    loops: Loops,
}

impl Reading {
    /// For who has to tell interfaces apart by their names alone.
    pub fn exact() -> Self {
        Self { buffer: Buffer::exact(), ..Self::default() }
    }
}

impl Engine {
    /// What a running domain uses. For a thread that may block.
    pub fn figures(
        &self,
        snapshot: &Snapshot,
        run: &Run,
        groups: &[StatsGroup],
        buffer: &mut Buffer,
    ) -> Figures {
        let places = || {
            let own = self.cgroups.of(snapshot.name.as_str(), run.partition());
            let legacy = |controller: &str| own.legacy_of(controller).map(std::path::Path::to_owned);
            Places {
                unified: own.limited.clone(),
                cpu: legacy("cpu"),
                cpuacct: legacy("cpuacct"),
                memory: legacy("memory"),
                blkio: legacy("blkio"),
                pids: legacy("pids"),
            }
        };
        let who = Who { controller: run.id, init: run.init_pid };
        self.meters.read(snapshot.uuid, who, places, groups, buffer)
    }

    /// What a running domain's devices have counted, as the kernel has it. For a thread that may block.
    pub fn counted(&self, snapshot: &Snapshot) -> Counted {
        let figures = |run| self.figures(snapshot, run, &[StatsGroup::Block], &mut Buffer::default());
        let blocks = snapshot.run.as_ref().and_then(|run| figures(run).blocks);
        disks::counted(&blocks.unwrap_or_default())
    }

    /// What the controller counts where the kernel does not; none where it cannot be asked. For a thread of the runtime
    /// that may block.
    fn counted_cpu_times(&self, snapshot: &Snapshot) -> Option<Vec<i64>> {
        let socket = Layout::socket_name(snapshot.uuid);
        let parameters = controller::GetCpuTimesIn {};
        let asked = self.sockets.call_within(PATIENCE, &socket, Method::GetCpuTimes, &parameters, &[]);
        match Handle::try_current().ok()?.block_on(asked) {
            Ok((out, _)) => Some(out).and_then(|out: controller::GetCpuTimesOut| out.n_sec),
            Err(e) => {
                tracing::debug!(domain = %snapshot.name, "cannot ask for the times of processors: {e}");
                None
            }
        }
    }

    /// All figures of a domain. For a thread that may block.
    pub fn stats(&self, snapshot: &Snapshot, groups: &[StatsGroup], reading: &mut Reading) -> DomainStats {
        let domain = snapshot.current();
        let kib = |bytes: Option<u64>| bytes.and_then(|b| i64::try_from(b).ok()).unwrap_or_default();
        let running = snapshot.run.as_ref().filter(|_| snapshot.state != State::Shutoff);
        let mut figures =
            running.map(|run| self.figures(snapshot, run, groups, &mut reading.buffer)).unwrap_or_default();
        if let Some(cpu) = figures.cpu.as_mut().filter(|c| c.per_cpu_n_sec.is_none())
            && domain.is_some_and(|d| d.counts_cpu_times())
        {
            cpu.per_cpu_n_sec = self.counted_cpu_times(snapshot);
        }
        if let (Some(blocks), Some(run)) = (&mut figures.blocks, running) {
            let name = |device: &str| self.meters.device_name(device);
            let disks = &run.live.devices.disks;
            disks::tell(blocks, disks, &run.disks, Path::new("/sys"), &mut reading.loops, &name);
        }
        let ends_of = |run: &Run| {
            let ends = run.links.iter().filter_map(|link| run.host_end(link));
            host_ends(&ends.collect::<Vec<_>>())
        };
        let mut more_interfaces = None;
        if let (Some(all), Some(run)) = (&mut figures.interfaces, running)
            && all.len() > interfaces::MOST
        {
            let others = names_of_hostdevs(&run.live);
            let left = interfaces::shorten(all, &run.links, &others, ends_of(run));
            more_interfaces = i64::try_from(left).ok();
        }
        let host_ends = running.filter(|_| groups.contains(&StatsGroup::HostEnd)).map(ends_of);
        DomainStats {
            name: snapshot.name.to_string(),
            uuid: snapshot.uuid.to_string(),
            id: running.map(|r| r.id.into()),
            state: snapshot.state,
            reason: snapshot.reason,
            vcpus: domain.map_or(0, |d| d.vcpu.current.unwrap_or(d.vcpu.count).into()),
            max_vcpus: domain.map_or(0, |d| d.vcpu.count.into()),
            max_memory_ki_b: kib(domain.map(|d| d.memory_kib)),
            current_memory_ki_b: kib(domain.map(|d| d.current_memory_kib)),
            uptime_u_sec: running.map(|r| now_usec().saturating_sub(r.started_usec).max(0)),
            cpu: figures.cpu,
            memory: figures.memory,
            blocks: figures.blocks,
            interfaces: figures.interfaces,
            more_interfaces,
            host_ends,
            tasks: figures.tasks,
            pressure: figures.pressure,
        }
    }

    /// Sees to it that files are closed again when nobody asks for figures any more.
    pub fn watch_meters(self: &Arc<Self>) {
        if !self.meters.begin_sweeping() {
            return;
        }
        let engine = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(IDLE / 5).await;
                if !engine.meters.close_idle(IDLE) {
                    break;
                }
            }
            engine.meters.end_sweeping();
        });
    }
}
