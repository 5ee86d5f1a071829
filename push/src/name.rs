//! Names: of documents as clients choose them, and of what a log is in the store.

use loci_digest::Digest;
use loci_store::{Store, StoreError};

/// The longest id of a document.
pub const MAX_ID_BYTES: usize = 512;
/// Above all logs.
const ROOT: &str = "push/";
/// What a log's state is saved under.
const HEAD: &str = "head";
/// Digits of a commit's number: as many as a u64 has.
const DIGITS: usize = 20;

/// Why `id` cannot be the id of a document. No id is ever a path of a file; what is refused could not be told
/// apart in a URL or a citation.
///
/// # Errors
/// In words, with the way out.
pub fn check_id(id: &str) -> Result<(), String> {
    if id.is_empty() {
        return Err("it is empty: give the document an id".to_owned());
    }
    if id.len() > MAX_ID_BYTES {
        return Err(format!(
            "it has {} bytes, and {MAX_ID_BYTES} are allowed: choose a shorter one",
            id.len()
        ));
    }
    let odd = |c: char| c.is_control() || c == '\\' || c == '#' || c == '?';
    if let Some(c) = id.chars().find(|c| odd(*c)) {
        return Err(format!(
            "it has the character {}: use none of control characters, \\, # and ?",
            c.escape_default()
        ));
    }
    if id.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        return Err(
            "its parts between slashes must not be empty, \".\" or \"..\": write it as docs/a.md"
                .to_owned(),
        );
    }
    Ok(())
}

/// The name of the log of a source of `pipeline` (`namespace/name`).
pub(crate) fn log(pipeline: &str, source: &str) -> String {
    format!("{ROOT}{pipeline}/{source}")
}

pub(crate) fn head(log: &str) -> String {
    format!("{log}/{HEAD}")
}

pub(crate) fn commit(log: &str, number: u64) -> String {
    format!("{log}/{number:0DIGITS$}")
}

/// The number of the commit of this name; none for what is no commit of `log`.
pub(crate) fn number(log: &str, name: &str) -> Option<u64> {
    let number = name.strip_prefix(log)?.strip_prefix('/')?;
    let digits = number.len() == DIGITS && number.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| number.parse().ok())?
}

/// Whether a document of the store is of a log. The name of a pipeline has one slash.
pub fn is_name(name: &str) -> bool {
    pipeline(name).is_some()
}

/// The pipeline that a document of a log belongs to.
fn pipeline(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(ROOT)?;
    let mut slashes = rest.match_indices('/').map(|(at, _)| at);
    let (_, end, _) = (slashes.next()?, slashes.next()?, slashes.next()?);
    slashes.next().is_none().then(|| rest.get(..end))?
}

/// Deletes the logs of a pipeline (`namespace/name`). What they named is garbage then.
///
/// # Errors
/// When the store cannot be read or written; asked again, it goes on.
pub async fn forget(store: &Store, of: &str) -> Result<(), StoreError> {
    let names = store.documents_below(&format!("{ROOT}{of}")).await?;
    // The heads last: without one, commits that it covers would count again.
    let (heads, commits): (Vec<_>, Vec<_>) = names.into_iter().partition(|n| n.ends_with(HEAD));
    // The last commit first: what a crash leaves is the log as it once was, without a gap.
    for name in commits.into_iter().rev().chain(heads) {
        delete(store, &name).await?;
    }
    Ok(())
}

/// Deletes a document of a log, whatever is in it.
pub(crate) async fn delete(store: &Store, name: &str) -> Result<(), StoreError> {
    store.remove_document(name).await
}

/// What a commit's changes digest to.
pub(crate) fn sum(ops: &impl serde::Serialize) -> Digest {
    // Strings, numbers and maps with string keys: JSON cannot fail on them.
    Digest::of_json(ops).unwrap_or_else(|_| Digest::of(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_no_url_could_tell_apart_are_refused() {
        let long = "a".repeat(MAX_ID_BYTES);
        for id in [
            "a",
            "tickets/2026/17.md",
            "Zürich & Söhne",
            "a b",
            "..a",
            ".hidden",
            "100%",
            &long,
        ] {
            assert_eq!(check_id(id), Ok(()), "{id}");
        }
        let longer = "a".repeat(MAX_ID_BYTES + 1);
        for id in [
            "",
            "/",
            "/etc/passwd",
            "a/",
            "a//b",
            "..",
            "../a",
            "a/../b",
            "./a",
            "a\\b",
            "a\nb",
            "a\0",
            "a#b",
            "a?b",
            &longer,
        ] {
            assert!(check_id(id).is_err(), "{id:?}");
        }
    }

    #[test]
    fn names_of_logs_are_told_from_those_of_pipelines_and_trainings() {
        let log = log("agents/support", "notes");
        assert!(is_name(&head(&log)) && is_name(&commit(&log, 7)));
        assert_eq!(pipeline(&commit(&log, 7)), Some("agents/support"));
        assert_eq!(number(&log, &commit(&log, 7)), Some(7));
        assert_eq!(number(&log, &commit(&log, u64::MAX)), Some(u64::MAX));
        assert_eq!(number(&log, &head(&log)), None);
        assert_eq!(number(&log, &format!("{log}-more/{:020}", 7)), None);
        for other in [
            "push/support",
            "agents/support",
            "push/",
            "push/a/b/c",
            "push/a/b/c/d/e",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
