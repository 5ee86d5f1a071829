//! What a collection is about to delete, told to all who use the bucket.

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use object_store::path::Path as Location;
use object_store::{GetOptions, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::{PARALLEL, Remote, mark};
use crate::backend::{Act, Backend, Object, Stored, Sweep};
use crate::error::{Result, StoreError};
use crate::layout::{Area, Name, SWEEP};
use crate::{absent, lock};

/// How often is looked whether a sweep is over.
const POLL: Duration = Duration::from_millis(250);
/// How long a sweep may take, beyond the longest time that its last request may.
const WORK: Duration = Duration::from_secs(180);

/// The object `sweep`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Notice {
    /// No two are alike.
    id: u64,
    /// Who has seen the same notice for so long may take it that the process behind it died.
    lease_seconds: u64,
    /// By area.
    doomed: BTreeMap<String, Vec<Digest>>,
}

/// A notice as it was read.
#[derive(Debug)]
pub(super) struct Doomed {
    version: Option<String>,
    lease: Duration,
    /// Everything, when the notice does not read.
    names: Option<HashSet<Name>>,
}

impl Doomed {
    fn read(bytes: &[u8], version: Option<String>) -> Self {
        let Ok(notice) = serde_json::from_slice::<Notice>(bytes) else {
            return Self {
                version,
                lease: WORK * 2,
                names: None,
            };
        };
        let mut names = HashSet::new();
        for area in Area::ALL {
            let doomed = notice.doomed.get(area.name()).into_iter().flatten();
            names.extend(doomed.map(|digest| Name(area, *digest)));
        }
        Self {
            version,
            lease: Duration::from_secs(notice.lease_seconds),
            names: Some(names),
        }
    }

    pub(super) fn contains(&self, name: &Name) -> bool {
        self.names.as_ref().is_none_or(|names| names.contains(name))
    }
}

impl Remote {
    /// What is about to be deleted.
    pub(super) async fn doomed(&self) -> Result<Option<Arc<Doomed>>> {
        let notice = self.notice().await?;
        let dead = lock(&self.dead).clone();
        Ok(notice.filter(|notice| dead.is_none() || notice.version != dead))
    }

    async fn notice(&self) -> Result<Option<Arc<Doomed>>> {
        let (location, known) = (Location::from(SWEEP), lock(&self.doomed).clone());
        let failed = |e| self.failed(Act::Read, &location, e);
        let options = GetOptions {
            if_none_match: known.as_ref().and_then(|known| known.version.clone()),
            ..GetOptions::default()
        };
        let notice = match self.objects.get_opts(&location, options).await {
            Ok(found) => {
                let version = found.meta.e_tag.clone();
                let bytes = found.bytes().await.map_err(failed)?;
                Some(Arc::new(Doomed::read(&bytes, version)))
            }
            Err(object_store::Error::NotModified { .. }) => known,
            Err(e) if absent(&e) => None,
            Err(e) => return Err(failed(e)),
        };
        lock(&self.doomed).clone_from(&notice);
        Ok(notice)
    }

    /// Waits until a sweep is over, or has to be taken for dead.
    pub(super) async fn over(&self, doomed: &Doomed) -> Result<()> {
        let since = Instant::now();
        loop {
            tokio::time::sleep(POLL).await;
            let now = self.head(&SWEEP.into()).await?;
            if now.is_none_or(|meta| meta.e_tag != doomed.version) {
                return Ok(());
            }
            if since.elapsed() > doomed.lease {
                tracing::warn!(store = self.url, "a collection died while it deleted");
                lock(&self.dead).clone_from(&doomed.version);
                return Ok(());
            }
        }
    }
}

pub(super) struct Sweeping<'a> {
    remote: &'a Remote,
    doomed: &'a [Name],
    begun: Instant,
    /// The server's time at the beginning, as marks are dated by it.
    time: SystemTime,
}

impl<'a> Sweeping<'a> {
    /// Writes the notice, once no other sweep is under way.
    pub(super) async fn begin(remote: &'a Remote, doomed: &'a [Name]) -> Result<Self> {
        let location = Location::from(SWEEP);
        let mut before = None;
        let begun = loop {
            let begun = Instant::now();
            let notice = notice(remote, doomed).into();
            if remote.swap(&location, before.as_ref(), notice).await? {
                break begun;
            }
            if let Some(other) = remote.doomed().await? {
                remote.over(&other).await?;
            }
            let dead = lock(&remote.dead).clone();
            let left = remote.notice().await?;
            let left = left.filter(|left| dead.is_some() && left.version == dead);
            before = left.map(|left| Stored {
                bytes: bytes::Bytes::new(),
                version: left.version.clone(),
            });
        };
        let written = remote.head(&location).await?;
        Ok(Self {
            remote,
            doomed,
            begun,
            time: written.map_or_else(SystemTime::now, |meta| meta.last_modified.into()),
        })
    }

    /// Whether a request that starts now ends before anybody takes this sweep for dead.
    fn in_time(&self) -> bool {
        self.begun.elapsed() < WORK
    }
}

fn lease(remote: &Remote) -> Duration {
    // Retries go on for twice the silence, and the last of them takes as long again.
    WORK + remote.silence * 4
}

fn notice(remote: &Remote, doomed: &[Name]) -> Vec<u8> {
    let mut by_area = BTreeMap::<String, Vec<Digest>>::new();
    for Name(area, digest) in doomed {
        let area = by_area.entry(area.name().to_owned()).or_default();
        area.push(*digest);
    }
    let notice = Notice {
        id: RandomState::new().hash_one(SystemTime::now()),
        lease_seconds: lease(remote).as_secs(),
        doomed: by_area,
    };
    serde_json::to_vec(&notice).unwrap_or_default()
}

#[async_trait]
impl Sweep for Sweeping<'_> {
    async fn look(&self) -> Result<Vec<(Name, Object)>> {
        let looked = stream::iter(self.doomed.to_vec())
            .map(|name| async move { Ok::<_, StoreError>((name, self.remote.look(name).await?)) })
            .buffer_unordered(PARALLEL);
        let looked: Vec<(Name, Option<Object>)> = looked.try_collect().await?;
        let there = looked.into_iter();
        Ok(there.filter_map(|(name, o)| Some((name, o?))).collect())
    }

    fn now(&self) -> SystemTime {
        self.time + self.begun.elapsed()
    }

    async fn delete(&self, names: &[Name]) -> Result<()> {
        // As many as one request deletes, marks included.
        for some in names.chunks(500) {
            if !self.in_time() {
                return Err(StoreError::Remote {
                    act: "delete old objects of".to_owned(),
                    place: self.remote.url.clone(),
                    endpoint: self.remote.endpoint.clone(),
                    reason: "the server is too slow".to_owned(),
                    advice: "the next collection goes on",
                });
            }
            let both = some
                .iter()
                .flat_map(|name| [Ok(name.location()), Ok(mark(*name))]);
            let both: Vec<_> = both.collect();
            let mut deleted = self
                .remote
                .objects
                .delete_stream(stream::iter(both).boxed());
            while let Some(deleted) = deleted.next().await {
                match deleted {
                    Ok(_) => {}
                    Err(e) if absent(&e) => {}
                    Err(e) => return Err(self.remote.failed(Act::Delete, &Location::default(), e)),
                }
            }
        }
        Ok(())
    }

    async fn end(self: Box<Self>) {
        let location = Location::from(SWEEP);
        // Later it may be another's.
        if self.in_time()
            && let Err(e) = self.remote.objects.delete(&location).await
            && !absent(&e)
        {
            let error = self.remote.failed(Act::Delete, &location, e);
            tracing::warn!("others wait until this sweep is too old: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use loci_testbed::{S3, s3};

    use super::*;
    use crate::RemoteOptions;

    fn remote(server: &S3) -> Remote {
        let options = RemoteOptions {
            cache: "/nonexistent".into(),
            silence: Duration::from_secs(5),
            settings: server.variables(),
        };
        Remote::open(s3::BUCKET, "loci", options).unwrap()
    }

    async fn stored(remote: &Remote, text: &'static str) -> Name {
        let name = Name(Area::Blobs, Digest::of(text));
        let put = remote.objects.put(&name.location(), text.into()).await;
        put.unwrap();
        name
    }

    #[tokio::test]
    async fn who_uses_what_is_about_to_be_deleted_waits_and_learns_what_became_of_it() {
        let server = S3::start();
        let (one, other) = (remote(&server), remote(&server));
        let (gone, spared) = (stored(&one, "gone").await, stored(&one, "spared").await);
        let elsewhere = stored(&one, "elsewhere").await;
        let doomed = [gone, spared];
        let sweep = one.sweep(&doomed).await.unwrap();
        assert_eq!(other.keep(&[elsewhere]).await.unwrap(), [Some(9)]);
        assert_eq!(sweep.look().await.unwrap().len(), 2);
        let wait = Duration::from_millis(700);
        for name in doomed {
            let kept = tokio::time::timeout(wait, other.keep(&[name])).await;
            assert!(kept.is_err(), "nobody can say yet");
            let stands = tokio::time::timeout(wait, other.stands(name)).await;
            assert!(stands.is_err(), "nobody can say yet");
        }
        let (kept, ()) = tokio::join!(other.keep(&doomed), async {
            sweep.delete(&[gone]).await.unwrap();
            sweep.end().await;
        });
        assert_eq!(kept.unwrap(), [None, Some(6)]);
        assert!(other.stands(gone).await.unwrap());
    }

    #[tokio::test]
    async fn one_sweep_at_a_time_and_a_dead_one_is_replaced() {
        let server = S3::start();
        let (one, other) = (remote(&server), remote(&server));
        let doomed = [stored(&one, "doomed").await];
        let first = one.sweep(&doomed).await.unwrap();
        let wait = Duration::from_millis(700);
        assert!(
            tokio::time::timeout(wait, other.sweep(&doomed))
                .await
                .is_err()
        );
        first.end().await;
        let second = other.sweep(&doomed).await.unwrap();
        second.end().await;

        // Left by a process that died.
        let left = br#"{"id": 7, "leaseSeconds": 1, "doomed": {}}"#;
        let location = Location::from(SWEEP);
        one.objects
            .put(&location, left.to_vec().into())
            .await
            .unwrap();
        let third = other.sweep(&doomed).await.unwrap();
        let waiting = tokio::time::timeout(wait, one.keep(&doomed)).await;
        assert!(waiting.is_err(), "the new notice counts");
        third.end().await;
        assert_eq!(one.keep(&doomed).await.unwrap(), [Some(6)]);
        assert!(one.head(&location).await.unwrap().is_none());
    }
}
