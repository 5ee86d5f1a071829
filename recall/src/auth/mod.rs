//! Who may ask.

use std::fmt;
use std::fs;
use std::path::Path;

use loci_digest::Digest;
use subtle::{Choice, ConstantTimeEq};

use crate::error::RecallError;

/// Shortest token.
const MIN_TOKEN: usize = 16;

/// How requests are let in.
#[derive(Clone, Debug)]
pub enum Auth {
    /// Everyone who reaches the address, which must be on loopback; requests must name a
    /// loopback host, so that no web page can reach it by rebinding its own name.
    Off,
    /// Everyone who reaches the address, wherever it is: something else decides who does.
    Anyone,
    /// Those with one of these tokens (`Authorization: Bearer <token>`).
    Bearer(Tokens),
}

/// Bearer tokens, kept as digests.
#[derive(Clone)]
pub struct Tokens(Vec<Digest>);

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.0.len())
    }
}

impl Tokens {
    /// Takes tokens of 16 or more visible ASCII characters each.
    ///
    /// # Errors
    /// [`RecallError::Token`] names a token's position and what is wrong with it, never the
    /// token; [`RecallError::NoToken`] when there is none.
    pub fn new(tokens: impl IntoIterator<Item = impl AsRef<str>>) -> Result<Self, RecallError> {
        Self::collect((1..).zip(tokens))
    }

    /// Reads tokens, one a line; empty lines and lines that begin with `#` are skipped.
    ///
    /// # Errors
    /// [`RecallError::TokenFile`] when the file cannot be read, and as [`Tokens::new`] within it.
    pub fn from_file(path: &Path) -> Result<Self, RecallError> {
        let error = |reason| RecallError::TokenFile {
            path: path.to_owned(),
            reason,
        };
        let text = fs::read_to_string(path).map_err(|e| error(e.into()))?;
        let lines = (1..).zip(text.lines().map(str::trim));
        Self::collect(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')))
            .map_err(|e| error(e.into()))
    }

    fn collect(
        tokens: impl Iterator<Item = (usize, impl AsRef<str>)>,
    ) -> Result<Self, RecallError> {
        let digest = |(position, token): (usize, _)| {
            let token: &str = AsRef::as_ref(&token);
            let error = |reason| Err(RecallError::Token { position, reason });
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return error(
                    "it has characters other than visible ASCII: a header cannot carry it",
                );
            }
            if token.len() < MIN_TOKEN {
                return error(
                    "it has fewer than 16 characters and could be guessed: make one with `openssl rand -hex 32`",
                );
            }
            Ok(Digest::of(token))
        };
        let tokens = tokens.map(digest).collect::<Result<Vec<_>, _>>()?;
        if tokens.is_empty() {
            Err(RecallError::NoToken)
        } else {
            Ok(Self(tokens))
        }
    }

    /// Whether `token` is one of these; takes as long for each answer.
    pub(crate) fn contain(&self, token: &str) -> bool {
        let digest = Digest::of(token);
        let equal = |known: &Digest| known.as_bytes().ct_eq(digest.as_bytes());
        self.0
            .iter()
            .fold(Choice::from(0), |any, known| any | equal(known))
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_tokens_are_let_in() {
        let tokens = Tokens::new(["0123456789abcdef", "fedcba9876543210"]).unwrap();
        assert!(tokens.contain("0123456789abcdef") && tokens.contain("fedcba9876543210"));
        for other in [
            "",
            "0123456789abcde",
            "0123456789abcdef0",
            "0123456789ABCDEF",
        ] {
            assert!(!tokens.contain(other), "{other}");
        }
        assert_eq!(format!("{tokens:?}"), "Tokens(2)");
    }

    #[test]
    fn bad_tokens_are_named_by_place_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = dir.path().join("tokens");
            fs::write(&path, text).unwrap();
            Tokens::from_file(&path)
        };
        assert!(
            file("# ours\n\n0123456789abcdef\n")
                .unwrap()
                .contain("0123456789abcdef")
        );
        for (text, reason) in [
            ("# none\n", "no bearer token"),
            ("0123456789abcdef\nsecret\n", "token 2: it has fewer"),
            ("0123456789 secret\n", "token 1: it has char"),
        ] {
            let message = file(text).unwrap_err().to_string();
            assert!(
                message.contains(reason)
                    && message.contains("tokens:")
                    && !message.contains("secret"),
                "{message}"
            );
        }
        let message = Tokens::from_file(&dir.path().join("absent"))
            .unwrap_err()
            .to_string();
        assert!(message.contains("absent"), "{message}");
    }
}
