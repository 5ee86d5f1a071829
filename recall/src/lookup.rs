//! Which pipeline a request means.

use std::collections::BTreeSet;

/// Why a request's pipeline cannot be told. Each names the pipelines that serve, or that match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum LookupError {
    /// It is expected, but no release of it serves yet.
    NotYet(String),
    /// There is no such pipeline.
    Unknown(String, Vec<String>),
    /// The name fits several.
    Ambiguous(String, Vec<String>),
    /// No name is given and there are several.
    Unnamed(Vec<String>),
}

/// The one of `known` that a request for `name` means.
pub(crate) fn resolve(name: Option<&str>, known: BTreeSet<String>) -> Result<String, LookupError> {
    let Some(name) = name else {
        let mut known = known.into_iter();
        return match (known.next(), known.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(LookupError::NotYet("any pipeline".to_owned())),
            (Some(one), Some(two)) => Err(LookupError::Unnamed(
                [one, two].into_iter().chain(known).collect(),
            )),
        };
    };
    if known.contains(name) {
        return Ok(name.to_owned());
    }
    let fits = |pipeline: &&String| {
        pipeline
            .split_once('/')
            .is_some_and(|(_, short)| short == name)
    };
    let found: Vec<String> = known.iter().filter(fits).cloned().collect();
    match found.as_slice() {
        [only] => Ok(only.clone()),
        [] => Err(LookupError::Unknown(
            name.to_owned(),
            known.into_iter().collect(),
        )),
        _ => Err(LookupError::Ambiguous(name.to_owned(), found)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_are_found_by_what_is_clear() {
        let known = |names: &[&str]| {
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<BTreeSet<_>>()
        };
        let two = known(&["agents/support", "agents/sales"]);
        assert_eq!(
            resolve(Some("agents/support"), two.clone()).unwrap(),
            "agents/support"
        );
        assert_eq!(
            resolve(Some("support"), two.clone()).unwrap(),
            "agents/support"
        );
        assert!(
            matches!(resolve(Some("port"), two.clone()), Err(LookupError::Unknown(_, names)) if names.len() == 2)
        );
        assert!(matches!(resolve(None, two), Err(LookupError::Unnamed(names)) if names.len() == 2));
        assert_eq!(resolve(None, known(&["a/b"])).unwrap(), "a/b");
        assert!(matches!(
            resolve(None, known(&[])),
            Err(LookupError::NotYet(_))
        ));
        assert!(
            matches!(resolve(Some("x"), known(&["a/x", "b/x"])), Err(LookupError::Ambiguous(_, names)) if names.len() == 2)
        );
    }
}
