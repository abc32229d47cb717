//! Real containers with a busybox root: launch, ends, restart, failures, and nothing left behind.

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use berth_schemas::wire::CallKind;
use serde_json::{Value, json};
use support::{World, run, skip};

#[test]
fn a_shell_answers_on_its_console() {
    if skip() {
        return;
    }
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

#[test]
fn ends_are_told_apart() {
    if skip() {
        return;
    }
    for (script, kind, status) in [
        ("exit 0", "exited", json!(0)),
        ("exit 3", "exited", json!(3)),
        ("poweroff -f", "poweroff", Value::Null),
        ("kill -9 $$; kill -HUP $$; exit 4", "exited", json!(4)),
    ] {
        let world = World::new();
        world.script(&format!("read go; {script}"));
        let (output, exit) = run(&world, &world.plan());
        assert_eq!((&exit["kind"], &exit["status"]), (&json!(kind), &status), "{script}: {output}");
        world.check_clean();
    }
    let world = World::new();
    world.script("sleep 1000");
    let mut controller = world.controller();
    let reply = controller.launch(&world.plan());
    let pid = reply["parameters"]["status"]["initPid"].as_i64().expect("pid") as i32;
    let pid = rustix::process::Pid::from_raw(pid).expect("pid");
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("kill");
    assert_eq!(controller.wait(), Some(0));
    assert_eq!(world.record()["events"][0]["exit"]["kind"], "signaled");
    assert_eq!(world.record()["events"][0]["exit"]["signal"], 9);
    world.check_clean();
}

#[test]
fn last_words_reach_the_log() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("echo first; head -c 30000 /dev/zero; echo last words");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    assert_eq!(controller.wait(), Some(0));
    let log = fs::read_to_string(world.dir.join("console0.log")).expect("log");
    assert!(
        log.starts_with("first") && log.ends_with("last words\r\n") && log.len() > 30_000,
        "{}",
        log.len()
    );
    world.check_clean();
}

#[test]
fn want_of_memory_is_told() {
    if skip() {
        return;
    }
    let world = World::new();
    let Some(memory) = world.legacy.iter().find(|p| p.join("memory.limit_in_bytes").exists()) else {
        eprintln!("SKIPPED: no v1 memory hierarchy");
        return;
    };
    fs::write(memory.join("memory.limit_in_bytes"), "8388608").expect("limit");
    world.script("exec dd if=/dev/zero of=/dev/null bs=200M count=1");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    assert_eq!(controller.wait(), Some(0));
    // The kill itself may have been told before.
    let record = world.record();
    let last = record["events"].as_array().and_then(|events| events.last());
    assert_eq!(last.expect("an event")["exit"]["kind"], "oom");
    world.check_clean();
}

#[test]
fn a_controller_killed_later_takes_the_container_along() {
    if skip() {
        return;
    }
    for step in ["stop", "restart", "ended"] {
        let world = World::new();
        world.script(if step == "restart" { "sleep 1.1; reboot -f" } else { "sleep 1000" });
        let mut plan = world.plan();
        plan["killAtStep"] = json!(step);
        let mut controller = world.controller();
        let reply = controller.launch(&plan);
        assert!(reply.get("error").is_none(), "{reply}");
        if step != "restart" {
            assert_eq!(controller.client.call("Destroy", json!({})), Value::Null);
        }
        assert_eq!(controller.wait(), None, "{step}");
        wait_until_empty(&world, step);
    }
}

fn wait_until_empty(world: &World, step: &str) {
    let end = Instant::now() + Duration::from_secs(1);
    let events = world.unified.join("payload/cgroup.events");
    while fs::read_to_string(&events).is_ok_and(|t| t.contains("populated 1")) {
        assert!(Instant::now() < end, "{step}: processes live on");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_reboot_keeps_viewers_log_and_network() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("echo boot; stat -Lc net=%i= /proc/self/ns/net; sleep 1.1; read x; reboot -f");
    let mut controller = world.controller();
    let reply = controller.launch(&world.plan());
    let first = reply["parameters"]["status"]["initPid"].clone();
    let (mut viewer, _) = controller.client.attach("shared");
    let mut events = controller.connect();
    events.send("Subscribe", &json!({"since": 0}), CallKind::More, &[]);
    assert_eq!(events.reply()["parameters"]["event"], Value::Null);
    let mut networks = Vec::new();
    for round in 1..=2 {
        viewer.expect("boot");
        viewer.expect("net=");
        viewer.expect("=");
        networks.push(viewer.seen.clone());
        if round == 2 {
            break;
        }
        viewer.type_in("\n");
        let event = events.reply();
        assert_eq!(event["parameters"]["event"]["kind"], "restarted", "{event}");
        assert_eq!(event["parameters"]["event"]["exit"]["kind"], "reboot");
        assert_ne!(event["parameters"]["event"]["initPid"], first);
    }
    let status = controller.client.call("GetStatus", json!({}));
    assert_eq!(status["parameters"]["status"]["restarts"], 1, "{status}");
    let begin = Instant::now();
    assert_eq!(controller.client.call("Destroy", json!({})), json!({"parameters": {}}));
    eprintln!("destroy took {:?}", begin.elapsed());
    assert_eq!(events.reply()["parameters"]["event"]["exit"]["kind"], "destroyed");
    assert_eq!(controller.wait(), Some(0));
    world.check_clean();
}

#[test]
fn destroy_ends_what_ignores_everything() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script(
        "trap '' TERM HUP INT; (sleep 1000 &); mkdir /sys/fs/cgroup/mine; while :; do sleep 1000; done",
    );
    let mut controller = world.controller();
    controller.launch(&world.plan());
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    controller.client.call("Destroy", json!({}));
    let took = begin.elapsed();
    assert_eq!(controller.wait(), Some(0));
    assert!(took < Duration::from_millis(500), "destroy took {took:?}");
    world.check_clean();
}

#[test]
fn a_crash_loop_is_braked_and_destroy_interrupts_it() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("exit 1");
    let mut plan = world.plan();
    plan["onCrash"] = json!("restart");
    let mut controller = world.controller();
    controller.launch(&plan);
    std::thread::sleep(Duration::from_millis(300));
    let status = controller.client.call("GetStatus", json!({}));
    assert_eq!(status["parameters"]["status"]["state"], "restarting", "{status}");
    assert_eq!(status["parameters"]["status"]["restarts"], 0);
    assert_eq!(controller.client.call("Destroy", json!({})), json!({"parameters": {}}));
    assert_eq!(controller.wait(), Some(0));
    assert_eq!(world.record()["events"][0]["exit"]["kind"], "destroyed");
    world.check_clean();
}

#[test]
fn a_restart_that_fails_is_an_end_with_its_reason() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("sleep 1.1; mv /init /gone; reboot -f");
    std::os::unix::fs::symlink("busybox", world.root.join("bin/mv")).expect("symlink");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    assert_eq!(controller.wait(), Some(0));
    let record = world.record();
    assert_eq!(record["events"][0]["failure"]["step"], "exec", "{record}");
    assert_eq!(record["events"][0]["exit"]["kind"], "reboot");
    world.check_clean();
}

#[test]
fn init_is_asked_in_its_way() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("trap 'exit 9' TERM; trap 'echo got 10' USR1; trap 'echo got 40' 40; echo ready; while :; do sleep 0.1; done");
    let mut controller = world.controller();
    controller.launch(&world.plan());
    let (mut viewer, _) = controller.client.attach("view");
    viewer.expect("ready");
    let answer = controller.client.call("Shutdown", json!({"restart": true}));
    assert_eq!(answer["error"], "io.berth.Controller.NotAnswering", "{answer}");
    let answer = controller.client.call("Shutdown", json!({"restart": false, "modes": ["paravirt"]}));
    assert_eq!(answer["error"], "org.varlink.service.InvalidParameter", "{answer}");
    for signal in [-1, 65] {
        let answer = controller.client.call("SendSignal", json!({ "signal": signal }));
        assert_eq!(answer["error"], "org.varlink.service.InvalidParameter", "{answer}");
    }
    for signal in [0, 10, 40] {
        let answer = controller.client.call("SendSignal", json!({ "signal": signal }));
        assert_eq!(answer, json!({ "parameters": {} }), "signal {signal}");
    }
    viewer.expect("got 10");
    viewer.expect("got 40");
    let answer = controller.client.call("Shutdown", json!({"restart": false}));
    assert_eq!(answer, json!({"parameters": {"asked": "SIGTERM"}}));
    assert_eq!(controller.wait(), Some(0));
    assert_eq!(world.record()["events"][0]["exit"]["status"], 9);
    for ids in [Value::Null, own_ids()] {
        initctl_is_asked(&ids);
    }
}

/// The map of a container with ids of its own.
fn own_ids() -> Value {
    let range = json!([{"inside": 0, "host": 1_234_000_000, "count": 65_536}]);
    json!({"uids": range, "gids": range, "keepShifted": false, "exclusive": true})
}

fn initctl_is_asked(ids: &Value) {
    let world = World::new();
    std::os::unix::fs::symlink("busybox", world.root.join("bin/mkfifo")).expect("symlink");
    world.script("mkfifo /run/initctl; echo ready; dd if=/run/initctl bs=384 count=1 2>/dev/null | grep -qa 6 && exit 6");
    let mut controller = world.controller();
    let mut plan = world.plan();
    plan["idMap"] = ids.clone();
    controller.launch(&plan);
    let (mut viewer, _) = controller.client.attach("view");
    viewer.expect("ready");
    std::thread::sleep(Duration::from_millis(100));
    let answer = controller.client.call("Shutdown", json!({"restart": true}));
    assert_eq!(answer, json!({"parameters": {"asked": "initctl"}}));
    assert_eq!(controller.wait(), Some(0));
    assert_eq!(world.record()["events"][0]["exit"]["status"], 6);
    world.check_clean();
}

/// Launches, and answers the failure.
fn failure(world: &World, plan: &Value) -> Value {
    let mut controller = world.controller();
    let reply = controller.launch(plan);
    assert_eq!(reply["error"], "io.berth.Controller.LaunchFailed", "{reply}");
    assert_eq!(controller.wait(), Some(1));
    world.check_clean();
    assert_eq!(
        fs::read_dir(&world.root).expect("root").flatten().filter(|e| e.file_name() == "mnt").count(),
        0
    );
    reply["parameters"]["failure"].clone()
}

fn expect(failure: &Value, step: &str, operation: &str, path: &str, errno: Option<i32>) {
    assert_eq!(failure["step"], step, "{failure}");
    assert_eq!(failure["operation"], operation, "{failure}");
    assert_eq!(failure["path"], path, "{failure}");
    assert_eq!(failure.get("errno").and_then(Value::as_i64), errno.map(i64::from), "{failure}");
}

#[test]
fn failures_say_what_failed() {
    if skip() {
        return;
    }
    for ids in [Value::Null, own_ids()] {
        failures_with(&ids);
    }
}

fn failures_with(ids: &Value) {
    let world = World::new();
    world.script("exit 0");
    let with = |change: &dyn Fn(&mut Value)| {
        let mut plan = world.plan();
        plan["idMap"] = ids.clone();
        change(&mut plan);
        failure(&world, &plan)
    };
    let init = |path: &str| with(&|p| p["init"]["path"] = json!(path));

    expect(&with(&|p| p["root"]["source"] = json!("/nope")), "sources", "open", "/nope", Some(2));
    let file = world.dir.join("log").to_str().expect("utf-8").to_owned();
    expect(&with(&|p| p["root"]["source"] = json!(file)), "sources", "open", &file, Some(20));
    expect(&init("/sbin/init"), "exec", "execve", "/sbin/init", Some(2));
    let directory = init("/bin");
    expect(&directory, "exec", "execve", "/bin", Some(13));
    assert_eq!(directory["detail"], "it is a directory");
    fs::write(world.root.join("text"), "no program").expect("write");
    assert_eq!(init("/text")["detail"], "it is not executable");
    fs::set_permissions(world.root.join("text"), fs::Permissions::from_mode(0o755)).expect("chmod");
    expect(&init("/text"), "exec", "execve", "/text", Some(8));
    fs::write(world.root.join("text"), "#!/bin/missing\n").expect("write");
    let missing = init("/text");
    expect(&missing, "exec", "execve", "/text", Some(2));
    assert_eq!(missing["detail"], "the program or its interpreter is missing");
    let mount = |source: &str, target: &str| {
        with(&|p| {
            p["filesystems"] = json!([{"kind": "ram", "target": "/mnt/a", "readonly": false, "sizeBytes": 4096},
                       {"kind": "mount", "source": source, "target": target, "readonly": false}]);
        })
    };
    expect(&mount("/nope", "/mnt/x"), "sources", "open", "/nope", Some(2));
    let mismatch = mount(&file, "/bin");
    expect(&mismatch, "filesystems", "mount", &file, Some(21));
    assert_eq!(mismatch["target"], "/bin");
    expect(&with(&|p| p["init"]["user"] = json!("nobody")), "user", "look up", "nobody", None);
    expect(&with(&|p| p["init"]["directory"] = json!("/nope")), "directory", "chdir", "/nope", Some(2));
    let magic = with(&|p| p["init"]["directory"] = json!("/proc/self/fd/3"));
    assert_eq!(magic["step"], "directory", "{magic}");
    assert_eq!(with(&|p| p["version"] = json!(99))["step"], "plan");
    let range = |count: i64| json!([{"inside": 0, "host": 1_000_000, "count": count}]);
    for (uids, gids, step) in
        [(range(0), range(9), "plan"), (range(9), range(1 << 32), "plan"), (range(9), json!([]), "ids")]
    {
        let map = json!({"uids": uids, "gids": gids, "keepShifted": false, "exclusive": true});
        assert_eq!(with(&|p| p["idMap"] = map.clone())["step"], step);
    }
    assert_eq!(with(&|p| p["initFileDescriptors"] = json!([5]))["step"], "descriptors");
    for name in ["proc", "sys", "dev"] {
        fs::remove_dir(world.root.join(name)).expect("rmdir");
        std::os::unix::fs::symlink("/tmp", world.root.join(name)).expect("symlink");
        let refused = with(&|_| {});
        assert_eq!(refused["path"], format!("/{name}"), "{refused}");
        assert_eq!(refused["detail"], "it is a symbolic link, and must be a directory");
        fs::remove_file(world.root.join(name)).expect("rm");
        fs::create_dir(world.root.join(name)).expect("mkdir");
    }
}

/// Steps as the controller names them; `in_init`: the future init is killed, and the controller tells.
const STEPS: &[(&str, bool)] = &[
    ("plan", false),
    ("descriptors", false),
    ("cgroup", false),
    ("consoles", false),
    ("dev", false),
    ("nodes", false),
    ("sources", false),
    ("rules", false),
    ("clone", false),
    ("limits", false),
    ("interfaces", false),
    ("namespaces", true),
    ("root", true),
    ("pivot", true),
    ("proc", true),
    ("sys", true),
    ("devices", true),
    ("run", true),
    ("filesystems", true),
    ("readonly", true),
    ("hide", true),
    ("network", true),
    ("hostname", true),
    ("user", true),
    ("terminal", true),
    ("capabilities", true),
    ("directory", true),
    ("exec", true),
    ("running", false),
];

#[test]
fn killed_at_any_step_nothing_lives_on() {
    if skip() {
        return;
    }
    for (step, in_init) in STEPS {
        let world = World::new();
        world.script("sleep 1000");
        let mut plan = world.plan();
        plan["killAtStep"] = json!(step);
        let mut controller = world.controller();
        let reply = controller.launch(&plan);
        if *in_init {
            assert_eq!(reply["parameters"]["failure"]["step"], *step, "{reply}");
            let detail = reply["parameters"]["failure"]["detail"].as_str().expect("detail");
            assert!(detail.contains("killed by signal 9"), "{detail}");
            assert_eq!(controller.wait(), Some(1));
            world.check_clean();
        } else {
            assert!(*step == "running" || reply.is_null(), "{step}: {reply}");
            assert_eq!(controller.wait(), None, "{step}");
            wait_until_empty(&world, step);
        }
    }
}

#[test]
fn a_profile_that_cannot_be_is_told() {
    if skip() {
        return;
    }
    let world = World::new();
    world.script("echo never");
    let mut plan = world.plan();
    plan["apparmorProfile"] = json!("berth-that-nobody-has-loaded");
    let mut controller = world.controller();
    let reply = controller.launch(&plan);
    let failure = &reply["parameters"]["failure"];
    assert_eq!(failure["step"], "profile", "{reply}");
    // Without AppArmor there is no such file; with it, no such profile. Nothing runs without the profile of the plan.
    assert_eq!(failure["errno"], 2, "{reply}");
    let detail = failure["detail"].as_str().expect("detail");
    assert!(["the kernel has no AppArmor", "no such profile is loaded"].contains(&detail), "{detail}");
    assert_eq!(controller.wait(), Some(1));
    world.check_clean();
}
