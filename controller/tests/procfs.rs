//! What the controller writes to a procfs goes to one of its own, whatever is mounted at /proc (invariant I2).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use support::{World, cannot_run};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
}

#[test]
fn a_false_procfs_gets_no_map() {
    if let Some(reason) = cannot_run() {
        assert!(std::env::var_os("CI").is_none(), "cannot run here: {reason}");
        eprintln!("skipped: {reason}");
        return;
    }
    let world = World::new();
    world.script("read line");
    let fake = world.dir.join("fake");
    fs::create_dir(&fake).expect("mkdir");
    let wrapper = world.dir.join("wrapper");
    // The wrapper's pid stays the controller's; the processes that that makes get the next ones. For each there is a
    // file wherever somebody could want to write, and one link for the way to count our threads.
    let text = format!(
        "#!/bin/sh
if [ -z \"$BERTH_APART\" ]; then BERTH_APART=1 exec unshare --mount --propagation private \"$0\" \"$@\"; fi
cd '{0}' || exit 1
for pid in self $(seq $$ $(($$ + 400))); do
  mkdir -p $pid/ns $pid/task/$$ $pid/attr && cd $pid || exit 1
  touch uid_map gid_map setgroups ns/user ns/net attr/current status cmdline stat
  cd ..
done
cd / && mount --bind '{0}' /proc && exec '{1}' \"$@\"
",
        fake.display(),
        env!("CARGO_BIN_EXE_berth-controller")
    );
    fs::write(&wrapper, text).expect("write");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut plan = world.plan();
    let range = json!([{"inside": 0, "host": 1_234_000_000, "count": 65_536}]);
    plan["idMap"] = json!({"uids": range, "gids": range, "keepShifted": false});
    let mut controller = world.controller_by(&wrapper);
    let reply = controller.launch(&plan);
    let written: Vec<PathBuf> =
        files(&fake).into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
    assert_eq!(written, Vec::<PathBuf>::new(), "what was written to the false procfs");
    assert!(files(&fake).len() > 1000, "the false procfs was not made");
    // It runs, so the true one got the map.
    let init = reply["parameters"]["status"]["initPid"].as_i64().unwrap_or_else(|| panic!("{reply}"));
    for name in ["uid_map", "gid_map"] {
        let map = fs::read_to_string(format!("/proc/{init}/{name}")).expect("map");
        assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "1234000000", "65536"], "{name}");
    }
    controller.client.call("Destroy", json!({}));
    assert_eq!(controller.wait(), Some(0));
    world.check_clean();
}
