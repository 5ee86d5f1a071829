//! Where objects are: `blobs/sha256/ab/cdef…`, likewise `manifests` and `records`.
//!
//! On an object store, `used/` holds an empty object for each that was used long after it was stored, and `sweep` says
//! what a collection is about to delete.

use std::fmt::{Display, Formatter};

use loci_digest::Digest;
use object_store::path::Path;

/// The marker at the root of a store.
pub(crate) const FORMAT_FILE: &str = "FORMAT";
/// What the marker says. Changes when a store of the old form can no longer be read.
pub(crate) const FORMAT: &str = "loci-store 1";

/// Above marks of use.
pub(crate) const USED: &str = "used";
/// What a collection is about to delete.
pub(crate) const SWEEP: &str = "sweep";

/// The name of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Name(pub Area, pub Digest);

impl Name {
    pub(crate) fn location(&self) -> Path {
        self.0.location(&self.1)
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.location().as_ref())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Area {
    Blobs,
    Manifests,
    /// Named by the key of a step, not by their content.
    Records,
}

impl Area {
    pub(crate) const ALL: [Self; 3] = [Self::Blobs, Self::Manifests, Self::Records];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Manifests => "manifests",
            Self::Records => "records",
        }
    }

    pub(crate) fn prefix(self) -> Path {
        Path::from_iter([self.name(), "sha256"])
    }

    pub(crate) fn location(self, digest: &Digest) -> Path {
        let hex = digest.to_hex();
        let (folder, file) = hex.split_at(2);
        Path::from_iter([self.name(), "sha256", folder, file])
    }

    /// The digest that names `location`; none for files that are not the store's.
    pub(crate) fn digest(self, location: &Path) -> Option<Digest> {
        let hex = location
            .as_ref()
            .strip_prefix(self.name())?
            .strip_prefix("/sha256/")?;
        let (folder, file) = hex.split_once('/')?;
        let digest = format!("sha256:{folder}{file}").parse().ok()?;
        (self.location(&digest) == *location).then_some(digest)
    }
}

/// Where documents are: `documents/<name>.json`. A name may have slashes.
pub(crate) fn documents() -> Path {
    Path::from("documents")
}

pub(crate) fn document(name: &str) -> Path {
    Path::from(format!("documents/{name}.json"))
}

/// Above all documents whose names begin with `name` and a slash.
pub(crate) fn below(name: &str) -> Path {
    Path::from(format!("documents/{name}"))
}

/// The name of the document at `location`; none for files that are not the store's.
pub(crate) fn document_name(location: &Path) -> Option<String> {
    let name = location
        .as_ref()
        .strip_prefix("documents/")?
        .strip_suffix(".json")?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_names_its_digest_and_foreign_files_name_none() {
        let digest = Digest::of("abc");
        for area in Area::ALL {
            assert_eq!(area.digest(&area.location(&digest)), Some(digest));
        }
        assert_eq!(
            Area::Blobs.location(&digest).as_ref(),
            "blobs/sha256/ba/7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        for foreign in [
            "blobs/notes.txt",
            "blobs/sha256/ba/7816",
            "manifests/sha256/ba/78",
            "FORMAT",
        ] {
            assert_eq!(Area::Blobs.digest(&Path::from(foreign)), None, "{foreign}");
        }
        assert_eq!(Area::Manifests.digest(&Area::Blobs.location(&digest)), None);
    }
}
