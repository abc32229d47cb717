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
        refused("<interface type='ethernet'/>"),
        "line 1, column 1: <interface>: a device of this kind cannot be attached, detached or updated"
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
