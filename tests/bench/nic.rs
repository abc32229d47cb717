//! What an interface costs a start: 200 containers with one, beside as many without and beside LXC with a veth.

use std::path::Path;
use std::sync::Mutex;

use berth_tests::Outcome;
use berth_tests::daemon::{Daemon, domain_xml};
use berth_tests::host::{in_own_network, ip, links};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};

use crate::figures::{Row, median, time};
use crate::peers::Lxc;

/// How many run at once in the end.
const COUNT: usize = 200;

/// Rows for starts and ends.
pub fn all() -> Result<Vec<Row>, String> {
    static ROWS: Mutex<Vec<Row>> = Mutex::new(Vec::new());
    in_own_network(|| {
        let rows = measure()?;
        ROWS.lock().map_err(|e| e.to_string())?.extend(rows);
        Ok(())
    })?;
    let mut rows = ROWS.lock().map_err(|e| e.to_string())?;
    Ok(std::mem::take(&mut *rows))
}

/// LXC looks for its bridge in /sys, which shows the interfaces of those who mounted it.
fn show_own_links(place: &Path) -> Outcome {
    let none: Option<&Path> = None;
    let made = std::fs::create_dir(place);
    made.map_err(|e| format!("cannot make '{}': {e}", place.display()))?;
    let shown = || {
        unshare(CloneFlags::CLONE_NEWNS)?;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        mount(none, place, Some("sysfs"), MsFlags::empty(), none)?;
        for folder in ["class/net", "devices/virtual/net"] {
            let (from, to) = (place.join(folder), Path::new("/sys").join(folder));
            mount(Some(&from), &to, none, MsFlags::MS_BIND, none)?;
        }
        umount(place)
    };
    shown().map_err(|e: nix::errno::Errno| format!("cannot show the interfaces in /sys: {e}"))
}

fn measure() -> Result<Vec<Row>, String> {
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    show_own_links(&folder.path().join("sys"))?;
    ip("link add nbr0 type bridge")?;
    ip("link set nbr0 up")?;
    let daemon = Daemon::start()?;
    let root = daemon.busybox("nic")?;
    let init = ["/bin/sleep", "100000"];
    let veth = "lxc.net.0.type = veth\nlxc.net.0.link = nbr0\nlxc.net.0.flags = up";
    let lxc = Lxc::new(daemon.work(), &root, &init, veth)?;
    let interface = "<interface type='bridge'><source bridge='nbr0'/></interface>";
    for n in 0..COUNT {
        for (name, devices) in [(format!("plain{n}"), ""), (format!("nic{n}"), interface)] {
            daemon.define(&name, &domain_xml(&name, &root, &init, devices))?;
        }
    }
    // In turn, so that all see the same machine.
    let [mut plain, mut nic, mut peer] = [Vec::new(), Vec::new(), Vec::new()];
    let [mut plain_ends, mut nic_ends, mut peer_ends] = [Vec::new(), Vec::new(), Vec::new()];
    for n in 0..COUNT {
        plain.push(time(|| daemon.ok(&["start", &format!("plain{n}")]).map(drop))?);
        nic.push(time(|| daemon.ok(&["start", &format!("nic{n}")]).map(drop))?);
        if let Some(lxc) = &lxc {
            peer.push(time(|| lxc.start())?);
            peer_ends.push(time(|| lxc.stop())?);
        }
    }
    let ports = links().iter().filter(|l| l.starts_with("vnet")).count();
    if ports != COUNT {
        return Err(format!("{ports} interfaces of {COUNT}"));
    }
    for n in 0..COUNT {
        plain_ends.push(time(|| daemon.ok(&["destroy", &format!("plain{n}")]).map(drop))?);
        nic_ends.push(time(|| daemon.ok(&["destroy", &format!("nic{n}")]).map(drop))?);
    }
    let left = links();
    if left != ["lo", "nbr0"] {
        return Err(format!("interfaces that are left: {left:?}"));
    }
    // Most of it is the kernel's: moving a link to another network namespace and removing it wait for all processors.
    let more = |with: &[f64], without: &[f64]| (median(with) - median(without)) * 1000.0;
    Ok(vec![
        Row::against("start with an interface", "lxc-start -d, veth", &nic, &peer, 0.5),
        Row::figure("start, what an interface adds", more(&nic, &plain), "ms", 50.0),
        Row::against("destroy with an interface", "lxc-stop -k, veth", &nic_ends, &peer_ends, 1.0),
        Row::figure("destroy, what an interface adds", more(&nic_ends, &plain_ends), "ms", 50.0),
    ])
}
