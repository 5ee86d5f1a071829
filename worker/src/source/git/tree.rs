use std::collections::{BTreeMap, BTreeSet};

use gix::object::tree::{EntryMode, diff::ChangeDetached};
use gix::{ObjectId, Repository, Tree};

use super::remote::Remote;
use super::{GitSpec, Seen};
use crate::document::Media;
use crate::source::{Entry, Limits, Skipped, SourceError, select::Select, skip};

/// The listing before.
#[derive(Default)]
pub(super) struct Before {
    /// Its commit; `None` when the source was declared otherwise, or never read.
    pub(super) commit: Option<String>,
    pub(super) entries: BTreeMap<String, Entry>,
    /// Documents whose content the sink has lost.
    pub(super) lost: BTreeSet<String>,
    pub(super) skipped: BTreeMap<String, Skipped>,
}

/// What makes the new listing.
pub(super) struct Plan {
    pub(super) seen: Seen,
    pub(super) kept: Vec<Entry>,
    pub(super) blobs: Vec<Blob>,
    pub(super) skipped: Vec<Skipped>,
}

/// A file to read.
pub(super) struct Blob {
    pub(super) document: String,
    pub(super) id: ObjectId,
    pub(super) media: Media,
}

/// Compares the trees of the commit before and the new one; without the former, with the empty tree.
pub(super) fn plan(
    remote: &Remote,
    seen: Seen,
    before: Before,
    spec: &GitSpec,
    limits: &Limits,
) -> Result<Plan, SourceError> {
    let select = Select::new(&spec.include, &spec.exclude)?;
    let repository = remote.open()?;
    let broken = |error: gix::Error| remote.broken(&error);
    let new = tree(&repository, &seen.commit).map_err(broken)?;
    let old = before
        .commit
        .as_ref()
        .and_then(|commit| tree(&repository, commit).ok());
    let changes = repository
        .diff_tree_to_tree(old.as_ref(), Some(&new), gix::diff::Options::default())
        .map_err(broken)?;
    let mut planner = Planner {
        repository: &repository,
        select,
        limits,
        before,
        blobs: BTreeMap::new(),
        kept: BTreeMap::new(),
        skipped: BTreeMap::new(),
    };
    if old.is_some() {
        planner.carry().map_err(broken)?;
    }
    for change in changes {
        planner.apply(change).map_err(broken)?;
    }
    let Planner {
        kept,
        blobs,
        skipped,
        ..
    } = planner;
    let (kept, blobs) = (kept.into_values().collect(), blobs.into_values().collect());
    Ok(Plan {
        seen,
        kept,
        blobs,
        skipped: skipped.into_values().collect(),
    })
}

fn tree<'r>(repository: &'r Repository, commit: &str) -> gix::Result<Tree<'r>> {
    let id = ObjectId::from_hex(commit.as_bytes()).map_err(gix::Error::from_error)?;
    repository.find_commit(id)?.tree()
}

struct Planner<'a> {
    repository: &'a Repository,
    select: Select,
    limits: &'a Limits,
    before: Before,
    kept: BTreeMap<String, Entry>,
    blobs: BTreeMap<String, Blob>,
    skipped: BTreeMap<String, Skipped>,
}

impl Planner<'_> {
    /// Starts from the listing before; reads again what the sink has lost.
    fn carry(&mut self) -> gix::Result {
        self.skipped = std::mem::take(&mut self.before.skipped);
        for (document, entry) in self.before.entries.clone() {
            if self.before.lost.contains(&document) {
                let id =
                    ObjectId::from_hex(entry.version.as_bytes()).map_err(gix::Error::from_error)?;
                self.blobs.insert(
                    document.clone(),
                    Blob {
                        document,
                        id,
                        media: entry.media,
                    },
                );
            } else {
                self.kept.insert(document, entry);
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: ChangeDetached) -> gix::Result {
        match change {
            ChangeDetached::Deletion { location, .. } => self.forget(&location.to_string()),
            ChangeDetached::Addition {
                location,
                entry_mode,
                id,
                ..
            }
            | ChangeDetached::Modification {
                location,
                entry_mode,
                id,
                ..
            } => {
                let name = String::from_utf8_lossy(&location).into_owned();
                self.forget(&name);
                self.add(name, std::str::from_utf8(&location).is_ok(), entry_mode, id)?;
            }
            // Not asked for.
            ChangeDetached::Rewrite {
                source_location,
                location,
                entry_mode,
                id,
                ..
            } => {
                self.forget(&source_location.to_string());
                self.add(location.to_string(), true, entry_mode, id)?;
            }
        }
        Ok(())
    }

    fn forget(&mut self, document: &str) {
        self.kept.remove(document);
        self.blobs.remove(document);
        self.skipped.remove(document);
    }

    fn add(&mut self, document: String, utf8: bool, mode: EntryMode, id: ObjectId) -> gix::Result {
        if mode.is_commit() && !self.select.skips_folder(&document) {
            self.skip(document, "is a submodule, which is not followed; declare it as a source of its own, or exclude it");
            return Ok(());
        }
        let Some(media) = self
            .select
            .media(&document)
            .filter(|_| mode.is_blob_or_symlink())
        else {
            return Ok(());
        };
        if !utf8 {
            self.skip(document, "its name is not UTF-8; rename it");
        } else if mode.is_link() {
            self.skip(
                document,
                "is a symbolic link, which is not followed in git; include what it names",
            );
        } else if let Some(reason) = self
            .limits
            .refuse_size(self.repository.find_header(id)?.size())
        {
            self.skip(document, reason);
        } else if let Some(entry) = self.known(&document, id) {
            let entry = Entry {
                media,
                ..entry.clone()
            };
            self.kept.insert(document, entry);
        } else {
            self.blobs.insert(
                document.clone(),
                Blob {
                    document,
                    id,
                    media,
                },
            );
        }
        Ok(())
    }

    fn skip(&mut self, document: String, reason: impl Into<String>) {
        self.skipped
            .insert(document.clone(), skip(document, reason));
    }

    /// The entry before, when it is of the same blob and the sink has it.
    fn known(&self, document: &str, id: ObjectId) -> Option<&Entry> {
        let entry = self.before.entries.get(document)?;
        let same = ObjectId::from_hex(entry.version.as_bytes()).is_ok_and(|known| known == id);
        (same && !self.before.lost.contains(document)).then_some(entry)
    }
}
