//! Which of a repository's files are a model's.

use std::path::{Component, Path};

/// The file that a tokenizer is in.
const TOKENIZER: &str = "tokenizer.json";

/// What is wanted of a model.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Whole,
    Tokenizer,
}

impl Part {
    /// What its record is called, for a commit.
    pub fn record(self, commit: &str) -> String {
        match self {
            Self::Whole => format!("{commit}.json"),
            Self::Tokenizer => format!("{commit}.tokenizer.json"),
        }
    }

    /// Those of a model's files that it consists of.
    pub fn of(self, mut files: Vec<(String, u64)>) -> Result<Vec<(String, u64)>, String> {
        if self == Self::Tokenizer {
            files.retain(|(path, _)| path == TOKENIZER);
        }
        match files.is_empty() {
            true => Err(format!("the repository has no {TOKENIZER}")),
            false => Ok(files),
        }
    }
}

/// Those of a repository's files that a model is loaded from. A .gguf file is, where it has no other weights.
pub(super) fn wanted(files: Vec<(String, u64)>) -> Result<Vec<(String, u64)>, String> {
    let (mut wanted, others): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(path, _)| is_wanted(path));
    let weights = |(path, _): &(String, u64)| path.ends_with(".safetensors");
    if !wanted.iter().any(weights) {
        let packed = |(path, _): &(String, u64)| !path.contains('/') && is_packed(Path::new(path));
        let packed: Vec<_> = others.into_iter().filter(packed).collect();
        if packed.len() > 1 {
            let names: Vec<&str> = packed.iter().map(|(path, _)| path.as_str()).collect();
            return Err(format!(
                "the repository has several models in .gguf files ({}), and one cannot be named: take a repository that has one, or fetch the file and name it by file://",
                names.join(", ")
            ));
        }
        wanted.extend(packed);
    }
    if wanted.is_empty() {
        let reason =
            "the repository has none of a model's files (config.json, model.safetensors, …)";
        return Err(reason.to_owned());
    }
    Ok(wanted)
}

pub(super) fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gguf")
}

/// Configuration, tokenizer, chat template and weights, at the top or in the folder of a module such as `1_Pooling`.
fn is_wanted(path: &str) -> bool {
    let parts: Vec<Component> = Path::new(path).components().collect();
    if !parts
        .iter()
        .all(|part| matches!(part, Component::Normal(_)))
    {
        return false;
    }
    let file = match path.split_once('/') {
        None => path,
        Some((folder, file))
            if folder.starts_with(|c: char| c.is_ascii_digit()) && folder.contains('_') =>
        {
            file
        }
        Some(_) => return false,
    };
    !file.contains('/')
        && (file.ends_with(".json")
            || path == "chat_template.jinja"
            || file.starts_with("model") && file.ends_with(".safetensors"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_models_own_files_are_wanted() {
        for path in [
            "config.json",
            "model.safetensors",
            "model-00001-of-00002.safetensors",
            "1_Pooling/config.json",
            "0_Transformer/model.safetensors",
            "chat_template.jinja",
        ] {
            assert!(is_wanted(path), "{path}");
        }
        for path in [
            "README.md",
            "pytorch_model.bin",
            "onnx/model.onnx",
            "onnx/config.json",
            "../config.json",
            "/config.json",
            "1_Pooling/a/b.json",
            "adapter.safetensors",
            "model.Q8_0.gguf",
            "more/chat_template.jinja",
        ] {
            assert!(!is_wanted(path), "{path}");
        }
    }

    #[test]
    fn a_packed_model_is_wanted_where_it_is_the_only_one() {
        let chosen = |paths: &[&str]| {
            let files = paths.iter().map(|path| ((*path).to_owned(), 1));
            let wanted = wanted(files.collect())?;
            Ok::<_, String>(wanted.into_iter().map(|(path, _)| path).collect::<Vec<_>>())
        };
        let whole = ["config.json", "model.safetensors", "a.gguf", "README.md"];
        assert_eq!(chosen(&whole).unwrap(), whole[..2]);
        let packed = ["README.md", "config.json", "a.gguf", "old/b.gguf"];
        assert_eq!(chosen(&packed).unwrap(), ["config.json", "a.gguf"]);
        let refused = chosen(&["a.Q4_1.gguf", "a.Q8_0.gguf"]).unwrap_err();
        assert!(
            refused.contains("(a.Q4_1.gguf, a.Q8_0.gguf)") && refused.contains("file://"),
            "{refused}"
        );
        assert!(chosen(&["README.md"]).unwrap_err().contains("none of"));
    }

    #[test]
    fn a_part_of_a_model_has_a_record_of_its_own() {
        let files = ["config.json", "tokenizer.json", "model.safetensors"];
        let files: Vec<_> = files.iter().map(|path| ((*path).to_owned(), 1)).collect();
        assert_eq!(Part::Whole.of(files.clone()).unwrap(), files);
        assert_eq!(Part::Tokenizer.of(files.clone()).unwrap(), files[1..2]);
        let refused = Part::Tokenizer.of(files[..1].to_vec()).unwrap_err();
        assert!(refused.contains("tokenizer.json"), "{refused}");
        assert_ne!(Part::Whole.record("a"), Part::Tokenizer.record("a"));
    }
}
