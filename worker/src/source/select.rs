use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use super::SourceError;
use crate::document::Media;

/// Which documents of a source are read.
///
/// Without `include` all of a known type are; with it, all that it matches, files of an unknown type
/// as plain text. `*` stays within a folder, `**` crosses folders; a pattern without `/` matches the
/// name in any folder. Hidden files are never read.
pub(super) struct Select {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Select {
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, SourceError> {
        let included = globs("include", include)?;
        Ok(Self {
            include: (!include.is_empty()).then_some(included),
            exclude: globs("exclude", exclude)?,
        })
    }

    /// How the document at `path` (with `/`) is read; `None` when it is not.
    pub(super) fn media(&self, path: &str) -> Option<Media> {
        if is_hidden(path) || self.exclude.is_match(path) {
            return None;
        }
        let known = Media::of_name(path);
        match &self.include {
            None => known,
            Some(include) => include.is_match(path).then(|| known.unwrap_or(Media::Text)),
        }
    }

    /// Whether what is not told by its name, such as a page, is read.
    pub(super) fn admits(&self, path: &str) -> bool {
        let included = self.include.as_ref();
        !self.exclude.is_match(path) && included.is_none_or(|include| include.is_match(path))
    }

    /// Whether everything below the folder `path` is left out.
    pub(super) fn skips_folder(&self, path: &str) -> bool {
        is_hidden(path) || self.exclude.is_match(path)
    }
}

/// Any part of the path starts with a dot.
pub(super) fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.'))
}

fn globs(field: &'static str, patterns: &[String]) -> Result<GlobSet, SourceError> {
    let invalid = |error: globset::Error| SourceError::Field {
        field,
        reason: format!("{error}; write a glob such as \"**/*.md\""),
    };
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        let anchored = pattern.strip_prefix("./").unwrap_or(pattern);
        let anywhere = if anchored.contains('/') {
            anchored.into()
        } else {
            format!("**/{anchored}")
        };
        let whole = anywhere.strip_prefix('/').unwrap_or(&anywhere);
        // A folder stands for all that is below it.
        let folder = whole.trim_end_matches('/');
        for pattern in [folder.to_owned(), format!("{folder}/**")] {
            let glob = GlobBuilder::new(&pattern)
                .literal_separator(true)
                .build()
                .map_err(invalid)?;
            set.add(glob);
        }
    }
    set.build().map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_choose_and_hidden_files_stay_out() {
        let select = |include: &[&str], exclude: &[&str]| {
            let own =
                |patterns: &[&str]| patterns.iter().map(|&p| p.to_owned()).collect::<Vec<_>>();
            Select::new(&own(include), &own(exclude))
        };
        let all = select(&[], &["drafts", "/top.md", "*.html"]).unwrap();
        assert_eq!(all.media("a/b.md"), Some(Media::Markdown));
        for out in [
            "a/b.rs",
            "drafts/a.md",
            "x/drafts/y/a.md",
            "top.md",
            "a/b.html",
            ".git/a.md",
            "a/.b.md",
        ] {
            assert_eq!(all.media(out), None, "{out}");
        }
        assert!(
            all.skips_folder("x/drafts") && all.skips_folder("a/.git") && !all.skips_folder("a")
        );
        let some = select(&["docs/*.md", "**/*.rs"], &[]).unwrap();
        assert_eq!(some.media("docs/a.md"), Some(Media::Markdown));
        assert_eq!(some.media("src/x/lib.rs"), Some(Media::Text));
        assert_eq!(some.media("docs/deep/a.md"), None);
        let error = select(&["a[b"], &[]).err().unwrap().to_string();
        assert!(
            error.starts_with("include: ") && error.contains("a[b"),
            "{error}"
        );
    }
}
