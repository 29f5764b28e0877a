# Mounts the container's own cgroups, for an engine in it.
umount -l /sys/fs/cgroup
if grep -q '^[1-9]' /proc/self/cgroup; then
	mount -t tmpfs t /sys/fs/cgroup
	for name in $(cut -d: -f2 /proc/self/cgroup); do
		mkdir "/sys/fs/cgroup/${name#name=}"
		mount -t cgroup -o "$name" c "/sys/fs/cgroup/${name#name=}"
	done
else
	mount -t cgroup2 c /sys/fs/cgroup
	# Controllers go down only where no processes are.
	mkdir /sys/fs/cgroup/init
	for pid in $(cat /sys/fs/cgroup/cgroup.procs); do echo "$pid" >/sys/fs/cgroup/init/cgroup.procs; done
fi
