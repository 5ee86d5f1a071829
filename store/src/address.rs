//! Where a store is.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Where a store is: a directory, or `s3://BUCKET/PREFIX`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A directory of this machine.
    Directory(PathBuf),
    /// A bucket of an S3 server, and the prefix of all keys; it may be empty.
    S3 {
        /// The bucket.
        bucket: String,
        /// Without slashes at its ends.
        prefix: String,
    },
}

/// Why a text names no store.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreUrlError {
    /// A scheme that is not built.
    #[error("{0}:// is not supported: give a directory or s3://BUCKET/PREFIX")]
    Scheme(String),
    /// No bucket, or what an object's key cannot have.
    #[error(
        "\"{0}\" names no bucket: write s3://BUCKET or s3://BUCKET/PREFIX, without user, port, query or \"..\""
    )]
    Bucket(String),
    /// Nothing.
    #[error("no store is named: give a directory or s3://BUCKET/PREFIX")]
    Empty,
}

impl StoreUrl {
    /// Whether several machines reach it without sharing a volume.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::S3 { .. })
    }
}

impl From<PathBuf> for StoreUrl {
    fn from(directory: PathBuf) -> Self {
        Self::Directory(directory)
    }
}

impl From<&Path> for StoreUrl {
    fn from(directory: &Path) -> Self {
        Self::Directory(directory.to_owned())
    }
}

impl FromStr for StoreUrl {
    type Err = StoreUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split_once("://") {
            None if text.is_empty() => Err(StoreUrlError::Empty),
            None => Ok(Self::Directory(text.into())),
            Some(("file", path)) if path.starts_with('/') => Ok(Self::Directory(path.into())),
            Some(("s3", rest)) => s3(rest).ok_or_else(|| StoreUrlError::Bucket(text.to_owned())),
            Some((scheme, _)) => Err(StoreUrlError::Scheme(scheme.to_owned())),
        }
    }
}

fn s3(rest: &str) -> Option<StoreUrl> {
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    let fits = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
    let part = |part: &str| !["", ".", ".."].contains(&part) && !part.contains(['?', '#']);
    let named = !bucket.is_empty() && bucket.chars().all(fits);
    let placed = prefix.is_empty() || prefix.split('/').all(part);
    (named && placed).then(|| StoreUrl::S3 {
        bucket: bucket.to_owned(),
        prefix: prefix.to_owned(),
    })
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::S3 { bucket, prefix } if prefix.is_empty() => write!(f, "s3://{bucket}"),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_a_directory_or_a_bucket_and_nothing_else() {
        let directory = |path: &str| Ok(StoreUrl::Directory(path.into()));
        let bucket = |bucket: &str, prefix: &str| {
            Ok(StoreUrl::S3 {
                bucket: bucket.to_owned(),
                prefix: prefix.to_owned(),
            })
        };
        for (text, expected) in [
            ("/var/lib/loci", directory("/var/lib/loci")),
            ("store", directory("store")),
            ("file:///srv/loci", directory("/srv/loci")),
            ("s3://acme", bucket("acme", "")),
            ("s3://acme/", bucket("acme", "")),
            ("s3://acme-1/loci/eu/", bucket("acme-1", "loci/eu")),
            ("", Err(StoreUrlError::Empty)),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
        for text in [
            "s3://",
            "s3:///x",
            "s3://a:80/x",
            "s3://u@b",
            "s3://b/../x",
            "s3://b/a//c",
            "s3://b/x?y=1",
        ] {
            let refused = text.parse::<StoreUrl>().unwrap_err();
            assert_eq!(refused, StoreUrlError::Bucket(text.to_owned()));
        }
        for scheme in ["gs", "az", "https"] {
            let refused = format!("{scheme}://b/x").parse::<StoreUrl>().unwrap_err();
            assert!(
                refused
                    .to_string()
                    .starts_with(&format!("{scheme}:// is not supported"))
            );
        }
        let url: StoreUrl = "s3://acme/loci".parse().unwrap();
        assert_eq!(
            (url.to_string().as_str(), url.is_remote()),
            ("s3://acme/loci", true)
        );
    }
}
