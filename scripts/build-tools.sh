#!/usr/bin/env bash
# Builds the programs that tests run beside Loci into the directory $1: the names that follow, or a bare control plane and an S3 server.
# Each comes from a module of tests/tools, pinned by go.mod and go.sum, and is built anew only when these or the flags change.
# A program that KUBEBUILDER_ASSETS holds is taken from there. Beside a controller come its definitions, in NAME.crds.
set -euo pipefail
PATH=$PATH:/usr/local/go/bin # where go.dev's own instructions put it
to=${1:?usage: build-tools.sh DIRECTORY [NAME…]}
shift
[ $# -gt 0 ] || set -- etcd kube-apiserver kube-controller-manager versitygw
modules=$(cd "$(dirname "$0")/../tests/tools" && pwd)

# name, module, package
table="
etcd                     etcd          go.etcd.io/etcd/server/v3
kube-apiserver           controlplane  k8s.io/kubernetes/cmd/kube-apiserver
kube-controller-manager  controlplane  k8s.io/kubernetes/cmd/kube-controller-manager
kube-scheduler           controlplane  k8s.io/kubernetes/cmd/kube-scheduler
kubelet                  controlplane  k8s.io/kubernetes/cmd/kubelet
kube-proxy               controlplane  k8s.io/kubernetes/cmd/kube-proxy
coredns                  coredns       github.com/coredns/coredns
source-controller        flux          github.com/fluxcd/source-controller
kustomize-controller     flux          github.com/fluxcd/kustomize-controller
helm                     helm          helm.sh/helm/v4/cmd/helm
versitygw                versitygw     github.com/versity/versitygw/cmd/versitygw
"

# Without these, Kubernetes says that it is v0.0.0, and Helm's check of its version fails.
linker_flags() {
    local v=k8s.io/component-base/version version
    version=$(sed -nE 's|^[[:space:]]*k8s\.io/kubernetes (v[0-9.]+).*|\1|p' "$modules/$1/go.mod")
    [ -n "$version" ] || { echo "-s -w"; return; }
    IFS=. read -r major minor _ <<<"${version#v}"
    echo "-s -w -X $v.gitVersion=$version -X $v.gitMajor=$major -X $v.gitMinor=$minor"
}

need_go() {
    command -v go >/dev/null && return
    echo "$1 is built with Go, and there is no go on PATH: install Go $(sed -n 's/^go //p' "$modules/etcd/go.mod") or later," >&2
    echo "or let KUBEBUILDER_ASSETS name a directory that holds $1" >&2
    exit 1
}

# The definitions that a controller's module brings, if any.
definitions() {
    local bases
    bases=$(cd "$modules/$2" && go list -f '{{with .Module}}{{.Dir}}{{end}}' "$3")/config/crd/bases
    [ -d "$bases" ] || return 0
    rm -rf "$to/$1.crds"
    mkdir "$to/$1.crds"
    cp --no-preserve=mode "$bases"/*.yaml "$to/$1.crds"
}

# One program: its name, module and package.
provide() {
    local name=$1 module=$2 package=$3 given=${KUBEBUILDER_ASSETS:-} flags key
    if [ -n "$given" ] && [ -x "$given/$name" ]; then
        rm -f "$to/.$name.key"
        ln -sfn "$(cd "$given" && pwd)/$name" "$to/$name"
        return
    fi
    flags=$(linker_flags "$module")
    key=$({ echo "$package $flags"; cat "$modules/$module"/go.{mod,sum}; } | sha256sum)
    if [ -x "$to/$name" ] && [ "$(cat "$to/.$name.key" 2>/dev/null)" = "$key" ]; then
        return
    fi
    need_go "$name"
    echo "building $name (minutes when it is the first of its module)"
    (cd "$modules/$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" -o "$to/.$name.new" "$package")
    definitions "$name" "$module" "$package"
    mv -f "$to/.$name.new" "$to/$name"
    echo "$key" >"$to/.$name.key"
}

mkdir -p "$to"
to=$(cd "$to" && pwd)
for wanted; do
    row=$(awk -v name="$wanted" '$1 == name' <<<"$table")
    [ -n "$row" ] || { echo "no program is called $wanted; there are:$(awk 'NF {printf " %s", $1}' <<<"$table")" >&2; exit 1; }
    read -r name module package <<<"$row"
    provide "$name" "$module" "$package"
done
