"""One peer of `loci bench embed`, in a process of its own.

    peers.py PEER MODEL_DIRECTORY THREADS MAX_TOKENS

Reads commands from standard input, one a line, and answers each with one line of JSON:
  run N TEXTS.json    embeds the texts N times             {"seconds": of one time}
  write 1 TEXTS.json  and writes their vectors, TEXTS.f32  {"seconds": ...}
It begins by saying what it is: {"peer": "name version"}.
"""

import json
import sys
import tempfile
import time
from pathlib import Path


def sentence_transformers(directory, threads, limit):
    import sentence_transformers as st
    import torch

    torch.set_num_threads(threads)
    model = st.SentenceTransformer(directory, device="cpu")
    model.max_seq_length = limit

    def embed(texts):
        return model.encode(texts, batch_size=32, normalize_embeddings=True, show_progress_bar=False)

    return f"sentence-transformers {st.__version__}, torch {torch.__version__}", embed


def onnxruntime_unsorted(directory, threads, limit):
    name, embed = onnxruntime(directory, threads, limit, ordered=False)
    return f"{name}, unsorted", embed


def onnxruntime(directory, threads, limit, ordered=True):
    """The model exported to ONNX, its graph fused for BERT, on batches of 32 texts: sorted by length, or as they come."""
    import numpy as np
    import onnxruntime as ort
    from tokenizers import Tokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = ort.InferenceSession(exported(directory), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    tokenizer.enable_truncation(limit)
    tokenizer.enable_padding()

    def batch(texts):
        encoded = tokenizer.encode_batch(texts)
        mask = np.array([e.attention_mask for e in encoded], dtype=np.int64)
        ids = np.array([e.ids for e in encoded], dtype=np.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = session.run(None, {n: given[n] for n in names})[0]
        weight = mask[:, :, None].astype(np.float32)
        mean = (hidden * weight).sum(1) / weight.sum(1)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)

    def embed(texts):
        order = list(range(len(texts)))
        if ordered:
            order.sort(key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), session.get_outputs()[0].shape[-1]), dtype=np.float32)
        for start in range(0, len(order), 32):
            part = order[start : start + 32]
            out[part] = batch([texts[i] for i in part])
        return out

    return f"ONNX Runtime {ort.__version__}", embed


def exported(directory):
    import torch
    from onnxruntime.transformers import optimizer
    from transformers import AutoModel

    class Hidden(torch.nn.Module):
        def __init__(self, bert):
            super().__init__()
            self.bert = bert

        def forward(self, input_ids, attention_mask, token_type_ids):
            return self.bert(input_ids, attention_mask, token_type_ids).last_hidden_state

    bert = AutoModel.from_pretrained(directory, attn_implementation="eager").eval()
    names = ["input_ids", "attention_mask", "token_type_ids"]
    example = tuple(torch.ones(2, 8, dtype=torch.long) for _ in names)
    raw, fused = (str(Path(tempfile.mkdtemp()) / f"{n}.onnx") for n in ("raw", "fused"))
    dynamic = {name: {0: "texts", 1: "tokens"} for name in [*names, "hidden"]}
    torch.onnx.export(
        Hidden(bert), example, raw, input_names=names, output_names=["hidden"],
        dynamic_axes=dynamic, opset_version=17, dynamo=False,
    )
    config = bert.config
    model = optimizer.optimize_model(
        raw, model_type="bert", num_heads=config.num_attention_heads, hidden_size=config.hidden_size
    )
    if not model.is_fully_optimized():
        sys.exit("the exported graph is not fully fused")
    model.save_model_to_file(fused)
    return fused


def main():
    peer, directory, threads, limit = sys.argv[1:]
    peers = {
        "sentence-transformers": sentence_transformers,
        "onnxruntime": onnxruntime,
        "onnxruntime-unsorted": onnxruntime_unsorted,
    }
    name, embed = peers[peer](directory, int(threads), int(limit))
    print(json.dumps({"peer": name}), flush=True)
    for line in sys.stdin:
        command, times, path = line.rstrip("\n").split(" ", 2)
        texts = json.loads(Path(path).read_text())
        start = time.perf_counter()
        for _ in range(int(times)):
            vectors = embed(texts)
        seconds = (time.perf_counter() - start) / int(times)
        if command == "write":
            vectors.astype("<f4").tofile(Path(path).with_suffix(".f32"))
        print(json.dumps({"seconds": seconds}), flush=True)


main()
