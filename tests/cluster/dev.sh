#!/usr/bin/env bash
# A Kubernetes on this machine with Loci installed, which stays until down.sh ends it. When it is there already, it gets Loci as it is built now.
set -euo pipefail
: "${CACHE:?}" "${BIN:?}" "${LOCI:?}" "${TESTBED:?}" "${MODEL:?}" "${LOCI_TEST_NATS:?}" "${LOCI_TEST_KUBECTL:?}"
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
missing=$("$here/missing.sh")
[ -z "$missing" ] || { echo "no cluster can be made here: this machine lacks $missing; \`make packages\`, as root, installs Debian packages" >&2; exit 1; }

export STATE=$CACHE/cluster NETNS=loci-dev IMAGES=$CACHE/images KUBECTL=$LOCI_TEST_KUBECTL BIN
hub=10.88.0.1:7780
inside() { nsenter --net="/run/netns/$NETNS" env KUBECONFIG="$STATE/admin.kubeconfig" HELM_CACHE_HOME="$STATE/helm" HELM_CONFIG_HOME="$STATE/helm" HELM_DATA_HOME="$STATE/helm" "$@"; }
kubectl() { inside "$KUBECTL" "$@"; }
up() { [ -e "/run/netns/$NETNS" ] && kubectl wait --for=condition=Ready node/node-0 --timeout=2s >/dev/null 2>&1; }

scripts/build-tools.sh "$BIN" etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns helm
"$here/images.sh" "$IMAGES" "$LOCI" "$LOCI_TEST_NATS"
if up; then
    ctr -a "$STATE/containerd.sock" -n k8s.io images import "$IMAGES/loci.tar" >/dev/null
else
    echo "making a cluster"
    "$here/up.sh"
    nsenter --net="/run/netns/$NETNS" setsid "$TESTBED" hub "$MODEL" sentence-transformers/all-MiniLM-L6-v2 "$hub" >"$STATE/hub.log" 2>&1 </dev/null &
    echo $! >"$STATE/hub.pid"
    disown
    install --directory --owner=65532 --group=65532 "$STATE/volumes/store"
    kubectl apply -f - >/dev/null <<YAML
apiVersion: v1
kind: PersistentVolume
metadata: {name: store}
spec:
  capacity: {storage: 20Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: $STATE/volumes/store}
  persistentVolumeReclaimPolicy: Retain
YAML
fi

echo "installing Loci"
inside "$BIN/helm" upgrade --install loci-crds charts/loci-crds --namespace loci-system --create-namespace >/dev/null 2>"$STATE/helm.log"
inside "$BIN/helm" upgrade --install loci charts/loci --namespace loci-system --wait --timeout 3m --set "watchNamespaces={default},hub=http://$hub" \
    --set image.pullPolicy=Never,nats.image.pullPolicy=Never >/dev/null 2>>"$STATE/helm.log" || { cat "$STATE/helm.log" >&2; exit 1; }
# The image has the same name when what is in it has changed.
if [ -f "$STATE/loci.key" ] && ! cmp -s "$IMAGES/loci.tar.key" "$STATE/loci.key"; then
    kubectl get deployments -A -l app.kubernetes.io/name=loci -o jsonpath='{range .items[*]}{.metadata.namespace} {.metadata.name}{"\n"}{end}' |
        while read -r namespace name; do kubectl -n "$namespace" rollout restart "deployment/$name" >/dev/null </dev/null; done
fi
cp "$IMAGES/loci.tar.key" "$STATE/loci.key"

mkdir -p "$STATE/bin"
ln -sfn "$KUBECTL" "$STATE/bin/kubectl"
ln -sfn "$BIN/helm" "$STATE/bin/helm"
ln -sfn "$LOCI" "$STATE/bin/loci"
ln -sfn "$LOCI" "$STATE/bin/kubectl-loci"
cat >"$STATE/shell" <<SH
#!/bin/sh
# A shell, or the given command, in the cluster's network.
[ \$# -gt 0 ] || set -- "\${SHELL:-/bin/sh}"
exec nsenter --net=/run/netns/$NETNS env KUBECONFIG=$STATE/admin.kubeconfig "PATH=$STATE/bin:\$PATH" "\$@"
SH
chmod +x "$STATE/shell"
cat <<TEXT

A Kubernetes with Loci is up, which runs pipelines of the namespace default. A shell in its network, with kubectl, helm and loci:

  $STATE/shell
  kubectl apply -f examples/quickstart
  kubectl wait --for=condition=Ready memorypipeline/handbook --timeout=2m
  kubectl loci query "When is the workshop open?"

By hand: nsenter --net=/run/netns/$NETNS, and KUBECONFIG=$STATE/admin.kubeconfig.
Models come from a hub of its own, which has sentence-transformers/all-MiniLM-L6-v2@main.
\`make cluster\` again installs Loci as it is then; \`make cluster-down\` ends it.
TEXT
