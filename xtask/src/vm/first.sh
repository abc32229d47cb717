#!/bin/busybox sh
# The first process, on the initial file system: loads what the disk needs and goes there. No container could be made
# here: `pivot_root` refuses to move the root that the kernel unpacks into, and a tmpfs of this kernel takes no idmap.
/bin/busybox mount -t devtmpfs devtmpfs /dev
for module in $(/bin/busybox cat /modules/order); do
    /bin/busybox insmod "/modules/$module" || echo "berth-vm: '$module' was not loaded"
done
/bin/busybox mount -t ext4 /dev/vda /newroot || /bin/busybox poweroff -f
# The disk was filled by whoever started this.
[ "$(/bin/busybox stat -c %u /newroot/init)" = 0 ] || /bin/busybox chown -R 0:0 /newroot
/bin/busybox umount /dev
exec /bin/busybox switch_root /newroot /init
