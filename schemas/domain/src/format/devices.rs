//! Devices in libvirt's order and spelling.
//!
//! Does not know what a running domain got beyond what [`Live`] says.

use super::yes_no;
use crate::model::{
    Bandwidth, Console, Devices, Disk, DiskSource, Extra, Filesystem, Filterref, FsSource, Hostdev,
    HostdevSource, Interface, InterfaceSource, IpConfig, Rate, VirtualPort, Vlan,
};
use crate::tree::Element;
use crate::{Live, LiveConsole, LiveInterface};

pub(super) fn devices(d: &Devices, live: Option<&Live>) -> Element {
    let console = |(index, console): (usize, &Console)| {
        self::console(console, index, live.and_then(|l| l.consoles.get(index)))
    };
    Element::new("devices")
        .leaf("emulator", Some(&d.emulator), &d.extra)
        .each(d.disks.iter().map(disk))
        .each(d.filesystems.iter().map(filesystem))
        .each(d.interfaces.iter().map(|i| interface(i, live)))
        .each(d.consoles.iter().enumerate().map(console))
        .each(d.hostdevs.iter().map(hostdev))
        .extra(&d.extra)
}

fn disk(d: &Disk) -> Element {
    let (kind, attribute, path) = match &d.source {
        DiskSource::File(path) => ("file", "file", path),
        DiskSource::Block(path) => ("block", "dev", path),
    };
    let driver = d.driver.as_ref().map(|driver| {
        Element::new("driver")
            .opt("name", driver.name.as_ref())
            .opt("type", driver.format.as_ref())
            .opt("cache", driver.cache.as_ref())
            .extra(&driver.extra)
    });
    let target = Element::new("target").attr("dev", &d.target).opt("bus", d.bus.as_ref());
    Element::new("disk")
        .attr("type", kind)
        .attr("device", d.device)
        .maybe(driver)
        .child(Element::new("source").attr(attribute, path).extra_of(&d.extra, "source", 0))
        .child(target.extra_of(&d.extra, "target", 0))
        .flag("readonly", d.readonly, &d.extra)
        .with("alias", "name", d.alias.as_ref(), &d.extra)
        .extra(&d.extra)
}

fn filesystem(f: &Filesystem) -> Element {
    let x = &f.extra;
    let driver = f.driver.as_ref().map(|d| {
        Element::new("driver").opt("type", d.kind.as_ref()).opt("format", d.format.as_ref()).extra(&d.extra)
    });
    let source = Element::new("source");
    let source = match &f.source {
        FsSource::Mount { dir } | FsSource::Bind { dir } => source.attr("dir", dir),
        FsSource::Block { dev } => source.attr("dev", dev),
        FsSource::File { file } => source.attr("file", file),
        FsSource::Ram { usage_kib } => source.attr("usage", usage_kib).attr("units", "KiB"),
        FsSource::Template { name } => source.attr("name", name),
        FsSource::Volume { pool, volume } => source.attr("pool", pool).attr("volume", volume),
    };
    Element::new("filesystem")
        .attr("type", f.source.kind())
        .attr("accessmode", f.accessmode)
        .maybe(driver)
        .child(source.extra_of(x, "source", 0))
        .child(Element::new("target").attr("dir", &f.target).extra_of(x, "target", 0))
        .flag("readonly", f.readonly, x)
        .with("alias", "name", f.alias.as_ref(), x)
        .maybe(space_limit("space_hard_limit", f.space_hard_limit, x))
        .maybe(space_limit("space_soft_limit", f.space_soft_limit, x))
        .extra(x)
}

fn space_limit(name: &str, bytes: Option<u64>, extra: &Extra) -> Option<Element> {
    bytes.map(|n| Element::new(name).attr("unit", "bytes").body(n).extra_of(extra, name, 0))
}

fn interface(i: &Interface, live: Option<&Live>) -> Element {
    let x = &i.extra;
    let live = live.and_then(|l| l.interfaces.iter().find(|l| l.mac == i.mac));
    let source = Element::new("source");
    let source = match &i.source {
        InterfaceSource::Network { network, portgroup } => {
            let bridge = live.and_then(|l| l.bridge.as_ref());
            source.attr("network", network).opt("portgroup", portgroup.as_ref()).opt("bridge", bridge)
        }
        InterfaceSource::Bridge { bridge } => source.attr("bridge", bridge),
        InterfaceSource::Ethernet { host } => source.each(ip_config(host)),
        InterfaceSource::Direct { dev, mode } => source.attr("dev", dev).attr("mode", mode),
        InterfaceSource::Other(_) => source,
    };
    let source = source.extra_of(x, "source", 0);
    let target = live.and_then(|l| l.target.as_ref()).or(i.target.as_ref());
    let guest = Element::new("guest").opt("dev", i.guest.as_ref()).opt("actual", live.map(|l| &l.inside));
    let guest = guest.extra_of(x, "guest", 0);
    let link = i.link_up.map(|up| if up { "up" } else { "down" });
    Element::new("interface")
        .attr("type", i.source.kind())
        .child(Element::new("mac").attr("address", &i.mac).extra_of(x, "mac", 0))
        .maybe(Some(source).filter(|s| !s.is_bare()))
        .maybe(i.vlan.as_ref().map(vlan))
        .maybe(i.virtualport.as_ref().map(virtualport))
        .maybe(limits(i, live).as_ref().map(bandwidth))
        .with("port", "isolated", i.isolated.map(yes_no), x)
        .each(ip_config(&i.ip))
        .with("target", "dev", target, x)
        .maybe(Some(guest).filter(|g| !g.is_bare()))
        .with("model", "type", i.model.as_ref(), x)
        .maybe(i.filterref.as_ref().map(filterref))
        .with("link", "state", link, x)
        .with("mtu", "size", i.mtu, x)
        .with("alias", "name", i.alias.as_ref(), x)
        .extra(x)
}

/// Its own limits, and in what runs those that its network gives it where it has none of a direction.
fn limits(i: &Interface, live: Option<&LiveInterface>) -> Option<Bandwidth> {
    let given = live.filter(|l| l.inbound.is_some() || l.outbound.is_some());
    let Some(given) = given else { return i.bandwidth.clone() };
    let mut limits = i.bandwidth.clone().unwrap_or_default();
    limits.inbound = limits.inbound.or_else(|| given.inbound.clone());
    limits.outbound = limits.outbound.or_else(|| given.outbound.clone());
    Some(limits)
}

fn ip_config(config: &IpConfig) -> Vec<Element> {
    let family = |v6: bool| if v6 { "ipv6" } else { "ipv4" };
    let address = |a: &crate::model::IpAddress| {
        Element::new("ip")
            .attr("address", a.address)
            .attr("family", family(a.address.is_ipv6()))
            .opt("prefix", a.prefix)
            .opt("peer", a.peer)
            .extra(&a.extra)
    };
    let route = |r: &crate::model::Route| {
        Element::new("route")
            .attr("family", family(r.address.is_ipv6()))
            .attr("address", r.address)
            .opt("netmask", r.netmask)
            .opt("prefix", r.prefix)
            .attr("gateway", r.gateway)
            .opt("metric", r.metric)
            .extra(&r.extra)
    };
    config.addresses.iter().map(address).chain(config.routes.iter().map(route)).collect()
}

pub(crate) fn vlan(v: &Vlan) -> Element {
    let mut element = Element::new("vlan").opt("trunk", v.trunk.map(yes_no));
    for (index, tag) in v.tags.iter().enumerate() {
        let child = Element::new("tag").attr("id", tag.id).opt("nativeMode", tag.native_mode);
        element = element.child(child.extra_of(&v.extra, "tag", index));
    }
    element.extra(&v.extra)
}

pub(crate) fn virtualport(v: &VirtualPort) -> Element {
    let parameters =
        v.parameters.iter().fold(Element::new("parameters"), |e, (name, value)| e.attr(name, value));
    let parameters = parameters.extra_of(&v.extra, "parameters", 0);
    Element::new("virtualport")
        .opt("type", v.kind.as_ref())
        .maybe(Some(parameters).filter(|p| !p.is_bare()))
        .extra(&v.extra)
}

pub(crate) fn bandwidth(b: &Bandwidth) -> Element {
    let rate = |name: &'static str, rate: &Option<Rate>| {
        rate.as_ref().map(|r| {
            Element::new(name)
                .opt("average", r.average)
                .opt("peak", r.peak)
                .opt("floor", r.floor)
                .opt("burst", r.burst)
                .extra_of(&b.extra, name, 0)
        })
    };
    Element::new("bandwidth")
        .maybe(rate("inbound", &b.inbound))
        .maybe(rate("outbound", &b.outbound))
        .extra(&b.extra)
}

fn filterref(f: &Filterref) -> Element {
    let mut element = Element::new("filterref").attr("filter", &f.filter);
    for (index, (name, value)) in f.parameters.iter().enumerate() {
        let child = Element::new("parameter").attr("name", name).attr("value", value);
        element = element.child(child.extra_of(&f.extra, "parameter", index));
    }
    element.extra(&f.extra)
}

fn console(c: &Console, index: usize, live: Option<&LiveConsole>) -> Element {
    let source = Element::new("source").opt("path", live.map(|l| &l.path)).extra_of(&c.extra, "source", 0);
    let target = Element::new("target").attr("type", c.target).attr("port", index);
    let alias = c.alias.as_ref().or(live.map(|l| &l.alias));
    Element::new("console")
        .attr("type", "pty")
        .opt("tty", live.map(|l| &l.path))
        .maybe(Some(source).filter(|s| !s.is_bare()))
        .child(target.extra_of(&c.extra, "target", 0))
        .with("alias", "name", alias, &c.extra)
        .extra(&c.extra)
}

fn hostdev(h: &Hostdev) -> Element {
    let source = Element::new("source");
    let none = Extra::default();
    let inner = h.extra.of("source", 0).unwrap_or(&none);
    let leaf = |name: &str, text: &str| Element::new("source").leaf(name, Some(text), inner);
    let (mode, kind, source) = match &h.source {
        HostdevSource::Usb { id, address } => {
            let hex = |name: &str, n: u16| {
                Element::new(name).attr("id", format!("0x{n:04x}")).extra_of(inner, name, 0)
            };
            let source = source
                .maybe(id.map(|id| hex("vendor", id.vendor)))
                .maybe(id.map(|id| hex("product", id.product)))
                .maybe(address.map(|a| {
                    let address = Element::new("address").attr("bus", a.bus).attr("device", a.device);
                    address.extra_of(inner, "address", 0)
                }));
            ("subsystem", "usb", source)
        }
        HostdevSource::Storage { block } => ("capabilities", "storage", leaf("block", block)),
        HostdevSource::Misc { char } => ("capabilities", "misc", leaf("char", char)),
        HostdevSource::Net { interface, .. } => ("capabilities", "net", leaf("interface", interface)),
    };
    let usb = mode == "subsystem";
    let (guest, addresses) = match &h.source {
        HostdevSource::Net { guest, ip, .. } => (guest.as_ref(), ip_config(ip)),
        _ => (None, Vec::new()),
    };
    Element::new("hostdev")
        .attr("mode", mode)
        .attr("type", kind)
        .opt("managed", usb.then_some(yes_no(h.managed)))
        .child(source.extra_of(&h.extra, "source", 0))
        .each(addresses)
        .with("guest", "dev", guest, &h.extra)
        .with("alias", "name", h.alias.as_ref(), &h.extra)
        .extra(&h.extra)
}
