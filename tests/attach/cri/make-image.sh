#!/bin/sh
# Makes $1/image.tar of the root file system in $1/busybox, named $2: an OCI layout with one layer.
set -e
cd "$1"
case $(uname -m) in x86_64) machine=amd64 ;; aarch64) machine=arm64 ;; *) machine=$(uname -m) ;; esac
mkdir -p image/blobs/sha256

# put FILE TYPE: moves the file to its place and sets the descriptor of it.
put() {
	digest=sha256:$(sha256sum "$1" | cut -d' ' -f1)
	descriptor="\"mediaType\":\"$2\",\"digest\":\"$digest\",\"size\":$(stat -c %s "$1")"
	mv "$1" "image/blobs/sha256/${digest#sha256:}"
}

tar -C busybox -cf layer.tar .
put layer.tar application/vnd.oci.image.layer.v1.tar
layer=$descriptor
cat >config.json <<END
{"architecture": "$machine", "os": "linux",
 "config": {"Env": ["PATH=/bin"], "Cmd": ["sleep", "1000000"]},
 "rootfs": {"type": "layers", "diff_ids": ["$digest"]}}
END
put config.json application/vnd.oci.image.config.v1+json
cat >manifest.json <<END
{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
 "config": {$descriptor}, "layers": [{$layer}]}
END
put manifest.json application/vnd.oci.image.manifest.v1+json
cat >image/index.json <<END
{"schemaVersion": 2, "manifests": [{$descriptor, "annotations": {"io.containerd.image.name": "$2"}}]}
END
echo '{"imageLayoutVersion": "1.0.0"}' >image/oci-layout
tar -C image -cf image.tar .
