//! Network XML: text to model, model to text, and what is wrong with it, with line and column.
//!
//! [`parse_network`] reads a document and checks it; [`Network::to_xml`] writes it in libvirt's form. Like domains,
//! networks keep what Berth does not know. Does not know the host or whether a network runs.
//!
//! ```
//! let text = "<network><name>lan</name><forward mode='nat'/><ip address='10.1.2.1' netmask='255.255.255.0'/></network>";
//! let parsed = berth_domain::network::parse_network(text).expect("a good document");
//! assert_eq!(parsed.network.ips[0].prefix_length(), 24);
//! ```

mod format;
pub mod model;
mod parse;
pub(crate) mod settings;
mod update;
mod validate;

use std::net::IpAddr;

use crate::format::render;
use crate::tree::{Element, MAX_BYTES, parse_tree};
use crate::walk::{Context, MAX_ERRORS, Walk};
use crate::{Diagnostic, Host, ParseError};

pub use model::{ForwardMode, NOWHERE, Network};
pub use settings::{NETWORK_SETTINGS, PortForward, Protocol, Service};
pub use update::{Change, Part, PartKind, UpdateError, parse_part};

/// A document that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct ParsedNetwork {
    /// What it says.
    pub network: Network,
    /// What in it is unknown, or not meant as it stands, in document order.
    pub warnings: Vec<Diagnostic>,
    /// Whether the document has a UUID.
    pub says_uuid: bool,
}

/// What a running network has and its definition has not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkLive {
    /// How many ports it has.
    pub connections: usize,
    /// The same for each interface that ports are made on.
    pub interfaces: Vec<usize>,
}

/// What was said and could not be read: what would only follow from that is no error of its own.
#[derive(Clone, Copy, Debug, Default)]
struct Unread {
    /// An `<ip>`.
    ip: bool,
    /// The mode of `<forward>`.
    mode: bool,
}

impl Unread {
    fn of(root: &Element, network: &Network) -> Self {
        let mode = root.elements().find(|e| e.name == "forward").and_then(|e| e.value("mode"));
        Self {
            ip: root.elements().filter(|e| e.name == "ip").count() > network.ips.len(),
            mode: mode.is_some_and(|mode| ForwardMode::from_name(mode).is_none()),
        }
    }
}

/// Documents of networks need to know nothing of the host.
fn nowhere() -> Host {
    Host { arch: String::new(), emulator: String::new() }
}

/// Reads one document, fills in the defaults and checks it.
pub fn parse_network(xml: &str) -> Result<ParsedNetwork, ParseError> {
    let root = parse_tree(xml).map_err(ParseError::one)?;
    let host = nowhere();
    let cx = Context::new(&host);
    let network = if root.name == "network" {
        parse::network(Walk::root(&root, &cx))
    } else {
        let message = format!("the root element is '{}', it must be 'network'", root.name);
        cx.error(Diagnostic::new(root.pos, root.name.clone(), message));
        None
    };
    let (mut errors, mut warnings) = cx.finish();
    if let Some(network) = &network {
        let unread = Unread::of(&root, network);
        errors.extend(network.validate_read(unread));
        warnings.extend(network.remarks());
        let remarks = network.settings_remarks(unread);
        errors.extend(remarks.errors);
        warnings.extend(remarks.warnings);
        // What a start refuses is not ignored.
        for problem in network.start_problems() {
            let at = |w: &&mut Diagnostic| {
                (w.line, w.column) == (problem.line, problem.column)
                    && w.message.starts_with("unknown element ")
            };
            if let Some(warning) = warnings.iter_mut().find(at) {
                warning.message.clone_from(&problem.message);
            }
        }
    }
    let place = |d: &Diagnostic| (d.line, d.column);
    errors.sort_by_key(place);
    errors.truncate(MAX_ERRORS);
    warnings.sort_by_key(place);
    match network {
        Some(network) if errors.is_empty() => {
            if xml.len() > MAX_BYTES / crate::parse::MAX_GROWTH {
                network.check_output()?;
            }
            let says_uuid = root.elements().any(|e| e.name == "uuid");
            Ok(ParsedNetwork { network, warnings, says_uuid })
        }
        _ => Err(ParseError { diagnostics: errors }),
    }
}

impl ParsedNetwork {
    /// What is to be said of a document that is only kept: also what its start will refuse.
    pub fn all_warnings(&self) -> Vec<Diagnostic> {
        let mut all = self.warnings.clone();
        all.extend(self.network.start_problems().into_iter().filter(|p| !self.warnings.contains(p)));
        all.sort_by_key(|d| (d.line, d.column));
        all
    }
}

impl Network {
    /// The definition in libvirt's form, as `virsh net-dumpxml --inactive` prints it.
    pub fn to_xml(&self) -> String {
        render(&format::network(self, None))
    }

    /// The same with what a running network has.
    pub fn to_live_xml(&self, live: &NetworkLive) -> String {
        render(&format::network(self, Some(live)))
    }

    /// Whether the network has a bridge that is made for it: isolated ones have one too.
    pub fn has_own_bridge(&self) -> bool {
        self.forward.as_ref().is_none_or(|f| f.mode.has_own_bridge())
    }

    /// Whether [`Network::to_xml`] can be read again: to be asked before a changed definition is kept.
    pub fn check_output(&self) -> Result<(), ParseError> {
        parse_tree(&self.to_xml()).map(drop).map_err(|mut problem| {
            // The place is in no document that anyone has seen.
            (problem.line, problem.column) = (0, 0);
            problem.message = format!("as it would be kept: {}", problem.message);
            ParseError::one(problem)
        })
    }
}

/// Whether two addresses have the same first bits.
pub fn same_network(a: IpAddr, b: IpAddr, prefix: u8) -> bool {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            u32::from(a) & mask == u32::from(b) & mask
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            u128::from(a) & mask == u128::from(b) & mask
        }
        _ => false,
    }
}

/// The address with all bits behind the prefix zero.
pub fn network_address(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(a) & mask).into())
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(a) & mask).into())
        }
    }
}
