"""Writes tiny cross-encoders and the scores that transformers gives with them.

    pip install torch transformers
    python make.py

Beside this file it writes
  one/ two/            BertForSequenceClassification of random weights, with one label and with two
  one.json two.json    queries, passages, and their scores: the logit, or the second logit less the first
Then `cargo test -p loci-models cross_encoders_agree -- --ignored` compares.
"""

import json
import shutil
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

HERE = Path(__file__).parent
TINY = HERE.parent / "tiny"
LIMIT = 32
LONG = "a question that is itself beyond all that the tiny model reads"
QUERIES = ["The thing?", "", "é 日本", LONG]
PASSAGES = ["the thing", "", "Thinker of THE things, at length", "?", "a longer text, beyond every limit of the tiny model!"]


def make(name: str, labels: int) -> None:
    torch.manual_seed(11 + labels)
    fields = json.loads((TINY / "config.json").read_text())
    fields.pop("architectures")
    config = BertConfig(**fields, num_labels=labels)
    model = BertForSequenceClassification(config).eval()
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias") or "LayerNorm" in parameter_name:
            torch.nn.init.normal_(parameter, mean=float(parameter_name.endswith("LayerNorm.weight")), std=0.3)
    inner = Tokenizer.from_file(str(TINY / "tokenizer.json"))
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    model.save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)
    inner.save(str(directory / "tokenizer.json"))
    limit = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": LIMIT}
    (directory / "tokenizer_config.json").write_text(json.dumps(limit, indent=1))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="[PAD]", model_max_length=LIMIT)
    stored = []
    for query in QUERIES:
        scores = []
        for passage in PASSAGES:
            # One pair at a time: no padding.
            encoded = tokenizer(query, passage, truncation="longest_first", return_tensors="pt", return_token_type_ids=True)
            with torch.no_grad():
                logits = model(**encoded).logits[0]
            scores.append(float(logits[0] if labels == 1 else logits[1] - logits[0]))
        stored.append({"query": query, "passages": PASSAGES, "scores": scores})
    (HERE / f"{name}.json").write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    make("one", 1)
    make("two", 2)
