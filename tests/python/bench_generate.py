"""llama.cpp as a peer of `loci bench generate`, in a process of its own.

    bench_generate.py convert MODEL.gguf TO.gguf    writes the same weights in f32
    bench_generate.py run MODEL.gguf TASK.json      continues the prompts of the task

It begins by saying what it is, and the bytes that it has in memory: {"peer": "name version", "resident": n}. Then it reads
commands from standard input, one a line, and answers each with one line of JSON:
  run N    continues prompt N, each token the likeliest
           {"first": seconds to the first token, "rest": to the others, "tokens": [...], "peak": bytes in memory at most so far}
"""

import ctypes
import json
import logging
import sys
import time
from pathlib import Path

import llama_cpp


def memory(field):
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def say(answer):
    print(json.dumps(answer), flush=True)


def convert(file, to):
    logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)
    llama_cpp.llama_backend_init()
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_ALL_F32
    options.allow_requantize = True
    if llama_cpp.llama_model_quantize(file.encode(), to.encode(), ctypes.byref(options)):
        sys.exit(f"llama.cpp cannot write {file} in f32")


def continued(model, prompt, count):
    # Nothing of the prompt is kept from the time before.
    model.reset()
    start = time.perf_counter()
    made = model.generate(prompt, temp=0.0)
    tokens = [next(made)]
    first = time.perf_counter() - start
    while len(tokens) < count:
        tokens.append(next(made))
    rest = time.perf_counter() - start - first
    made.close()
    return {"first": first, "rest": rest, "tokens": tokens, "peak": memory("VmHWM")}


def main():
    name = f"llama-cpp-python {llama_cpp.__version__}"
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
        say({"peer": name})
        return
    _, file, task = sys.argv[1:]
    task = json.loads(Path(task).read_text())["generate"]
    threads = task["threads"]
    model = llama_cpp.Llama(
        file, n_ctx=task["context"], n_threads=threads, n_threads_batch=threads, verbose=False
    )
    say({"peer": name, "resident": memory("VmRSS")})
    for line in sys.stdin:
        command, number = line.split()
        if command != "run":
            sys.exit(f"no such command: {line}")
        say(continued(model, task["prompts"][int(number)], task["tokens"]))


main()
