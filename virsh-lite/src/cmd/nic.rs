//! Elements of interfaces in documents of the daemon, which have one form: an element on each line, indented by its
//! depth. Finds them, reads what commands show of them, and writes others.
//!
//! Does not read any other XML, nor talk to anybody.

use berth_schemas::domain::Bandwidth;
use serde::Serialize;

use crate::cmd::disk::{attribute, escape};

/// One interface of a document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Nic {
    /// Name of the host end; none unless the document has it.
    pub interface: Option<String>,
    /// Type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Network, bridge or device.
    pub source: Option<String>,
    /// Model.
    pub model: Option<String>,
    /// Hardware address.
    pub mac: String,
    /// Name inside, where it is known.
    pub guest: Option<String>,
    /// Link state, where the document says it.
    pub link: Option<String>,
    /// Limits: of each direction its element.
    #[serde(skip)]
    pub inbound: Option<String>,
    /// The same out of the container.
    #[serde(skip)]
    pub outbound: Option<String>,
    /// The element, not indented.
    #[serde(skip)]
    pub xml: String,
}

/// The interfaces of a document of the daemon.
pub fn nics(document: &str) -> Vec<Nic> {
    let mut found = Vec::new();
    let mut lines = document.lines();
    while let Some(first) = lines.by_ref().find(|l| l.starts_with("    <interface ")) {
        let inner: Vec<&str> = lines.by_ref().take_while(|l| *l != "    </interface>").collect();
        let at = |indent: &str, name: &str| {
            let (start, end) = (format!("{indent}<{name} "), format!("{indent}<{name}>"));
            inner.iter().find(|l| l.starts_with(&start) || l.starts_with(&end)).copied()
        };
        let child = |name: &str, value: &str| at("      ", name).and_then(|l| attribute(l, value));
        let kind = attribute(first, "type").unwrap_or_default();
        let source = match kind.as_str() {
            "network" => child("source", "network"),
            "bridge" => child("source", "bridge"),
            "direct" => child("source", "dev"),
            _ => None,
        };
        let plain = |line: &str| format!("{}\n", line.strip_prefix("    ").unwrap_or(line));
        let xml = std::iter::once(first)
            .chain(inner.iter().copied())
            .chain(["    </interface>"])
            .map(plain)
            .collect();
        found.push(Nic {
            interface: child("target", "dev"),
            source,
            model: child("model", "type"),
            mac: child("mac", "address").unwrap_or_default(),
            guest: child("guest", "actual").or_else(|| child("guest", "dev")),
            link: child("link", "state"),
            inbound: at("        ", "inbound").map(str::to_owned),
            outbound: at("        ", "outbound").map(str::to_owned),
            kind,
            xml,
        });
    }
    found
}

/// Whether a word has the form of a hardware address.
pub fn is_mac(word: &str) -> bool {
    let octet = |part: &str| (1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_hexdigit());
    word.split(':').count() == 6 && word.split(':').all(octet)
}

/// Whether two words are the same address.
pub fn same_mac(a: &str, b: &str) -> bool {
    let numbers = |mac: &str| -> Vec<Option<u8>> {
        mac.split(':').map(|part| u8::from_str_radix(part, 16).ok()).collect()
    };
    numbers(a) == numbers(b)
}

/// The element without a child, and with another one in its place, if one is given.
fn with_child(element: &str, name: &str, child: Option<&str>) -> String {
    let (start, end) = (format!("  <{name}"), format!("  </{name}>"));
    let mut inside = false;
    let mut text = String::new();
    for line in element.lines() {
        let rest = line.strip_prefix(&start);
        if rest.is_some_and(|r| r.starts_with([' ', '>', '/'])) {
            inside = !line.ends_with("/>");
            continue;
        }
        if inside {
            inside = line != end;
            continue;
        }
        if line == "</interface>" {
            text.push_str(child.unwrap_or_default());
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// The element with another link state.
pub fn with_link(nic: &Nic, state: &str) -> String {
    with_child(&nic.xml, "link", Some(&format!("  <link state='{state}'/>\n")))
}

/// The most that each number of a limit can be: virsh's, and the daemon's.
pub const MAX_RATE: u64 = u32::MAX as u64;

/// Limits of one direction: average, peak and burst, in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Rate {
    /// On average.
    pub average: u64,
    /// At most.
    pub peak: u64,
    /// What may go at once.
    pub burst: u64,
    /// At least.
    pub floor: u64,
}

impl Rate {
    /// Those of a command line, "average,peak,burst,floor". An average or a floor must be there: without, the rest limits
    /// nothing, and what was limited before would be no more. Zeros alone say that.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |part: &str| if part.is_empty() { Some(0) } else { part.parse().ok() };
        let mut numbers: Vec<u64> = text.split(',').map(number).collect::<Option<_>>()?;
        if numbers.len() > 4 {
            return None;
        }
        numbers.resize(4, 0);
        let rate = Self { average: numbers[0], peak: numbers[1], burst: numbers[2], floor: numbers[3] };
        let limits = rate.average > 0 || rate.floor > 0;
        (limits || (text.starts_with('0') && rate == Self::default())).then_some(rate)
    }

    /// The same for the daemon. No number is over [`MAX_RATE`].
    pub fn limits(&self) -> Bandwidth {
        let number = |n: u64| i64::try_from(n).ok();
        Bandwidth {
            average: number(self.average),
            peak: number(self.peak),
            burst: number(self.burst),
            floor: number(self.floor),
        }
    }

    /// Those of an element.
    pub fn of(element: Option<&str>) -> Self {
        let number = |name: &str| {
            element.and_then(|e| attribute(e, name)).and_then(|v| v.parse().ok()).unwrap_or_default()
        };
        Self {
            average: number("average"),
            peak: number("peak"),
            burst: number("burst"),
            floor: number("floor"),
        }
    }

    /// The element; none where there is no limit.
    pub fn element(&self, name: &str) -> String {
        let values =
            [("average", self.average), ("peak", self.peak), ("floor", self.floor), ("burst", self.burst)];
        let attributes: String =
            values.iter().filter(|(_, v)| *v > 0).map(|(n, v)| format!(" {n}='{v}'")).collect();
        if self.average == 0 && self.floor == 0 {
            String::new()
        } else {
            format!("    <{name}{attributes}/>\n")
        }
    }
}

/// Both directions as an element of an interface; nothing where neither is limited.
pub fn bandwidth(inbound: Rate, outbound: Rate) -> String {
    let inner = inbound.element("inbound") + &outbound.element("outbound");
    if inner.is_empty() { inner } else { format!("  <bandwidth>\n{inner}  </bandwidth>\n") }
}

/// An attribute of an element that is written.
pub fn written(name: &str, value: &str) -> String {
    format!(" {name}='{}'", escape(value))
}

#[cfg(test)]
mod test {
    use super::*;

    const DOCUMENT: &str = "<domain type='lxc'>
  <devices>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default' bridge='virbr0'/>
      <bandwidth>
        <inbound average='100' peak='200' burst='64'/>
      </bandwidth>
      <target dev='vnet0'/>
      <guest dev='lan' actual='lan'/>
      <model type='virtio'/>
      <link state='up'/>
    </interface>
    <interface type='ethernet'>
      <mac address='52:54:00:00:00:02'/>
      <source>
        <ip address='192.0.2.1' family='ipv4' prefix='24'/>
      </source>
    </interface>
  </devices>
</domain>
";

    #[test]
    fn interfaces_are_found_in_documents_of_the_daemon() {
        let found = nics(DOCUMENT);
        assert_eq!(found.len(), 2);
        let first = &found[0];
        assert_eq!((first.interface.as_deref(), first.source.as_deref()), (Some("vnet0"), Some("default")));
        assert_eq!((first.guest.as_deref(), first.link.as_deref()), (Some("lan"), Some("up")));
        assert_eq!(Rate::of(first.inbound.as_deref()), Rate { average: 100, peak: 200, burst: 64, floor: 0 });
        assert_eq!((found[1].source.as_deref(), found[1].interface.as_deref()), (None, None));
    }

    #[test]
    fn elements_are_changed_where_they_are() {
        let found = nics(DOCUMENT);
        let down = with_link(&found[0], "down");
        assert!(down.ends_with("  <link state='down'/>\n</interface>\n") && !down.contains("'up'"), "{down}");
        assert!(with_link(&found[1], "up").contains("    <ip address"));
        let rate = |text: &str| Rate::parse(text).unwrap_or_default();
        assert_eq!(
            bandwidth(Rate::of(found[0].inbound.as_deref()), rate("7")),
            "  <bandwidth>\n    <inbound average='100' peak='200' burst='64'/>\n    <outbound average='7'/>\n  </bandwidth>\n"
        );
        assert_eq!(bandwidth(rate("0"), Rate::default()), "");
    }

    #[test]
    fn rates_have_up_to_four_numbers() {
        assert_eq!(Rate::parse("1,2,3"), Some(Rate { average: 1, peak: 2, burst: 3, floor: 0 }));
        assert_eq!(Rate::parse("1,,3").map(|r| (r.peak, r.burst)), Some((0, 3)));
        assert_eq!(Rate::parse("0,,,9").map(|r| r.floor), Some(9));
        for none in ["0", "0,0,0", "0,0,0,0", "0,"] {
            assert_eq!(Rate::parse(none), Some(Rate::default()), "{none}");
        }
        for bad in ["", "x", "1,2,3,4,5", "-1", ",", "1,y", ",200", "0,200,5"] {
            assert_eq!(Rate::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn addresses_are_compared_by_their_numbers() {
        assert!(is_mac("52:54:0:a:B:c") && !is_mac("vnet0") && !is_mac("1:2:3:4:5:678"));
        assert!(same_mac("52:54:00:0A:0b:0c", "52:54:0:a:b:c") && !same_mac("1:1:1:1:1:1", "1:1:1:1:1:2"));
    }
}
