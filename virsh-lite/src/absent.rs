//! Commands that virsh has and containers, or Berth, have not: what to do instead.
//!
//! Does not know the commands that there are.

/// Names of commands, with `*` at the end where all that begin so are meant, and what a user of virsh needs to know.
#[rustfmt::skip]
const ABSENT: &[(&[&str], &str)] = &[
    (
        &["snapshot-*", "checkpoint-*", "backup-*"],
        "Berth takes no snapshots: take them of the file system or volume that the container's root is on, for example with \
         btrfs, ZFS or LVM",
    ),
    (
        &["pool-*", "vol-*", "find-storage-pool-sources*"],
        "Berth has no storage pools: a domain's document names folders, devices and images by their paths",
    ),
    (&["nwfilter-*"], "Berth has no network filters: write rules for the host's firewall, or for the one inside the container"),
    (&["secret-*"], "Berth keeps no secrets: unlock an encrypted device on the host, and name what that gives"),
    (
        &["nodedev-*"],
        "Berth does not manage the host's devices: a domain's document names those that it gets in <hostdev>",
    ),
    (
        &["iface-*"],
        "Berth does not configure the host's own interfaces: the host's tools do; for virtual networks see 'help network'",
    ),
    (&["net-port-*"], "who uses a network is told by 'domiflist' and 'net-dhcp-leases'"),
    (&["net-desc", "net-metadata"], "title, description and metadata of a network are changed with 'net-edit'"),
    (
        &["migrate", "migrate-*"],
        "a running container cannot move: shut it down, copy its root and what 'dumpxml --inactive' prints, and define that \
         over there",
    ),
    (
        &["save", "save-image-*", "restore", "managedsave", "managedsave-*"],
        "the memory of a container cannot be saved: 'suspend' stops it where it is, until 'resume'",
    ),
    (&["dump"], "the memory of a container is that of its processes: use a debugger on the host, for example gcore(1)"),
    (
        &["screenshot", "send-key", "domdisplay", "vncdisplay"],
        "a container has neither screen nor keyboard: see 'console'",
    ),
    (&["qemu-*", "guest-agent-timeout"], "a container has neither qemu nor an agent"),
    (
        &["set-user-password", "set-user-sshkeys", "get-user-sshkeys"],
        "there is no agent inside: use 'console', or change the files below the container's root",
    ),
    (&["guestinfo"], "there is no agent inside: see 'domhostname', 'domifaddr' and 'domstats'"),
    (
        &["domfsfreeze", "domfsthaw", "domfstrim", "domfsinfo"],
        "a container's file systems are the host's: use fsfreeze(8), fstrim(8) and findmnt(8) there",
    ),
    (&["domtime", "nodesuspend"], "clock and power belong to the host: use its own tools"),
    (&["dompmsuspend", "dompmwakeup"], "see 'suspend' and 'resume'"),
    (&["inject-nmi", "reset"], "a container has no hardware to reset: see 'reboot', or 'destroy' and 'start'"),
    (
        &["blockcommit", "blockcopy", "blockjob", "blockpull", "blockresize", "domblkthreshold", "domblkinfo", "domblkerror"],
        "images and devices are looked after on the host, for example with qemu-img(1): 'domblklist' tells where they are",
    ),
    (&["blkdeviotune"], "see 'blkiotune', which limits a device for the whole container"),
    (&["change-media"], "see 'detach-disk' and 'attach-disk'"),
    (&["detach-device-alias"], "see 'detach-device', which takes the element that 'dumpxml' prints"),
    (
        &["cpu-baseline", "cpu-compare", "cpu-models", "hypervisor-cpu-*", "maxvcpus"],
        "a container has the host's processors as they are: see 'nodeinfo', 'capabilities' and 'setvcpus'",
    ),
    (
        &["vcpuinfo", "setvcpu", "guestvcpus", "emulatorpin", "iothread*"],
        "a container has no threads for its processors or devices: see 'setvcpus', 'vcpupin' and 'cpu-stats'",
    ),
    (&["perf"], "use perf(1) on the host, with the control group of the domain"),
    (&["update-memory-device"], "see 'setmem'"),
    (&["domdirtyrate-calc"], "what a container's memory is used for is told by 'dommemstat'"),
    (&["domcapabilities"], "libvirt has none for containers either: see 'capabilities'"),
    (&["domcontrol"], "see 'domstate'"),
    (&["domjobinfo", "domjobabort"], "nothing that Berth does goes on when its command has ended"),
    (&["domlaunchsecinfo", "domsetlaunchsecstate", "nodesevinfo"], "a container's memory is not encrypted"),
    (&["domxml-from-native", "domxml-to-native"], "Berth reads and writes libvirt's documents alone"),
    (
        &["domrename"],
        "a domain keeps its name: 'undefine' it, and 'define' what 'dumpxml --inactive' has printed, with another name",
    ),
    (&["set-lifecycle-action"], "see 'edit': <on_poweroff>, <on_reboot> and <on_crash>"),
    (&["allocpages", "freepages"], "huge pages belong to the host: see /sys/kernel/mm/hugepages there"),
    (
        &["lxc-enter-namespace"],
        "Berth runs no programs inside: see 'console', or 'machinectl shell' where systemd runs inside",
    ),
    (&["dom-fd-associate"], "a domain's document names files by their paths"),
];

/// What is to be said about a command of virsh that is not there.
pub fn instead(name: &str) -> Option<&'static str> {
    let is_it = |pattern: &&str| match pattern.strip_suffix('*') {
        Some(start) => name.starts_with(start),
        None => name == *pattern,
    };
    ABSENT.iter().find(|(names, _)| names.iter().any(is_it)).map(|(_, hint)| *hint)
}

#[cfg(test)]
mod test {
    use super::*;
    use crate::cmd;

    /// The commands of virsh 9.
    const VIRSH: &str = "
        attach-device attach-disk attach-interface autostart blkdeviotune blkiotune blockcommit blockcopy blockjob
        blockpull blockresize change-media console cpu-stats create define desc destroy detach-device
        detach-device-alias detach-disk detach-interface domdisplay domfsfreeze domfsthaw domfsinfo domfstrim
        domhostname domid domif-setlink domiftune domjobabort domjobinfo domlaunchsecinfo domsetlaunchsecstate
        domname domrename dompmsuspend dompmwakeup domuuid domxml-from-native domxml-to-native dump dumpxml edit
        get-user-sshkeys inject-nmi iothreadinfo iothreadpin iothreadadd iothreadset iothreaddel send-key
        send-process-signal lxc-enter-namespace managedsave managedsave-remove managedsave-edit managedsave-dumpxml
        managedsave-define memtune perf metadata migrate migrate-setmaxdowntime migrate-getmaxdowntime
        migrate-compcache migrate-setspeed migrate-getspeed migrate-postcopy numatune qemu-attach
        qemu-monitor-command qemu-monitor-event qemu-agent-command guest-agent-timeout reboot reset restore resume
        save save-image-define save-image-dumpxml save-image-edit schedinfo screenshot set-lifecycle-action
        set-user-sshkeys set-user-password setmaxmem setmem setvcpus shutdown start suspend ttyconsole undefine
        update-device update-memory-device vcpucount vcpuinfo vcpupin emulatorpin vncdisplay guestvcpus setvcpu
        domblkthreshold guestinfo domdirtyrate-calc dom-fd-associate domblkerror domblkinfo domblklist domblkstat
        domcontrol domif-getlink domifaddr domiflist domifstat dominfo dommemstat domstate domstats domtime list
        event allocpages capabilities cpu-baseline cpu-compare cpu-models domcapabilities freecell freepages
        hostname hypervisor-cpu-baseline hypervisor-cpu-compare maxvcpus node-memory-tune nodecpumap nodecpustats
        nodeinfo nodememstats nodesevinfo nodesuspend sysinfo uri version checkpoint-create checkpoint-create-as
        checkpoint-delete checkpoint-dumpxml checkpoint-edit checkpoint-info checkpoint-list checkpoint-parent
        iface-begin iface-bridge iface-commit iface-define iface-destroy iface-dumpxml iface-edit iface-list
        iface-mac iface-name iface-rollback iface-start iface-unbridge iface-undefine nwfilter-define
        nwfilter-dumpxml nwfilter-edit nwfilter-list nwfilter-undefine nwfilter-binding-create
        nwfilter-binding-delete nwfilter-binding-dumpxml nwfilter-binding-list net-autostart net-create net-define
        net-destroy net-dhcp-leases net-dumpxml net-edit net-event net-info net-list net-name net-start net-undefine
        net-update net-uuid net-port-list net-port-create net-port-dumpxml net-port-delete nodedev-create
        nodedev-destroy nodedev-detach nodedev-dumpxml nodedev-list nodedev-reattach nodedev-reset nodedev-event
        nodedev-define nodedev-undefine nodedev-start nodedev-autostart nodedev-info secret-define secret-dumpxml
        secret-event secret-get-value secret-list secret-set-value secret-undefine snapshot-create
        snapshot-create-as snapshot-current snapshot-delete snapshot-dumpxml snapshot-edit snapshot-info
        snapshot-list snapshot-parent snapshot-revert backup-begin backup-dumpxml find-storage-pool-sources-as
        find-storage-pool-sources pool-autostart pool-build pool-create-as pool-create pool-define-as pool-define
        pool-delete pool-destroy pool-dumpxml pool-edit pool-info pool-list pool-name pool-refresh pool-start
        pool-undefine pool-uuid pool-event pool-capabilities vol-clone vol-create-as vol-create vol-create-from
        vol-delete vol-download vol-dumpxml vol-info vol-key vol-list vol-name vol-path vol-pool vol-resize
        vol-upload vol-wipe cd echo exit help pwd quit connect";

    #[test]
    fn a_command_of_virsh_is_there_or_explained() {
        for name in VIRSH.split_ascii_whitespace() {
            assert_ne!(cmd::find(name).is_some(), instead(name).is_some(), "{name}");
        }
        for command in cmd::ALL {
            assert_eq!(instead(command.name), None, "{}", command.name);
        }
        assert_eq!(instead("vcpupn"), None);
    }
}
