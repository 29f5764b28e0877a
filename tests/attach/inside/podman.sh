# podman.sh WHO: podman in a container runs a container.
. /inside/said.sh
mkdir -p /tmp/root/bin
cp /bin/busybox /tmp/root/bin/
said "podman, $1" podman --root /tmp/graph --runroot /tmp/runs --storage-driver vfs --cgroup-manager cgroupfs --events-backend none \
	run --rm --network none --log-driver none --rootfs /tmp/root /bin/busybox cat /proc/self/stat
