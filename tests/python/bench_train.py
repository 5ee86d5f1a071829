"""torch and PEFT as peers of `loci bench train`, each way in a process of its own.

    bench_train.py convert MODEL.gguf DIRECTORY    writes the weights in f32, as transformers reads them
    bench_train.py WAY TASK.json                   trains what the task says

The ways to make a batch of examples, all with transformers' scaled-dot-product attention and torch's fused AdamW:
  trainer    padded to the longest; the model's own loss from labels, as in transformers' Trainer: logits of all tokens
  padded     padded to the longest; logits of targets only, as in TRL's SFTTrainer
  packed     all in one row, told apart by their positions; logits of targets only
It begins by saying what it is, and the bytes that it has in memory: {"peer": "name version", "resident": n}. Then it reads
commands from standard input, one a line, and answers each with one line of JSON:
  step    makes the next step    {"seconds": it took, "loss": before it, "peak": bytes in memory at most so far}
"""

import json
import sys
import time
from pathlib import Path

import peft
import torch
import transformers
from torch.nn import functional
from transformers import AutoModelForCausalLM

IGNORED = -100


def memory(field):
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def say(answer):
    print(json.dumps(answer), flush=True)


def convert(file, directory):
    file = Path(file)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
    # It is packed no more, and transformers saves nothing that says it is.
    model.hf_quantizer = None
    vars(model.config).pop("quantization_config", None)
    model.save_pretrained(directory)


def padded(examples):
    longest = max(len(example["tokens"]) for example in examples)
    rows = lambda values, by: torch.tensor([row + [by] * (longest - len(row)) for row in values])
    return {
        "input_ids": rows([example["tokens"] for example in examples], 0),
        "attention_mask": rows([[1] * len(example["tokens"]) for example in examples], 0),
        "labels": rows([labels(example) for example in examples], IGNORED),
    }


def packed(examples):
    row = lambda values: torch.tensor([[v for value in values for v in value]])
    return {
        "input_ids": row(example["tokens"] for example in examples),
        "position_ids": row(range(len(example["tokens"])) for example in examples),
        "labels": row(labels(example) for example in examples),
    }


def labels(example):
    """The first token of an example is never a target, so that none is predicted from the example before."""
    return [token if target else IGNORED for token, target in zip(example["tokens"], example["targets"])]


def of_all(batch):
    return lambda model: model(**batch, use_cache=False).loss


def of_targets(batch):
    wanted = functional.pad(batch.pop("labels")[:, 1:], (0, 1), value=IGNORED)
    kept = wanted != IGNORED

    def loss(model):
        logits = model(**batch, use_cache=False, logits_to_keep=kept).logits
        return functional.cross_entropy(logits, wanted[kept])

    return loss


WAYS = {
    "trainer": ("padded, logits of all tokens", lambda examples: of_all(padded(examples))),
    "padded": ("padded", lambda examples: of_targets(padded(examples))),
    "packed": ("packed", lambda examples: of_targets(packed(examples))),
}


def load(task):
    base = AutoModelForCausalLM.from_pretrained(task["weights"], dtype=torch.float32, attn_implementation="sdpa")
    if task["recompute"]:
        base.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return peft.PeftModel.from_pretrained(base, task["adapter"], is_trainable=True).train()


def adamw(parameters, settings):
    return torch.optim.AdamW(
        parameters,
        lr=float(settings["learningRate"]),
        betas=(float(settings["beta1"]), float(settings["beta2"])),
        eps=float(settings["epsilon"]),
        weight_decay=float(settings["weightDecay"]),
        fused=True,
    )


def main():
    if sys.argv[1] == "convert":
        convert(*sys.argv[2:])
        say({"peer": f"transformers {transformers.__version__}"})
        return
    way, file = sys.argv[1:]
    task = json.loads(Path(file).read_text())["train"]
    settings = task["settings"]
    torch.set_num_threads(task["threads"])
    name, make = WAYS[way]
    loss_of = make(task["examples"])
    model = load(task)
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = adamw(parameters, settings)

    def step():
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, float(settings["maxNorm"]))
        optimizer.step()
        return loss.item()

    say({"peer": f"torch {torch.__version__}, peft {peft.__version__}: {name}", "resident": memory("VmRSS")})
    for line in sys.stdin:
        if line.strip() != "step":
            sys.exit(f"no such command: {line}")
        start = time.perf_counter()
        loss = step()
        seconds = time.perf_counter() - start
        say({"seconds": seconds, "loss": loss, "peak": memory("VmHWM")})


main()
