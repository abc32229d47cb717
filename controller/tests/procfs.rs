//! What the controller writes to a procfs goes to one of its own, whatever is mounted at /proc (invariant I2).

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;
use support::{World, skip};

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries.flat_map(|p| if p.is_dir() { files(&p) } else { vec![p] }).collect()
}

/// Removed at the end.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_false_procfs_gets_no_map() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("read line");
    // In memory: these are many files.
    let folder = Folder(PathBuf::from(format!("/dev/shm/berth-test-{}", std::process::id())));
    let fake = folder.0.as_path();
    let wrapper = world.dir.join("wrapper");
    // For each process that there could be soon, a file wherever somebody could want to write; and one folder, by which
    // threads are counted.
    let last: u32 = fs::read_to_string("/proc/loadavg")
        .ok()
        .and_then(|t| t.split_whitespace().nth(4)?.parse().ok())
        .expect("the last pid");
    for pid in ["self".to_owned()].into_iter().chain((1..1500).map(|n| (last + n).to_string())) {
        for folder in ["ns", "attr", "task/1"] {
            fs::create_dir_all(fake.join(&pid).join(folder)).expect("mkdir");
        }
        for file in ["uid_map", "gid_map", "setgroups", "attr/current", "ns/user", "ns/net", "status", "stat"]
        {
            fs::File::create(fake.join(&pid).join(file)).expect("create");
        }
    }
    let text = format!(
        "#!/bin/sh
if [ -z \"$BERTH_APART\" ]; then BERTH_APART=1 exec unshare --mount --propagation private \"$0\" \"$@\"; fi
mount --bind '{}' /proc && exec '{}' \"$@\"
",
        fake.display(),
        env!("CARGO_BIN_EXE_berth-controller")
    );
    fs::write(&wrapper, text).expect("write");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("chmod");
    let mut plan = world.plan();
    let range = json!([{"inside": 0, "host": 1_234_000_000, "count": 65_536}]);
    plan["idMap"] = json!({"uids": range, "gids": range, "keepShifted": false, "exclusive": true});
    let mut controller = world.controller_by(&wrapper);
    let reply = controller.launch(&plan);
    let written: Vec<PathBuf> =
        files(fake).into_iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)).collect();
    assert_eq!(written, Vec::<PathBuf>::new(), "what was written to the false procfs");
    assert!(files(fake).len() > 1000, "the false procfs was not made");
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
