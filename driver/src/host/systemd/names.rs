//! How a domain is called where systemd names things: machines, scopes and slices.
//!
//! Pure. Sources: systemd.unit(5) "String Escaping", machinectl(1) "Machine and Image Names", systemd.slice(5).

use std::fmt::Write;

use uuid::Uuid;

/// Longest name of a machine: that of a host.
const LONGEST: usize = 64;

/// A scope before it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScopeName {
    /// Its unit.
    pub unit: String,
    /// The unit of its slice.
    pub slice: String,
}

/// The name of a machine, which must be one that a host could have: the domain's own where that is one. Else what does
/// not fit is replaced, and part of the uuid makes it the only one of its kind.
pub fn machine(domain: &str, uuid: Uuid, tag: &str) -> String {
    let name = format!("{domain}{tag}");
    if is_host_name(&name) {
        return name;
    }
    let mut fitting = String::new();
    for c in domain.chars() {
        let c = if c.is_ascii_alphanumeric() { c } else { '-' };
        if c != '-' || !(fitting.is_empty() || fitting.ends_with('-')) {
            fitting.push(c);
        }
    }
    let end = format!("-{:08x}{tag}", uuid.as_fields().0);
    fitting.truncate(LONGEST - end.len());
    let fitting = fitting.trim_end_matches('-');
    if fitting.is_empty() { format!("domain{end}") } else { format!("{fitting}{end}") }
}

fn is_host_name(name: &str) -> bool {
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    name.len() <= LONGEST && name.split('.').all(label)
}

/// The scope of a machine: in `machine.slice`, or in the slice that a partition stands for.
pub fn scope(machine: &str, partition: Option<&str>) -> ScopeName {
    let parts: Vec<String> = partition
        .unwrap_or_default()
        .split('/')
        .filter(|p| !p.is_empty())
        .map(|p| escape(p.trim_end_matches(".slice")))
        .collect();
    let unit = format!("machine-{}.scope", escape(machine));
    let mut slice = String::new();
    for part in if parts.is_empty() { vec!["machine".to_owned()] } else { parts } {
        if !slice.is_empty() {
            slice.push('-');
        }
        slice.push_str(&part);
    }
    ScopeName { unit, slice: format!("{slice}.slice") }
}

/// Escapes a word for a part of a unit's name.
fn escape(word: &str) -> String {
    word.bytes().enumerate().fold(String::new(), |mut all, (at, b)| {
        let plain = b.is_ascii_alphanumeric() || matches!(b, b'_' | b':') || (b == b'.' && at > 0);
        if plain {
            all.push(char::from(b));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(all, "\\x{b:02x}");
        }
        all
    })
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn machines_have_names_of_hosts() {
        let uuid = Uuid::from_u128(0x1234_5678_0000_0000_0000_0000_0000_0001);
        for (domain, name) in [
            ("web", "web"),
            ("web-1.example", "web-1.example"),
            ("my_box", "my-box-12345678"),
            ("a b", "a-b-12345678"),
            ("-x-", "x-12345678"),
            ("@@", "domain-12345678"),
        ] {
            assert_eq!(machine(domain, uuid, ""), name);
        }
        assert_eq!(machine("web", uuid, "-0a1b2c3d"), "web-0a1b2c3d");
        let long = "x".repeat(100);
        let name = machine(&long, uuid, "-0a1b2c3d");
        assert!(name.len() == 64 && name.ends_with("x-12345678-0a1b2c3d"), "{name}");
        assert!(is_host_name(&name));
    }

    #[test]
    fn scopes_are_in_slices() {
        let plain = scope("web-1", None);
        assert_eq!(plain.unit, "machine-web\\x2d1.scope");
        assert_eq!(plain.slice, "machine.slice");
        assert_eq!(scope("web-1", Some("/machine")), plain);
        let deep = scope("web", Some("/a/b-c"));
        assert_eq!(deep.slice, "a-b\\x2dc.slice");
    }
}
