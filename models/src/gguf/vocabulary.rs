//! The tokenizer that a .gguf file describes, in the form of `tokenizer.json`.

use serde_json::{Value, json};

use super::Gguf;
use crate::ModelError;

/// Llama 3's pre-tokenizer, as its tokenizer.json has it.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How texts are cut before byte pairs are merged.
struct Cut {
    pre_tokenizer: Value,
    /// Whether a piece that is a token stays whole, whatever the merges would make of it.
    whole: bool,
    /// Whether a text begins with a mark where the file does not say.
    mark: bool,
}

/// What an entry of the vocabulary is, in llama.cpp's numbers.
const NORMAL: i128 = 1;
const CONTROL: i128 = 3;
const USER_DEFINED: i128 = 4;
const UNUSED: i128 = 5;

pub(crate) fn tokenizer_json(file: &Gguf) -> Result<Vec<u8>, ModelError> {
    let model = file.text("tokenizer.ggml.model")?.unwrap_or("(none)");
    if model != "gpt2" {
        let supported = "gpt2 (byte-level byte pairs)";
        return Err(refuse(file, "tokenizer.ggml.model", model, supported));
    }
    for key in [
        "tokenizer.ggml.add_space_prefix",
        "tokenizer.ggml.add_eos_token",
    ] {
        if file.flag(key)? == Some(true) {
            return Err(refuse(file, key, "true", "false"));
        }
    }
    let cut = cut(file)?;
    let tokens = file.needed_texts("tokenizer.ggml.tokens")?;
    let vocabulary: serde_json::Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), json!(id)))
        .collect();
    if vocabulary.len() != tokens.len() {
        let reason = "tokenizer.ggml.tokens has a token twice; convert the model anew";
        return Err(ModelError::config(file.path(), reason));
    }
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(file, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": cut.pre_tokenizer,
        "post_processor": beginning(file, &tokens, cut.mark)?,
        "decoder": byte_level(true, true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": cut.whole,
            "vocab": vocabulary,
            "merges": merges(file)?,
        },
    });
    Ok(tokenizer.to_string().into_bytes())
}

fn refuse(file: &Gguf, key: &str, value: &str, supported: &'static str) -> ModelError {
    ModelError::unsupported(file.path(), key, value, supported)
}

fn byte_level(prefix: bool, regex: bool) -> Value {
    json!({
        "type": "ByteLevel",
        "add_prefix_space": prefix,
        "trim_offsets": true,
        "use_regex": regex,
    })
}

fn sequence(first: Value, second: Value) -> Value {
    json!({"type": "Sequence", "pretokenizers": [first, second]})
}

fn cut(file: &Gguf) -> Result<Cut, ModelError> {
    let key = "tokenizer.ggml.pre";
    let name = file.text(key)?.unwrap_or("(none)");
    match name {
        "gpt-2" => Ok(Cut {
            pre_tokenizer: byte_level(false, true),
            whole: false,
            mark: false,
        }),
        "smollm" => {
            let digits = json!({"type": "Digits", "individual_digits": true});
            Ok(Cut {
                pre_tokenizer: sequence(digits, byte_level(false, true)),
                whole: false,
                mark: false,
            })
        }
        "llama-bpe" => {
            let split = json!({
                "type": "Split",
                "pattern": {"Regex": LLAMA_3},
                "behavior": "Isolated",
                "invert": false,
            });
            Ok(Cut {
                pre_tokenizer: sequence(split, byte_level(false, false)),
                whole: true,
                mark: true,
            })
        }
        other => Err(refuse(file, key, other, "gpt-2, smollm, llama-bpe")),
    }
}

fn added(file: &Gguf, tokens: &[&str]) -> Result<Vec<Value>, ModelError> {
    let key = "tokenizer.ggml.token_type";
    let kinds = file.integers(key)?.unwrap_or_default();
    if kinds.len() != tokens.len() {
        let (kinds, tokens) = (kinds.len(), tokens.len());
        let reason = format!("{key} has {kinds} entries, and there are {tokens} tokens");
        return Err(ModelError::config(file.path(), reason));
    }
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(kinds).enumerate() {
        match kind {
            NORMAL | UNUSED => {}
            CONTROL | USER_DEFINED => added.push(json!({
                "id": id,
                "content": token,
                "single_word": false,
                "lstrip": false,
                "rstrip": false,
                "normalized": kind == USER_DEFINED,
                "special": kind == CONTROL,
            })),
            other => {
                let field = format!("{key} of token {id}");
                let supported = "1 (normal), 3 (control), 4 (user-defined), 5 (unused)";
                return Err(refuse(file, &field, &other.to_string(), supported));
            }
        }
    }
    Ok(added)
}

fn merges(file: &Gguf) -> Result<Vec<Value>, ModelError> {
    let merges = file.needed_texts("tokenizer.ggml.merges")?;
    let pair = |merge: &&str| match merge.split_once(' ') {
        Some((first, second)) => Ok(json!([first, second])),
        None => {
            let reason = format!("tokenizer.ggml.merges: \"{merge}\" is not two tokens");
            Err(ModelError::config(file.path(), reason))
        }
    };
    merges.iter().map(pair).collect()
}

/// The mark with which texts begin, where they do.
fn beginning(file: &Gguf, tokens: &[&str], default: bool) -> Result<Value, ModelError> {
    if !file
        .flag("tokenizer.ggml.add_bos_token")?
        .unwrap_or(default)
    {
        return Ok(Value::Null);
    }
    let id = file.needed_integer("tokenizer.ggml.bos_token_id")?;
    let Some(mark) = tokens.get(id) else {
        let reason = format!("tokenizer.ggml.bos_token_id {id} is not among the tokens");
        return Err(ModelError::config(file.path(), reason));
    };
    let before = json!({"SpecialToken": {"id": mark, "type_id": 0}});
    let part = |name: &str, kind: u32| json!({"Sequence": {"id": name, "type_id": kind}});
    let again = json!({"SpecialToken": {"id": mark, "type_id": 1}});
    let (single, pair) = (part("A", 0), part("B", 1));
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [before, single],
        "pair": [before, single, again, pair],
        "special_tokens": {(*mark): {"id": mark, "ids": [id], "tokens": [mark]}},
    }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::testing::{Item, Writer};
    use super::*;
    use crate::decoder::DecoderTokenizer;

    const TOKENS: [&str; 12] = [
        "<s>", "a", "b", "Ġ", "1", "2", "ab", "Ġab", "12", "<u v>", "Ã", "©",
    ];
    const KINDS: [i32; 12] = [3, 1, 1, 1, 1, 1, 1, 1, 1, 4, 1, 1];
    const MERGES: [&str; 3] = ["a b", "Ġ ab", "1 2"];

    fn tokenizer(pre: &str, further: &[(&str, Item<'_>)]) -> Result<DecoderTokenizer, ModelError> {
        let mut writer = Writer::new(3);
        writer
            .meta("tokenizer.ggml.model", Item::Text("gpt2"))
            .meta("tokenizer.ggml.pre", Item::Text(pre))
            .meta("tokenizer.ggml.tokens", Item::Texts(&TOKENS))
            .meta("tokenizer.ggml.token_type", Item::I32s(&KINDS))
            .meta("tokenizer.ggml.merges", Item::Texts(&MERGES))
            .meta("tokenizer.ggml.bos_token_id", Item::U32(0));
        for (key, item) in further {
            writer.meta(key, *item);
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.gguf");
        std::fs::write(&path, writer.bytes()).unwrap();
        let json = tokenizer_json(&Gguf::open(&path)?)?;
        DecoderTokenizer::parse(&json, Path::new("m.gguf"), TOKENS.len())
    }

    #[test]
    fn pre_tokenizers_cut_as_their_names_say() {
        let text = "<s>ab ab12<u v>é";
        for (pre, ids) in [
            ("gpt-2", vec![0, 6, 7, 8, 9, 10, 11]),
            ("smollm", vec![0, 6, 7, 4, 5, 9, 10, 11]),
            ("llama-bpe", vec![0, 6, 7, 8, 9, 10, 11]),
        ] {
            let tokenizer = tokenizer(pre, &[]).unwrap();
            assert_eq!(tokenizer.encode_bare(text).unwrap(), ids, "{pre}");
            assert_eq!(tokenizer.decode(&ids), "ab ab12<u v>é", "{pre}");
            let marked = tokenizer.encode("ab").unwrap();
            let want: &[u32] = if pre == "llama-bpe" { &[0, 6] } else { &[6] };
            assert_eq!(marked, want, "{pre}");
        }
        let marked = tokenizer(
            "smollm",
            &[("tokenizer.ggml.add_bos_token", Item::Bool(true))],
        );
        assert_eq!(marked.unwrap().encode("ab").unwrap(), [0, 6]);
    }

    #[test]
    fn what_would_be_cut_otherwise_is_refused_by_name() {
        let space = ("tokenizer.ggml.add_space_prefix", Item::Bool(true));
        let other = ("tokenizer.ggml.model", Item::Text("llama"));
        let kinds = ("tokenizer.ggml.token_type", Item::I32s(&[1; 11]));
        let merges = ("tokenizer.ggml.merges", Item::Texts(&["ab"]));
        for (pre, further, parts) in [
            ("qwen2", vec![], ["tokenizer.ggml.pre qwen2", "smollm"]),
            ("default", vec![], ["tokenizer.ggml.pre default", "gpt-2"]),
            ("gpt-2", vec![space], ["add_space_prefix true", "false"]),
            ("gpt-2", vec![other], ["tokenizer.ggml.model llama", "gpt2"]),
            ("gpt-2", vec![kinds], ["11 entries", "12 tokens"]),
            ("gpt-2", vec![merges], ["\"ab\"", "two tokens"]),
        ] {
            let message = tokenizer(pre, &further).err().unwrap().to_string();
            for part in parts {
                assert!(message.contains(part), "\"{part}\" is not in: {message}");
            }
        }
    }
}
