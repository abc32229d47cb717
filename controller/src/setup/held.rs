//! What of the host's a container holds for as long as it is there, also over its restarts.
//!
//! Dropping it gives everything back but interfaces, which have to be moved. So does the kernel, when the controller is
//! killed.

use std::os::fd::{AsFd, OwnedFd};

use berth_schemas::controller::{LaunchPlan, PlanCgroups, PlanDevice, PlanDeviceKind, PlanImage};
use rustix::fs::{major, minor};

use crate::failure::{Doing, Outcome, Step};

use super::host_device::{HostDevice, Wanted};
use super::idmap::Owner;
use super::interfaces::{self, Moved};
use super::nested;
use super::nodes;
use super::rules::{self, Rule, Rules};

/// A device that has a file in the container.
#[derive(Debug)]
pub struct Device {
    /// Its name below /dev.
    pub name: String,
    /// It may not be written to.
    pub readonly: bool,
    /// The device.
    pub host: HostDevice,
}

/// All of it.
#[derive(Debug, Default)]
pub struct Held {
    /// The device that the root is on, if it is an image.
    pub root: Option<HostDevice>,
    /// The same for each filesystem of the plan.
    pub filesystems: Vec<Option<HostDevice>>,
    /// Devices with files in the container.
    pub devices: Vec<Device>,
    /// Which devices may be opened.
    pub rules: Rules,
    /// Interfaces of the host that are in the container.
    pub interfaces: Vec<Moved>,
    /// The container's network namespace, if there are such: they can be given back as long as that is open.
    pub network: Option<OwnedFd>,
    /// Network namespaces that the container has made, where one of them may have been moved on to.
    pub nested: Vec<OwnedFd>,
    /// The tmpfs of /dev of the container that runs.
    pub dev: Option<OwnedFd>,
}

impl Held {
    /// Takes hold of all that the plan names.
    pub fn take(plan: &LaunchPlan) -> Outcome<Self> {
        let mut held = Self::default();
        if let Some(image) = &plan.root.image {
            held.root = Some(take_image(plan, image, &plan.root.source, plan.root.readonly)?);
        }
        for filesystem in &plan.filesystems {
            held.filesystems.push(match (&filesystem.image, &filesystem.source) {
                (Some(image), Some(source)) => Some(take_image(plan, image, source, filesystem.readonly)?),
                _ => None,
            });
        }
        for device in &plan.devices {
            held.devices.push(take_device(device, plan)?);
        }
        Ok(held)
    }

    /// Makes the files of all devices in a new /dev.
    pub fn make_files(&self, dev: &OwnedFd, owner: Owner) -> Outcome<()> {
        self.devices.iter().try_for_each(|device| nodes::make(dev, &device.name, &device.host, owner))
    }

    /// Moves the plan's interfaces into the container's network namespace; those of a run before are there already, and, if
    /// it is linked, those that the daemon has made.
    pub fn move_interfaces(&mut self, plan: &LaunchPlan, network: &OwnedFd, is_linked: bool) -> Outcome<()> {
        if plan.host_interfaces.is_empty() {
            return Ok(());
        }
        interfaces::refresh(&plan.host_interfaces, &self.interfaces, network.as_fd())?;
        let failed = |e| Doing::new(Step::Interfaces, "keep the network of the container").failed(e);
        self.network = Some(rustix::io::fcntl_dupfd_cloexec(network, 3).map_err(failed)?);
        for wanted in &plan.host_interfaces {
            if !self.interfaces.iter().any(|moved| moved.name == wanted.name) {
                let is_there = is_linked && wanted.made == Some(true);
                let network = network.as_fd();
                self.interfaces.push(match is_there {
                    true => interfaces::take_in(wanted, network)?,
                    false => interfaces::move_in(wanted, &wanted.name, network)?,
                });
            }
        }
        Ok(())
    }

    /// Keeps hold of network namespaces that the container has made, if an interface is not where it was brought: with
    /// the last process of such a namespace the kernel removes what is in it.
    pub fn keep_nested(&mut self, groups: &PlanCgroups) {
        let Some(network) = self.network.as_ref().map(AsFd::as_fd) else { return };
        if self.interfaces.iter().any(|moved| interfaces::is_missing(moved, network)) {
            self.nested = nested::networks(groups, network);
        }
    }

    /// Gives everything back, the interfaces first, by way of the network namespace between. Answers what could not be.
    pub fn give_back(&mut self, between: Option<OwnedFd>) -> Vec<String> {
        let network = self.network.take();
        let there = network.as_ref().map(AsFd::as_fd);
        let left = interfaces::bring_all_back(&mut self.interfaces, there, &self.nested, between.as_ref());
        *self = Self::default();
        left
    }

    /// What the container may open.
    pub fn rules(&self) -> Vec<Rule> {
        let mut list = rules::standard();
        list.extend(self.devices.iter().map(Device::rule));
        list
    }
}

impl Device {
    /// The rule that lets it be opened.
    pub fn rule(&self) -> Rule {
        let number = self.host.number;
        Rule {
            block: self.host.kind == PlanDeviceKind::Block,
            major: major(number),
            minor: Some(minor(number)),
            write: !self.readonly,
        }
    }
}

/// Takes hold of one device.
pub fn take_device(device: &PlanDevice, plan: &LaunchPlan) -> Outcome<Device> {
    let wanted = Wanted {
        step: Step::Nodes,
        kind: device.kind,
        source: &device.source,
        backing: device.backing,
        format: device.format.as_deref(),
        readonly: device.readonly,
        qemu_nbd: plan.qemu_nbd.as_deref(),
        groups: &plan.cgroups,
    };
    Ok(Device { name: device.name.clone(), readonly: device.readonly, host: wanted.open()? })
}

/// Takes hold of the device of one file system.
pub fn take_image(plan: &LaunchPlan, image: &PlanImage, source: &str, readonly: bool) -> Outcome<HostDevice> {
    let wanted = Wanted {
        step: Step::Sources,
        kind: PlanDeviceKind::Block,
        source,
        backing: image.backing,
        format: image.format.as_deref(),
        readonly,
        qemu_nbd: plan.qemu_nbd.as_deref(),
        groups: &plan.cgroups,
    };
    wanted.open()
}
