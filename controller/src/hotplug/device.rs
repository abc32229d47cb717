//! Device files that come and go: by the controller itself, in the tmpfs of /dev that it holds, where no path of the
//! container leads out and nothing can hold it up.
//!
//! What may be opened is allowed before there is a file, and forbidden when there is none any more.

use berth_schemas::controller::{AttachDeviceOut, DetachDeviceOut, PlanDevice};
use rustix::io::Errno;

use crate::failure::{Doing, Outcome, Step};
use crate::run::Controller;
use crate::serve::call;
use crate::setup::held::{Device, take_device};
use crate::setup::idmap::Owner;
use crate::setup::nodes;
use crate::setup::rules::{self, Rule};

use super::{Handled, failed, invalid};

impl Controller {
    /// A device more, or another one in the place of one.
    pub(super) fn attach_file(&mut self, wanted: PlanDevice, replace: bool) -> Handled {
        if wanted.name.is_empty() || wanted.name.contains('\0') || !wanted.source.starts_with('/') {
            return Err(invalid("device"));
        }
        self.can_change()?;
        let there = self.plan.devices.iter().position(|d| d.name == wanted.name);
        self.check_presence(there.is_some(), replace, &wanted.name)?;
        let device = take_device(&wanted, &self.plan).map_err(|f| failed(*f))?;
        match there {
            Some(at) => {
                self.exchange_file(at, &device).map_err(|f| failed(*f))?;
                self.held.devices[at] = device;
                self.plan.devices[at] = wanted;
            }
            None => {
                self.allow(Some(device.rule()))
                    .and_then(|()| self.make_file(&device))
                    .map_err(|f| failed(*self.undone(f)))?;
                self.held.devices.push(device);
                self.plan.devices.push(wanted);
            }
        }
        Ok(Some(call::good(&AttachDeviceOut {})))
    }

    /// A device less.
    pub(super) fn detach_file(&mut self, name: &str, if_there: bool) -> Handled {
        self.can_change()?;
        let there = self.plan.devices.iter().position(|d| d.name == name);
        let Some(at) = there else {
            self.check_presence(false, !if_there, name)?;
            return Ok(Some(call::good(&DetachDeviceOut {})));
        };
        self.remove_file(at).map_err(|f| failed(*f))?;
        let device = self.held.devices.remove(at);
        if let Err(failure) = self.allow(None) {
            let _ = self.make_file(&device);
            self.held.devices.insert(at, device);
            return Err(failed(*self.undone(failure)));
        }
        self.plan.devices.remove(at);
        Ok(Some(call::good(&DetachDeviceOut {})))
    }

    fn exchange_file(&mut self, at: usize, device: &Device) -> Outcome<()> {
        self.allow(Some(device.rule()))?;
        let done = self.remove_file(at).and_then(|()| self.make_file(device)).and_then(|()| {
            // The old device is forbidden last.
            let old = self.held.devices.remove(at);
            let list = self.list(Some(device.rule()));
            let ruled = self.held.rules.replace(&self.plan.cgroups, list);
            self.held.devices.insert(at, old);
            ruled
        });
        done.map_err(|failure| {
            if let Some(dev) = &self.held.dev {
                let _ = nodes::remove(dev, &device.name, device.host.number);
            }
            let _ = self.make_file(&self.held.devices[at]);
            self.undone(failure)
        })
    }

    /// The rules for the devices that are held, and one more.
    fn list(&self, more: Option<Rule>) -> Vec<Rule> {
        let mut list = rules::standard();
        list.extend(self.held.devices.iter().map(Device::rule).chain(more));
        list
    }

    fn allow(&mut self, more: Option<Rule>) -> Outcome<()> {
        let list = self.list(more);
        self.held.rules.replace(&self.plan.cgroups, list)
    }

    /// Puts the rules of before in force again.
    fn undone(&mut self, failure: crate::failure::Failure) -> crate::failure::Failure {
        if let Err(worse) = self.allow(None) {
            crate::note(&crate::birth::describe(&worse));
        }
        failure
    }

    fn make_file(&self, device: &Device) -> Outcome<()> {
        match &self.held.dev {
            Some(dev) => nodes::make(dev, &device.name, &device.host, Owner::of(&self.plan)?),
            None => Err(Doing::new(Step::Nodes, "make").path(&device.name).refused("there is no /dev")),
        }
    }

    fn remove_file(&self, at: usize) -> Outcome<()> {
        let (Some(dev), Some(device)) = (&self.held.dev, self.held.devices.get(at)) else { return Ok(()) };
        nodes::remove(dev, &device.name, device.host.number).map_err(|e: Errno| {
            Doing::new(Step::Nodes, "remove the device file").path(&device.name).failed(e)
        })
    }
}
