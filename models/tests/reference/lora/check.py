"""Loads an adapter that Loci wrote by peft, and compares logits: python check.py MODEL ADAPTER LOGITS

MODEL is a directory as transformers writes it, ADAPTER one as peft reads it. LOGITS is JSON: for each text its token ids and
the logits that Loci computed with the adapter, row after row. Ends with 1 if any logit differs by more than 1e-5 of the
largest, or if the adapter changes nothing.
"""

import json
import sys
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM


@torch.no_grad()
def main() -> int:
    model_path, adapter, logits = sys.argv[1:]
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager").eval()
    texts = json.loads(Path(logits).read_text())
    plain = [base(input_ids=torch.tensor([text["ids"]])).logits[0] for text in texts]
    model = PeftModel.from_pretrained(base, adapter).eval()
    worst, change = 0.0, 0.0
    for text, before in zip(texts, plain):
        want = model(input_ids=torch.tensor([text["ids"]])).logits[0]
        got = torch.tensor(text["logits"]).reshape(want.shape)
        worst = max(worst, float((got - want).abs().max() / want.abs().max()))
        change = max(change, float((before - want).abs().max() / want.abs().max()))
    print(f"largest relative error {worst:.1e}, largest change by the adapter {change:.1e}, peft's config: {model.peft_config['default']}")
    return 0 if worst < 1e-5 and change > 1e-3 else 1


if __name__ == "__main__":
    sys.exit(main())
