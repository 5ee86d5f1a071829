"""Writes the vectors that the encoder's tests compare with, by sentence-transformers on the same weights.

    pip install torch sentence-transformers
    python make.py MODEL SQUAD.json

MODEL is a directory of all-MiniLM-L6-v2; SQUAD.json is a file in the format of SQuAD v1.1 (here: xquad.en.json).
Beside this file it writes
  texts.json     200 texts: from nothing and one word to well beyond the model's 256 tokens
  vectors.f16    their vectors, 200 x 384 little-endian float16
  tiny/          a BERT of random weights and odd sizes, with a cased tokenizer
  tiny.json      variants of it: files that replace or remove its own, and the vectors it then gives
"""

import json
import random
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

HERE = Path(__file__).parent
ODD = [
    "", " ", "\n\t", ".", "?!", "a", "Paris", "antidisestablishmentarianism", "x" * 150, "42", "3.14159",
    "naïve café Zürich façade", "cafe\u0301 decomposed", "ﬁne ligature ½ ² №", "日本語のテキスト", "中文字符和 English 混合",
    "한국어 문장", "Привет, мир!", "שלום עולם", "مرحبا بالعالم", "हिन्दी पाठ", "🙂🚀 emoji 👩‍👩‍👧", "zero\u200bwidth", "soft\u00adhyphen",
    "tab\tand\r\nnewline", "null\x00byte \x07 bell", "\ufffd replacement", "[CLS] and [SEP] and [MASK]", "##ing ##ed",
    "fn main() { println!(\"{}\", 1 << 3); }", "https://example.com/a?b=c&d=%20#e", "SELECT * FROM t WHERE id = 'x';",
    "İstanbul ISPARTA ı i", "ẞ ß SS", "\u0130\u0307", "e\u0301\u0302\u0303\u0304", "｡ﾟﾟ fullwidth ＡＢＣ", "…—–‘’“”", "a" * 99, "a" * 101,
]


def texts(squad: Path) -> list[str]:
    """Odd texts, then stretches of paragraphs of every length, then several paragraphs at once."""
    rng = random.Random(7)
    paragraphs = [p for d in json.loads(squad.read_text())["data"] for p in d["paragraphs"]]
    words = " ".join(p["context"] for p in paragraphs).split(" ")
    questions = [q["question"] for p in paragraphs for q in p["qas"]]
    out = ODD + rng.sample(questions, 40)
    while len(out) < 200:
        length = rng.choice([3, 10, 20, 40, 60, 90, 120, 150, 180, 200, 210, 230, 300, 450])
        start = rng.randrange(len(words) - length)
        out.append(" ".join(words[start : start + length]))
    return out


def tiny(directory: Path) -> None:
    """Sizes that no register width divides, and a vocabulary of single letters and a few pieces."""
    torch.manual_seed(7)
    letters = [chr(c) for c in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] + letters + ["##" + c for c in letters] + ["the", "The", "##ing", "##er"]
    tokenizer = Tokenizer(models.WordPiece({p: i for i, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = [("[CLS]", 2), ("[SEP]", 3)]
    tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)
    config = BertConfig(
        vocab_size=len(pieces), hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=50,
        max_position_embeddings=40, initializer_range=0.3,
    )
    model = BertModel(config, add_pooling_layer=False).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias") or "LayerNorm" in name:
            torch.nn.init.normal_(parameter, mean=float(name.endswith("LayerNorm.weight")), std=0.3)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, directory / "model.safetensors")
    (directory / "model.safetensors").chmod(0o644)
    tokenizer.save(str(directory / "tokenizer.json"))
    files = {
        "config.json": {"architectures": ["BertModel"], **config.to_diff_dict()},
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "model_max_length": 32},
    }
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content, indent=1))


def chain(*kinds: str) -> list[dict]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    return [
        {"idx": i, "name": str(i), "path": paths[kind], "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]


def legacy(mode: str) -> dict:
    modes = ["cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"]
    return {"word_embedding_dimension": 36, **{f"pooling_mode_{m}": m == mode for m in modes}}


VARIANTS = {
    "no modules.json: mean, not normalised": {},
    "mean, normalised": {
        "modules.json": chain("Transformer", "Pooling", "Normalize"),
        "1_Pooling/config.json": legacy("mean_tokens"),
    },
    "cls, not normalised, 12 tokens": {
        "modules.json": chain("Transformer", "Pooling"),
        "1_Pooling/config.json": legacy("cls_token"),
        "sentence_bert_config.json": {"max_seq_length": 12, "do_lower_case": False},
    },
    "max, normalised, in the newer form": {
        "modules.json": chain("Transformer", "Pooling", "Normalize"),
        "1_Pooling/config.json": {"embedding_dimension": 36, "pooling_mode": "max", "include_prompt": True},
    },
    "prompts": {
        "modules.json": chain("Transformer", "Pooling", "Normalize"),
        "1_Pooling/config.json": legacy("mean_tokens"),
        "config_sentence_transformers.json": {"prompts": {"query": "query: ", "document": "passage: "}},
    },
    "lowercased first": {
        "modules.json": chain("Transformer", "Pooling", "Normalize"),
        "1_Pooling/config.json": legacy("mean_tokens"),
        "sentence_bert_config.json": {"max_seq_length": 20, "do_lower_case": True},
    },
}
TINY_TEXTS = ["", "The", "the thing", "Thinker of THE things", "a longer text, beyond every limit of the tiny model!", "é 日本"]


def variants(directory: Path) -> list[dict]:
    out = []
    for name, files in VARIANTS.items():
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(directory, copy, dirs_exist_ok=True)
            for path, content in files.items():
                target = Path(copy, path)
                target.parent.mkdir(exist_ok=True)
                target.write_text(json.dumps(content))
            model = SentenceTransformer(copy, device="cpu")
            queries, passages = model.encode_query(TINY_TEXTS), model.encode_document(TINY_TEXTS)
            out.append({"name": name, "files": files, "queries": queries.tolist(), "passages": passages.tolist()})
    return out


def main() -> None:
    model, squad = map(Path, sys.argv[1:])
    sample = texts(squad)
    encoder = SentenceTransformer(str(model), device="cpu")
    assert encoder.max_seq_length == 256, encoder.max_seq_length
    lengths = [len(encoder.tokenizer(t)["input_ids"]) for t in sample]
    print(f"{len(sample)} texts, {sum(n > 256 for n in lengths)} beyond 256 tokens, {sum(200 < n <= 256 for n in lengths)} of 200 to 256")
    vectors = encoder.encode(sample, batch_size=8)
    (HERE / "texts.json").write_text(json.dumps(sample, ensure_ascii=False, indent=0) + "\n")
    (HERE / "vectors.f16").write_bytes(vectors.astype("<f2").tobytes())
    tiny(HERE / "tiny")
    (HERE / "tiny.json").write_text(json.dumps({"texts": TINY_TEXTS, "variants": variants(HERE / "tiny")}) + "\n")


if __name__ == "__main__":
    main()
