//! What was likely meant.

/// The candidate that `word` is likely a slip of, if one is near: at most one edit in three characters, case aside.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let distance = |c: &str| strsim::damerau_levenshtein(&lower, &c.to_lowercase());
    let near = |c: &&str| distance(c) * 3 <= c.len().max(3);
    candidates
        .into_iter()
        .filter(near)
        .min_by_key(|c| distance(c))
}

/// `did you mean "x"?`, or what else there is to choose from.
pub(crate) fn suggestion<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
    otherwise: &str,
) -> String {
    match nearest(word, candidates.clone()) {
        Some(meant) => format!("did you mean \"{meant}\"?"),
        None => {
            let all: Vec<_> = candidates.into_iter().collect();
            format!("{otherwise}: {}", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let fields = ["sources", "suites", "gates", "index", "git"];
        assert_eq!(nearest("sorces", fields), Some("sources"));
        assert_eq!(nearest("Sources", fields), Some("sources"));
        assert_eq!(nearest("gti", fields), Some("git"));
        assert_eq!(nearest("schedule", fields), None);
        assert_eq!(nearest("url", fields), None);
    }
}
