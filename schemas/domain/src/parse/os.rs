//! `<os>`, `<features>`, `<clock>` and `<lxc:namespace>`.
//!
//! Does not know the root file system: whether init or its user exist is found out at start.

use std::collections::BTreeMap;

use super::LXC_NAMESPACE;
use crate::model::os::{MAX_INITARGS, MAX_INITENV};
use crate::model::{
    Capabilities, CapabilitiesPolicy, Capability, Clock, ClockOffset, Closed, Extra, Features, InitEnv,
    Namespace, NamespaceKind, NamespaceShare, NamespaceSource, Os, Timer, TimerName,
};
use crate::walk::{Context, Walk};

/// Most timers.
const MAX_TIMERS: usize = 16;

pub(super) fn os(domain: &mut Walk<'_>) -> Os {
    let mut os = Os {
        arch: domain.cx.host.arch.clone(),
        machine: None,
        init: String::new(),
        initargs: Vec::new(),
        initenv: Vec::new(),
        initdir: None,
        inituser: None,
        initgroup: None,
        cmdline: None,
        extra: Extra::default(),
    };
    let Some(mut w) = domain.one("os") else {
        domain.error("the element 'os' is missing");
        return os;
    };
    os_type(&mut w, &mut os);
    match w.leaf("init") {
        Some(leaf) if leaf.text.starts_with('/') => os.init = leaf.text,
        Some(leaf) => {
            let message = format!("init '{}' must be an absolute path", leaf.text.escape_debug());
            w.error_leaf(&leaf, message);
        }
        None => w.error_hint(
            "the element 'init' is missing or empty",
            "for a whole system: <init>/sbin/init</init>",
        ),
    }
    os.initargs = initargs(&mut w);
    os.initenv = initenv(&mut w);
    os.initdir = w.leaf("initdir").map(|leaf| {
        if !leaf.text.starts_with('/') {
            w.error_leaf(&leaf, format!("'{}' must be an absolute path", leaf.text.escape_debug()));
        }
        leaf.text
    });
    os.inituser = account(&mut w, "inituser");
    os.initgroup = account(&mut w, "initgroup");
    os.cmdline = w.leaf("cmdline").map(|l| l.text);
    os.extra = w.finish();
    os
}

fn os_type(w: &mut Walk<'_>, os: &mut Os) {
    let Some(mut child) = w.one("type") else {
        w.error("the element 'type' is missing, it must be 'exe'");
        return;
    };
    if let Some(arch) = child.get("arch") {
        if runs(&os.arch, &arch) {
            os.arch = arch;
        } else {
            let message =
                format!("arch '{}' cannot run on this host, which is {}", arch.escape_debug(), os.arch);
            child.error_at("arch", message);
        }
    }
    os.machine = child.get("machine");
    let text = child.text();
    if text.trim() != "exe" {
        child.error(format!("type '{}' is not 'exe'", text.trim().escape_debug()));
    }
    let extra = child.finish();
    w.keep("type", 0, extra);
}

/// Whether a host of one architecture runs another: its own, and its 32-bit form.
fn runs(host: &str, arch: &str) -> bool {
    let small = match host {
        "x86_64" => "i686",
        "aarch64" => "armv7l",
        "ppc64" => "ppc",
        "s390x" => "s390",
        "mips64" => "mips",
        "sparc64" => "sparc",
        "parisc64" => "parisc",
        _ => host,
    };
    arch == host || arch == small
}

fn initargs(w: &mut Walk<'_>) -> Vec<String> {
    let mut args = Vec::new();
    for child in w.all("initarg", MAX_INITARGS) {
        let pos = (child.el, child.cx);
        match w.take_leaf("initarg", args.len(), child) {
            Some(leaf) => args.push(leaf.text),
            None => complain(pos, "domain/os/initarg", "an argument of init is empty"),
        }
    }
    args
}

fn complain((el, cx): (&crate::tree::Element, &Context<'_>), path: &str, message: &str) {
    cx.error(crate::Diagnostic::new(el.pos, path, message));
}

fn initenv(w: &mut Walk<'_>) -> Vec<InitEnv> {
    let mut variables = Vec::new();
    for mut child in w.all("initenv", MAX_INITENV) {
        let name = child.need("name").unwrap_or_default();
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.is_empty() && (!name.chars().all(good) || name.starts_with(|c: char| c.is_ascii_digit())) {
            child.error_at("name", format!("'{}' is not a name of a variable", name.escape_debug()));
        }
        let value = child.text();
        if value.is_empty() {
            child.error(format!("the variable '{}' has no value", name.escape_debug()));
        }
        let extra = child.finish();
        w.keep("initenv", variables.len(), extra);
        variables.push(InitEnv { name, value });
    }
    variables
}

/// The name of a user or a group, or `+` and an id.
fn account(w: &mut Walk<'_>, element: &str) -> Option<String> {
    let leaf = w.leaf(element)?;
    let text = leaf.text.as_str();
    let good = match text.strip_prefix('+') {
        Some(id) => id.bytes().all(|b| b.is_ascii_digit()) && id.parse::<u32>().is_ok_and(|id| id < u32::MAX),
        None => !text.chars().any(|c| c.is_control() || c.is_whitespace() || c == ':' || c == '/'),
    };
    if !good {
        w.error_leaf(&leaf, format!("'{}' is neither a name nor '+' and an id", text.escape_debug()));
    }
    Some(leaf.text)
}

pub(super) fn features(mut w: Walk<'_>) -> Features {
    Features {
        privnet: w.flag("privnet"),
        capabilities: w.one("capabilities").and_then(capabilities),
        extra: w.finish(),
    }
}

fn capabilities(mut w: Walk<'_>) -> Option<Capabilities> {
    let policy = w.closed("policy").unwrap_or(CapabilitiesPolicy::Default);
    let mut named = BTreeMap::new();
    for (name, capability) in Capability::ALL {
        let Some(mut child) = w.one(name) else { continue };
        if let Some(state) = child.switch("state", "on", "off") {
            named.insert(*capability, state);
        } else if child.el.value("state").is_none() {
            child.error("the attribute 'state' is missing, it must be 'on' or 'off'");
        }
        let extra = child.finish();
        w.keep(name, 0, extra);
    }
    let extra = w.finish();
    let said = policy != CapabilitiesPolicy::Default || !named.is_empty() || !extra.is_empty();
    said.then_some(Capabilities { policy, named, extra })
}

pub(super) fn clock(walk: Option<Walk<'_>>) -> Clock {
    let mut clock = Clock {
        offset: ClockOffset::Utc,
        adjustment: None,
        basis: None,
        timezone: None,
        start: None,
        timers: Vec::new(),
        pos: Default::default(),
        extra: Extra::default(),
    };
    let Some(mut w) = walk else { return clock };
    clock.pos = w.pos();
    clock.offset = w.closed("offset").unwrap_or(ClockOffset::Utc);
    clock.adjustment = w.get("adjustment");
    clock.basis = w.get("basis");
    clock.timezone = w.get("timezone");
    clock.start = w.get("start");
    for mut child in w.all("timer", MAX_TIMERS) {
        child.need("name");
        let name = child.closed::<TimerName>("name").unwrap_or(TimerName::Rtc);
        let present = child.yes_no("present");
        clock.timers.push(Timer { name, present, pos: child.pos(), extra: child.finish() });
    }
    clock.extra = w.finish();
    clock
}

/// `<lxc:namespace>`, under whatever prefix the document gives its namespace.
pub(super) fn namespace(domain: &mut Walk<'_>) -> Option<Namespace> {
    let prefix = prefix_of(domain)?.to_owned();
    let mut w = domain.one(&format!("{prefix}:namespace"))?;
    if prefix == "lxc" {
        // It will be written again on output.
        domain.get("xmlns:lxc");
        w.get("xmlns:lxc");
    } else if domain.el.value("xmlns:lxc").is_some_and(|uri| uri != LXC_NAMESPACE) {
        domain.error_at("xmlns:lxc", format!("the prefix 'lxc' must stand for '{LXC_NAMESPACE}'"));
    }
    let mut shares = Vec::new();
    for (name, kind) in NamespaceKind::ALL {
        let Some(mut child) = w.one(&format!("{prefix}:{name}")) else { continue };
        child.need("type");
        let source = child.closed::<NamespaceSource>("type").unwrap_or(NamespaceSource::Name);
        let value = child.need("value").unwrap_or_default();
        if source == NamespaceSource::Netns && *kind != NamespaceKind::Net {
            child.error_at("type", "type 'netns' is only possible for a network namespace");
        }
        if source == NamespaceSource::Netns && (value.contains('/') || value == "." || value == "..") {
            child.error_at("value", format!("'{}' is not a name below /run/netns", value.escape_debug()));
        }
        if source == NamespaceSource::Pid && !value.parse::<i32>().is_ok_and(|pid| pid > 0) {
            child.error_at("value", format!("'{}' is not a process id", value.escape_debug()));
        }
        let extra = child.finish();
        w.keep(name, 0, extra);
        shares.push(NamespaceShare { kind: *kind, source, value });
    }
    let pos = w.pos();
    let extra = w.finish();
    (!shares.is_empty() || !extra.is_empty()).then_some(Namespace { shares, pos, extra })
}

/// The prefix under which the element for containers stands, if it does.
fn prefix_of<'a>(domain: &Walk<'a>) -> Option<&'a str> {
    let mut found = domain.el.elements().filter_map(|child| {
        let (prefix, local) = child.name.split_once(':')?;
        let key = format!("xmlns:{prefix}");
        let uri = child.value(&key).or_else(|| domain.el.value(&key));
        (local == "namespace" && uri == Some(LXC_NAMESPACE)).then_some(prefix)
    });
    let first = found.next()?;
    if found.any(|other| other != first) {
        domain.error("there are two elements for shared namespaces");
    }
    Some(first)
}
