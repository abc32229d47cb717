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
init_of() { virsh-lite list --json | python3 -c "import json,sys; print([d['initPid'] for d in json.load(sys.stdin) if d['name'] == '$1'][0])"; }
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
    sed "s/auto/web$n/" /etc/berth/domains/auto.xml > /tmp/web$n.xml
    check "web$n is defined" virsh-lite define /tmp/web$n.xml
    check "web$n is started" virsh-lite start web$n
done
inits() { for n in auto web1 web2 web3 web4; do init_of $n; done | tr '\n' ' '; }
before=$(inits)
same() { [ "$(inits)" = "$before" ] && for pid in $before; do [ -d /proc/$pid ] || return 1; done; }
check 'they have inits' same
check 'the daemon is restarted' systemctl restart berthd
check 'a restart is not noticed' same
check 'the daemon is reloaded' systemctl reload berthd
check 'a reload is not noticed' same
check 'a new version is installed' dpkg --install /root/new.deb
check 'it is the new version' test "$(dpkg-query -W -f '${Version}' berth)" = "$(dpkg-deb -f /root/new.deb Version)"
check 'an upgrade is not noticed' same
check 'the daemon is ready again' systemctl is-active berthd.service

# Members of the group may; others may look.
useradd member && usermod --append --groups berth member && useradd other
as() { setpriv --reuid="$1" --regid="$1" --init-groups "$2" "$3" "$4"; }
refused() { ! as other virsh-lite destroy web4; }
check 'others may look' as other virsh-lite list --all
check 'others may not do' refused
check 'members may' as member virsh-lite destroy web4
check 'and that was done' state web4 'shut off'

# The end.
check 'containers are stopped in order' systemctl stop berth-guests.service
for n in auto web1 web2 web3; do
    check "$n is off" state $n 'shut off'
done
check 'they were asked' sh -c "virsh-lite dominfo auto | grep -q shutdown || journalctl -u berth-guests | grep \"'auto' is being\""
check 'one can be started again' virsh-lite start web1
check 'the package is removed' dpkg --remove berth
check 'its container runs on' test -d "/proc/$(pgrep -f 'berth-controller web1' | head -1)"
pkill -TERM -f 'berth-controller web1'
check 'what was configured is there' test -f /etc/berth/domains/web1.xml
check 'the package is purged' dpkg --purge berth
check 'nothing is left' sh -c '! ls -d /etc/berth /var/lib/berth /var/log/berth /etc/apparmor.d/berthd /usr/sbin/berthd 2> /dev/null'
check 'no unit is left' sh -c '! systemctl cat berthd.service 2> /dev/null'
check 'it can be installed again' dpkg --install /root/new.deb
check 'and is at work at once' virsh-lite list
systemctl --failed --no-legend
journalctl -b -p warning --no-pager -o short-monotonic | grep -v kernel: | tail -30
journalctl -u berthd -n 20 --no-pager -o cat

echo "berth-vm: exit status $failed"
if [ "$(cat /root/keep)" = yes ]; then
    setsid --ctty --wait sh -l < /dev/ttyS0 > /dev/ttyS0 2>&1
fi
systemctl poweroff
