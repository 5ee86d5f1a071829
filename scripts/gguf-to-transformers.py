"""Writes the model of a .gguf file as transformers has it: float32 weights, tokenizer and chat template."""

import sys
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

gguf, to = Path(sys.argv[1]), Path(sys.argv[2])
source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
model = AutoModelForCausalLM.from_pretrained(**source, dtype="float32")
# What was unpacked is not quantised any more.
if hasattr(model.config, "quantization_config"):
    del model.config.quantization_config
model.hf_quantizer = None
partial = to.with_name(to.name + ".partial")
model.save_pretrained(partial)
AutoTokenizer.from_pretrained(**source).save_pretrained(partial)
partial.rename(to)
