//! Which interfaces of a running domain are told: a container can make as many as it wants, and each is in every answer.
//!
//! Does not know where the figures come from.

use std::collections::HashMap;

use berth_schemas::domain::InterfaceStats;

use crate::host::links::Link;

/// The most for which the list of a container is told as it is.
pub const MOST: usize = 512;

/// Shortens a list that is longer than [`MOST`], and answers how many are left out. What the document has comes first then:
/// a pair as its end on the host counts it, since root inside may have given its name to another, and `others` by their
/// names inside.
pub fn shorten(
    all: &mut Vec<InterfaceStats>,
    links: &[Link],
    others: &[String],
    ends: Vec<InterfaceStats>,
) -> usize {
    let there = all.len();
    if there <= MOST {
        return 0;
    }
    let mut ends: HashMap<String, InterfaceStats> = ends.into_iter().map(|e| (e.name.clone(), e)).collect();
    let mut first = Vec::new();
    for link in links {
        if let Some(end) = ends.remove(&link.host) {
            all.retain(|one| one.name != link.inside);
            first.push(InterfaceStats { name: link.inside.clone(), ..end });
        }
    }
    let own = |name: &str| {
        name == "lo" || others.iter().any(|o| o == name) || links.iter().any(|l| l.inside == name)
    };
    all.sort_by_key(|one| !own(&one.name));
    // A document may have more by itself.
    all.truncate(MOST.saturating_sub(first.len()));
    all.splice(0..0, first);
    there.saturating_sub(all.len()).max(1)
}

#[cfg(test)]
mod test {
    use super::*;

    fn one(name: &str, received_bytes: i64) -> InterfaceStats {
        InterfaceStats {
            name: name.into(),
            received_bytes,
            received_packets: 0,
            receive_errors: 0,
            receive_drops: 0,
            sent_bytes: 0,
            sent_packets: 0,
            send_errors: 0,
            send_drops: 0,
        }
    }

    fn link(host: &str, inside: &str) -> Link {
        Link {
            mac: String::new(),
            host: host.into(),
            token: host.into(),
            inside: inside.into(),
            network: None,
            bridge: Some("br0".into()),
            switch: false,
            passthrough: false,
            given: None,
        }
    }

    fn names(all: &[InterfaceStats]) -> Vec<(&str, i64)> {
        all.iter().map(|i| (i.name.as_str(), i.received_bytes)).collect()
    }

    #[test]
    fn a_list_that_is_short_is_told_as_it_is() {
        let mut all = vec![one("b", 1), one("lo", 2), one("renamed", 3)];
        assert_eq!(shorten(&mut all, &[link("h", "eth0")], &[], vec![one("h", 9)]), 0);
        assert_eq!(names(&all), [("b", 1), ("lo", 2), ("renamed", 3)]);
    }

    #[test]
    fn nothing_that_a_container_makes_or_renames_hides_what_the_document_has() {
        let bridges = (0..600).map(|n| one(&format!("b{n}"), 0));
        let mut all: Vec<InterfaceStats> = bridges.collect();
        // A macvlan, an interface of the host, a decoy with the name of a pair, and that pair with another name.
        all.extend([one("lo", 1), one("mac0", 2), one("wlan0", 3), one("eth0", 4), one("zz", 5)]);
        let links = [link("h0", "eth0"), link("h1", "mac0"), link("h2", "eth2")];
        let left = shorten(&mut all, &links, &["wlan0".into()], vec![one("h0", 8), one("h2", 9)]);
        assert_eq!(
            names(&all)[..6],
            [("eth0", 8), ("eth2", 9), ("lo", 1), ("mac0", 2), ("wlan0", 3), ("b0", 0)]
        );
        assert_eq!((all.len(), left), (MOST, 605 - MOST));
    }
}
