//! Real containers with a busybox root: launch, console, ends, restart, failures, and nothing left behind.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use berth_schemas::wire::CallKind;
use serde_json::{Value, json};
use support::World;

#[test]
fn a_shell_answers_on_its_console() {
    needs_root!();
    let world = World::new();
    world.script("echo ready; exec /bin/sh");
    let mut controller = world.controller();
    let begin = Instant::now();
    let reply = controller.launch(&world.plan());
    eprintln!("launch took {:?}", begin.elapsed());
    assert_eq!(reply["parameters"]["status"]["state"], "running", "{reply}");
    let mut client = controller.connect();
    let (mut viewer, attached) = client.attach("shared");
    assert_eq!(attached["parameters"]["writer"], true, "{attached}");
    viewer.expect("ready");
    viewer.type_in("echo $((6*7)) $$ $container\n");
    viewer.expect("42 1 lxc-libvirt");
    viewer.type_in("exit 7\n");
    let end = viewer.rest();
    assert_eq!(controller.wait(), Some(0), "{end}");
    let record = world.record();
    assert_eq!(record["events"][0]["exit"]["kind"], "exited", "{record}");
    assert_eq!(record["events"][0]["exit"]["status"], 7);
    assert_eq!(record["events"][0]["residue"], json!([]));
    assert!(fs::read_to_string(world.dir.join("console0.log")).expect("log").contains("42 1"));
    world.check_clean();
}
