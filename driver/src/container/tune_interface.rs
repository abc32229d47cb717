//! A change of the limits and the link state of one interface: what it makes of the element that a definition has.
//!
//! Pure. Does not know what else that element says, nor how the change is made in what runs: it is an update of a device.

use berth_domain::model::{Bandwidth, Interface, Rate};
use berth_domain::{Device, Domain, MAX_RATE, canonical_mac};
use berth_schemas::domain::{Affect, Bandwidth as Limits};

use crate::container::hotplug::{Act, DeviceChange};
use crate::failure::Failure;
use crate::host::links::Link;

/// A change of one interface.
#[derive(Debug, Clone)]
pub struct InterfaceTuning {
    /// Its hardware address, or its name on the host or inside.
    pub interface: String,
    /// Another limit into the container, or none any more.
    inbound: Option<Option<Rate>>,
    /// The same out of the container.
    outbound: Option<Option<Rate>>,
    /// Whether it is to have a carrier.
    link_up: Option<bool>,
    /// In which definitions.
    pub affect: Vec<Affect>,
}

/// Names of a parameter: those of its direction, and of its average, peak, burst and floor.
type Names = [&'static str; 4];
const INBOUND: Names = ["inbound.average", "inbound.peak", "inbound.burst", "inbound.floor"];
const OUTBOUND: Names = ["outbound.average", "outbound.peak", "outbound.burst", "outbound.floor"];

/// The limit that numbers are; none where all are 0.
fn rate(limits: &Limits, names: Names) -> Result<Option<Rate>, Failure> {
    let invalid =
        |parameter, why: String| Failure::InvalidValue { parameter, message: format!("{parameter} {why}") };
    let given = [limits.average, limits.peak, limits.burst, limits.floor];
    let mut numbers = [None; 4];
    for ((number, given), name) in numbers.iter_mut().zip(given).zip(names) {
        let value = u64::try_from(given.unwrap_or(0)).ok().filter(|n| *n <= MAX_RATE);
        let value = value.ok_or_else(|| invalid(name, format!("is not a number from 0 to {MAX_RATE}")))?;
        *number = Some(value).filter(|n| *n > 0);
    }
    let [average, peak, burst, floor] = numbers;
    if floor.is_some() && names == OUTBOUND {
        return Err(invalid(names[3], "is not possible: a floor is only possible inbound".into()));
    }
    match (average, peak) {
        (Some(average), Some(peak)) if peak < average => {
            Err(invalid(names[1], format!("{peak} is below the average {average}")))
        }
        (None, _) if floor.is_none() && (peak.is_some() || burst.is_some()) => {
            Err(invalid(names[0], "is mandatory with a peak or a burst".into()))
        }
        (None, None) if floor.is_none() => Ok(None),
        _ => Ok(Some(Rate { average, peak, floor, burst })),
    }
}

/// The interface of a definition with a hardware address or a name. `links` are the ends on the host of one that runs,
/// which has more names.
pub fn find<'a>(name: &str, domain: &'a Domain, links: &[Link]) -> Result<&'a Interface, Failure> {
    let all = &domain.devices.interfaces;
    let (word, mac) = (Some(name), canonical_mac(name));
    let link = |i: &Interface| links.iter().find(|l| l.mac == i.mac);
    let by_mac = |i: &&Interface| mac.as_ref() == Some(&i.mac);
    let on_host = |i: &&Interface| link(i).map_or(i.target.as_deref(), |l| Some(l.host.as_str())) == word;
    let inside = |i: &&Interface| link(i).map_or(i.guest.as_deref(), |l| Some(l.inside.as_str())) == word;
    let found = all.iter().find(by_mac).or_else(|| all.iter().find(on_host));
    let found = found.or_else(|| all.iter().find(inside));
    found.ok_or_else(|| Failure::NoSuchDevice(format!("there is no interface '{name}'")))
}

impl InterfaceTuning {
    /// A change whose numbers are possible.
    pub fn new(
        interface: String,
        inbound: Option<&Limits>,
        outbound: Option<&Limits>,
        link_up: Option<bool>,
        affect: Vec<Affect>,
    ) -> Result<Self, Failure> {
        let inbound = inbound.map(|limits| rate(limits, INBOUND)).transpose()?;
        let outbound = outbound.map(|limits| rate(limits, OUTBOUND)).transpose()?;
        Ok(Self { interface, inbound, outbound, link_up, affect })
    }

    /// The hardware address of the interface that is meant in a definition: see [`find`].
    pub fn mac_in(&self, domain: &Domain, links: &[Link]) -> Result<String, Failure> {
        find(&self.interface, domain, links).map(|i| i.mac.clone())
    }

    /// What it is in a definition: an update with that definition's own element, in which nothing else is different.
    pub fn change(&self, domain: &Domain, mac: &str) -> Result<DeviceChange, Failure> {
        let found = domain.devices.interfaces.iter().find(|i| i.mac == mac);
        let missing = || Failure::NoSuchDevice(format!("no device matching MAC address {mac} found"));
        let mut interface = found.cloned().ok_or_else(missing)?;
        if self.inbound.is_some() || self.outbound.is_some() {
            let mut limits = interface.bandwidth.take().unwrap_or_default();
            if let Some(inbound) = &self.inbound {
                limits.inbound.clone_from(inbound);
            }
            if let Some(outbound) = &self.outbound {
                limits.outbound.clone_from(outbound);
            }
            interface.bandwidth = Some(limits).filter(|l| *l != Bandwidth::default());
        }
        interface.link_up = self.link_up.or(interface.link_up);
        let device = Device::Interface(Box::new(interface), true);
        Ok(DeviceChange { act: Act::Update, device, affect: self.affect.clone() })
    }
}

#[cfg(test)]
mod test {
    use super::*;

    fn domain(rest: &str) -> Domain {
        let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/e".into() };
        let xml = format!(
            "<domain type='lxc'><name>x</name><memory>1024</memory><os><type>exe</type><init>/i</init></os><devices>\
             <filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem>\
             <interface type='bridge'><source bridge='b'/><mac address='52:54:00:00:00:01'/><target dev='a0'/>{rest}\
             </interface></devices></domain>"
        );
        berth_domain::parse(&xml, &host).expect("a good document").domain
    }

    fn limits(average: i64, peak: i64, burst: i64, floor: i64) -> Limits {
        Limits { average: Some(average), peak: Some(peak), burst: Some(burst), floor: Some(floor) }
    }

    fn tuning(word: &str, inbound: Option<Limits>, outbound: Option<Limits>) -> InterfaceTuning {
        InterfaceTuning::new(word.into(), inbound.as_ref(), outbound.as_ref(), None, Vec::new())
            .expect("good")
    }

    fn xml(tuning: &InterfaceTuning, domain: &Domain) -> String {
        let mac = tuning.mac_in(domain, &[]).expect("an interface");
        tuning.change(domain, &mac).expect("a change").apply(domain).expect("a definition").to_xml()
    }

    #[test]
    fn each_definition_keeps_what_is_its_own() {
        let outbound = "<bandwidth><outbound average='7'/></bandwidth>";
        let live = domain(&format!("<link state='down'/>{outbound}"));
        let next = domain(&format!("<model type='virtio'/>{outbound}"));
        let change = tuning("52:54:0:0:0:1", Some(limits(100, 0, 0, 0)), None);
        let (live, next) = (xml(&change, &live), xml(&change, &next));
        let both = "<inbound average='100'/>\n        <outbound average='7'/>";
        assert!(
            live.contains(both) && live.contains("<link state='down'/>") && !live.contains("virtio"),
            "{live}"
        );
        assert!(next.contains(both) && !next.contains("<link") && next.contains("virtio"), "{next}");
        let none = xml(&tuning("a0", Some(limits(0, 0, 0, 0)), Some(limits(0, 0, 0, 0))), &domain(outbound));
        assert!(!none.contains("bandwidth"), "{none}");
        let down = InterfaceTuning { link_up: Some(false), ..tuning("a0", None, None) };
        let down = xml(&down, &domain(outbound));
        assert!(down.contains("<link state='down'/>") && down.contains("<outbound average='7'/>"), "{down}");
    }

    #[test]
    fn an_interface_that_runs_has_names_of_the_host_and_inside() {
        let link = Link {
            mac: "52:54:00:00:00:01".into(),
            host: "vnet5".into(),
            token: "t".into(),
            inside: "eth0".into(),
            network: None,
            bridge: None,
            switch: false,
            passthrough: false,
            given: None,
        };
        let domain = domain("");
        for word in ["vnet5", "eth0", "52:54:00:00:00:01"] {
            assert!(tuning(word, None, None).mac_in(&domain, std::slice::from_ref(&link)).is_ok(), "{word}");
        }
        let nobody = tuning("vnet6", None, None).mac_in(&domain, &[link]).map_err(|e| e.to_string());
        assert_eq!(nobody, Err("there is no interface 'vnet6'".into()));
        assert!(tuning("vnet5", None, None).mac_in(&domain, &[]).is_err());
    }

    #[test]
    fn numbers_that_are_no_limit_are_refused_with_their_place() {
        let most = i64::from(u32::MAX);
        let bad = |inbound: Option<Limits>, outbound: Option<Limits>| {
            let made =
                InterfaceTuning::new("a0".into(), inbound.as_ref(), outbound.as_ref(), None, Vec::new());
            made.map(drop).expect_err("a failure").to_string()
        };
        assert_eq!(bad(Some(limits(200, 100, 0, 0)), None), "inbound.peak 100 is below the average 200");
        assert_eq!(bad(None, Some(limits(200, 100, 0, 0))), "outbound.peak 100 is below the average 200");
        let range = "is not a number from 0 to 4294967295";
        assert_eq!(bad(Some(limits(1, 0, most + 1, 0)), None), format!("inbound.burst {range}"));
        assert_eq!(bad(None, Some(limits(-1, 0, 0, 0))), format!("outbound.average {range}"));
        assert_eq!(
            bad(Some(limits(0, 2, 0, 0)), None),
            "inbound.average is mandatory with a peak or a burst"
        );
        let floor = "outbound.floor is not possible: a floor is only possible inbound";
        assert_eq!(bad(None, Some(limits(1, 0, 0, 1))), floor);
        assert!(rate(&limits(most, most, most, most), INBOUND).is_ok_and(|r| r.is_some()));
        assert_eq!(rate(&Limits::default(), INBOUND).ok(), Some(None));
    }
}
