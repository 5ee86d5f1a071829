use std::collections::HashSet;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Limits, Skipped, SourceError, select::Select, skip};
use crate::document::Media;

/// What tells a changed file without reading it, as git's index does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stat {
    modified: (i64, i64),
    changed: (i64, i64),
    pub(super) bytes: u64,
    inode: u64,
}

impl Stat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            bytes: metadata.len(),
            inode: metadata.ino(),
        }
    }

    /// The file changed so shortly before `second` that a later change might not show ("racily clean"
    /// in git's words): file times move in steps of up to two seconds.
    pub(super) fn is_racy(&self, second: i64) -> bool {
        self.changed.0 >= second - 2
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Path below the root, with `/`.
    pub(super) document: String,
    /// The file itself, links resolved.
    pub(super) path: PathBuf,
    pub(super) media: Media,
    pub(super) stat: Stat,
}

/// All files below a directory that are selected.
#[derive(Debug, Default)]
pub(super) struct Walked {
    pub(super) root: PathBuf,
    pub(super) files: Vec<Found>,
    /// What must not be read: links that lead out, names that are not UTF-8.
    pub(super) refused: Vec<Skipped>,
    /// What cannot be read now; folders end in `/`.
    pub(super) unreadable: Vec<Skipped>,
}

/// The directory a source names, links resolved.
pub(super) fn root(path: &Path) -> Result<PathBuf, SourceError> {
    let failed = |error: io::Error| {
        SourceError::file(
            path,
            format!("{error}; directory.path must name a readable directory"),
        )
    };
    let root = path.canonicalize().map_err(failed)?;
    if !root.metadata().map_err(failed)?.is_dir() {
        return Err(SourceError::file(
            path,
            "is not a directory; directory.path must name one",
        ));
    }
    Ok(root)
}

/// Lists the selected files below `path`, in the order of their names.
pub(super) fn walk(path: &Path, select: &Select, limits: &Limits) -> Result<Walked, SourceError> {
    let root = root(path)?;
    let mut walk = Walk {
        select,
        limits,
        linked: HashSet::new(),
        folders: Vec::new(),
        walked: Walked {
            root,
            ..Walked::default()
        },
    };
    let top = Folder {
        path: walk.walked.root.clone(),
        document: String::new(),
    };
    let entries = entries(&top.path).map_err(|error| SourceError::file(path, error.to_string()))?;
    walk.visit(&top, entries)?;
    while let Some(folder) = walk.folders.pop() {
        match self::entries(&folder.path) {
            Ok(entries) => walk.visit(&folder, entries)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => walk
                .walked
                .unreadable
                .push(unreadable(format!("{}/", folder.document), &error)),
        }
    }
    walk.walked
        .files
        .sort_by(|a, b| a.document.cmp(&b.document));
    Ok(walk.walked)
}

struct Folder {
    path: PathBuf,
    document: String,
}

struct Walk<'a> {
    select: &'a Select,
    limits: &'a Limits,
    linked: HashSet<PathBuf>,
    folders: Vec<Folder>,
    walked: Walked,
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    let mut entries = fs::read_dir(folder)?.collect::<io::Result<Vec<_>>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    Ok(entries)
}

pub(super) fn unreadable(document: String, error: &io::Error) -> Skipped {
    skip(
        document,
        format!("cannot be read ({error}); what was read before is kept"),
    )
}

impl Walk<'_> {
    fn visit(&mut self, folder: &Folder, entries: Vec<fs::DirEntry>) -> Result<(), SourceError> {
        for entry in entries {
            let name = entry.file_name();
            let slash = if folder.document.is_empty() { "" } else { "/" };
            let document = format!("{}{slash}{}", folder.document, name.to_string_lossy());
            let Some(name) = name.to_str() else {
                if self.select.media(&document).is_some() {
                    self.walked
                        .refused
                        .push(skip(document, "its name is not UTF-8; rename it"));
                }
                continue;
            };
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => self.enter(folder.path.join(name), document),
                Ok(kind) if kind.is_symlink() => self.follow(&folder.path, name, document)?,
                Ok(kind) if kind.is_file() => self.file(folder.path.join(name), document)?,
                Ok(_) => {}
                Err(error) => self.walked.unreadable.push(unreadable(document, &error)),
            }
        }
        Ok(())
    }

    fn enter(&mut self, path: PathBuf, document: String) {
        if !self.select.skips_folder(&document) {
            self.folders.push(Folder { path, document });
        }
    }

    fn file(&mut self, path: PathBuf, document: String) -> Result<(), SourceError> {
        let Some(media) = self.select.media(&document) else {
            return Ok(());
        };
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_file() => {
                self.walked.files.push(Found {
                    document,
                    path,
                    media,
                    stat: Stat::of(&metadata),
                });
                self.limits.check_count(self.walked.files.len())?;
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.walked.unreadable.push(unreadable(document, &error)),
        }
        Ok(())
    }

    /// A link is followed while it stays inside the root, and to each folder once.
    fn follow(&mut self, folder: &Path, name: &str, document: String) -> Result<(), SourceError> {
        if self.select.skips_folder(&document) {
            return Ok(());
        }
        let target = folder.join(name).canonicalize();
        let is_folder = target.as_ref().is_ok_and(|target| target.is_dir());
        if !is_folder && self.select.media(&document).is_none() {
            return Ok(());
        }
        let refused = match target {
            Err(error) => format!("is a link that leads nowhere ({error}); correct or remove it"),
            Ok(target) if !target.starts_with(&self.walked.root) => {
                "is a link out of the source's directory, which is never followed; copy what it names".into()
            }
            Ok(target) if !is_folder => return self.file(target, document),
            Ok(target) if folder.starts_with(&target) || !self.linked.insert(target.clone()) => {
                "is a link to a folder that is listed already".into()
            }
            Ok(target) => {
                self.enter(target, document);
                return Ok(());
            }
        };
        self.walked.refused.push(skip(document, refused));
        Ok(())
    }
}
