#!/usr/bin/env bash
# Builds the images that a cluster needs, without a registry, as OCI archives in the directory $1: `pause`, the `nats` of the
# chart from the server $3, and `loci` from the built binary $2. An image is built anew only when what goes into it changes.
set -euo pipefail
to=${1:?usage: images.sh DIRECTORY LOCI NATS-SERVER} loci=${2:?} nats=${3:?}
root=$(cd "$(dirname "$0")/../.." && pwd)
mkdir -p "$to"
to=$(cd "$to" && pwd)
export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
store=(--root "$to/storage" --runroot "$to/run")
base=$(sed -n 's/^FROM //p' "$root/images/Containerfile")

# The files of the image that the Containerfile begins with, under its name: the same Debian packages.
base_image() {
    buildah "${store[@]}" inspect --type image "$base" >/dev/null 2>&1 && return
    # No package's script runs: one line of theirs is needed.
    local bundle='cat "$1"/usr/share/ca-certificates/mozilla/*.crt >"$1"/etc/ssl/certs/ca-certificates.crt'
    mmdebstrap --quiet --variant=extract --extract-hook="$bundle" --include=libc6,libgcc-s1,libstdc++6,ca-certificates,tzdata \
        "$(. /etc/os-release && echo "$VERSION_CODENAME")" "$to/base.tar"
    local container
    container=$(buildah "${store[@]}" from scratch)
    buildah "${store[@]}" add --quiet "$container" "$to/base.tar" / >/dev/null
    buildah "${store[@]}" commit --quiet "$container" "$base" >/dev/null
    buildah "${store[@]}" rm "$container" >/dev/null
    rm -f "$to/base.tar"
}

# An image: archive, name, Containerfile, and the files of its context.
image() {
    local archive=$to/$1.tar name=$2 file=$3 key context
    shift 3
    key=$(cat "$file" "$@" | sha256sum)
    [ -f "$archive" ] && [ "$(cat "$archive.key" 2>/dev/null)" = "$key" ] && return
    echo "building the image $name"
    context=$(mktemp -d)
    cp "$@" "$context"
    buildah "${store[@]}" bud --quiet --pull-never --layers=false -t "$name" -f "$file" "$context" >/dev/null
    rm -f "$archive"
    buildah "${store[@]}" push --quiet "$name" "oci-archive:$archive:$name" >/dev/null
    buildah "${store[@]}" rmi --force "$name" >/dev/null
    rm -rf "$context"
    echo "$key" >"$archive.key"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -static -Os -o "$work/pause" "$root/tests/cluster/pause.c"
printf 'FROM scratch\nCOPY pause /pause\nUSER 65535:65535\nENTRYPOINT ["/pause"]\n' >"$work/Pause"
image pause loci.test/pause:1 "$work/Pause" "$work/pause"
tag=$(sed -nE '/^nats:/,$ s/^    tag: (.*)/\1/p' "$root/charts/loci/values.yaml" | head -1)
printf 'FROM scratch\nCOPY nats-server /usr/local/bin/nats-server\nENV PATH=/usr/local/bin\nENTRYPOINT ["/usr/local/bin/nats-server"]\n' >"$work/Nats"
image nats "docker.io/library/nats:$tag" "$work/Nats" "$nats"
base_image
cp "$loci" "$work/loci"
strip "$work/loci"
image loci "ghcr.io/loci-dev/loci:$(sed -n 's/^appVersion: //p' "$root/charts/loci/Chart.yaml")" "$root/images/Containerfile" "$work/loci"
