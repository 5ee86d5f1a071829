#!/usr/bin/env bash
# Prints what this machine lacks for a whole Kubernetes; nothing when nothing is missing.
set -uo pipefail
missing=()
[ "$(id -u)" = 0 ] || missing+=("root")
for program in containerd runc iptables ip nsenter openssl buildah mmdebstrap cc; do
    command -v "$program" >/dev/null || missing+=("$program")
done
[ -d /usr/lib/cni ] || missing+=("/usr/lib/cni (Debian: containernetworking-plugins)")
if [ ${#missing[@]} = 0 ] && ! unshare --net true 2>/dev/null; then
    missing+=("the right to make network namespaces")
fi
echo "${missing[*]}"
