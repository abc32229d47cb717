//! The model into a tree in libvirt's form: its order, its defaults, its spelling.
//!
//! What is unknown in an element comes behind what is known in it. This module does not know how text is written.

pub(crate) mod devices;

use crate::Live;
use crate::apparmor::MODEL;
use crate::model::{
    BlkioDevice, Blkiotune, Capabilities, CapabilitiesPolicy, Clock, Cputune, Domain, Extra, Features, IdMap,
    IdRange, Memtune, Namespace, Numatune, Os, Placement, Resource, Seclabel, SeclabelKind, Vcpu,
};
use crate::parse::LXC_NAMESPACE;
use crate::tree::Element;
use crate::write::{Style, write};

impl Domain {
    /// The definition in libvirt's form, as `virsh dumpxml --inactive` prints it.
    pub fn to_xml(&self) -> String {
        render(&domain(self, None))
    }

    /// The same with what a running domain has: its id, the ids chosen for it, and the PTYs and aliases
    /// of its consoles.
    pub fn to_live_xml(&self, live: &Live) -> String {
        render(&domain(self, Some(live)))
    }
}

pub(crate) fn render(element: &Element) -> String {
    let mut out = String::with_capacity(2048);
    write(&mut out, element, 0, Style::Canonical);
    out.push('\n');
    out
}

fn domain(d: &Domain, live: Option<&Live>) -> Element {
    let x = &d.extra;
    let mut root = Element::new("domain").attr("type", "lxc").opt("id", live.map(|l| l.id));
    if d.namespace.is_some() {
        root = root.attr("xmlns:lxc", LXC_NAMESPACE);
    }
    root.leaf("name", Some(&d.name), x)
        .leaf("uuid", Some(d.uuid), x)
        .leaf("genid", d.genid, x)
        .leaf("title", d.title.as_ref().map(|t| t.replace('\n', " ")), x)
        .leaf("description", d.description.as_ref(), x)
        .maybe(d.metadata.clone())
        .child(kib("memory", d.memory_kib, x))
        .child(kib("currentMemory", d.current_memory_kib, x))
        .maybe(d.blkiotune.as_ref().map(blkiotune))
        .maybe(d.memtune.as_ref().map(memtune))
        .child(vcpu(&d.vcpu))
        .maybe(d.cputune.as_ref().map(cputune))
        .maybe(d.numatune.as_ref().map(numatune))
        .maybe(d.resource.as_ref().map(resource))
        .child(os(&d.os))
        .maybe(d.idmap.as_ref().map(idmap).or_else(|| live.and_then(|l| l.ids).map(live_idmap)))
        .maybe(features(&d.features))
        .child(clock(&d.clock))
        .leaf("on_poweroff", Some(d.on_poweroff), x)
        .leaf("on_reboot", Some(d.on_reboot), x)
        .leaf("on_crash", Some(d.on_crash), x)
        .child(devices::devices(&d.devices, live))
        .each(seclabels(d, live.and_then(|l| l.label.as_deref())))
        .maybe(d.namespace.as_ref().map(namespace))
        .extra(x)
}

/// Leaves out what has nothing to say, as libvirt does.
fn unless_bare(element: Element) -> Option<Element> {
    (!element.is_bare()).then_some(element)
}

fn kib(name: &str, amount: u64, extra: &Extra) -> Element {
    Element::new(name).attr("unit", "KiB").body(amount).extra_of(extra, name, 0)
}

fn limit(name: &str, amount: Option<u64>, extra: &Extra) -> Option<Element> {
    amount.map(|amount| kib(name, amount, extra))
}

fn memtune(m: &Memtune) -> Element {
    Element::new("memtune")
        .maybe(limit("hard_limit", m.hard_limit, &m.extra))
        .maybe(limit("soft_limit", m.soft_limit, &m.extra))
        .maybe(limit("min_guarantee", m.min_guarantee, &m.extra))
        .maybe(limit("swap_hard_limit", m.swap_hard_limit, &m.extra))
        .extra(&m.extra)
}

fn blkiotune(b: &Blkiotune) -> Element {
    Element::new("blkiotune")
        .leaf("weight", b.weight, &b.extra)
        .each(b.devices.iter().map(blkio_device))
        .extra(&b.extra)
}

fn blkio_device(d: &BlkioDevice) -> Element {
    Element::new("device")
        .leaf("path", Some(&d.path), &d.extra)
        .leaf("weight", d.weight, &d.extra)
        .leaf("read_iops_sec", d.read_iops_sec, &d.extra)
        .leaf("write_iops_sec", d.write_iops_sec, &d.extra)
        .leaf("read_bytes_sec", d.read_bytes_sec, &d.extra)
        .leaf("write_bytes_sec", d.write_bytes_sec, &d.extra)
        .extra(&d.extra)
}

fn vcpu(v: &Vcpu) -> Element {
    Element::new("vcpu")
        .attr("placement", v.placement)
        .opt("cpuset", v.cpuset.as_ref())
        .opt("current", v.current)
        .body(v.count)
        .extra(&v.extra)
}

fn cputune(c: &Cputune) -> Element {
    Element::new("cputune")
        .leaf("shares", c.shares, &c.extra)
        .leaf("period", c.period, &c.extra)
        .leaf("quota", c.quota, &c.extra)
        .extra(&c.extra)
}

fn numatune(n: &Numatune) -> Element {
    let memory = Element::new("memory").attr("mode", n.mode);
    let memory = match n.placement {
        Placement::Static => memory.opt("nodeset", n.nodeset.as_ref()),
        Placement::Auto => memory.attr("placement", Placement::Auto),
    };
    Element::new("numatune").child(memory.extra_of(&n.extra, "memory", 0)).extra(&n.extra)
}

fn resource(r: &Resource) -> Element {
    Element::new("resource").leaf("partition", r.partition.as_ref(), &r.extra).extra(&r.extra)
}

fn os(o: &Os) -> Element {
    let x = &o.extra;
    let kind = Element::new("type").attr("arch", &o.arch).opt("machine", o.machine.as_ref()).body("exe");
    let initarg = |(i, arg): (usize, &String)| Element::new("initarg").body(arg).extra_of(x, "initarg", i);
    let mut element = Element::new("os")
        .child(kind.extra_of(x, "type", 0))
        .leaf("init", Some(&o.init), x)
        .each(o.initargs.iter().enumerate().map(initarg));
    for (index, variable) in o.initenv.iter().enumerate() {
        let child = Element::new("initenv").attr("name", &variable.name).body(&variable.value);
        element = element.child(child.extra_of(x, "initenv", index));
    }
    element
        .leaf("initdir", o.initdir.as_ref(), x)
        .leaf("inituser", o.inituser.as_ref(), x)
        .leaf("initgroup", o.initgroup.as_ref(), x)
        .leaf("cmdline", o.cmdline.as_ref(), x)
        .extra(x)
}

fn live_idmap(ids: crate::LiveIds) -> Element {
    let range = |name| Element::new(name).attr("start", 0).attr("target", ids.first).attr("count", ids.count);
    Element::new("idmap").child(range("uid")).child(range("gid"))
}

fn idmap(map: &IdMap) -> Element {
    let range = |name: &'static str| {
        move |(index, r): (usize, &IdRange)| {
            Element::new(name)
                .attr("start", r.start)
                .attr("target", r.target)
                .attr("count", r.count)
                .extra_of(&map.extra, name, index)
        }
    };
    Element::new("idmap")
        .each(map.uids.iter().enumerate().map(range("uid")))
        .each(map.gids.iter().enumerate().map(range("gid")))
        .extra(&map.extra)
}

fn features(f: &Features) -> Option<Element> {
    let capabilities = f.capabilities.as_ref().and_then(capabilities);
    unless_bare(
        Element::new("features").flag("privnet", f.privnet, &f.extra).maybe(capabilities).extra(&f.extra),
    )
}

fn capabilities(c: &Capabilities) -> Option<Element> {
    let named = c.named.iter().map(|(capability, on)| {
        let state = if *on { "on" } else { "off" };
        Element::new(capability.as_str()).attr("state", state).extra_of(&c.extra, capability.as_str(), 0)
    });
    let element = Element::new("capabilities").each(named).extra(&c.extra);
    if c.policy == CapabilitiesPolicy::Default && element.is_bare() {
        return None;
    }
    let attrs = Element::new("").attr("policy", c.policy).attrs;
    Some(Element { attrs: attrs.into_iter().chain(element.attrs).collect(), ..element })
}

fn clock(c: &Clock) -> Element {
    let timer = |t: &crate::model::Timer| {
        Element::new("timer").attr("name", t.name).opt("present", t.present.map(yes_no)).extra(&t.extra)
    };
    Element::new("clock")
        .attr("offset", c.offset)
        .opt("adjustment", c.adjustment.as_ref())
        .opt("basis", c.basis.as_ref())
        .opt("timezone", c.timezone.as_ref())
        .opt("start", c.start.as_ref())
        .each(c.timers.iter().map(timer))
        .extra(&c.extra)
}

pub(crate) fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

/// The labels; that of AppArmor with what a running domain has got.
fn seclabels(d: &Domain, live: Option<&str>) -> Vec<Element> {
    let mut all: Vec<Element> = Vec::new();
    let ours = d.apparmor_label().map(std::ptr::from_ref);
    for label in &d.seclabels {
        let element = match live.filter(|_| ours == Some(std::ptr::from_ref(label))) {
            Some(name) if label.kind != SeclabelKind::None => live_seclabel(label, name),
            _ => seclabel(label),
        };
        all.push(element);
    }
    if let (None, Some(name)) = (ours, live) {
        let element = Element::new("seclabel").attr("type", "dynamic").attr("model", MODEL);
        let (element, none) = (element.attr("relabel", "yes"), Extra::default());
        all.push(element.leaf("label", Some(name), &none).leaf("imagelabel", Some(name), &none));
    }
    all
}

fn live_seclabel(s: &Seclabel, name: &str) -> Element {
    let model = s.model.as_deref().unwrap_or(MODEL);
    let element = Element::new("seclabel").attr("type", s.kind).attr("model", model);
    let element = element.attr("relabel", yes_no(s.relabel));
    element
        .leaf("label", Some(name), &s.extra)
        .leaf("imagelabel", s.relabel.then_some(name), &s.extra)
        .extra(&s.extra)
}

fn seclabel(s: &Seclabel) -> Element {
    let element = Element::new("seclabel").attr("type", s.kind).opt("model", s.model.as_ref());
    let element = match s.kind {
        SeclabelKind::None => element,
        SeclabelKind::Static | SeclabelKind::Dynamic => element.attr("relabel", yes_no(s.relabel)),
    };
    element
        .leaf("label", s.label.as_ref(), &s.extra)
        .leaf("baselabel", s.baselabel.as_ref(), &s.extra)
        .leaf("imagelabel", None::<&str>, &s.extra)
        .extra(&s.extra)
}

fn namespace(n: &Namespace) -> Element {
    let share = |s: &crate::model::NamespaceShare| {
        Element::new(&format!("lxc:{}", s.kind)).attr("type", s.source).attr("value", &s.value).extra_of(
            &n.extra,
            s.kind.as_str(),
            0,
        )
    };
    Element::new("lxc:namespace").each(n.shares.iter().map(share)).extra(&n.extra)
}
