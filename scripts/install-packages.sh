#!/usr/bin/env bash
# Installs the Debian packages that the end-to-end tests need and this machine lacks. Without root or apt-get it says what to install.
set -euo pipefail

# What has to be there, and the package that brings it.
table="
containerd       containerd
runc             runc
/usr/lib/cni     containernetworking-plugins
iptables         iptables
ip               iproute2
nsenter          util-linux
openssl          openssl
buildah          buildah
mmdebstrap       mmdebstrap
cc               gcc
/usr/include/stdio.h libc6-dev
"

packages=()
while read -r what package; do
    [ -n "$what" ] || continue
    command -v "$what" >/dev/null || [ -e "$what" ] || packages+=("$package")
done <<<"$table"
[ ${#packages[@]} -gt 0 ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "the end-to-end tests need Debian packages that are missing here; as root: apt-get install ${packages[*]}" >&2
    exit 0
fi
echo "installing ${packages[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
apt-get install --quiet --quiet --yes --no-install-recommends "${packages[@]}" >/dev/null
