//! libvirt's numbers: flags, states, reasons and events, as `libvirt-domain.h` has them.
//!
//! Pure.

use berth_schemas::domain::{AddressSource, Affect, EventKind, HostnameSource, Reason, ShutdownMode, State};

use crate::api::dbus::error::Refusal;

/// virDomainModificationImpact
const AFFECT_LIVE: u32 = 1;
const AFFECT_CONFIG: u32 = 2;

/// What nobody knows a flag of is not done by halves. `function`: libvirt's name of what is asked.
pub fn only(flags: u32, known: u32, function: &str) -> Result<(), Refusal> {
    match flags & !known {
        0 => Ok(()),
        other => Err(Refusal::Said(format!("unsupported flags (0x{other:x}) in function {function}"))),
    }
}

/// The definitions that are to be changed; empty stands for `current`.
pub fn affects(flags: u32, also: u32, function: &str) -> Result<Vec<Affect>, Refusal> {
    only(flags, AFFECT_LIVE | AFFECT_CONFIG | also, function)?;
    let live = (flags & AFFECT_LIVE != 0).then_some(Affect::Live);
    let config = (flags & AFFECT_CONFIG != 0).then_some(Affect::Config);
    Ok(live.into_iter().chain(config).collect())
}

/// The definition that is to be read.
pub fn affect(flags: u32, also: u32, function: &str) -> Result<Affect, Refusal> {
    match affects(flags, also, function)?.as_slice() {
        [] => Ok(Affect::Current),
        [one] => Ok(*one),
        _ => Err(Refusal::invalid(format!(
            "flags 'VIR_DOMAIN_AFFECT_LIVE' and 'VIR_DOMAIN_AFFECT_CONFIG' in {function} are mutually exclusive"
        ))),
    }
}

/// virDomainInterfaceAddressesSource; the agent of a container is the container itself.
pub fn address_source(source: u32) -> Result<AddressSource, Refusal> {
    match source {
        0 => Ok(AddressSource::Lease),
        1 => Ok(AddressSource::Guest),
        2 => Ok(AddressSource::Arp),
        other => Err(Refusal::invalid(format!("unknown IP address data source {other}"))),
    }
}

/// virDomainGetHostnameFlags: leases, and an agent, whose part the container's own view has.
pub fn hostname_source(flags: u32) -> Result<Option<HostnameSource>, Refusal> {
    only(flags, 3, "virDomainGetHostname")?;
    match flags {
        1 => Ok(Some(HostnameSource::Lease)),
        2 => Ok(Some(HostnameSource::Guest)),
        _ => Ok(None),
    }
}

/// virIPAddrType
pub fn address_kind(address: &str) -> i32 {
    i32::from(address.contains(':'))
}

/// virDomainShutdownFlagValues, virDomainRebootFlagValues: those that a container can be asked by.
pub fn shutdown_modes(flags: u32, function: &str) -> Result<Vec<ShutdownMode>, Refusal> {
    const INITCTL: u32 = 4;
    const SIGNAL: u32 = 8;
    only(flags, INITCTL | SIGNAL, function)?;
    let initctl = (flags & INITCTL != 0).then_some(ShutdownMode::Initctl);
    let signal = (flags & SIGNAL != 0).then_some(ShutdownMode::Signal);
    Ok(initctl.into_iter().chain(signal).collect())
}

/// virDomainState
pub fn state(state: State) -> i32 {
    match state {
        State::Running => 1,
        State::Paused => 3,
        State::Shutdown => 4,
        State::Shutoff => 5,
    }
}

/// virDomainRunningReason, virDomainPausedReason or virDomainShutoffReason, whichever belongs to the state.
pub fn reason(state: State, reason: Reason) -> i32 {
    match (state, reason) {
        (State::Running, Reason::Booted | Reason::Rebooted | Reason::Restarted) => 1,
        (State::Running, Reason::Unpaused) => 5,
        (State::Paused, Reason::User) => 1,
        (State::Shutoff, Reason::Shutdown) => 1,
        (State::Shutoff, Reason::Destroyed) => 2,
        (State::Shutoff, Reason::Crashed) => 3,
        (State::Shutoff, Reason::Failed) => 6,
        _ => 0,
    }
}

/// virDomainEventType and the detail of it; none if libvirt has another signal for it, or none at all.
pub fn event(kind: EventKind, detail: Option<&str>) -> Option<(i32, i32)> {
    Some(match kind {
        EventKind::Defined => (0, i32::from(detail == Some("updated"))),
        EventKind::Undefined => (1, 0),
        EventKind::Started => (2, 0),
        EventKind::Suspended => (3, 0),
        EventKind::Resumed => (4, 0),
        EventKind::Stopped => {
            let why = match detail {
                Some("destroyed") => 1,
                Some("crashed") => 2,
                Some("failed") => 5,
                _ => 0,
            };
            (5, why)
        }
        EventKind::Crashed => (8, 0),
        EventKind::Rebooted
        | EventKind::Metadata
        | EventKind::OomKilled
        | EventKind::Pressure
        | EventKind::Ready
        | EventKind::DeviceAdded
        | EventKind::DeviceRemoved
        | EventKind::Tunable => return None,
    })
}

/// virConnectListAllDomainsFlags: each family that is used restricts; inside a family one that fits is enough.
pub fn is_listed(flags: u32, domain: &Listed) -> bool {
    let other = !matches!(domain.state, State::Running | State::Paused | State::Shutoff);
    let families = [
        vec![(1, domain.active), (2, !domain.active)],
        vec![(4, domain.persistent), (8, !domain.persistent)],
        vec![
            (16, domain.state == State::Running),
            (32, domain.state == State::Paused),
            (64, domain.state == State::Shutoff),
            (128, other),
        ],
        // Nothing is ever saved, and there are no snapshots and no checkpoints.
        vec![(256, false), (512, true)],
        vec![(1024, domain.autostart), (2048, !domain.autostart)],
        vec![(4096, false), (8192, true)],
        vec![(16_384, false), (32_768, true)],
    ];
    let families: Vec<&[(u32, bool)]> = families.iter().map(Vec::as_slice).collect();
    chosen(flags, &families)
}

/// Whether flags that come in families, each with what fits, choose something.
pub fn chosen(flags: u32, families: &[&[(u32, bool)]]) -> bool {
    families.iter().all(|family| {
        !family.iter().any(|(bit, _)| flags & bit != 0)
            || family.iter().any(|(bit, fits)| flags & bit != 0 && *fits)
    })
}

/// All flags of [`is_listed`].
pub const LISTED: u32 = 0xffff;

/// What listing looks at.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    /// Runs, or is suspended.
    pub active: bool,
    /// Has a definition.
    pub persistent: bool,
    /// Starts with the host.
    pub autostart: bool,
    /// What it does.
    pub state: State,
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn flags_are_known_or_refused_by_their_value() {
        assert_eq!(affects(0, 0, "f"), Ok(vec![]));
        assert_eq!(affects(3, 0, "f"), Ok(vec![Affect::Live, Affect::Config]));
        assert_eq!(affect(2, 0, "f"), Ok(Affect::Config));
        assert!(affect(3, 0, "f").is_err());
        let (_, message) = affects(0x14, 4, "virDomainX").expect_err("0x10").reply();
        assert_eq!(message, "unsupported flags (0x10) in function virDomainX");
        assert_eq!(shutdown_modes(8, "f"), Ok(vec![ShutdownMode::Signal]));
        assert!(shutdown_modes(1, "f").is_err());
    }

    #[test]
    fn families_of_list_flags_restrict() {
        let running = Listed { active: true, persistent: false, autostart: false, state: State::Running };
        assert!(is_listed(0, &running) && is_listed(1, &running) && is_listed(3, &running));
        assert!(!is_listed(2, &running) && !is_listed(1 | 4, &running) && is_listed(1 | 8 | 16, &running));
        assert!(!is_listed(256, &running) && is_listed(512 | 2048, &running));
    }

    #[test]
    fn events_have_libvirts_numbers() {
        assert_eq!(event(EventKind::Defined, Some("updated")), Some((0, 1)));
        assert_eq!(event(EventKind::Started, Some("booted")), Some((2, 0)));
        assert_eq!(event(EventKind::Stopped, Some("failed")), Some((5, 5)));
        assert_eq!(event(EventKind::Rebooted, None), None);
    }
}
