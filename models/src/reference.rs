use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::ModelError;

/// Where a model's files are: a directory of this machine, or a repository of a model hub.
///
/// Written `file:///absolute/directory`, `file://./relative/directory` (taken as it stands, without
/// percent-decoding) or `hf://org/name@revision`. The revision is a commit, tag or branch and mandatory,
/// so that a manifest never changes its meaning unnoticed; a commit needs no network once it is cached.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ModelRef {
    /// A directory.
    File(PathBuf),
    /// A repository of a hub that speaks the Hugging Face protocol.
    Hub {
        /// `org/name`.
        repo: String,
        /// Commit, tag or branch.
        revision: String,
    },
}

impl FromStr for ModelRef {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        let refuse = |reason| ModelError::Reference {
            text: text.to_owned(),
            reason,
        };
        if let Some(path) = text.strip_prefix("file://") {
            let rooted = ["/", "./", "../"]
                .iter()
                .any(|start| path.starts_with(start));
            return match rooted {
                true => Ok(Self::File(PathBuf::from(path))),
                false => Err(refuse("a file path starts with /, ./ or ../")),
            };
        }
        let hub = text
            .strip_prefix("hf://")
            .ok_or_else(|| refuse("the scheme is neither hf:// nor file://"))?;
        let (repo, revision) = hub
            .split_once('@')
            .ok_or_else(|| refuse("the @revision is missing"))?;
        let (org, name) = repo
            .split_once('/')
            .ok_or_else(|| refuse("the repository is not org/name"))?;
        if !is_name(org) || !is_name(name) {
            return Err(refuse("the repository is not org/name"));
        }
        if !revision.split('/').all(is_name) {
            return Err(refuse("the revision is not a commit, tag or branch"));
        }
        Ok(Self::Hub {
            repo: repo.to_owned(),
            revision: revision.to_owned(),
        })
    }
}

/// Names become folders of the cache: nothing that climbs out of it.
fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['.', '-'])
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

impl fmt::Display for ModelRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file://{}", path.display()),
            Self::Hub { repo, revision } => write!(f, "hf://{repo}@{revision}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_writes() {
        for text in [
            "hf://sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
            "hf://org/name@refs/pr/1",
            "file:///models/minilm",
            "file://./models/mini lm",
            "file://../minilm",
        ] {
            assert_eq!(text.parse::<ModelRef>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_names_no_model() {
        for (text, reason) in [
            ("hf://org/name", "@revision is missing"),
            ("hf://org/name@", "not a commit"),
            ("hf://org/name@../../x", "not a commit"),
            ("hf://name@main", "not org/name"),
            ("hf://../name@main", "not org/name"),
            ("hf://a/b/c@main", "not org/name"),
            ("file://models", "starts with /"),
            ("https://example.com/m", "scheme"),
            ("", "scheme"),
        ] {
            let message = text.parse::<ModelRef>().unwrap_err().to_string();
            assert!(
                message.contains(reason) && message.contains("write hf://"),
                "{text}: {message}"
            );
        }
    }
}
