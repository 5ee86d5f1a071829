//! Lanes: runs that go one after the other.

/// What a run is about: the index, or one adapter. A lane has at most one run under way; all lanes meet where a release
/// is promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane<'a> {
    Index,
    Adapter(&'a str),
}

impl<'a> Lane<'a> {
    /// The lane of what names this adapter, or none.
    pub fn of(adapter: Option<&'a str>) -> Self {
        adapter.map_or(Self::Index, Self::Adapter)
    }

    /// The adapter that it is about.
    pub fn adapter(self) -> Option<&'a str> {
        match self {
            Self::Index => None,
            Self::Adapter(name) => Some(name),
        }
    }

    /// Its component among those of a release: no adapter has an empty name.
    pub fn component(self) -> &'a str {
        match self {
            Self::Index => "",
            Self::Adapter(name) => name,
        }
    }
}
