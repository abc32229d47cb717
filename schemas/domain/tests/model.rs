//! What the model says about a document: what cannot be started yet, what a running domain shows, several errors at
//! once, and the caps on numbers of things.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use berth_domain::{Diagnostic, Live, LiveConsole, LiveIds, parse};
use common::{document, host};

fn problems(rest: &str, devices: &str) -> Vec<Diagnostic> {
    parse(&document(rest, devices), &host()).unwrap().domain.start_problems()
}

#[test]
fn a_plain_domain_can_be_started() {
    assert_eq!(problems("", ""), []);
    let rest = "<memtune><hard_limit>1</hard_limit></memtune><blkiotune><weight>10</weight></blkiotune>\
        <cputune><shares>10</shares></cputune><numatune><memory nodeset='0'/></numatune>\
        <resource><partition>/other</partition></resource><vcpu cpuset='0'>4</vcpu>\
        <features><privnet/><capabilities policy='deny'><chown state='on'/></capabilities></features>\
        <clock offset='localtime'><timer name='rtc' present='no'/></clock><seclabel type='none'/>";
    let devices = "<console type='pty'/><filesystem type='bind'><source dir='/a'/><target dir='/b'/></filesystem>\
        <filesystem type='ram'><source usage='1'/><target dir='/tmp'/></filesystem>";
    assert_eq!(problems(rest, devices), []);
}

#[test]
fn each_category_that_cannot_be_started_is_named() {
    let fs = |kind: &str, source: &str| {
        format!("<filesystem type='{kind}'><source {source}/><target dir='/x'/></filesystem>")
    };
    for (rest, devices, element, word) in [
        ("", "<interface type='user'/>".into(), "interface", "'user'"),
        (
            "",
            "<interface type='bridge'><source bridge='b'/><filterref filter='f'/></interface>".into(),
            "interface",
            "filter 'f'",
        ),
        ("", fs("template", "name='x'"), "filesystem", "'template'"),
        ("", fs("volume", "pool='p' volume='v'"), "filesystem", "'volume'"),
        ("<seclabel type='dynamic' model='selinux'/>", String::new(), "seclabel", "model 'selinux'"),
        (
            "<seclabel model='apparmor'><baselabel>x</baselabel></seclabel>",
            String::new(),
            "seclabel",
            "base label",
        ),
        (
            "<numatune><memory mode='preferred' nodeset='0-1'/></numatune>",
            String::new(),
            "numatune",
            "several NUMA nodes",
        ),
        ("<clock offset='utc'><timer name='rtc' present='yes'/></clock>", String::new(), "clock", "'rtc'"),
        ("<clock offset='localtime'><timer name='hpet'/></clock>", String::new(), "clock", "'hpet'"),
    ] {
        let found = problems(rest, &devices);
        assert_eq!(found.len(), 1, "{rest}{devices}: {found:?}");
        assert_eq!(found[0].element.rsplit('/').next(), Some(element));
        assert!(found[0].message.contains(word), "{}", found[0]);
        assert!(found[0].message.ends_with("cannot be started yet by this version of berth"), "{}", found[0]);
        assert!(found[0].line > 0, "{}", found[0]);
    }
}

#[test]
fn devices_that_get_into_each_others_way_are_refused() {
    let disk =
        |target: &str| format!("<disk type='block'><source dev='/dev/x'/><target dev='{target}'/></disk>");
    let misc = |path: &str| {
        format!("<hostdev mode='capabilities' type='misc'><source><char>{path}</char></source></hostdev>")
    };
    let bad = |devices: String| parse(&document("", &devices), &host()).unwrap_err().to_string();
    let good = |devices: String| parse(&document("", &devices), &host()).unwrap().domain.start_problems();
    for name in ["null", "tty", "ptmx", "pts", "console", "tty1"] {
        let error = bad(format!("<console type='pty'/>{}", disk(name)));
        assert!(error.contains(&format!("'/dev/{name}' is one of the container's own devices")), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }
    assert!(bad(disk("vda") + &disk("vda")).contains("another one already has the target 'vda'"));
    assert!(bad(disk("fuse") + &misc("/dev/./fuse")).contains("'/dev/fuse' and '/dev/fuse' cannot be"));
    assert!(bad(misc("/dev/net/tun") + &disk("net")).contains("'/dev/net' and '/dev/net/tun' cannot be"));
    assert!(bad(misc("/opt/fuse")).contains("is not below '/dev'"));
    assert!(bad(misc("/dev/pts/0")).contains("one of the container's own"));
    assert!(bad(misc("/dev/../dev/fuse")).contains("is not an absolute path"));
    assert!(bad(disk("..")).contains("is not a name of a device"));
    assert_eq!(good(misc("/dev/tty1") + &disk("vda") + &misc("/dev/net/tun") + &misc("/dev/nets")), []);
}

#[test]
fn lent_interfaces_have_names_inside() {
    let net = |name: &str, guest: &str| {
        let guest = if guest.is_empty() { String::new() } else { format!("<guest dev='{guest}'/>") };
        format!(
            "<hostdev mode='capabilities' type='net'><source><interface>{name}</interface></source>{guest}</hostdev>"
        )
    };
    let read = |devices: String| parse(&document("", &devices), &host());
    let written = read(net("hd0", "wan") + &net("hd1", "hd0")).unwrap().domain.to_xml();
    assert!(written.contains("      <guest dev='wan'/>\n    </hostdev>"), "{written}");
    let bad = |devices: String| read(devices).unwrap_err().to_string();
    for others in [
        net("hd1", "wan"),
        net("wan", ""),
        "<interface type='bridge'><source bridge='b'/><guest dev='wan'/></interface>".to_owned(),
    ] {
        let error = bad(net("hd0", "wan") + &others);
        assert!(error.contains("<hostdev>: another one already has the guest name 'wan'"), "{error}");
    }
    assert!(bad(net("hd0", "lo")).contains("no interface can be called 'lo'"));
    assert!(bad(net("hd0", "a/b")).contains("guest"));
}

#[test]
fn drivers_of_images_that_no_container_has_are_refused() {
    let problem = |driver: &str| {
        let disk = format!("<disk>{driver}<source file='/i'/><target dev='vda'/></disk>");
        problems("", &disk).iter().map(|d| d.message.clone()).collect::<String>()
    };
    assert_eq!(problem("<driver name='qemu'/>"), "the disk driver 'qemu' is not one of loop, nbd");
    assert_eq!(problem("<driver name='nbd'/>"), "the driver 'nbd' needs a format");
    assert_eq!(problem("<driver name='loop' type='qcow2'/>"), "the driver 'loop' reads only format 'raw'");
    assert_eq!(
        problem("<driver type='raw' cache='writeback'/>"),
        "the cache mode 'writeback' is not supported"
    );
    assert_eq!(problem("<driver name='nbd' type='qcow2' cache='none'/>"), "");
    assert_eq!(problem(""), "");
}

#[test]
fn a_root_from_inside_the_container_cannot_be_started() {
    let text = document("", "").replace("<filesystem>", "<filesystem type='bind'>");
    let found = parse(&text, &host()).unwrap().domain.start_problems();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("type 'bind' cannot be the root"), "{}", found[0]);
}

#[test]
fn a_running_domain_shows_its_id_and_consoles() {
    let text = document("", "<console type='pty'/><console type='pty'><alias name='ua-x'/></console>");
    let domain = parse(&text, &host()).unwrap().domain;
    let console = |n: u32| LiveConsole { path: format!("/dev/pts/{n}"), alias: format!("console{n}") };
    let shown = domain.to_live_xml(&Live {
        id: 42,
        consoles: vec![console(0), console(1)],
        ids: Some(LiveIds { first: 1 << 30, count: 65_536 }),
        ..Live::default()
    });
    assert!(shown.starts_with("<domain type='lxc' id='42'>\n"), "{shown}");
    let expected = "    <console type='pty' tty='/dev/pts/0'>
      <source path='/dev/pts/0'/>
      <target type='lxc' port='0'/>
      <alias name='console0'/>
    </console>
    <console type='pty' tty='/dev/pts/1'>
      <source path='/dev/pts/1'/>
      <target type='lxc' port='1'/>
      <alias name='ua-x'/>
    </console>
";
    assert!(shown.contains(expected), "{shown}");
    let ids = "  <idmap>
    <uid start='0' target='1073741824' count='65536'/>
    <gid start='0' target='1073741824' count='65536'/>
  </idmap>
";
    assert!(shown.contains(ids), "{shown}");
    assert!(!domain.to_xml().contains("idmap"));
    let again = parse(&shown.replace(ids, ""), &host()).unwrap();
    assert_eq!(again.domain, domain);
    assert_eq!(again.warnings, []);
}

#[test]
fn all_errors_are_reported_in_document_order_and_capped() {
    let text =
        document("<vcpu>0</vcpu><on_crash>x</on_crash>", "<console type='file'/>").replace("'/srv/t'", "'t'");
    let error = parse(&text, &host()).unwrap_err();
    let elements: Vec<&str> = error.diagnostics.iter().filter_map(|d| d.element.rsplit('/').next()).collect();
    assert_eq!(elements, ["vcpu", "on_crash", "source", "console"]);
    let many = document("", &"<console type='file'/>".repeat(40));
    assert_eq!(parse(&many, &host()).unwrap_err().diagnostics.len(), 20);
}

#[test]
fn numbers_of_devices_are_capped() {
    let fs = |n: usize| format!("<filesystem><source dir='/s'/><target dir='/t{n}'/></filesystem>");
    let usb = |n: usize| {
        format!(
            "<hostdev mode='subsystem' type='usb'><source><address bus='1' device='{n}'/></source></hostdev>"
        )
    };
    let disk = |n: usize| format!("<disk><source file='/i'/><target dev='vd{n}'/></disk>");
    let cases: [(&str, String, String); 5] = [
        ("console", "<console type='pty'/>".repeat(64), "<console type='pty'/>".into()),
        ("filesystem", (1..256).map(fs).collect(), fs(256)),
        ("interface", "<interface type='ethernet'/>".repeat(64), "<interface type='ethernet'/>".into()),
        ("hostdev", (0..256).map(usb).collect(), usb(256)),
        ("disk", (0..256).map(disk).collect(), disk(256)),
    ];
    for (name, most, one) in cases {
        parse(&document("", &most), &host()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let error = parse(&document("", &format!("{most}{one}")), &host()).unwrap_err();
        assert!(error.to_string().contains("are possible"), "{error}");
    }
    let args = "<initarg>a</initarg>".repeat(257);
    let text = document("", "").replace("</init>", &format!("</init>{args}"));
    let error = parse(&text, &host()).unwrap_err();
    assert!(error.to_string().contains("257 elements 'initarg', at most 256"), "{error}");
}

#[test]
fn a_uuid_and_a_hardware_address_are_made_up_where_there_is_none() {
    let text = document("", "<interface type='ethernet'/>");
    let text = text.replace("<uuid>8369f1ac-7e46-e869-4ca5-759d51478066</uuid>", "");
    let (a, b) = (parse(&text, &host()).unwrap().domain, parse(&text, &host()).unwrap().domain);
    assert_ne!(a.uuid, b.uuid);
    assert!(a.devices.interfaces[0].mac.starts_with("52:54:00:"));
    assert_eq!(parse(&a.to_xml(), &host()).unwrap().domain, a);
}

#[test]
fn positions_do_not_make_models_differ() {
    let text = document("", "<console type='pty'/>");
    let moved = text.replace('>', ">\n");
    let moved = moved.replace("exe\n", "exe").replace("<name>\n", "<name>").replace("<init>\n", "<init>");
    assert_eq!(parse(&text, &host()).unwrap().domain, parse(&moved, &host()).unwrap().domain);
}
