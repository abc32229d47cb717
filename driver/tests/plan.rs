//! Documents and the plans that are made from them. `BERTH_UPDATE_GOLDEN=1` writes the plans anew.

#![allow(clippy::expect_used)]

use std::path::Path;

use berth_domain::model::Interface;
use berth_driver::config::IdMapDefault;
use berth_driver::container::plan::{HostFacts, WantedIds, plan, wanted_ids};
use berth_driver::host::cgroups::Groups;
use berth_driver::host::idmap::Range;
use berth_driver::host::links::{Link, inside_names, names_of_hostdevs};
use berth_driver::host::usb::UsbDevice;
use berth_driver::paths::Layout;

fn groups(name: &str) -> Groups {
    // One of them is on a host with nothing but cgroup v2.
    let hierarchies: &[&str] =
        if name == "application" { &[] } else { &["cpuacct", "cpuset", "memory", "name=systemd"] };
    let legacy = |h: &str| Path::new("/sys/fs/cgroup").join(h).join("machine").join(format!("{name}.berth"));
    Groups {
        unified: legacy("unified"),
        limited: legacy("unified").join("container"),
        legacy: hierarchies.iter().map(|h| legacy(h.trim_start_matches("name="))).collect(),
        controllers: hierarchies.iter().map(|c| vec![(*c).to_owned()]).collect(),
        memory: hierarchies.contains(&"memory").then(|| legacy("memory")),
    }
}

/// Names that are the same each time.
fn links(domain: &berth_domain::Domain) -> Vec<Link> {
    let interfaces: Vec<_> = domain.devices.interfaces.iter().collect();
    let inside = inside_names(&interfaces, &names_of_hostdevs(domain));
    let link = |(index, (interface, inside)): (usize, (&&Interface, String))| Link {
        mac: interface.mac.clone(),
        host: format!("vnet{index}"),
        token: format!("{index:012x}"),
        inside,
        network: None,
        bridge: None,
        switch: false,
        passthrough: false,
        given: None,
    };
    interfaces.iter().zip(inside).enumerate().map(link).collect()
}

#[test]
fn plans_are_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let update = std::env::var_os("BERTH_UPDATE_GOLDEN").is_some();
    let host = berth_domain::Host { arch: "x86_64".into(), emulator: "/usr/libexec/berth-controller".into() };
    let layout = Layout::system();
    let mut count = 0;
    for entry in std::fs::read_dir(&folder).expect("golden folder") {
        let path = entry.expect("entry").path();
        if path.extension().is_none_or(|e| e != "xml") {
            continue;
        }
        count += 1;
        let text = std::fs::read_to_string(&path).expect("readable");
        let domain = berth_domain::parse(&text, &host).expect("a good document").domain;
        let facts = HostFacts {
            layout: &layout,
            groups: &groups(domain.name.as_str()),
            arch: "x86_64",
            log_max_bytes: 2 << 20,
            log_keep: 3,
            kill_at: None,
            usb: &[UsbDevice { bus: 1, device: 4, vendor: 0x1d6b, product: 2 }],
            qemu_nbd: Some(Path::new("/usr/bin/qemu-nbd")),
            release: Some("ID=host\n"),
            view: domain.has_view(),
            links: &links(&domain),
            profile: (domain.name.as_str() == "two").then_some("berth-x"),
            ids: (wanted_ids(&domain, IdMapDefault::Auto) == WantedIds::Chosen)
                .then_some(Range::of_domain(1 << 30)),
            init_descriptors: if domain.name.as_str() == "two" { 2 } else { 0 },
        };
        let (got, extension) = match plan(&domain, &facts) {
            Ok(mut plan) => {
                // Has golden files of its own, in another form: see the test of the filters.
                assert!(!plan.system_call_filter.is_empty(), "{}", path.display());
                plan.system_call_filter.clear();
                (serde_json::to_string_pretty(&plan).expect("serialises") + "\n", "json")
            }
            Err(e) => (format!("{e}\n"), "txt"),
        };
        let golden = path.with_extension(extension);
        if update {
            std::fs::write(&golden, &got).expect("written");
        }
        let want = std::fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(got, want, "{}", path.display());
    }
    assert!(count >= 6, "only {count} documents");
}
