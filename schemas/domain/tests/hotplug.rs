//! One device alone: reading it, and what it does to a definition.

mod common;

use berth_domain::{Device, DeviceError, Domain, parse_device};
use common::{document, host};

fn domain(devices: &str) -> Domain {
    berth_domain::parse(&document("", devices), &host()).expect("a good document").domain
}

fn device(xml: &str) -> Device {
    parse_device(xml, &host()).expect("a good device").device
}

const DISK: &str = "<disk type='file'><source file='/srv/a.img'/><target dev='vda'/></disk>";
const DATA: &str = "<filesystem type='mount'><source dir='/srv/d'/><target dir='/data'/></filesystem>";
const FUSE: &str =
    "<hostdev mode='capabilities' type='misc'><source><char>/dev/fuse</char></source></hostdev>";

#[test]
fn each_kind_comes_and_goes() {
    for xml in [DISK, DATA, FUSE] {
        let (without, with, device) = (domain(""), domain(xml), device(xml));
        let added = without.with_device(&device).expect("it is new");
        assert_eq!(added, with);
        assert_eq!(added.device(&device).as_ref(), Some(&device));
        assert_eq!(added.without_device(&device).expect("it is there"), without);
        assert_eq!(berth_domain::parse(&added.to_xml(), &host()).expect("its own output").domain, added);
        assert!(matches!(added.with_device(&device), Err(DeviceError::Exists(_))));
        assert!(matches!(without.without_device(&device), Err(DeviceError::Missing(_))));
        assert!(matches!(without.with_device_replaced(&device), Err(DeviceError::Missing(_))));
        assert_eq!(without.device(&device), None);
    }
}

#[test]
fn identity_is_the_target_or_the_source() {
    let there = domain(&format!("{DISK}{DATA}{FUSE}"));
    let text = |result: Result<Domain, DeviceError>| result.expect_err("refused").to_string();
    let other_source = device("<disk type='block'><source dev='/dev/sdx'/><target dev='vda'/></disk>");
    assert_eq!(text(there.with_device(&other_source)), "target vda already exists");
    let replaced = there.with_device_replaced(&other_source).expect("it is there");
    assert!(replaced.to_xml().contains("/dev/sdx") && !replaced.to_xml().contains("a.img"));
    let spelt = device("<filesystem type='ram'><source usage='64'/><target dir='//data/./'/></filesystem>");
    assert_eq!(text(there.with_device(&spelt)), "target /data already exists");
    assert_eq!(there.without_device(&spelt).expect("the same target").devices.filesystems.len(), 1);
    let spelt =
        device("<hostdev mode='capabilities' type='misc'><source><char>/dev//fuse</char></source></hostdev>");
    assert_eq!(text(there.with_device(&spelt)), "device is already in the domain configuration");
    let storage = device(
        "<hostdev mode='capabilities' type='storage'><source><block>/dev/fuse</block></source></hostdev>",
    );
    assert_eq!(text(there.without_device(&storage)), "device not present in domain configuration");
    let vdb = device("<disk type='file'><source file='/srv/a.img'/><target dev='vdb'/></disk>");
    assert_eq!(text(there.without_device(&vdb)), "no target device vdb");
}

#[test]
fn usb_devices_are_found_by_address_or_kind() {
    let usb =
        |inner: &str| format!("<hostdev mode='subsystem' type='usb'><source>{inner}</source></hostdev>");
    let id = "<vendor id='0x1d6b'/><product id='0x0002'/>";
    let both = domain(&usb(&format!("{id}<address bus='1' device='2'/>")));
    assert!(both.device(&device(&usb("<address bus='1' device='2'/>"))).is_some());
    assert!(both.device(&device(&usb(id))).is_some());
    assert!(both.device(&device(&usb("<address bus='1' device='3'/>"))).is_none());
    assert!(both.device(&device(&usb(&format!("{id}<address bus='1' device='3'/>")))).is_none());
    assert!(both.device(&device(&usb("<vendor id='0x1d6b'/><product id='0x0003'/>"))).is_none());
}

#[test]
fn the_changed_definition_must_be_good() {
    let there = domain("");
    let root = device("<filesystem type='mount'><source dir='/other'/><target dir='/'/></filesystem>");
    assert!(root.is_root());
    assert!(matches!(there.with_device(&root), Err(DeviceError::Exists(_))));
    let error = there.without_device(&root).expect_err("a container has a root");
    assert_eq!(error.to_string(), "no file system has the target '/'");
    let mut full = there;
    for n in full.devices.filesystems.len()..256 {
        let xml = format!("<filesystem type='ram'><source usage='64'/><target dir='/{n}'/></filesystem>");
        full = full.with_device(&device(&xml)).expect("there is room");
    }
    let one_more = device("<filesystem type='ram'><source usage='64'/><target dir='/more'/></filesystem>");
    assert_eq!(full.with_device(&one_more).expect_err("full").to_string(), "there are more than 256");
}

#[test]
fn what_is_no_such_device_is_named() {
    let refused = |xml: &str| parse_device(xml, &host()).expect_err(xml).to_string();
    assert_eq!(
        refused("<channel type='pty'/>"),
        "line 1, column 1: <channel>: a device of this kind cannot be attached, detached or updated"
    );
    assert_eq!(refused("<frob/>"), "line 1, column 1: <frob>: 'frob' is not a device");
    assert!(
        refused("<disk type='file'><target dev='vda'/></disk>").contains("the element 'source' is missing")
    );
    assert!(refused("<!DOCTYPE x><disk/>").contains("DOCTYPE"));
    assert!(parse_device("", &host()).is_err());
    let odd = parse_device(&DISK.replace("</disk>", "<frob/></disk>"), &host()).expect("unknown is kept");
    assert_eq!(odd.warnings.len(), 1);
}

fn bridge(mac: &str, source: &str) -> String {
    let mac = if mac.is_empty() { String::new() } else { format!("<mac address='{mac}'/>") };
    format!("<interface type='bridge'>{mac}<source bridge='{source}'/></interface>")
}

#[test]
fn interfaces_are_told_by_address_or_by_being_the_only_one() {
    let (a, b) = ("52:54:00:00:00:0a", "52:54:00:00:00:0b");
    let one = domain(&bridge(a, "br0"));
    assert_eq!(
        one.with_device(&device(&bridge(a, "br1"))).expect_err("taken").to_string(),
        "network device with mac 52:54:00:00:00:0a already exists"
    );
    let two = one.with_device(&device(&bridge(b, "br0"))).expect("another address");
    // Without an address it is one more when it comes, and has to be clear when it goes.
    assert_eq!(one.with_device(&device(&bridge("", "br0"))).expect("one more").devices.interfaces.len(), 2);
    assert!(one.without_device(&device(&bridge("", "br0"))).expect("clear").devices.interfaces.is_empty());
    let error = |xml: &str| two.without_device(&device(xml)).expect_err(xml).to_string();
    assert_eq!(error(&bridge("", "br0")), "multiple matching network devices found: name one by its <mac>");
    assert_eq!(error(&bridge("", "br9")), "matching network device was not found");
    let missing = "52:54:00:00:00:0c";
    assert_eq!(error(&bridge(missing, "br0")), format!("no device matching MAC address {missing} found"));
    let changed = one.with_device_replaced(&device(&bridge("", "br0"))).expect("the same one");
    assert_eq!(changed.devices.interfaces[0].mac, a);
    let moved = two.with_device_replaced(&device(&bridge(b, "br7"))).expect("by its address");
    assert_eq!(moved.device(&device(&bridge(b, "br0"))), Some(device(&bridge(b, "br7"))));
}

#[test]
fn made_up_addresses_stay() {
    let parsed = |devices: &str| {
        let xml = format!(
            "<domain type='lxc'><name>x</name><memory>1024</memory><os><type>exe</type><init>/i</init></os><devices>\
             <filesystem type='mount'><source dir='/r'/><target dir='/'/></filesystem>{devices}</devices></domain>"
        );
        berth_domain::parse(&xml, &host()).expect("a good document")
    };
    let macs = |d: &berth_domain::Domain| -> Vec<String> {
        d.devices.interfaces.iter().map(|i| i.mac.clone()).collect()
    };
    let (br0, br1) = (bridge("", "br0"), bridge("", "br1"));
    let before = parsed(&format!("{br0}{br1}{}", bridge("52:54:00:00:00:01", "br2")));
    assert_eq!(before.made_up_macs, [0, 1]);
    let old = macs(&before.domain);
    // The same, in another order and with one more.
    let mut again = parsed(&format!("{br1}{br0}{br0}"));
    again.domain.keep_macs(&again.made_up_macs.clone(), &before.domain);
    let new = macs(&again.domain);
    assert_eq!((&new[0], &new[1]), (&old[1], &old[0]));
    assert!(!old.contains(&new[2]));
    // One that is given to another interface now is not used twice.
    let mut taken = parsed(&format!("{br0}{}", bridge(&old[0], "br5")));
    taken.domain.keep_macs(&taken.made_up_macs.clone(), &before.domain);
    assert_ne!(taken.domain.devices.interfaces[0].mac, old[0]);
}

#[test]
fn what_interfaces_cannot_have_is_said_before_the_start() {
    let problem = |xml: &str| {
        let found = domain(xml).start_problems();
        found.first().map(|d| d.message.clone()).unwrap_or_default()
    };
    assert_eq!(problem(&bridge("", "br0")), "");
    let direct =
        |rest: &str| format!("<interface type='direct'><source dev='e0' mode='bridge'/>{rest}</interface>");
    assert_eq!(
        problem(&direct("<bandwidth><inbound average='1'/></bandwidth>")),
        "an interface of type 'direct' can have no <bandwidth>"
    );
    assert_eq!(
        problem(&direct("<vlan><tag id='1'/></vlan>")),
        "an interface of type 'direct' can have no <vlan>"
    );
    assert_eq!(
        problem("<interface type='user'/>"),
        "an interface of type 'user' cannot be started yet by this version of berth"
    );
    let odd = bridge("", "br0").replace("<source", "<virtualport type='802.1Qbg'/><source");
    assert!(problem(&odd).contains("no <virtualport> but one of Open vSwitch"));
    let refused = |xml: &str| parse_device(xml, &host()).expect_err(xml).to_string();
    assert!(refused(&bridge("", "a-name-of-16-bytes")).contains("is not a name of an interface"));
    assert!(refused(&bridge("", "br%d")).contains("is not a name of an interface"));
    let with = |rest: &str| bridge("", "br0").replace("</interface>", &format!("{rest}</interface>"));
    for name in ["all", "default", "lo"] {
        for element in ["guest", "target"] {
            let said = refused(&with(&format!("<{element} dev='{name}'/>")));
            assert!(said.contains(&format!("no interface can be called '{name}'")), "{said}");
        }
    }
    for size in ["1", "67", "65536", "99999"] {
        let said = refused(&with(&format!("<mtu size='{size}'/>")));
        assert!(said.contains(&format!("the mtu {size} is not one from 68 to 65535")), "{said}");
    }
    for size in ["0", "68", "65535"] {
        device(&with(&format!("<mtu size='{size}'/>")));
    }
}
