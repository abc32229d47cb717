//! What the package's `postrm purge` takes away, and what it must not: run in a root of its own, on a file system of its own.

use std::process::Command;

use berth_tests::suite::Test;
use berth_tests::{Outcome, ensure_eq};

pub const TESTS: &[Test] = &[
    ("purge::what_the_daemon_made_goes_and_nothing_else", alone),
    ("purge::what_is_mounted_stays", mounted),
    ("purge::folders_that_are_mounts_or_links_stay", elsewhere),
    ("purge::without_a_list_of_mounts_everything_stays", blind),
];

/// Makes the root `$1` with the files of a daemon and enters it. The namespace ends with the shell. `list`: what is left.
const ROOT: &str = r#"
mount -t tmpfs none "$1"
cd "$1"
for folder in bin sbin lib lib64 usr; do
    if [ -L "/$folder" ]; then
        cp -P "/$folder" .
    elif [ -d "/$folder" ]; then
        mkdir "$folder"
        mount --rbind "/$folder" "$folder"
    fi
done
mkdir dev proc srv etc run var var/lib var/log
mount --rbind /dev dev
mount --rbind /proc proc
printf '%s' "$2" > postrm
for folder in etc var/lib var/log run; do mkdir "$folder/berth"; done
mkdir -p etc/berth/domains etc/berth/autostart etc/berth/networks/autostart var/lib/berth/dnsmasq
mkdir -p run/berth/state run/berth/controllers
for file in etc/berth/berthd.toml 'etc/berth/domains/a b.xml' etc/berth/domains/.w.xml.new \
    etc/berth/domains/w.xml.unreadable-1 etc/berth/networks/default.xml var/lib/berth/idmap.json \
    var/lib/berth/idmap.json.bad var/lib/berth/default-network var/lib/berth/dnsmasq/u.leases \
    var/log/berth/w.log var/log/berth/w.console.log.1 var/log/berth/w.console2.log run/berth/state/u.json; do
    echo "ours" > "$file"
done
ln -s '../domains/a b.xml' 'etc/berth/autostart/a b.xml'
ln -s ../default.xml etc/berth/networks/autostart/default.xml
purge() {
    chroot . /bin/sh /postrm purge 2> said || { echo "exit status $?"; cat said; }
    grep ^berth: said || true
}
list() { find etc/berth var/lib/berth var/log/berth run/berth srv ! -type d 2> /dev/null | LC_ALL=C sort; }
"#;

/// What a script prints in such a root.
fn run(script: &str) -> Result<String, String> {
    let root = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let script = format!("{ROOT}{script}");
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-euc", &script, "sh"]);
    command.arg(root.path()).arg(include_str!("../../xtask/debian/postrm"));
    let output = command.output().map_err(|e| format!("cannot run unshare: {e}"))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr))),
    }
}

fn left(folder: &str) -> String {
    format!(
        "berth: '{folder}' is not gone as a whole: something is mounted there, or is not of Berth's making\n"
    )
}

fn alone() -> Outcome {
    let clean = run(
        "purge; list; ls -d etc/berth var/lib/berth var/log/berth run/berth 2>&1 | grep -vc 'No such'||:",
    )?;
    ensure_eq!(clean, "0\n".to_owned(), "of a daemon alone");
    let others = run(
        "mkdir var/lib/berth/images; echo mine > var/lib/berth/images/disk.img; echo mine > etc/berth/domains/notes
        purge; list",
    )?;
    let expected = left("/etc/berth") + &left("/var/lib/berth");
    let expected = expected + "etc/berth/domains/notes\nvar/lib/berth/images/disk.img\n";
    ensure_eq!(others, expected, "with what others put there");
    // The daemon's tree of control groups, on a host that has none of its own.
    let tree = run(
        "mkdir run/berth/cgroup; mount -t cgroup2 none run/berth/cgroup; purge; list; ls -d run/berth 2>&1 | grep -v 'No such' || :",
    )?;
    ensure_eq!(tree, String::new(), "with a tree of control groups");
    Ok(())
}

/// All of the same file system: device numbers do not tell them from what is around.
fn mounted() -> Outcome {
    let kept =
        run("for place in 'etc/berth/my definitions' var/lib/berth/images var/log/berth/old run/berth/x; do
            mkdir -p srv/$(basename \"$place\" | tr -d ' ') \"$place\"
            echo precious > srv/$(basename \"$place\" | tr -d ' ')/idmap.json
            mount --bind srv/$(basename \"$place\" | tr -d ' ') \"$place\"
        done
        purge; list")?;
    let expected = left("/etc/berth")
        + &left("/var/lib/berth")
        + &left("/var/log/berth")
        + "berth: '/run/berth' is not gone: something is mounted there\n\
           etc/berth/my definitions/idmap.json\nrun/berth/state/u.json\nrun/berth/x/idmap.json\n\
           srv/images/idmap.json\nsrv/mydefinitions/idmap.json\nsrv/old/idmap.json\nsrv/x/idmap.json\n\
           var/lib/berth/images/idmap.json\nvar/log/berth/old/idmap.json\n";
    ensure_eq!(kept, expected, "with mounts below");
    // A single file.
    let file = run(
        "echo precious > srv/a.xml; : > etc/berth/domains/m.xml; mount --bind srv/a.xml etc/berth/domains/m.xml
        purge; list; cat srv/a.xml",
    )?;
    let expected = left("/etc/berth") + "etc/berth/domains/m.xml\nsrv/a.xml\nprecious\n";
    ensure_eq!(file, expected, "with a file that is mounted");
    Ok(())
}

fn elsewhere() -> Outcome {
    let mounts = run(
        "mkdir srv/domains srv/lib srv/networks srv/networks/autostart
        for file in domains/w.xml lib/idmap.json networks/n.xml networks/autostart/n.xml; do echo precious > srv/$file; done
        mount --bind srv/domains etc/berth/domains; mount --bind srv/lib var/lib/berth
        mount --bind srv/networks etc/berth/networks
        purge; list",
    )?;
    let expected = left("/etc/berth")
        + &left("/var/lib/berth")
        + "etc/berth/domains/w.xml\netc/berth/networks/autostart/n.xml\netc/berth/networks/n.xml\n\
           srv/domains/w.xml\nsrv/lib/idmap.json\nsrv/networks/autostart/n.xml\nsrv/networks/n.xml\n\
           var/lib/berth/idmap.json\n";
    ensure_eq!(mounts, expected, "folders that are mounts");
    let links = run("mv etc/berth/networks srv/networks; ln -s /srv/networks etc/berth/networks
        mv var/log/berth srv/log; ln -s /srv/log var/log/berth; mkdir srv/run; echo mine > srv/run/x
        rm -r run/berth; ln -s /srv/run run/berth
        purge; list")?;
    let expected = left("/etc/berth")
        + &left("/var/log/berth")
        + "etc/berth/networks\nsrv/log/w.console.log.1\nsrv/log/w.console2.log\nsrv/log/w.log\n\
           srv/networks/autostart/default.xml\nsrv/networks/default.xml\nsrv/run/x\nvar/log/berth\n";
    ensure_eq!(links, expected, "folders that are links");
    // Above Berth's own folders both are an administrator's choice of a place, in which mounts are found none the less.
    let parents = run(
        "mv var/lib 'srv/a lib'; ln -s '../srv/a lib' var/lib; mkdir srv/l srv/images; mv var/log/berth srv/l
        mount --bind srv/l var/log; mkdir 'srv/a lib/berth/images'
        echo precious > srv/images/default-network; mount --bind srv/images 'srv/a lib/berth/images'
        purge; list",
    )?;
    let expected = left("/var/lib/berth")
        + "srv/a lib/berth/images/default-network\nsrv/images/default-network\n\
           var/lib/berth/images/default-network\n";
    ensure_eq!(parents, expected, "parents that are mounts or links");
    Ok(())
}

fn blind() -> Outcome {
    let all = run("list > before; umount -l proc; purge; list > after; cmp before after && echo same")?;
    let expected = left("/etc/berth") + &left("/var/lib/berth") + &left("/var/log/berth");
    let expected = expected + "berth: '/run/berth' is not gone: something is mounted there\nsame\n";
    ensure_eq!(all, expected, "without a list of mounts");
    Ok(())
}
