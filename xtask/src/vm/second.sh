#!/bin/busybox sh
# The first process on the disk: makes a host as systemd would, runs the tests, and turns the machine off.
# /etc/berth-vm has PROGRAMS, NIC, PATIENCE, ROOTS, KEEP, and the words for the tests in WORDS, quoted.
. /etc/berth-vm
export PATH=$PROGRAMS:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=linux LC_ALL=C.UTF-8
export BERTH_DIST=$PROGRAMS BERTH_PATIENCE=$PATIENCE BERTH_ROOTS=/srv/roots CI=true RUST_BACKTRACE=1
# The network card that tests may take: it was made for them.
export BERTH_NIC=$NIC
# As it is where the package is installed.
export BERTH_CONFINED=yes
/bin/busybox --install -s /bin
mount --make-rshared /
mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o nosuid,noexec,gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs /dev/shm
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run
# Where qemu-nbd has its socket.
mkdir /run/lock
ln -s /run/lock /var/lock
mount -t securityfs -o nosuid,nodev,noexec securityfs /sys/kernel/security
mount -t cgroup2 -o nosuid,nodev,noexec,nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd
ln -s /proc/self/fd/0 /dev/stdin
ln -s /proc/self/fd/1 /dev/stdout
ln -s /proc/self/fd/2 /dev/stderr
letters=bcdefgh
for root in $ROOTS; do
    mkdir "/srv/roots/$root"
    mount -t ext4 "/dev/vd${letters%"${letters#?}"}" "/srv/roots/$root"
    letters=${letters#?}
done
exec < /dev/console > /dev/console 2>&1
hostname -F /etc/hostname
ip link set lo up
mkdir /sys/fs/cgroup/system.slice
echo $$ > /sys/fs/cgroup/system.slice/cgroup.procs
echo "$(uname -sr), $(nproc) processors, control groups: $(cat /sys/fs/cgroup/cgroup.controllers), security: $(cat /sys/kernel/security/lsm), up for $(cut -d' ' -f1 /proc/uptime) s"
if [ "$(cat /sys/module/apparmor/parameters/enabled)" != Y ]; then
    echo 'berth-vm: AppArmor is off'
    status=90
elif ! grep -qw memory /sys/fs/cgroup/cgroup.controllers; then
    echo 'berth-vm: the control groups are not v2 alone'
    status=91
else
    eval "privileged $WORDS"
    status=$?
    if [ "$status" != 0 ]; then
        echo 'What AppArmor refused to the programs (what it refuses to containers is what tests try):'
        dmesg | grep 'apparmor="DENIED"' | grep 'profile="berth\(d\|-controller\)["/]' | tail -n 40
    fi
fi
echo "berth-vm: exit status $status"
if [ "$KEEP" = yes ]; then
    echo 'This shell is inside the machine; its end is that of the machine.'
    cd /root || exit
    # The shell would take its own setsid for one without a path.
    /usr/bin/setsid --ctty --wait sh -l < /dev/ttyS0 > /dev/ttyS0 2>&1
fi
sync
poweroff -f
