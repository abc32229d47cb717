//! `io.berth.Domain`: what libvirt-dbus has no word for.
//!
//! Does not know what a console shows.

use berth_schemas::domain::ConsoleMode;
use uuid::Uuid;

use crate::api::dbus::call::{Answer, Call};
use crate::api::dbus::error::Refusal;
use crate::api::dbus::methods::BerthDomain;
use crate::api::dbus::objects::find_domain;

/// Answers one call.
pub async fn call(c: &Call<'_>, method: BerthDomain, uuid: Uuid) -> Answer {
    match method {
        BerthDomain::OpenConsole => {
            let (device, mode): (String, String) = c.parameters()?;
            let device = (!device.is_empty()).then_some(device.as_str());
            let all = [ConsoleMode::Shared, ConsoleMode::Force, ConsoleMode::View];
            let mode = match mode.as_str() {
                "" => Some(ConsoleMode::Shared),
                word => all.into_iter().find(|m| m.as_str() == word),
            };
            let mode = mode.ok_or_else(|| Refusal::invalid("mode is 'shared', 'force' or 'view'"))?;
            let snapshot = find_domain(&c.bus.engine, uuid)?;
            let console = c.bus.engine.open_console(&snapshot, device, mode).await?;
            c.answer(&(zbus::Fd::from(&console.pty), console.device.as_str(), console.writer))
        }
    }
}
