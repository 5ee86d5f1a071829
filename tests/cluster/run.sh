#!/usr/bin/env bash
# Runs the end-to-end tests on a cluster that it makes and ends: all scenarios, or those whose names have one of the arguments
# as a part. Where that cannot be, it says so and succeeds, but not in CI.
set -euo pipefail
: "${CACHE:?}" "${BIN:?}" "${LOCI:?}" "${LOCI_TEST_PYTHON:?}" "${LOCI_TEST_NATS:?}" "${LOCI_TEST_KUBECTL:?}"
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."

missing=$("$here/missing.sh")
if [ -n "$missing" ]; then
    echo "end-to-end tests skipped: they make a whole Kubernetes on this machine and lack $missing" >&2
    [ -z "${CI:-}" ] || { echo "in CI they have to run: \`make packages\`, as root on Debian, installs what they need" >&2; exit 1; }
    exit 0
fi

scripts/build-tools.sh "$BIN" etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy coredns helm source-controller kustomize-controller
export IMAGES=$CACHE/images BIN NETNS=loci-$$
export STATE=${TMPDIR:-/tmp}/loci-cluster-$$ KUBECTL=$LOCI_TEST_KUBECTL
tests/cluster/images.sh "$IMAGES" "$LOCI" "$LOCI_TEST_NATS"
tests=$(cargo test --release --locked --workspace --test e2e --no-run --message-format=json 2>/dev/null |
    "$LOCI_TEST_PYTHON" -c '
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    if message.get("executable") and message["target"]["name"] == "e2e":
        print(message["executable"])')
trap 'tests/cluster/down.sh' EXIT
echo "making a cluster"
tests/cluster/up.sh
within=(nsenter --net="/run/netns/$NETNS")
# Beside a vLLM, where VLLM names a virtual environment that has it: pods reach it at the node's address.
[ -z "${VLLM:-}" ] || within+=(env HOST=10.88.0.1 scripts/with-vllm.sh "$VLLM" "$LOCI_TEST_DECODER" "$CACHE/models/SmolLM2-135M-Instruct")
"${within[@]}" env CARGO_MANIFEST_DIR="$PWD/tests/e2e" LOCI_TEST_CLUSTER="$STATE" LOCI_TEST_HELM="$BIN/helm" LOCI_TEST_FLUX="$BIN" "$tests" "$@"
