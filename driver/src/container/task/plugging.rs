//! Changes of devices: of the kept definition at once, of what runs by another task, while this one goes on.
//!
//! Does not know what a device is.

use std::path::Path;
use std::sync::Arc;

use berth_domain::Device;
use tracing::Instrument;

use super::{Answer, Event, Plugging, Reply, Task, answer};
use crate::container::hotplug::{Act, DeviceChange, targets};
use crate::container::lifecycle::{Denial, Fact, Phase};
use crate::container::links::{self, Owner};
use crate::container::plan_devices::needs_usb;
use crate::container::plug::{self, LinkChange, Plug, Plugged};
use crate::container::tune_interface::InterfaceTuning;
use crate::engine::disks::{Counted, note};
use crate::engine::publish::blocking;
use crate::engine::record::Pending;
use crate::failure::Failure;
use crate::host::links::Link;
use crate::host::usb;
use crate::journal::operation_span;

impl Task {
    pub(super) async fn change_device(&mut self, mut change: DeviceChange, reply: Reply) {
        if let Some(active) = &self.active {
            change.forget_given(&active.run.live, &active.run.links);
        }
        let (live, next) = targets(&change.affect, self.active.is_some());
        let changes = Changes { live: live.then(|| change.clone()), next: next.then_some(change) };
        self.change(Ok(changes), reply).await;
    }

    /// The same change of what both definitions have, each by an update with its own element.
    pub(super) async fn tune_interface(&mut self, tuning: &InterfaceTuning, reply: Reply) {
        let changes = self.tunings(tuning);
        self.change(changes, reply).await;
    }

    fn tunings(&self, tuning: &InterfaceTuning) -> Result<Changes, Failure> {
        let (live, next) = targets(&tuning.affect, self.active.is_some());
        if next && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        let run = self.active.as_ref().map(|a| &a.run).filter(|_| live);
        let kept = self.next.as_ref().filter(|_| next);
        // What runs has more names.
        let mac = match (run, kept) {
            (Some(run), _) => tuning.mac_in(&run.live, &run.links)?,
            (None, Some(kept)) => tuning.mac_in(kept, &[])?,
            (None, None) => return Ok(Changes { live: None, next: None }),
        };
        Ok(Changes {
            live: run.map(|run| tuning.change(&run.live, &mac)).transpose()?,
            next: kept.map(|kept| tuning.change(kept, &mac)).transpose()?,
        })
    }

    async fn change(&mut self, changes: Result<Changes, Failure>, reply: Reply) {
        let prepared = match changes {
            Ok(changes) => self.prepare(&changes).await,
            Err(failure) => Err(failure),
        };
        match prepared {
            Err(failure) => answer(reply, Err(failure)),
            Ok((None, None)) => answer(reply, Ok(Answer::Done)),
            Ok((None, Some(next))) => {
                let kept = self.keep_next(next).await;
                answer(reply, kept);
            }
            Ok((Some(plug), _)) => self.begin_plug(plug, reply).await,
        }
    }

    /// Everything that can fail before anything is done.
    async fn prepare(&self, changes: &Changes) -> Result<Prepared, Failure> {
        if changes.next.is_some() && !self.lifecycle.persistent() {
            return Err(self.denial(Denial::EditTransient));
        }
        let next = match (&self.next, &changes.next) {
            (Some(domain), Some(change)) => Some(Arc::new(change.apply(domain)?)),
            _ => None,
        };
        let (Some(active), Some(change)) = (&self.active, &changes.live) else { return Ok((None, next)) };
        let changed = change.apply_live(&active.run.live)?;
        let usb = match needs_usb(&changed) || needs_usb(&active.run.live) {
            true => usb::list(Path::new("/sys"))
                .map_err(|e| Failure::Failed(format!("cannot list USB devices: {e}")))?,
            false => Vec::new(),
        };
        let mut links = active.run.links.clone();
        if let (Act::Attach, Device::Interface(interface, _)) = (change.act, &change.device) {
            let named = links::name_one(&self.engine, interface, &changed, &links).await;
            links.push(named.map_err(|e| Failure::Failed(e.to_string()))?);
        }
        let (step, back) = change.steps(&active.run.live, &changed, &usb, &links)?;
        let plug = Plug {
            name: self.entry.name.to_string(),
            uuid: self.entry.uuid,
            step,
            back,
            before: active.run.live.clone(),
            live: Arc::new(changed),
            next,
        };
        Ok((Some(plug), None))
    }

    async fn keep_next(&mut self, next: Arc<berth_domain::Domain>) -> Result<Answer, Failure> {
        self.engine.keep(&next).await?;
        self.next = Some(next);
        self.publish(Vec::new()).await;
        Ok(Answer::Done)
    }

    /// What the devices of what runs have counted, where a change is one of its disks.
    async fn counted(&self, plug: &Plug) -> Option<Counted> {
        if plug.before.devices.disks == plug.live.devices.disks {
            return None;
        }
        self.engine.watch_meters();
        let (engine, snapshot) = (self.engine.clone(), self.entry.snapshot());
        Some(blocking(move || Ok(engine.counted(&snapshot))).await.unwrap_or_default())
    }

    async fn begin_plug(&mut self, plug: Plug, reply: Reply) {
        let counted = self.counted(&plug).await;
        // A daemon that finds this asks the controller whether it was done.
        let pending = Pending {
            step: plug.step.clone(),
            document: plug.live.to_xml(),
            next: plug.next.as_ref().map(|n| n.to_xml()),
            counted: counted.clone().unwrap_or_default(),
        };
        self.plugging = Some(Plugging { reply, pending });
        if let Some(record) = self.record()
            && let Err(e) = self.engine.publisher.note(record).await
        {
            let message = format!("cannot write the status of domain '{}': {e}", self.entry.name);
            self.answer_plug(Err(Failure::Failed(message)));
            return;
        }
        crate::killpoint::reached("plugging");
        self.lifecycle = self.lifecycle.after(Fact::ChangeBegan);
        let (engine, mailbox, run) = (self.engine.clone(), self.entry.mailbox().clone(), self.run);
        let (snapshot, before) = (self.entry.snapshot(), plug.before.clone());
        let changing = async move {
            let mut plugged = Box::new(plug::run(&engine, plug).await);
            if let (Some(live), Some(counted), Some(run)) = (&plugged.live, counted, &snapshot.run) {
                let (change, id) = ((Some(before), live.clone()), run.id);
                let (meters, shown) = (engine.clone(), snapshot.clone());
                let now: Box<dyn FnOnce() -> Counted + Send> = Box::new(move || meters.counted(&shown));
                plugged.disks = Some(note(&run.disks, change, id, counted, Some(now)).await);
            }
            drop(mailbox.send(Event::Plugged(run, plugged)).await);
        };
        tokio::spawn(changing.instrument(operation_span("change")));
    }

    pub(super) async fn plugged(&mut self, run: u64, plugged: Plugged) {
        // What is taken up afterwards has operations of its own.
        self.settle_plug(run, plugged).instrument(operation_span("change")).await;
        self.unpark().await;
    }

    /// Takes over what came of a change, and tells of it.
    async fn settle_plug(&mut self, run: u64, plugged: Plugged) {
        self.lifecycle = self.lifecycle.after(Fact::ChangeEnded);
        if let (Some(live), Some(active)) = (plugged.live, self.active.as_mut().filter(|_| run == self.run)) {
            active.run.live = live;
            if let Some(disks) = plugged.disks {
                active.run.disks = disks;
            }
        }
        match (plugged.link, self.active.as_mut().filter(|_| run == self.run)) {
            (Some(link), Some(active)) => link.apply(&mut active.run.links),
            // The run has ended meanwhile, and nobody else knows of it.
            (Some(LinkChange::There(link)), None) => {
                let owner = Owner { name: self.entry.name.as_str(), uuid: self.entry.uuid, domain: None };
                for left in links::release(&self.engine, owner, &[link]).await {
                    tracing::warn!("domain '{}': {left}", self.entry.name);
                }
            }
            _ => {}
        }
        if let Some(next) = plugged.next {
            self.next = Some(next);
        }
        if let Err(e) = &plugged.result {
            tracing::warn!("domain '{}': a change of its devices failed: {e}", self.entry.name);
        }
        let plugging = self.plugging.take();
        self.publish(Vec::new()).await;
        if let Some(plugging) = plugging {
            answer(plugging.reply, plugged.result.map(|()| Answer::Done));
        }
    }

    /// Puts the interfaces of a network that runs again back on its bridge.
    pub(super) async fn reconnect(&mut self, network: &str) {
        let Some(active) = self.active.as_ref() else { return };
        let (live, mut ends) = (active.run.live.clone(), active.run.links.clone());
        let owner = Owner { name: self.entry.name.as_str(), uuid: self.entry.uuid, domain: Some(&live) };
        let changed = links::take_again(&self.engine, owner, &live, &mut ends, Some(network)).await;
        if let Some(active) = self.active.as_mut().filter(|_| changed) {
            active.run.links = ends;
            self.publish(Vec::new()).await;
        }
    }

    /// The host end of an interface that is coming, going or changing.
    pub(super) fn plugging_link(&self) -> Option<&Link> {
        let left = || self.active.as_ref()?.silence.as_ref()?.pending.as_ref();
        self.plugging.as_ref().map(|p| &p.pending).or_else(left).and_then(|p| p.step.item().link())
    }

    /// A transient domain that has ended is not there to hear what came of a change.
    pub(super) fn abandon_plug(&mut self) {
        if self.lifecycle.phase() == Phase::Absent && self.plugging.is_some() {
            self.lifecycle = self.lifecycle.after(Fact::ChangeEnded);
            self.answer_plug(Err(self.denial(Denial::NotRunning)));
        }
    }

    fn answer_plug(&mut self, result: Result<Answer, Failure>) {
        if let Some(plugging) = self.plugging.take() {
            answer(plugging.reply, result);
        }
    }
}

/// What is done in what runs, and in the kept definition.
struct Changes {
    live: Option<DeviceChange>,
    next: Option<DeviceChange>,
}

/// The change of what runs, which includes the kept definition; or that of the kept definition alone.
type Prepared = (Option<Plug>, Option<Arc<berth_domain::Domain>>);
