//! Who may ask, and for what.

mod access;
mod file;

use std::convert::Infallible;
use std::fmt;
use std::fs;
use std::future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use loci_digest::Digest;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use crate::error::RecallError;
pub(crate) use access::Access;

/// How often a token file is read again.
const REREAD: Duration = Duration::from_secs(2);

/// How requests are let in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Everyone who reaches the address, which must be on loopback; requests must name a
    /// loopback host, so that no web page can reach it by rebinding its own name.
    Off,
    /// Everyone who reaches the address, wherever it is: something else decides who does.
    Anyone,
    /// Those with one of these tokens (`Authorization: Bearer <token>`), each for what its filter passes.
    Bearer(Tokens),
}

/// Bearer tokens, kept as digests. Clones share them.
#[derive(Clone)]
pub struct Tokens {
    known: Arc<ArcSwap<Vec<Token>>>,
    file: Option<Arc<TokenFile>>,
}

/// Where tokens are read from, and the content that they were first read from.
struct TokenFile {
    path: PathBuf,
    content: Digest,
    /// Whether its tokens may have filters.
    filters: bool,
}

/// One token.
#[derive(Clone, Debug)]
struct Token {
    digest: Digest,
    access: Access,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.known.load().len())
    }
}

impl Tokens {
    /// Takes tokens of 16 or more visible ASCII characters each, which may ask for everything.
    ///
    /// # Errors
    /// [`RecallError::Token`] names a token's position and what is wrong with it, never the
    /// token; [`RecallError::NoToken`] when there is none.
    pub fn new(tokens: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, RecallError> {
        let tokens = (1..).zip(tokens).map(|(position, token)| {
            let error = |reason| RecallError::Token { position, reason };
            file::plain(token.as_ref()).map_err(error)
        });
        let known = file::some(tokens.collect::<Result<_, _>>()?)?;
        Ok(Self {
            known: Arc::new(ArcSwap::from_pointee(known)),
            file: None,
        })
    }

    /// Reads tokens, one a line; empty lines and lines that begin with `#` are skipped. A line is a token that may ask for
    /// everything, or a JSON object with `name`, `token` and, unless it may ask for everything, the `filter` that
    /// each of its requests has beside its own: `{"name": "acme", "token": "…", "filter": {"tenant": "acme"}}`.
    ///
    /// [`serve`](crate::serve) reads the file again every two seconds. A content that is not understood is logged, and the
    /// tokens before it go on.
    ///
    /// # Errors
    /// [`RecallError::TokenFile`] when the file cannot be read, and as [`Tokens::new`] within it, also for a field.
    pub fn from_file(path: &Path) -> Result<Self, RecallError> {
        Self::read(path, true)
    }

    /// The same of those who write documents: nothing narrows what these do, so a `filter` is refused.
    ///
    /// # Errors
    /// As [`Tokens::from_file`].
    pub fn of_writers(path: &Path) -> Result<Self, RecallError> {
        Self::read(path, false)
    }

    fn read(path: &Path, filters: bool) -> Result<Self, RecallError> {
        let error = |reason| RecallError::TokenFile {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(|e| error(e.into()))?;
        let known = file::parse(&text, filters).map_err(|e| error(e.into()))?;
        let file = TokenFile {
            path: path.to_owned(),
            content: Digest::of(&text),
            filters,
        };
        Ok(Self {
            known: Arc::new(ArcSwap::from_pointee(known)),
            file: Some(Arc::new(file)),
        })
    }

    /// What `token` may ask for, when it is one of these. It is compared with all, and takes as long for each answer.
    pub(crate) fn find(&self, token: &str) -> Option<Access> {
        let known = self.known.load();
        let digest = Digest::of(token);
        let mut place = u64::MAX;
        for (i, one) in (0..).zip(known.iter()) {
            let equal = one.digest.as_bytes().ct_eq(digest.as_bytes());
            place.conditional_assign(&i, equal);
        }
        let found = usize::try_from(place).ok().and_then(|i| known.get(i));
        found.map(|one| one.access.clone())
    }

    /// Reads the file again and again; without a file, waits.
    pub(crate) async fn follow(&self) -> Infallible {
        self.follow_every(REREAD).await
    }

    async fn follow_every(&self, pause: Duration) -> Infallible {
        let Some(file) = &self.file else {
            return future::pending().await;
        };
        let mut last = Ok(file.content);
        loop {
            tokio::time::sleep(pause).await;
            let read = tokio::fs::read_to_string(&file.path).await;
            let content = read.as_ref().map(Digest::of).map_err(|e| e.kind());
            if content == last {
                continue;
            }
            last = content;
            let parsed = read.map_err(|e| e.to_string());
            let parsed =
                parsed.and_then(|text| file::parse(&text, file.filters).map_err(|e| e.to_string()));
            let path = file.path.display();
            match parsed {
                Ok(tokens) => {
                    let filtered = tokens.iter().filter(|t| t.access.filter().is_some());
                    let (filtered, all) = (filtered.count(), tokens.len());
                    self.known.store(Arc::new(tokens));
                    tracing::info!(%path, tokens = all, filtered, "token file read again");
                }
                Err(reason) => {
                    tracing::warn!(%path, "token file not taken, the tokens before it go on: {reason}");
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_let_in() {
        let tokens = Tokens::new(["0123456789abcdef", "fedcba9876543210"]).unwrap();
        for token in ["0123456789abcdef", "fedcba9876543210"] {
            assert!(tokens.find(token).unwrap().filter().is_none());
        }
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
        ] {
            assert!(tokens.find(other).is_none(), "{other}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[tokio::test]
    async fn a_changed_file_takes_effect_and_a_broken_one_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        fs::write(&path, "0123456789abcdef\n").unwrap();
        let tokens = Tokens::from_file(&path).unwrap();
        let (pause, follower) = (Duration::from_millis(5), tokens.clone());
        let following = tokio::spawn(async move { follower.follow_every(pause).await });
        let until = async |token: &str| {
            while tokens.find(token).is_none() {
                tokio::time::sleep(pause).await;
            }
        };
        // Long enough for dozens of reads.
        let read_often = async || tokio::time::sleep(40 * pause).await;
        read_often().await;
        until("0123456789abcdef").await;
        let acme = r#"{"name": "acme", "token": "fedcba9876543210", "filter": {"tenant": "acme"}}"#;
        fs::write(&path, acme).unwrap();
        until("fedcba9876543210").await;
        assert!(tokens.find("0123456789abcdef").is_none());
        for broken in [
            "",
            "short\n",
            r#"{"name": "acme", "token": "fedcba9876543210", "filter": {}}"#,
        ] {
            fs::write(&path, broken).unwrap();
            read_often().await;
            let access = tokens.find("fedcba9876543210").unwrap();
            assert!(access.filter().is_some(), "{broken} changed what acme sees");
            assert!(tokens.find("short").is_none());
        }
        fs::remove_file(&path).unwrap();
        read_often().await;
        assert!(tokens.find("fedcba9876543210").is_some());
        fs::write(&path, "0123456789abcdef\n").unwrap();
        until("0123456789abcdef").await;
        assert!(tokens.find("fedcba9876543210").is_none());
        following.abort();
    }
}
