#!/usr/bin/env bash
# A whole Kubernetes on this machine, in a network namespace of its own: etcd, API server, controller manager, scheduler, a kubelet on
# containerd, kube-proxy and CoreDNS. All that it makes is in STATE; down.sh ends it. Needs root.
set -euo pipefail
: "${STATE:?a directory for all state}" "${BIN:?the directory of the built programs}" "${IMAGES:?the directory of OCI archives}"
KUBECTL=${KUBECTL:-kubectl} NETNS=${NETNS:-loci}
here=$(cd "$(dirname "$0")" && pwd)
STATE=$STATE NETNS=$NETNS "$here/down.sh"
mkdir -p "$STATE/cni" "$STATE/volumes"
cd "$STATE"
STATE=$PWD
trap 'status=$?; [ $status = 0 ] || { for log in "$STATE"/*.log; do echo "--- $log"; tail -15 "$log"; done >&2; "$here/down.sh"; }' EXIT

inside() { nsenter --net="/run/netns/$NETNS" "$@"; }
node=10.88.0.1 services=10.96.0.0/24 dns=10.96.0.10
ip netns add "$NETNS"
inside ip link set lo up
inside ip link add br0 type bridge
inside ip addr add $node/24 dev br0
inside ip link set br0 up
inside ip route add default dev br0
inside sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.route_localnet=1

# Keys and certificates.
quietly() { "$@" >/dev/null 2>&1; }
quietly openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 365 -subj /CN=loci-test-ca
names="subjectAltName=DNS:localhost,DNS:kubernetes,DNS:kubernetes.default.svc,DNS:node-0,IP:127.0.0.1,IP:10.96.0.1,IP:$node"
certificate() {
    quietly openssl req -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2"
    quietly openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -out "$1.crt" -days 365 -extfile <(echo "$names")
    cat >"$1.kubeconfig" <<YAML
apiVersion: v1
kind: Config
clusters: [{name: loci, cluster: {server: "https://$node:6443", certificate-authority: $STATE/ca.crt}}]
users: [{name: $1, user: {client-certificate: $STATE/$1.crt, client-key: $STATE/$1.key}}]
contexts: [{name: loci, context: {cluster: loci, user: $1}}]
current-context: loci
YAML
}
certificate api /CN=kube-apiserver
certificate admin /O=system:masters/CN=admin
certificate kubelet "/O=system:nodes/CN=system:node:node-0"
quietly openssl genrsa -out sa.key 2048
quietly openssl rsa -in sa.key -pubout -out sa.pub

start() {
    local name=$1
    shift
    setsid nsenter --net="/run/netns/$NETNS" "$@" >"$name.log" 2>&1 </dev/null &
    echo $! >"$name.pid"
    disown
}
wait_for() {
    local what=$1 tries=$2
    shift 2
    while [ "$tries" -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return
        tries=$((tries - 1))
        sleep .1
    done
    echo "$what did not come up" >&2
    exit 1
}
kubectl() { inside "$KUBECTL" --kubeconfig="$STATE/admin.kubeconfig" "$@"; }

cat >audit.yaml <<YAML
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, users: [], userGroups: ["system:serviceaccounts"]}, {level: None}]
YAML
start etcd "$BIN/etcd" --data-dir=etcd --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379 --unsafe-no-fsync=true
cat >api.sh <<SH
exec $BIN/kube-apiserver --etcd-servers=http://127.0.0.1:2379 --cert-dir=$STATE --bind-address=0.0.0.0 --advertise-address=$node --secure-port=6443 \
    --service-cluster-ip-range=$services --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
    --client-ca-file=$STATE/ca.crt --tls-cert-file=$STATE/api.crt --tls-private-key-file=$STATE/api.key \
    --kubelet-client-certificate=$STATE/admin.crt --kubelet-client-key=$STATE/admin.key --kubelet-preferred-address-types=InternalIP \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$STATE/sa.pub --service-account-signing-key-file=$STATE/sa.key \
    --audit-policy-file=$STATE/audit.yaml --audit-log-path=$STATE/audit.log
SH
start api bash api.sh
wait_for "the API server" 300 kubectl get --raw /readyz
start controllers "$BIN/kube-controller-manager" --kubeconfig=admin.kubeconfig --leader-elect=false --service-account-private-key-file=sa.key \
    --root-ca-file=ca.crt --use-service-account-credentials=false --bind-address=127.0.0.1
start scheduler "$BIN/kube-scheduler" --kubeconfig=admin.kubeconfig --leader-elect=false --bind-address=127.0.0.1

# As nodes have it, where directories can be laid over each other here; else each container's files are copied.
snapshotter=native
mkdir -p overlay/lower overlay/upper overlay/work overlay/merged
if mount -t overlay overlay -o lowerdir=overlay/lower,upperdir=overlay/upper,workdir=overlay/work overlay/merged 2>/dev/null; then
    umount overlay/merged
    snapshotter=overlayfs
fi
cat >containerd.toml <<TOML
version = 2
root = "$STATE/containerd/root"
state = "$STATE/containerd/state"
[grpc]
  address = "$STATE/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "loci.test/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$STATE/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "$snapshotter"
TOML
cat >cni/10.conflist <<JSON
{"cniVersion": "1.0.0", "name": "loci", "plugins": [
  {"type": "bridge", "bridge": "br0", "isGateway": true, "hairpinMode": true, "ipMasq": false,
   "ipam": {"type": "host-local", "dataDir": "$STATE/ipam", "ranges": [[{"subnet": "10.88.0.0/24", "rangeStart": "10.88.0.10"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
JSON
start containerd containerd -c containerd.toml
wait_for containerd 100 ctr -a "$STATE/containerd.sock" version
for image in "$IMAGES"/*.tar; do ctr -a "$STATE/containerd.sock" -n k8s.io images import --snapshotter "$snapshotter" "$image" >/dev/null; done
cat >kubelet.yaml <<YAML
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $STATE/ca.crt}}
authorization: {mode: Webhook}
# What a container without cgroups of its own can do: limits of pods are not enforced.
cgroupsPerQOS: false
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
featureGates: {KubeletInUserNamespace: true}
containerRuntimeEndpoint: unix://$STATE/containerd.sock
clusterDomain: cluster.local
clusterDNS: [$dns]
evictionHard: {nodefs.available: "1%", memory.available: "100Mi"}
imageGCHighThresholdPercent: 100
# Tests kill the same container again and again.
crashLoopBackOff: {maxContainerRestartPeriod: 2s}
YAML
start kubelet "$BIN/kubelet" --config=kubelet.yaml --kubeconfig=kubelet.kubeconfig --root-dir="$STATE/kubelet" --hostname-override=node-0 --node-ip=$node
start proxy "$BIN/kube-proxy" --kubeconfig=admin.kubeconfig --hostname-override=node-0 --proxy-mode=iptables --iptables-min-sync-period=0s --cluster-cidr=10.88.0.0/24 \
    --conntrack-max-per-core=0 --conntrack-tcp-timeout-established=0 --conntrack-tcp-timeout-close-wait=0
cat >Corefile <<COREFILE
.:53 {
  bind $node
  kubernetes cluster.local {
    kubeconfig $STATE/admin.kubeconfig loci
  }
}
COREFILE
start coredns "$BIN/coredns" -conf Corefile
kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: $dns, ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: kube-dns-1, namespace: kube-system, labels: {kubernetes.io/service-name: kube-dns}}
addressType: IPv4
endpoints: [{addresses: [$node]}]
ports: [{name: dns, port: 53, protocol: UDP}, {name: dns-tcp, port: 53, protocol: TCP}]
YAML
wait_for "the node" 200 kubectl get node node-0
kubectl wait --for=condition=Ready node/node-0 --timeout=60s >/dev/null

# What runs on other machines than the pods in a cluster of several: here it computes on the pods' own cores, and comes after
# them from now on. Of containerd only its session: the pods are its children. Where the kernel schedules by session, the session's
# weight counts. A kubelet that makes groups for pods gives them a weight by the number of cores, as here.
for name in etcd api controllers scheduler kubelet proxy coredns; do
    for thread in "/proc/$(cat "$name.pid")/task"/*; do renice -n 10 -p "${thread##*/}" >/dev/null 2>&1 || true; done
done
for name in etcd api controllers scheduler kubelet proxy coredns containerd; do
    echo 10 2>/dev/null >"/proc/$(cat "$name.pid")/autogroup" || true
done
pods=/sys/fs/cgroup/cpu/k8s.io
mkdir -p "$pods" 2>/dev/null && echo $((1024 * $(nproc))) 2>/dev/null >"$pods/cpu.shares" || true
