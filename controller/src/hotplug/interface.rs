//! Interfaces of the host that come and go: moved by the controller, which knows the container's network namespace.

use std::os::fd::AsFd;

use berth_schemas::controller::{AttachDeviceOut, DetachDeviceOut, PlanHostInterface};

use crate::failure::{Doing, Outcome, Step};
use crate::run::Controller;
use crate::serve::call;
use crate::setup::interfaces::{Moved, bring_back, is_missing, move_in, note_all, refresh};
use crate::setup::nested;

use super::{Handled, failed, invalid};

impl Controller {
    /// An interface more, or with other addresses in the place of the one of that name.
    pub(super) fn attach_interface(&mut self, wanted: PlanHostInterface, replace: bool) -> Handled {
        if wanted.name.is_empty() || wanted.name.contains(['\0', '/']) {
            return Err(invalid("hostInterface"));
        }
        self.can_change()?;
        let there = self.plan.host_interfaces.iter().position(|i| i.name == wanted.name);
        self.check_presence(there.is_some(), replace, &wanted.name)?;
        match there {
            None => {
                self.enter(&wanted, &wanted.name).map_err(|f| failed(*f))?;
                self.plan.host_interfaces.push(wanted);
            }
            // The daemon changes what is on the host.
            Some(at) if wanted.made == Some(true) => {
                if let Some(network) = &self.network {
                    refresh(std::slice::from_ref(&wanted), &self.held.interfaces, network.as_fd())
                        .map_err(|f| failed(*f))?;
                }
                self.plan.host_interfaces[at] = wanted;
            }
            Some(at) => {
                // Its name may be that of another one there by now.
                let Some(from) = self.leave(&wanted.name).map_err(|f| failed(*f))? else {
                    let doing = Doing::new(Step::Interfaces, "change the interface").path(&wanted.name);
                    return Err(failed(*doing.refused("it is not in the container's network any more")));
                };
                let before = self.plan.host_interfaces[at].clone();
                if let Err(failure) = self.enter(&wanted, &from) {
                    if let Err(worse) = self.enter(&before, &from) {
                        crate::note(&crate::birth::describe(&worse));
                    }
                    return Err(failed(*failure));
                }
                self.plan.host_interfaces[at] = wanted;
            }
        }
        Ok(Some(call::good(&AttachDeviceOut {})))
    }

    /// An interface less.
    pub(super) fn detach_interface(&mut self, name: &str, if_there: bool) -> Handled {
        self.can_change()?;
        let Some(at) = self.plan.host_interfaces.iter().position(|i| i.name == name) else {
            self.check_presence(false, !if_there, name)?;
            return Ok(Some(call::good(&DetachDeviceOut {})));
        };
        self.leave(name).map_err(|f| failed(*f))?;
        self.plan.host_interfaces.remove(at);
        Ok(Some(call::good(&DetachDeviceOut {})))
    }

    /// Moves an interface in that is called `from` on the host.
    fn enter(&mut self, wanted: &PlanHostInterface, from: &str) -> Outcome<()> {
        let Some(network) = &self.network else {
            let doing = Doing::new(Step::Interfaces, "move the interface").path(&wanted.name);
            return Err(doing.refused("the container has no network of its own"));
        };
        if self.held.network.is_none() {
            let kept = network.try_clone();
            self.held.network = Some(kept.map_err(|_| {
                let doing = Doing::new(Step::Interfaces, "keep the network of the container");
                doing.failed(rustix::io::Errno::MFILE)
            })?);
        }
        self.held.interfaces.push(move_in(wanted, from, network.as_fd())?);
        Ok(())
    }

    /// Gives an interface back; answers its name on the host, if it is there.
    fn leave(&mut self, name: &str) -> Outcome<Option<String>> {
        let at = self.held.interfaces.iter().position(|moved: &Moved| moved.name == name);
        let Some(at) = at else { return Ok(None) };
        let between = self.between();
        let Some(network) = &self.network else { return Ok(None) };
        let (moved, network) = (&self.held.interfaces[at], network.as_fd());
        let nested = match is_missing(moved, network) {
            true => nested::networks(&self.plan.cgroups, network),
            false => Vec::new(),
        };
        let back = bring_back(moved, network, &nested, between.as_ref())
            .map_err(|said| Doing::new(Step::Interfaces, "move the interface").path(name).refused(said))?;
        if between.is_some() {
            self.pass(None);
        }
        note_all(back.said);
        self.held.interfaces.remove(at);
        Ok(back.name)
    }
}
