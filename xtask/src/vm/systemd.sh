#!/bin/sh
# What is looked at on a Debian with systemd. Each check is a line; what fails is counted.
export LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
failed=0
# check WHAT COMMAND...: the command succeeds.
check() {
    what=$1
    shift
    if output=$("$@" 2>&1); then
        echo "ok: $what"
    else
        failed=$((failed + 1))
        echo "FAILED: $what: $* ($?)"
        echo "$output" | sed 's/^/    /'
        return 1
    fi
}
# within SECONDS COMMAND...: it succeeds after some tries.
within() {
    end=$(($(date +%s) + $1))
    shift
    until "$@"; do
        [ "$(date +%s)" -lt "$end" ] || return 1
        sleep 0.3
    done
}
state() { [ "$(virsh-lite domstate "$1")" = "$2" ]; }
controller_of() { pgrep -f "berth-controller $1\$"; }
# Its controller has a server for the view as another child.
init_of() { virsh-lite dominfo "$1" | sed -n 's/^Init PID: *//p'; }
has() { echo "$1" | grep -q -- "$2"; }

echo "up for $(cut -d' ' -f1 /proc/uptime) s, $(systemctl --version | head -1)"

check 'the daemon is ready' systemctl is-active berthd.service
check 'a domain was started with the host' within 30 state auto running
check 'the socket is the service manager'"'"'s' systemctl is-active berthd.socket
check 'profiles of the programs are loaded' grep -q '^berthd ' /sys/kernel/security/apparmor/profiles
check 'the daemon is confined' grep -q '^berthd (enforce)' "/proc/$(systemctl show -P MainPID berthd)/attr/current"
check 'the group is there' getent group berth

# Five running domains; none notices anything.
for n in 1 2 3 4; do
    sed "s/auto/web$n/; /<uuid>/d" /etc/berth/domains/auto.xml > /tmp/web$n.xml
    check "web$n is defined" virsh-lite define /tmp/web$n.xml
    check "web$n is started" virsh-lite start web$n
done
# Pids with the times when they were started.
inits() { for n in auto web1 web2 web3 web4; do cut -d' ' -f1,22 "/proc/$(init_of $n)/stat"; done | tr '\n' ' '; }
before=$(inits)
same() { [ "$(inits)" = "$before" ] && [ "$(echo "$before" | wc -w)" = 10 ]; }
adopted() { journalctl -u berthd -o cat | grep ' adopted, ' | tail -1 | grep -q '5 defined, 5 adopted, 0 ended'; }
check 'they have inits' same
group=/sys/fs/cgroup/machine.slice/machine-web1.scope
in_scope() { grep -q "/machine-$1.scope/$1.berth/container/payload" "/proc/$(init_of "$1")/cgroup"; }
listed() { machinectl list --no-legend | grep -q "^$1 *container *berth "; }
led() { [ "$(machinectl show --property Leader --value "$1")" = "$(init_of "$1")" ]; }
for n in auto web1; do
    check "$n is in a scope" in_scope $n
    check "$n is listed by machinectl" within 10 listed $n
    check "machinectl enters $n by its init" led $n
done
check 'a limit is in force in the scope' grep -qx 67108864 $group/web1.berth/container/memory.max
check 'its controller is beside that' grep -qx "$(controller_of web1)" $group/web1.berth/controller/cgroup.procs
check 'machinectl shows its unit' sh -c 'machinectl status web1 | grep -q "Unit: machine-web1.scope"'
check 'systemd knows what it is' test "$(systemctl show -P Description machine-web1.scope)" = 'Berth container web1'
check 'the daemon is restarted' systemctl restart berthd || journalctl -u berthd -n 20 --no-pager -o cat
check 'a restart is not noticed' same
check 'all are adopted' adopted
check 'the daemon is reloaded' systemctl reload berthd
check 'a reload is not noticed' same
# Where something that the profiles include is newer than the package, what was compiled from the former profile looks as if
# it were up to date.
touch /etc/apparmor.d/tunables/global
apparmor_parser --replace --write-cache /etc/apparmor.d/berthd /etc/apparmor.d/berth-controller
check 'a new version is installed' dpkg --install /root/new.deb
check 'it is the new version' test "$(dpkg-query -W -f '${Version}' berth)" = "$(dpkg-deb -f /root/new.deb Version)"
check 'an upgrade is not noticed' same
check 'the daemon is ready again' within 30 systemctl is-active berthd.service
check 'all are adopted once more' within 30 adopted
check 'they are in their scopes' in_scope web1
check 'and listed' listed web1

# By the host's tools.
check 'web1 is asked to reboot' virsh-lite reboot web1
rebooted() { led web1 && ! echo " $before" | grep -q " $(init_of web1) "; }
check 'machinectl enters the new init' within 60 rebooted
check 'web2 is terminated by machinectl' machinectl terminate web2
check 'which is a clean stop' within 30 sh -c 'virsh-lite domstate web2 --reason | grep -qx "shut off (shutdown)"'
gone() { ! systemctl is-active --quiet "machine-$1.scope" && ! listed "$1"; }
check 'nothing of it is left' within 10 gone web2
check 'it starts again' virsh-lite start web2
check 'in a scope again' in_scope web2
check 'a scope is stopped by systemctl' systemctl stop machine-web2.scope
check 'which is a clean stop too' within 30 sh -c 'virsh-lite domstate web2 --reason | grep -qx "shut off (shutdown)"'
check 'web2 starts once more' virsh-lite start web2
mount /dev/vdb /srv/deb
check 'a Debian is defined' virsh-lite define /root/deb.xml
check 'and started, until its systemd says so' virsh-lite start deb --wait ready --timeout 240
check 'which is shown' sh -c 'virsh-lite dominfo deb | grep -q "^Ready: *yes"'
inside() { script -qec 'machinectl --quiet shell deb /bin/ps -p 1 -o comm=' /dev/null < /dev/null | grep -q systemd; }
check 'machinectl shell enters it' within 240 inside
check 'systemctl looks into it' sh -c 'systemctl -M deb list-units | grep -q dbus.service'
check 'it is shut down' virsh-lite shutdown deb
check 'and off' within 120 state deb 'shut off'

# Members of the group may; others may look.
useradd member && usermod --append --groups berth member && useradd other
as() {
    user=$1
    shift
    setpriv --reuid="$user" --regid="$user" --init-groups "$@"
}
refused() { ! as other virsh-lite destroy web4; }
check 'others may look' as other virsh-lite list --all
check 'others may not do' refused
check 'members may' as member virsh-lite destroy web4
check 'and that was done' state web4 'shut off'
connect='org.libvirt /org/libvirt/LXC org.libvirt.Connect'
web3=$(busctl call $connect DomainLookupByName s web3 | cut -d'"' -f2)
destroy="--allow-interactive-authorization=false call org.libvirt $web3 org.libvirt.Domain Destroy u 0"
refused_on_bus() { ! as other busctl $destroy && state web3 running; }
check 'on the bus others may look' as other busctl call $connect ListDomains u 0
check 'on the bus others may not do' refused_on_bus
check 'on the bus members may' as member busctl $destroy
check 'and that was done too' state web3 'shut off'
check 'web3 starts again' virsh-lite start web3

# The journal.
check 'who did what is in the journal' sh -c "journalctl -t berthd -o cat | grep -q \"^user $(id -u member), process [0-9]*, by varlink: io.berth.Domain.Destroy of 'web4': done\""
check 'and what was refused' sh -c "journalctl BERTH_UID=$(id -u other) BERTH_METHOD=io.berth.Domain.Destroy BERTH_DOMAIN=web4 -o cat | grep -q PermissionDenied"
check 'a domain has a story' sh -c 'journalctl BERTH_DOMAIN=web1 -n 1 -o cat | grep -q .'
check 'with who ended it' sh -c "journalctl BERTH_DOMAIN=web4 -o cat | grep -q \"^user $(id -u member), .*Destroy of 'web4': done\""
check 'and its starts' sh -c "journalctl BERTH_DOMAIN=web3 BERTH_OPERATION=start -o cat | grep -q 'started (booted)'"

# The end.
check 'containers are stopped in order' systemctl stop berth-guests.service
for n in auto web1 web2 web3; do
    check "$n is off" state $n 'shut off'
done
check 'they were asked' sh -c 'virsh-lite domstate auto --reason | grep -qx "shut off (shutdown)"'
check 'no machine is left' test -z "$(machinectl list --no-legend)"
# The service manager takes them away when it has heard that they are empty.
check 'no scope is left' within 10 sh -c '! ls -d /sys/fs/cgroup/machine.slice/*.scope 2> /dev/null'
check 'one can be started again' virsh-lite start web1
check 'the package is removed' dpkg --remove berth
check 'its container runs on' test -n "$(pgrep -P "$(controller_of web1)")"
check 'it is installed over what was left' dpkg --install /root/new.deb
check 'its units are at work' systemctl is-active berthd.socket berthd.service berth-guests.service
check 'it manages the container again' sh -c 'virsh-lite domstate web1 | grep -qx running'
check 'it is removed once more' dpkg --remove berth
kill -TERM "$(controller_of web1)"
check 'what was configured is there' test -f /etc/berth/domains/web1.xml
# As aa-disable(8) does it.
mkdir -p /etc/apparmor.d/disable
ln -s /etc/apparmor.d/berthd /etc/apparmor.d/disable/berthd
check 'the package is purged' dpkg --purge berth
check 'nothing is left' sh -c '! ls -d /etc/berth /var/lib/berth /var/log/berth /etc/apparmor.d/berthd /etc/apparmor.d/disable/berthd /usr/sbin/berthd 2> /dev/null'
check 'no unit is left' sh -c '! systemctl cat berthd.service 2> /dev/null'
check 'it can be installed again' dpkg --install /root/new.deb
check 'and is at work at once' virsh-lite list
if [ $failed != 0 ]; then
    systemctl --failed --no-legend
    journalctl -b -p warning --no-pager -o short-monotonic -n 60 | grep -v kernel:
    journalctl -u berthd -n 40 --no-pager -o cat
fi

echo "berth-vm: exit status $failed"
if [ "$(cat /root/keep)" = yes ]; then
    setsid --ctty --wait sh -l < /dev/ttyS0 > /dev/ttyS0 2>&1
fi
systemctl poweroff
