//! Objects of a bucket, by the listing of their entity tags.

mod client;
mod declared;
mod read;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::{StreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use self::client::{field, remote};
pub use self::declared::{BucketProvider, BucketSpec, S3Credentials};
use self::read::Content;
use super::select::Select;
use super::state::SourceState;
use super::{Entry, Limits, Listing, Probe, SnapshotProgress, SourceError, Task, skip};
use crate::document::Media;

/// Objects that are read at the same time.
const CONCURRENT: usize = 4;
/// Keys of a listing, matching or not: at a thousand a page, some minutes.
const KEYS: usize = 2_000_000;
/// Reads in a row that the server did not answer before it is given up.
const PATIENCE: usize = 8;
/// Objects that were not given, which a probe asks for again.
const ASKED_AGAIN: usize = 4;

/// What a bucket looked like.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    /// The tag of each object that matched. One that could not be read for now is not here, and so counts as new.
    objects: BTreeMap<String, String>,
    /// Those that the server did not give.
    refused: BTreeSet<String>,
}

/// An object of a listing.
struct Found {
    meta: ObjectMeta,
    media: Media,
    /// Changes with the object.
    tag: String,
}

/// The entity tag, or the version or time where a server gives none. Azure's listings have tags without quotes.
fn tag(meta: &ObjectMeta) -> String {
    let bytes = meta.size;
    match (&meta.e_tag, &meta.version) {
        (Some(tag), _) => format!("{} {bytes}", tag.trim_matches('"')),
        (None, Some(version)) => format!("{version} {bytes}"),
        (None, None) => format!("{} {bytes}", meta.last_modified.timestamp_micros()),
    }
}

struct Bucket<'a> {
    spec: &'a BucketSpec,
    limits: Limits,
    store: Arc<dyn ObjectStore>,
    select: Select,
}

impl<'a> Bucket<'a> {
    fn open(spec: &'a BucketSpec, limits: &Limits) -> Result<Self, SourceError> {
        Ok(Self {
            spec,
            limits: spec.limits(limits),
            store: client::build(spec)?,
            select: Select::new(&spec.include, &spec.exclude)?,
        })
    }

    /// The objects that match, by their keys below the prefix.
    async fn list(&self) -> Result<BTreeMap<String, Found>, SourceError> {
        let prefix = Path::parse(&self.spec.prefix)
            .map_err(|error| field("bucket.url", error.to_string()))?;
        let mut listed = self.store.list(Some(&prefix));
        let (mut found, mut keys) = (BTreeMap::new(), 0_usize);
        // For one page, with all retries.
        let patience = self.spec.timeout * 6;
        let slow = |_| SourceError::Remote {
            url: self.spec.url(),
            reason: format!(
                "a page of its keys was not read within {} s; check the network, or raise bucket.timeout",
                patience.as_secs()
            ),
        };
        while let Some(meta) = timeout(patience, listed.next()).await.map_err(slow)? {
            let meta = meta.map_err(|error| remote(self.spec, &error))?;
            keys += 1;
            if keys > KEYS {
                let reason =
                    format!("has more than {KEYS} keys; give a folder of it: a longer prefix");
                return Err(field("bucket.url", reason));
            }
            let key = meta.location.as_ref();
            let below = key.strip_prefix(prefix.as_ref()).unwrap_or(key);
            let document = below.trim_start_matches('/').to_owned();
            let Some(media) = self.select.media(&document) else {
                continue;
            };
            let tag = tag(&meta);
            // A folder's own empty object comes after the object of the same name.
            found.entry(document).or_insert(Found { meta, media, tag });
            if found.len() > self.limits.max_documents {
                let most = self.limits.max_documents;
                let reason = format!(
                    "more than {most} objects match; narrow bucket.include, give a longer prefix in bucket.url, or raise it (200000 at most)"
                );
                return Err(field("bucket.maxObjects", reason));
            }
        }
        Ok(found)
    }
}

pub(super) async fn probe(
    spec: &BucketSpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    let Some(seen) = previous.seen::<Seen>(spec.digest(limits)) else {
        return Ok(Probe::Changed("declared otherwise than before".into()));
    };
    let bucket = Bucket::open(spec, limits)?;
    let found = bucket.list().await?;
    let Seen {
        objects: seen,
        refused,
    } = seen;
    let added = found.keys().filter(|key| !seen.contains_key(*key)).count();
    let gone = seen.keys().filter(|key| !found.contains_key(*key)).count();
    let differs =
        |(key, found): (&String, &Found)| seen.get(key).is_some_and(|before| *before != found.tag);
    let changed = found.iter().filter(|&one| differs(one)).count();
    if (added, changed, gone) != (0, 0, 0) {
        let words = format!("{added} new, {changed} changed, {gone} gone");
        return Ok(Probe::Changed(words));
    }
    for key in refused.iter().take(ASKED_AGAIN) {
        if bucket.is_given(key).await {
            return Ok(Probe::Changed(format!("{key} is given now")));
        }
    }
    Ok(Probe::Unchanged)
}

pub(super) async fn snapshot(spec: &BucketSpec, task: &Task<'_>) -> Result<Listing, SourceError> {
    let digest = spec.digest(task.limits);
    let bucket = Bucket::open(spec, task.limits)?;
    let found = bucket.list().await?;
    let before = task
        .previous
        .and_then(|listing| listing.state.seen::<Seen>(digest))
        .unwrap_or_default();
    let reader = Reader {
        task,
        bucket: &bucket,
        before: &before,
        known: task.known(),
    };
    let mut taken = Taken::default();
    let work: Vec<_> = found
        .iter()
        .map(|(key, of)| reader.object(key, of))
        .collect();
    let mut work = stream::iter(work).buffered(CONCURRENT);
    while let Some(outcome) = work.next().await {
        let (key, found, outcome) = outcome?;
        taken.take(key, &found.tag, outcome, reader.known.get(key).copied())?;
        (task.progress)(taken.progress);
    }
    match taken.first_error {
        Some(error) if taken.documents.is_empty() => Err(error),
        _ => Ok(Listing {
            documents: taken.documents,
            state: SourceState::new(digest, &taken.seen),
            skipped: taken.skipped,
        }),
    }
}

enum Outcome {
    Kept(Entry),
    Fetched(Entry),
    /// Listed, and not there: deleted meanwhile, or a folder's own object.
    Absent,
    TooLarge(String),
    /// This object is not given, whoever asks again.
    Refused(SourceError),
    /// The server did not answer as it should.
    Failed(SourceError),
}

#[derive(Default)]
struct Taken {
    documents: Vec<Entry>,
    skipped: Vec<super::Skipped>,
    seen: Seen,
    progress: SnapshotProgress,
    first_error: Option<SourceError>,
    in_a_row: usize,
}

impl Taken {
    fn take(
        &mut self,
        key: &str,
        tag: &str,
        outcome: Outcome,
        known: Option<&Entry>,
    ) -> Result<(), SourceError> {
        self.progress.listed += 1;
        let failed = matches!(outcome, Outcome::Failed(_));
        self.in_a_row = if failed { self.in_a_row + 1 } else { 0 };
        if !failed {
            self.seen.objects.insert(key.to_owned(), tag.to_owned());
        }
        // What is listed and not there is asked for again, too.
        if matches!(outcome, Outcome::Refused(_) | Outcome::Absent) {
            self.seen.refused.insert(key.to_owned());
        }
        match outcome {
            Outcome::Kept(entry) => self.documents.push(entry),
            Outcome::Fetched(entry) => {
                self.progress.fetched += 1;
                self.progress.bytes += entry.bytes;
                self.documents.push(entry);
            }
            Outcome::Absent => {}
            Outcome::TooLarge(reason) => self.skipped.push(skip(key, reason)),
            Outcome::Refused(error) | Outcome::Failed(error) => {
                if self.in_a_row >= PATIENCE {
                    return Err(error);
                }
                let fate = known.map_or("", |_| "; its last good content is kept");
                self.skipped.push(skip(key, format!("{error}{fate}")));
                self.documents.extend(known.cloned());
                self.first_error.get_or_insert(error);
            }
        }
        Ok(())
    }
}

struct Reader<'a> {
    task: &'a Task<'a>,
    bucket: &'a Bucket<'a>,
    before: &'a Seen,
    known: BTreeMap<&'a str, &'a Entry>,
}

impl Reader<'_> {
    async fn object<'k>(
        &self,
        key: &'k str,
        found: &'k Found,
    ) -> Result<(&'k str, &'k Found, Outcome), SourceError> {
        // Of what was refused, an earlier version is kept.
        let same =
            self.before.objects.get(key) == Some(&found.tag) && !self.before.refused.contains(key);
        let known = self.known.get(key).filter(|_| same);
        if let Some(&entry) = known
            && self.task.contains(&entry.digest).await?
        {
            let mut entry = entry.clone();
            entry.media = found.media;
            return Ok((key, found, Outcome::Kept(entry)));
        }
        if let Some(reason) = self.too_large(found.meta.size) {
            return Ok((key, found, Outcome::TooLarge(reason)));
        }
        let outcome = match self.bucket.read(&found.meta).await {
            Ok(Content::Absent) => Outcome::Absent,
            Ok(Content::TooLarge(bytes)) => {
                let reason = self.too_large(bytes);
                Outcome::TooLarge(reason.unwrap_or_else(|| "grew while it was read".to_owned()))
            }
            Ok(Content::Refused(error)) => Outcome::Refused(error),
            Ok(Content::Whole(content)) => {
                let bytes = content.len() as u64;
                let digest = self.task.put(content).await?;
                Outcome::Fetched(Entry {
                    document: key.to_owned(),
                    uri: self.bucket.uri(&found.meta.location),
                    version: digest.to_string(),
                    media: found.media,
                    bytes,
                    digest,
                    metadata: BTreeMap::new(),
                })
            }
            Err(error) => Outcome::Failed(error),
        };
        Ok((key, found, outcome))
    }

    fn too_large(&self, bytes: u64) -> Option<String> {
        self.bucket.limits.refuse_size(bytes)
    }
}

impl Bucket<'_> {
    fn uri(&self, location: &Path) -> String {
        let scheme = self.spec.provider.scheme();
        format!("{scheme}://{}/{location}", self.spec.bucket)
    }
}
