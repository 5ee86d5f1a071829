//! What a chat's `model` means: `pipeline`, `pipeline:adapter`, or `pipeline:adapter@sha256-<12 digits>`.

use loci_digest::Digest;

/// The parts of a model's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ModelName<'a> {
    /// The pipeline, with its namespace or without.
    pub(crate) pipeline: Option<&'a str>,
    /// The adapter, as the pipeline names it.
    pub(crate) adapter: Option<&'a str>,
    /// The adapter by its content, too.
    pub(crate) content: Option<&'a str>,
}

impl<'a> ModelName<'a> {
    /// Neither pipelines nor adapters have colons in their names.
    pub(crate) fn parse(name: Option<&'a str>) -> Self {
        let Some((pipeline, adapter)) = name.and_then(|name| name.split_once(':')) else {
            return Self {
                pipeline: name,
                ..Self::default()
            };
        };
        let (adapter, content) = match adapter.split_once('@') {
            Some((adapter, content)) => (adapter, Some(content)),
            None => (adapter, None),
        };
        Self {
            pipeline: Some(pipeline),
            adapter: Some(adapter),
            content,
        }
    }
}

/// The name that stays when the adapter is replaced.
pub(crate) fn alias(pipeline: &str, adapter: &str) -> String {
    format!("{pipeline}:{adapter}")
}

/// The name of this adapter and no other.
pub(crate) fn pinned(pipeline: &str, adapter: &str, digest: Digest) -> String {
    alias(pipeline, &adapter_name(adapter, digest))
}

/// The name by which a generation service knows an adapter: `adapter@sha256-<12 digits>`, of the adapter's own digest
/// ([`loci_models::Adapter::digest`]).
pub fn adapter_name(adapter: &str, digest: Digest) -> String {
    format!("{adapter}@{}", content(digest))
}

/// What stands behind the `@`.
pub(crate) fn content(digest: Digest) -> String {
    format!("sha256-{}", digest.short())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_up_to_three_parts() {
        let parts = |name: Option<&'static str>| {
            let name = ModelName::parse(name);
            (name.pipeline, name.adapter, name.content)
        };
        assert_eq!(parts(None), (None, None, None));
        assert_eq!(parts(Some("a/b")), (Some("a/b"), None, None));
        assert_eq!(parts(Some("b:c")), (Some("b"), Some("c"), None));
        let pinned = pinned("a/b", "c", Digest::of("abc"));
        assert_eq!(pinned, "a/b:c@sha256-ba7816bf8f01");
        let served = adapter_name("c", Digest::of("abc"));
        assert_eq!(pinned.strip_prefix("a/b:"), Some(served.as_str()));
        let name = ModelName::parse(Some(&pinned));
        let want = (Some("a/b"), Some("c"), Some("sha256-ba7816bf8f01"));
        assert_eq!((name.pipeline, name.adapter, name.content), want);
        assert_eq!(name.content, Some(content(Digest::of("abc")).as_str()));
        assert_eq!(parts(Some("a@b")), (Some("a@b"), None, None));
        assert_eq!(parts(Some(":")), (Some(""), Some(""), None));
    }
}
