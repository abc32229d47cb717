//! The tree into the model.
//!
//! Each function takes one element and says everything that is wrong with it; a placeholder then stands for the bad
//! value, and the model is never handed out. What several elements say together is `validate`'s matter.

pub(crate) mod devices;
pub(crate) mod interface;
mod os;
mod resources;

use berth_schemas::name::DomainName;
use uuid::Uuid;

use crate::model::{Domain, LifecycleAction, Seclabel, SeclabelKind};
use crate::tree::{Element, MAX_BYTES, Node, Pos, parse_tree};
use crate::units::kib;
use crate::walk::{Context, MAX_ERRORS, Walk};
use crate::{Diagnostic, Host, ParseError, Parsed};

/// Namespace of the elements that only containers have.
pub(crate) const LXC_NAMESPACE: &str = "http://libvirt.org/schemas/domain/lxc/1.0";
/// Output is not that many times larger than input: `<a/>` at the deepest level grows 32 times.
pub(crate) const MAX_GROWTH: usize = 64;
/// Most security labels.
const MAX_SECLABELS: usize = 16;

pub(crate) fn document(xml: &str, host: &Host) -> Result<Parsed, ParseError> {
    let root = parse_tree(xml).map_err(ParseError::one)?;
    let cx = Context::new(host);
    let domain = if root.name == "domain" {
        domain(&root, &cx)
    } else {
        let message = format!("the root element is '{}', it must be 'domain'", root.name);
        cx.error(Diagnostic::new(root.pos, root.name.clone(), message));
        None
    };
    let (mut errors, mut warnings) = cx.finish();
    if let Some(domain) = &domain {
        errors.extend(domain.validate());
        let remarks = domain.settings_remarks();
        errors.extend(remarks.errors);
        warnings.extend(remarks.warnings);
        if let (Some(pos), None) = (domain.shares_namespaces(), &domain.idmap) {
            let message =
                "a domain that shares namespaces gets no ids of its own: root inside is root outside";
            warnings.push(Diagnostic::new(pos, "domain/lxc:namespace", message));
        }
    }
    let place = |d: &Diagnostic| (d.line, d.column);
    // Of a domain for another driver nothing else matters as much, wherever that stands.
    let kind = root.attrs.iter().find(|a| root.name == "domain" && a.name == "type");
    let kind = kind.map(|a| (a.pos.line, a.pos.column));
    errors.sort_by_key(|d| (Some(place(d)) != kind, place(d)));
    errors.truncate(MAX_ERRORS);
    warnings.sort_by_key(place);
    match domain {
        Some(domain) if errors.is_empty() => {
            // Escapes and indentation make a document larger; a small one stays below the limit in any case.
            if xml.len() > MAX_BYTES / MAX_GROWTH {
                domain.check_output()?;
            }
            let says_vcpus = root.elements().any(|e| e.name == "vcpu" && says_something(e));
            let made_up_macs = interface::without_mac(&root);
            Ok(Parsed { domain, warnings, says_vcpus, made_up_macs })
        }
        _ => Err(ParseError { diagnostics: errors }),
    }
}

/// Whether there is text in it.
fn says_something(element: &Element) -> bool {
    element.children.iter().any(|n| matches!(n, Node::Text(text) if !text.trim().is_empty()))
}

fn domain(root: &Element, cx: &Context<'_>) -> Option<Domain> {
    let mut w = Walk::root(root, cx);
    match w.get("type").as_deref() {
        Some("lxc") => {}
        Some(other) => w.error_at("type", format!("type '{}' is not 'lxc'", other.escape_debug())),
        None => w.error("the attribute 'type' is missing, it must be 'lxc'"),
    }
    // The id of a running domain, from a document that was dumped.
    w.get("id");
    let name = name(&mut w);
    let (memory_kib, current_memory_kib) = memory(&mut w);
    Some(Domain {
        name: name.or_else(|| DomainName::parse("unnamed").ok())?,
        uuid: identity(&mut w, "uuid").unwrap_or_else(Uuid::new_v4),
        genid: identity(&mut w, "genid"),
        title: title(&mut w),
        description: w.leaf("description").map(|l| l.text),
        metadata: metadata(&mut w),
        memory_kib,
        current_memory_kib,
        blkiotune: w.one("blkiotune").and_then(resources::blkiotune),
        memtune: w.one("memtune").and_then(resources::memtune),
        vcpu: resources::vcpu(w.one("vcpu")),
        cputune: w.one("cputune").and_then(resources::cputune),
        numatune: w.one("numatune").and_then(resources::numatune),
        resource: w.one("resource").and_then(resources::resource),
        os: os::os(&mut w),
        idmap: w.one("idmap").and_then(resources::idmap),
        features: w.one("features").map(os::features).unwrap_or_default(),
        clock: os::clock(w.one("clock")),
        on_poweroff: w.leaf_closed("on_poweroff").unwrap_or(LifecycleAction::Destroy),
        on_reboot: w.leaf_closed("on_reboot").unwrap_or(LifecycleAction::Restart),
        on_crash: w.leaf_closed("on_crash").unwrap_or(LifecycleAction::Destroy),
        devices: devices::devices(&mut w),
        seclabels: w.all("seclabel", MAX_SECLABELS).into_iter().map(seclabel).collect(),
        namespace: os::namespace(&mut w),
        extra: w.finish(),
    })
}

pub(crate) fn name(w: &mut Walk<'_>) -> Option<DomainName> {
    let Some(leaf) = w.leaf("name") else {
        w.error("the element 'name' is missing or empty");
        return None;
    };
    match DomainName::parse(&leaf.text) {
        Ok(name) => Some(name),
        Err(e) => {
            w.error_leaf(&leaf, e.to_string());
            None
        }
    }
}

/// A UUID with or without hyphens; one whose digits are all the same says nothing, as in libvirt.
pub(crate) fn identity(w: &mut Walk<'_>, element: &str) -> Option<Uuid> {
    let leaf = w.leaf(element)?;
    let text = leaf.text.trim();
    let plain: String = text.chars().filter(|c| *c != '-').collect();
    let parsed = if plain.len() == 32 { Uuid::parse_str(text).ok() } else { None };
    let first = plain.chars().next();
    match parsed {
        Some(uuid) if plain.chars().any(|c| Some(c) != first) => Some(uuid),
        Some(_) => {
            w.error_leaf(&leaf, format!("all digits of the UUID '{text}' are the same"));
            None
        }
        None => {
            w.error_leaf(&leaf, format!("'{}' is not a UUID", text.escape_debug()));
            None
        }
    }
}

pub(crate) fn title(w: &mut Walk<'_>) -> Option<String> {
    let leaf = w.leaf("title")?;
    if leaf.text.contains('\n') {
        w.error_leaf(&leaf, "a title has no line breaks");
    }
    Some(leaf.text)
}

/// `<memory>` and `<currentMemory>`.
fn memory(w: &mut Walk<'_>) -> (u64, u64) {
    let memory = match amount(w, "memory") {
        Some((0, pos)) => {
            w.cx.error(Diagnostic::new(pos, "domain/memory", "the amount of memory is 0"));
            0
        }
        Some((memory, _)) => memory,
        None => {
            if w.el.elements().all(|e| e.name != "memory") {
                w.error("the element 'memory' is missing");
            }
            0
        }
    };
    let current = amount(w, "currentMemory").map(|(n, _)| n).filter(|n| *n > 0).unwrap_or(memory);
    (memory, current.min(memory))
}

/// An amount of memory in KiB, and where it stood; none where there is no such element, or a bad one.
fn amount(w: &mut Walk<'_>, name: &str) -> Option<(u64, Pos)> {
    let mut child = w.one(name)?;
    let pos = child.pos();
    let unit = child.get("unit").unwrap_or_else(|| "KiB".into());
    let found = kib(&child.text(), &unit);
    if let Err(message) = &found {
        child.error(message.clone());
    }
    let extra = child.finish();
    w.keep(name, 0, extra);
    found.ok().map(|n| (n, pos))
}

pub(crate) fn metadata(w: &mut Walk<'_>) -> Option<Element> {
    let element = w.one("metadata")?.el.clone();
    (!element.children.is_empty() || !element.attrs.is_empty()).then_some(element)
}

fn seclabel(mut w: Walk<'_>) -> Seclabel {
    let kind = w.closed("type").unwrap_or(SeclabelKind::Dynamic);
    let relabel = w.yes_no("relabel");
    let seclabel = Seclabel {
        kind,
        model: w.get("model").filter(|m| !m.is_empty()),
        relabel: relabel.unwrap_or(kind == SeclabelKind::Dynamic),
        label: w.leaf("label").map(|l| l.text),
        baselabel: w.leaf("baselabel").map(|l| l.text),
        pos: w.pos(),
        extra: Default::default(),
    };
    // What a running domain got.
    w.leaf("imagelabel");
    if kind == SeclabelKind::Static && seclabel.label.is_none() {
        w.error("a static security label needs a <label>");
    }
    if kind == SeclabelKind::None && relabel == Some(true) {
        w.error_at("relabel", "a security label of type 'none' cannot relabel");
    }
    Seclabel { extra: w.finish(), ..seclabel }
}

/// An absolute path, or an error at the element.
fn absolute(w: &Walk<'_>, what: &str, path: &str) {
    if !path.starts_with('/') {
        w.error(format!("{what} '{}' must be an absolute path", path.escape_debug()));
    }
}

/// `<alias>`: one that a user chose begins with `ua-`; any other came from a running domain and says nothing.
fn alias(w: &mut Walk<'_>) -> Option<String> {
    let mut child = w.one("alias")?;
    let name = child.get("name");
    let extra = child.finish();
    let name = name.filter(|n| n.starts_with("ua-"))?;
    w.keep("alias", 0, extra);
    Some(name)
}
