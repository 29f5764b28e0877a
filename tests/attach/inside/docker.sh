# docker.sh WHO: a Docker daemon in a container runs a container, and builds an image with its BuildKit.
. /inside/said.sh
export DOCKER_HOST=unix:///tmp/docker.sock HOME=/tmp
if [ "$1" = rootless ]; then
	# What it wants to find of RootlessKit, though it does not need it without a network.
	mkdir /tmp/bin
	ln -s /bin/true /tmp/bin/rootlesskit-docker-proxy
	export PATH=$PATH:/tmp/bin ROOTLESSKIT_STATE_DIR=/tmp ROOTLESSKIT_PARENT_EUID=0 XDG_RUNTIME_DIR=/tmp
	option=--rootless
fi
dockerd $option --bridge=none --iptables=false --ip6tables=false --storage-driver vfs --data-root /tmp/docker \
	--exec-root /tmp/exec --pidfile /tmp/pid --host $DOCKER_HOST >/tmp/log 2>&1 &
for _ in $(seq 600); do
	docker version >/dev/null 2>&1 && break
	sleep 0.1
done
mkdir -p /tmp/root/bin /tmp/context
cp /bin/busybox /tmp/root/bin/
tar -C /tmp/root -c . | docker import - box >/dev/null || cat /tmp/log >&2
said "Docker, $1" docker run --rm --network none box /bin/busybox cat /proc/self/stat
cat >/tmp/root/Dockerfile <<-'END'
	FROM scratch
	COPY bin/busybox /bin/busybox
	RUN ["/bin/busybox", "cat", "/proc/self/stat"]
END
tar -C /tmp/root -cf /tmp/context/context.tar .
said "BuildKit, $1" python3 /inside/build.py /tmp/context
