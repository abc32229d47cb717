//! Pressure: the kernel tells when the tasks of a group have waited too long for a resource.
//!
//! A trigger is an open file in the v2 tree, which every host has, with a threshold written to it; it wakes a poll for
//! POLLPRI. Source: accounting/psi.rst, "Monitoring for pressure thresholds" and "Cgroup2 interface". Does not know
//! whose group it is, nor who wants to know.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use berth_domain::PressureSettings;
use berth_schemas::domain::{PressureResource, PressureStats};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::account::parse_pressure;
use crate::host::resources::LimitError;

/// The time that a share is one of. Without CAP_SYS_RESOURCE the kernel takes multiples of two seconds alone (since
/// 6.5), and then counts along with the averages; with it a thread of the kernel does, ten times in this time while
/// somebody waits.
const WINDOW: Duration = Duration::from_secs(2);

/// A trigger that is armed as long as it is held.
#[derive(Debug)]
pub struct Trigger {
    resource: PressureResource,
    file: File,
}

/// A trigger that can be waited for.
#[derive(Debug)]
pub struct Watch {
    resource: PressureResource,
    file: AsyncFd<File>,
}

/// The resources and their shares, as far as one is named.
fn wanted(settings: PressureSettings) -> impl Iterator<Item = (PressureResource, &'static str, u32)> {
    let all = [
        (PressureResource::Cpu, "cpu.pressure", settings.cpu),
        (PressureResource::Memory, "memory.pressure", settings.memory),
        (PressureResource::Io, "io.pressure", settings.io),
    ];
    all.into_iter().filter_map(|(resource, file, share)| Some((resource, file, share?)))
}

/// Arms what the settings want in a group, all or nothing. Blocks.
pub fn arm(group: &Path, settings: PressureSettings) -> Result<Vec<Trigger>, LimitError> {
    wanted(settings).map(|(resource, name, share)| arm_one(group, resource, name, share)).collect()
}

fn arm_one(group: &Path, resource: PressureResource, name: &str, share: u32) -> Result<Trigger, LimitError> {
    let path = group.join(name);
    let window = WINDOW.as_micros();
    let text = format!("some {} {window}", window * u128::from(share) / 100);
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(&path);
    match opened.and_then(|mut file| file.write_all(text.as_bytes()).map(|()| file)) {
        Ok(file) => Ok(Trigger { resource, file }),
        Err(cause) => Err(LimitError { element: "berth:pressure", path, value: text, cause }),
    }
}

impl Trigger {
    /// Makes it one that can be waited for.
    pub fn watch(self) -> io::Result<Watch> {
        #[expect(
            deprecated,
            reason = "unsound only for types that can change their descriptor, which File cannot"
        )]
        let file = AsyncFd::with_interest(self.file, Interest::PRIORITY)?;
        Ok(Watch { resource: self.resource, file })
    }
}

impl Watch {
    /// Waits until the share was reached, and answers the figures of that moment. An error is the end of the group.
    pub async fn reached(&self) -> io::Result<PressureStats> {
        self.file.ready(Interest::PRIORITY).await?.clear_ready();
        let mut text = [0; 512];
        let length = self.file.get_ref().read_at(&mut text, 0)?;
        parse_pressure(self.resource, &String::from_utf8_lossy(&text[..length]))
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// Forgets what was reached until now.
    pub async fn forget(&self) {
        let now = tokio::time::timeout(Duration::ZERO, self.file.ready(Interest::PRIORITY));
        if let Ok(Ok(mut guard)) = now.await {
            guard.clear_ready();
        }
    }
}
