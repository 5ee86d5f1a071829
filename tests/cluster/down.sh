#!/usr/bin/env bash
# Ends what up.sh has started, by process id, and removes what it has made.
set -uo pipefail
: "${STATE:?the directory given to up.sh}"
NETNS=${NETNS:-loci}
[ -d "$STATE" ] || exit 0
cd "$STATE" || exit 1
STATE=$PWD

# A process by its file, if it still is what was started.
end() {
    local pid
    pid=$(cat "$1.pid" 2>/dev/null) || return 0
    [ -e "/proc/$pid" ] && tr '\0' ' ' <"/proc/$pid/cmdline" | grep -qE "$2" && kill "-${3:-TERM}" "$pid"
}
end kubelet kubelet
end proxy kube-proxy
end coredns coredns
end hub loci-testbed
end scheduler kube-scheduler
end controllers kube-controller-manager
# An API server waits long for a store that is gone.
end api kube-apiserver KILL
end etcd etcd KILL
shims=$(for f in containerd/state/io.containerd.runtime.v2.task/k8s.io/*/init.pid; do
    [ -f "$f" ] && ps -o ppid= -p "$(cat "$f")"
done | sort -u)
c() { timeout 20 ctr -a "$STATE/containerd.sock" -n k8s.io "$@" 2>/dev/null; }
if [ -S containerd.sock ]; then
    for task in $(c tasks ls -q); do
        c tasks kill -s 9 "$task"
        c containers rm "$task"
    done
fi
# shellcheck disable=SC2086 # one word a process
[ -z "$shims" ] || kill $shims 2>/dev/null
end containerd containerd
sleep 1
awk -v dir="$STATE/" 'index($2, dir) == 1 { print $2 }' /proc/mounts | sort -r | xargs -r umount -l
namespace=/run/netns/$NETNS
if [ -e "$namespace" ]; then
    # Pods' namespaces hang on this one's bridge.
    for pod in $(nsenter --net="$namespace" ip -o link show type veth 2>/dev/null | sed -nE 's/.*link-netns ([^ ]+).*/\1/p'); do
        ip netns del "$pod" 2>/dev/null
    done
    ip netns del "$NETNS"
fi
cd / && rm -rf "$STATE"
