use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::file::{Content, blocking, read};
use super::state::{SourceState, spec_digest};
use super::walk::{Found, Stat, Walked, unreadable, walk};
use super::{
    Entry, Limits, Listing, Probe, Skipped, SnapshotProgress, SourceError, Task, select::Select,
    skip,
};

/// Files that are read and stored at the same time.
const CONCURRENT: usize = 8;

/// Files below a directory of this machine.
#[derive(Clone, Debug, Default)]
pub struct DirectorySpec {
    /// The directory.
    pub path: PathBuf,
    /// Globs of the files to read; empty: all Markdown, HTML, text and JSON Lines.
    pub include: Vec<String>,
    /// Globs of files and folders to leave out.
    pub exclude: Vec<String>,
}

impl DirectorySpec {
    fn digest(&self, limits: &Limits) -> Digest {
        spec_digest(&(&self.path, &self.include, &self.exclude, limits))
    }

    async fn walk(&self, limits: &Limits) -> Result<Walked, SourceError> {
        let select = Select::new(&self.include, &self.exclude)?;
        let (path, limits) = (self.path.clone(), *limits);
        blocking(move || walk(&path, &select, &limits)).await?
    }
}

/// What a directory looked like.
#[derive(Serialize, Deserialize)]
struct Seen {
    /// When it was listed: seconds since 1970.
    taken: i64,
    files: BTreeMap<String, SeenFile>,
    /// Names of what was refused without being opened.
    refused: Vec<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SeenFile {
    stat: Stat,
    /// `None`: not in the listing, too large or never readable.
    digest: Option<Digest>,
    /// The content could not be read then; try again.
    unread: bool,
}

impl SeenFile {
    /// The file is as it was, and that can be told without reading it.
    fn is_settled(&self, stat: &Stat, taken: i64) -> bool {
        self.stat == *stat && !self.unread && !stat.is_racy(taken)
    }
}

pub(super) async fn probe(
    spec: &DirectorySpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    let Some(seen) = previous.seen::<Seen>(spec.digest(limits)) else {
        return Ok(Probe::Changed("declared otherwise than before".into()));
    };
    let walked = spec.walk(limits).await?;
    let limits = *limits;
    blocking(move || compare(&seen, &walked, &limits)).await
}

fn compare(seen: &Seen, walked: &Walked, limits: &Limits) -> Probe {
    let changed = |document: &str| Probe::Changed(format!("{document} changed"));
    for file in &walked.files {
        let Some(known) = seen.files.get(&file.document) else {
            return Probe::Changed(format!("{} is new", file.document));
        };
        if known.is_settled(&file.stat, seen.taken) {
            continue;
        }
        let now = match read(&file.path, limits) {
            Ok(Content::Whole(content, _)) => Some(Digest::of(&content)),
            Ok(Content::TooLarge(_)) => None,
            Err(_) if known.unread => continue,
            Err(_) => return changed(&file.document),
        };
        if now != known.digest || (known.unread && now.is_some()) {
            return changed(&file.document);
        }
    }
    let hidden = |document: &str| {
        walked
            .unreadable
            .iter()
            .any(|unreadable| covers(&unreadable.document, document))
    };
    let found = |document: &str| {
        walked
            .files
            .binary_search_by(|file| file.document.as_str().cmp(document))
            .is_ok()
    };
    if let Some(gone) = seen
        .files
        .keys()
        .find(|document| !found(document) && !hidden(document))
    {
        return Probe::Changed(format!("{gone} is gone"));
    }
    let refused = walked.refused.iter().map(|refused| &refused.document);
    match refused.eq(seen.refused.iter()) {
        true => Probe::Unchanged,
        false => Probe::Changed("its links changed".into()),
    }
}

/// Whether what cannot be read is `document`, or a folder above it.
fn covers(unreadable: &str, document: &str) -> bool {
    unreadable == document || (unreadable.ends_with('/') && document.starts_with(unreadable))
}

pub(super) async fn snapshot(
    spec: &DirectorySpec,
    task: &Task<'_>,
) -> Result<Listing, SourceError> {
    let digest = spec.digest(task.limits);
    let taken = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |now| now.as_secs() as i64);
    let walked = spec.walk(task.limits).await?;
    let known = task.known();
    let seen = task
        .previous
        .and_then(|listing| listing.state.seen::<Seen>(digest));
    let read = Reader {
        task,
        root: &walked.root,
        known: &known,
        seen: seen.as_ref(),
    };
    let mut progress = SnapshotProgress::default();
    let mut listing = Builder::default();
    let work: Vec<_> = walked.files.iter().map(|file| read.file(file)).collect();
    let mut work = stream::iter(work).buffered(CONCURRENT);
    while let Some(outcome) = work.try_next().await? {
        progress.listed += 1;
        if outcome.fetched > 0 {
            progress.fetched += 1;
            progress.bytes += outcome.fetched;
        }
        listing.add(outcome);
        (task.progress)(progress);
    }
    for folder in &walked.unreadable {
        let below = known
            .values()
            .filter(|entry| covers(&folder.document, &entry.document));
        for entry in below {
            listing.documents.push((*entry).clone());
            if let Some(file) = seen
                .as_ref()
                .and_then(|seen| seen.files.get(&entry.document))
            {
                listing.files.insert(
                    entry.document.clone(),
                    SeenFile {
                        unread: true,
                        ..file.clone()
                    },
                );
            }
        }
    }
    let refused = walked
        .refused
        .iter()
        .map(|refused| refused.document.clone())
        .collect();
    listing.skipped.extend(walked.refused);
    listing.skipped.extend(walked.unreadable);
    let state = SourceState::new(
        digest,
        &Seen {
            taken,
            files: listing.files,
            refused,
        },
    );
    Ok(Listing {
        documents: listing.documents,
        state,
        skipped: listing.skipped,
    })
}

#[derive(Default)]
struct Builder {
    documents: Vec<Entry>,
    files: BTreeMap<String, SeenFile>,
    skipped: Vec<Skipped>,
}

impl Builder {
    fn add(&mut self, outcome: Outcome) {
        if let Some(seen) = outcome.seen {
            self.files.insert(outcome.document, seen);
        }
        self.documents.extend(outcome.entry);
        self.skipped.extend(outcome.skipped);
    }
}

/// What became of one file.
struct Outcome {
    document: String,
    entry: Option<Entry>,
    seen: Option<SeenFile>,
    skipped: Option<Skipped>,
    fetched: u64,
}

struct Reader<'a> {
    task: &'a Task<'a>,
    root: &'a Path,
    known: &'a BTreeMap<&'a str, &'a Entry>,
    seen: Option<&'a Seen>,
}

impl Reader<'_> {
    async fn file(&self, file: &Found) -> Result<Outcome, SourceError> {
        let known = self.known.get(file.document.as_str()).copied();
        let mut outcome = Outcome {
            document: file.document.clone(),
            entry: None,
            seen: None,
            skipped: None,
            fetched: 0,
        };
        if let Some((entry, seen)) = known.zip(self.settled(file))
            && self.task.contains(&entry.digest).await?
        {
            outcome.entry = Some(entry.clone());
            outcome.seen = Some(seen.clone());
            return Ok(outcome);
        }
        let (path, limits) = (file.path.clone(), *self.task.limits);
        match blocking(move || read(&path, &limits)).await? {
            Ok(Content::Whole(content, stat)) => {
                outcome.fetched = content.len() as u64;
                let digest = self.task.put(Bytes::from(content)).await?;
                outcome.entry = Some(self.entry(file, digest, outcome.fetched));
                outcome.seen = Some(SeenFile {
                    stat,
                    digest: Some(digest),
                    unread: false,
                });
            }
            Ok(Content::TooLarge(stat)) => {
                let reason = self
                    .task
                    .limits
                    .refuse_size(stat.bytes)
                    .unwrap_or_else(|| "grew while it was read".into());
                outcome.skipped = Some(skip(file.document.clone(), reason));
                outcome.seen = Some(SeenFile {
                    stat,
                    digest: None,
                    unread: false,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let digest = known.map(|entry| entry.digest);
                outcome.entry = known.cloned();
                outcome.skipped = Some(unreadable(file.document.clone(), &error));
                outcome.seen = Some(SeenFile {
                    stat: file.stat,
                    digest,
                    unread: true,
                });
            }
        }
        Ok(outcome)
    }

    fn settled(&self, file: &Found) -> Option<&SeenFile> {
        let seen = self.seen?;
        seen.files
            .get(&file.document)
            .filter(|known| known.is_settled(&file.stat, seen.taken))
    }

    fn entry(&self, file: &Found, digest: Digest, bytes: u64) -> Entry {
        let path = self.root.join(&file.document);
        let uri =
            Url::from_file_path(&path).map_or_else(|()| path.display().to_string(), String::from);
        let (document, media) = (file.document.clone(), file.media);
        Entry {
            document,
            uri,
            version: digest.to_string(),
            media,
            bytes,
            digest,
            metadata: BTreeMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file whose times and size are as they were, with other content.
    fn rewritten(seconds_later: i64) -> Probe {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.md"), "now").unwrap();
        let walked = walk(
            folder.path(),
            &Select::new(&[], &[]).unwrap(),
            &Limits::default(),
        )
        .unwrap();
        let stat = walked.files[0].stat;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs() as i64;
        let file = SeenFile {
            stat,
            digest: Some(Digest::of("old")),
            unread: false,
        };
        let seen = Seen {
            taken: now + seconds_later,
            files: [("a.md".into(), file)].into(),
            refused: Vec::new(),
        };
        compare(&seen, &walked, &Limits::default())
    }

    #[test]
    fn a_file_that_changed_around_the_listing_is_read_to_be_sure() {
        assert_eq!(rewritten(0), Probe::Changed("a.md changed".into()));
        assert_eq!(rewritten(60), Probe::Unchanged);
    }
}
