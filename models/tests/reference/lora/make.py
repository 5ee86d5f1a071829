"""Writes what the tests of adapters compare with, by torch and peft on the tiny decoder of ../decoder/make.py.

    pip install torch transformers peft
    python ../decoder/make.py ...   # first, for ../decoder/tiny
    python make.py

Beside this file it writes, for each adapter NAME,
  NAME/                       the adapter as peft saves it before it is trained: `B` is random too, so that it adds something
  NAME.logits.safetensors     the logits of texts with it, after peft has loaded it
  NAME.trained.safetensors    its weights after the steps, as peft saves them
  reference.json              for each: settings as TrainingSettings reads them, examples, the texts, and of each step the loss, the
                              norm of the gradients and the learning rate
Every step has all examples, so that their order does not matter.
"""

import json
import math
import shutil
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

HERE = Path(__file__).parent
TINY = HERE.parent / "decoder" / "tiny"
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONTEXT = 96
STEPS = 12
ADAPTERS = {
    "attention": ({"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}, {"schedule": "cosine"}),
    "all": ({"r": 3, "lora_alpha": 5, "target_modules": ALL}, {"schedule": "linear", "maxNorm": "0.3", "weightDecay": "0.5"}),
}
SCHEDULES = {"cosine": get_cosine_schedule_with_warmup, "linear": get_linear_schedule_with_warmup}


def base() -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32, attn_implementation="eager")


def examples(vocabulary: int) -> list[dict]:
    """Of all lengths, with targets at their end or scattered."""
    generator = torch.Generator().manual_seed(5)
    out = []
    for length in [2, 9, 31, 64, CONTEXT, 70]:
        tokens = torch.randint(3, vocabulary, (length,), generator=generator).tolist()
        targets = [i > 0 and (i * 7 % 3 == 0 if length % 2 else i >= length // 2) for i in range(length)]
        out.append({"tokens": tokens, "targets": targets})
    assert all(any(example["targets"]) for example in out)
    return out


def settings(examples: int, **changes) -> dict:
    """As TrainingSettings writes itself; a large epsilon keeps AdamW from blowing up gradients that are all rounding."""
    return {
        "epochs": STEPS, "batch": examples, "passTokens": 150, "learningRate": "0.01", "schedule": "cosine",
        "warmup": "0.25", "weightDecay": "0.1", "beta1": "0.9", "beta2": "0.999", "epsilon": "1e-6", "maxNorm": "1.0", "seed": 0,
        **changes,
    }


def summed(model: torch.nn.Module, example: dict) -> torch.Tensor:
    """The cross entropies of an example's targets, added up."""
    tokens, targets = torch.tensor(example["tokens"]), torch.tensor(example["targets"])
    logits = model(input_ids=tokens[None, :-1]).logits[0]
    return torch.nn.functional.cross_entropy(logits[targets[1:]], tokens[1:][targets[1:]], reduction="sum")


def train(model: torch.nn.Module, examples: list[dict], chosen: dict) -> dict:
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=float(chosen["learningRate"]), betas=(float(chosen["beta1"]), float(chosen["beta2"])),
        eps=float(chosen["epsilon"]), weight_decay=float(chosen["weightDecay"]),
    )
    warmup = math.ceil(STEPS * float(chosen["warmup"]))
    schedule = SCHEDULES[chosen["schedule"]](optimizer, warmup, STEPS)
    count = sum(sum(example["targets"]) for example in examples)
    out = {"losses": [], "norms": [], "rates": []}
    model.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss = sum(summed(model, example) for example in examples) / count
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, float(chosen["maxNorm"]))
        out["losses"].append(float(loss.detach()))
        out["norms"].append(float(norm))
        out["rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    return out


def save(model: PeftModel, directory: Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(str(directory))
    for extra in directory.glob("README.md"):
        extra.unlink()
    config = directory / "adapter_config.json"
    written = json.loads(config.read_text())
    # Not where this machine keeps it; and sets are saved in any order.
    written["base_model_name_or_path"] = "tiny"
    written["target_modules"] = sorted(written["target_modules"])
    config.write_text(json.dumps(written, indent=2))
    for file in directory.iterdir():
        file.chmod(0o644)


@torch.no_grad()
def logits(model: torch.nn.Module, texts: list[list[int]]) -> dict[str, torch.Tensor]:
    model.eval()
    return {str(i): model(input_ids=torch.tensor([ids])).logits[0].contiguous() for i, ids in enumerate(texts)}


def main() -> None:
    torch.set_num_threads(2)
    vocabulary = json.loads((TINY / "config.json").read_text())["vocab_size"]
    stored = json.loads((HERE.parent / "decoder" / "tiny.json").read_text())["tiny"]
    texts = [text["ids"] for text in stored["texts"]]
    given = examples(vocabulary)
    out = {}
    for name, (shape, changes) in ADAPTERS.items():
        torch.manual_seed(len(name))
        config = LoraConfig(**shape, lora_dropout=0.0, bias="none", task_type="CAUSAL_LM", init_lora_weights=False)
        save(get_peft_model(base(), config), HERE / name)
        model = PeftModel.from_pretrained(base(), str(HERE / name), is_trainable=True)
        save_file(logits(model, texts), HERE / f"{name}.logits.safetensors")
        chosen = settings(len(given), **changes)
        out[name] = {"settings": chosen, "texts": texts, "examples": given, **train(model, given, chosen)}
        assert max(out[name]["norms"]) > float(chosen["maxNorm"]), "nothing was clipped"
        with tempfile.TemporaryDirectory() as directory:
            save(model, Path(directory) / "trained")
            trained = Path(directory) / "trained" / "adapter_model.safetensors"
            shutil.copyfile(trained, HERE / f"{name}.trained.safetensors")
        print(name, [round(loss, 4) for loss in out[name]["losses"]], [round(norm, 3) for norm in out[name]["norms"]])
    (HERE / "reference.json").write_text(json.dumps(out) + "\n")
    for file in HERE.glob("*.safetensors"):
        file.chmod(0o644)


if __name__ == "__main__":
    main()
