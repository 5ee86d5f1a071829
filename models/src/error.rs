use std::io;
use std::path::{Path, PathBuf};

/// Why a model could not be named, fetched, loaded or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The text is not a model reference.
    #[error(
        "model \"{text}\": {reason}; write hf://org/name@revision, file:///absolute/directory or file://./relative/directory"
    )]
    Reference {
        /// What was written.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A file that every model of this kind has is not there.
    #[error("{path}: no such file, and a model needs it ({purpose}); fetch the model again or name a directory that has it", path = path.display())]
    MissingFile {
        /// Where it was looked for.
        path: PathBuf,
        /// What the file is for.
        purpose: &'static str,
    },
    /// The operating system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A configuration file is malformed, or contradicts another file of the model.
    #[error("{path}: {reason}", path = path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// The model asks for something that is not implemented.
    #[error("{path}: {field} {value} is not supported; supported: {supported}", path = path.display())]
    Unsupported {
        /// The file that asks for it.
        path: PathBuf,
        /// The field that asks for it.
        field: String,
        /// Its value.
        value: String,
        /// What would be accepted.
        supported: &'static str,
    },
    /// The weights file is damaged.
    #[error("{path}: not a whole safetensors file: {reason}; fetch the model again", path = path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A GGUF file is damaged.
    #[error("{path}: not a whole GGUF file: {reason}; fetch the model again", path = path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The weights lack a tensor.
    #[error("{path}: no tensor \"{tensor}\", which config.json implies; the weights belong to another model", path = path.display())]
    MissingTensor {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
    },
    /// A tensor has another shape than config.json implies.
    #[error("{path}: tensor \"{tensor}\" has shape {got:?}, config.json implies {expected:?}; weights and config.json belong to different models", path = path.display())]
    Shape {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The shape that config.json implies.
        expected: Vec<usize>,
        /// The shape that the file holds.
        got: Vec<usize>,
    },
    /// A tensor has an element type that is not read.
    #[error("{path}: tensor \"{tensor}\" has dtype {dtype}; supported: F32, F16, BF16", path = path.display())]
    Dtype {
        /// The weights file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// The element type, as safetensors names it.
        dtype: String,
    },
    /// The tokenizer cannot be read or does not fit the model.
    #[error("{path}: {reason}", path = path.display())]
    Tokenizer {
        /// The tokenizer's file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The device asked for is not available.
    #[error("device {requested}: {reason}")]
    Device {
        /// The device asked for.
        requested: &'static str,
        /// Why not, and the way out.
        reason: &'static str,
    },
    /// The model hub did not deliver.
    #[error("{model} from {endpoint}: {reason}")]
    Hub {
        /// The model reference.
        model: String,
        /// The hub's address.
        endpoint: String,
        /// What the hub or the network said.
        reason: String,
    },
    /// A file's content is not what was published, or not what was once fetched.
    #[error("{path}: checksum is sha256:{got}, expected sha256:{expected}; the file was damaged on its way or on disk", path = path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// The published digest, hexadecimal.
        expected: String,
        /// The digest of the file, hexadecimal.
        got: String,
    },
    /// The tokenizer failed on a text.
    #[error("a text could not be tokenized: {0}")]
    Tokenize(String),
    /// The chat template refused the chat, or there is none.
    #[error("the chat cannot be rendered: {0}")]
    Chat(String),
    /// A text is longer than the model's context.
    #[error("a text of {count} tokens is longer than the model's context of {limit}; shorten it")]
    TooLong {
        /// Its tokens.
        count: usize,
        /// Tokens that the model takes.
        limit: usize,
    },
    /// What was asked for means nothing.
    #[error("{field} {value}: expected {expected}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The model has no such linear layer.
    #[error("the model has no linear layer \"{target}\" for an adapter; it has {targets}")]
    Target {
        /// The layer asked for.
        target: String,
        /// What its linear layers are called.
        targets: String,
    },
    /// An adapter belongs to another model.
    #[error(
        "{adapter} belongs to a model with {base}, and this model has {model}; load the model that it was trained on"
    )]
    OtherBase {
        /// The adapter: where it is, or its digest.
        adapter: String,
        /// The digest of its model's weights, or its model's architecture.
        base: String,
        /// The same of the model at hand.
        model: String,
    },
    /// An adapter does not compute what it computed when it was judged.
    #[error(
        "the answer {completion} has log-probability {got:.5}, and had {recorded:.5} when it was recorded: these are not the adapter, the model and the tokenizer that were judged; load them anew, or judge the adapter here"
    )]
    Probe {
        /// The recorded answer, quoted.
        completion: String,
        /// Its log-probability then.
        recorded: f64,
        /// Its log-probability now.
        got: f64,
    },
    /// An example has nothing that can be learned.
    #[error("the example cannot be learned: {0}")]
    Example(String),
    /// The bytes are not where a training was left, or not this one.
    #[error("the checkpoint cannot be continued: {0}")]
    Checkpoint(String),
    /// A training cannot go on.
    #[error("the training stopped in step {step}: {reason}")]
    Training {
        /// The step, the first being 1.
        step: usize,
        /// What happened, and the way out.
        reason: String,
    },
    /// The computation failed.
    #[error("the computation failed: {0}")]
    Compute(String),
    /// The memory of the device is full.
    #[error("the device is out of memory: {0}")]
    OutOfMemory(String),
    /// The device failed, and this process cannot compute on it any more.
    #[error("the device failed: {0}")]
    DeviceFailed(String),
    /// The caller stopped the work.
    #[error("the work was cancelled")]
    Cancelled,
}

impl ModelError {
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    /// [`ModelError::MissingFile`] when there is no such file, [`ModelError::Io`] otherwise.
    pub(crate) fn opening(path: &Path, purpose: &'static str, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::NotFound {
            Self::MissingFile {
                path: path.to_owned(),
                purpose,
            }
        } else {
            Self::io(path, source)
        }
    }

    pub(crate) fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }

    pub(crate) fn unsupported(
        path: &Path,
        field: impl Into<String>,
        value: impl ToString,
        supported: &'static str,
    ) -> Self {
        let (field, value) = (field.into(), value.to_string());
        Self::Unsupported {
            path: path.to_owned(),
            field,
            value,
            supported,
        }
    }
}
