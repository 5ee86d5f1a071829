//! Garbage collection: mark from the roots, sweep what is unmarked and old.
//!
//! What documents name is a root, wherever the collector has its others from. Young manifests are roots too: a step that just stored one, or just looked one up, has not yet
//! named it in a release, and still needs all of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use loci_digest::Digest;
use object_store::ObjectMeta;

use crate::error::{Result, StoreError};
use crate::layout::Area;
use crate::{Store, blocking, local};

/// An upload that nobody wrote to for this long was interrupted.
const UPLOAD_IDLE: Duration = Duration::from_secs(3600);
/// Objects deleted under one lock: readers wait for no more than these.
const BATCH: usize = 128;

/// What a collection did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Blobs and manifests that stay.
    pub kept: u64,
    /// Blobs and manifests deleted.
    pub swept: u64,
    /// The sizes of those added up. Files hard-linked elsewhere free their space with the last link.
    pub bytes: u64,
    /// Records deleted because their output is gone.
    pub records: u64,
    /// Leftovers of interrupted uploads deleted.
    pub uploads: u64,
    /// What a kept manifest names but the store does not hold, sorted.
    pub missing: Vec<Digest>,
}

type Listing = HashMap<Digest, ObjectMeta>;

struct Marks {
    live: HashSet<Digest>,
    missing: Vec<Digest>,
    /// The blobs at the start of the collection: no need to look whether they are manifests.
    blobs: Listing,
}

impl Store {
    /// Deletes the blobs and manifests that no root reaches and that were last stored or used at
    /// least `grace` ago; the records whose output is gone; and leftovers of interrupted uploads.
    /// Safe while others store and read. `grace` has to exceed the time from storing or looking up an
    /// object to naming it in a manifest or a root.
    ///
    /// # Errors
    /// Deletes nothing and returns [`StoreError::MissingReference`] when a root is not stored, or
    /// [`StoreError::Corrupt`] when a manifest that it reaches cannot be read.
    pub async fn gc(&self, roots: &[Digest], grace: Duration) -> Result<GcReport> {
        let marks = self.mark_live(roots, grace).await?;
        self.sweep(marks, grace).await
    }

    /// Marks all that the roots and young manifests reach.
    async fn mark_live(&self, roots: &[Digest], grace: Duration) -> Result<Marks> {
        let blobs: Listing = self.list(Area::Blobs).await?.into_iter().collect();
        let manifests: Listing = self.list(Area::Manifests).await?.into_iter().collect();
        let stored = |digest| blobs.contains_key(digest) || manifests.contains_key(digest);
        if let Some(digest) = roots.iter().find(|digest| !stored(digest)) {
            let what = "list of roots for garbage collection".to_owned();
            return Err(StoreError::MissingReference {
                what,
                digest: *digest,
            });
        }
        let (live, missing) = Default::default();
        let mut marks = Marks {
            live,
            missing,
            blobs,
        };
        // What of these is lost is told as missing: it must not keep all other garbage.
        let pinned = self.pinned().await?;
        let from = [roots.to_vec(), pinned, young(&manifests, grace)].concat();
        self.mark(from, &manifests, &mut marks).await?;
        Ok(marks)
    }

    async fn mark(
        &self,
        mut from: Vec<Digest>,
        manifests: &Listing,
        marks: &mut Marks,
    ) -> Result<()> {
        while let Some(digest) = from.pop() {
            let blob = marks.blobs.contains_key(&digest) && !manifests.contains_key(&digest);
            if !marks.live.insert(digest) || blob {
                continue;
            }
            match self.refs(&digest).await? {
                Some(refs) => from.extend(refs),
                None if self.head(Area::Blobs, &digest).await?.is_some() => {}
                None => marks.missing.push(digest),
            }
        }
        Ok(())
    }

    async fn sweep(&self, mut marks: Marks, grace: Duration) -> Result<GcReport> {
        let mut report = GcReport::default();
        self.sweep_manifests(&mut marks, grace, &mut report).await?;
        self.sweep_blobs(&marks, grace, &mut report).await?;
        self.sweep_records(&mut report).await?;
        let root = self.inner.root.clone();
        report.uploads = blocking(move || {
            local::sweep_uploads(&root, UPLOAD_IDLE).map_err(|e| StoreError::delete(&root, e))
        })
        .await?;
        marks.missing.sort_unstable();
        report.missing = marks.missing;
        Ok(report)
    }

    /// Deletes manifests, all at once: after that, no old blob can come back into use but by itself.
    async fn sweep_manifests(
        &self,
        marks: &mut Marks,
        grace: Duration,
        report: &mut GcReport,
    ) -> Result<()> {
        let _alone = self.inner.sweeping.alone().await?;
        // What was stored or used while the marking went on is young by now.
        let manifests: Listing = self.list(Area::Manifests).await?.into_iter().collect();
        self.mark(young(&manifests, grace), &manifests, marks)
            .await?;
        for (digest, object) in &manifests {
            if marks.live.contains(digest) {
                report.kept += 1;
                continue;
            }
            self.delete(Area::Manifests, digest).await?;
            report.swept += 1;
            report.bytes += object.size;
        }
        Ok(())
    }

    async fn sweep_blobs(
        &self,
        marks: &Marks,
        grace: Duration,
        report: &mut GcReport,
    ) -> Result<()> {
        let all = self.list(Area::Blobs).await?;
        let unmarked: Vec<_> = all
            .iter()
            .filter(|(digest, _)| !marks.live.contains(digest))
            .collect();
        report.kept += (all.len() - unmarked.len()) as u64;
        for batch in unmarked.chunks(BATCH) {
            let _alone = self.inner.sweeping.alone().await?;
            for (digest, _) in batch {
                // Listed a while ago: it may have been used since.
                match self.head(Area::Blobs, digest).await? {
                    None => {}
                    Some(object) if age(&object) < grace => report.kept += 1,
                    Some(object) => {
                        self.delete(Area::Blobs, digest).await?;
                        report.swept += 1;
                        report.bytes += object.size;
                    }
                }
            }
        }
        Ok(())
    }

    async fn sweep_records(&self, report: &mut GcReport) -> Result<()> {
        let records = self.list(Area::Records).await?;
        for batch in records.chunks(BATCH) {
            let _alone = self.inner.sweeping.alone().await?;
            for (key, _) in batch {
                let of_use = match self.read_record(key).await? {
                    Some(output) => {
                        self.head(Area::Manifests, &output).await?.is_some()
                            || self.head(Area::Blobs, &output).await?.is_some()
                    }
                    None => false,
                };
                if !of_use {
                    self.delete(Area::Records, key).await?;
                    report.records += 1;
                }
            }
        }
        Ok(())
    }
}

fn young(objects: &Listing, grace: Duration) -> Vec<Digest> {
    objects
        .iter()
        .filter(|(_, object)| age(object) < grace)
        .map(|(digest, _)| *digest)
        .collect()
}

fn age(object: &ObjectMeta) -> Duration {
    let modified = SystemTime::from(object.last_modified);
    SystemTime::now()
        .duration_since(modified)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, SystemTime};

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(dir.path()).await.unwrap();
        (dir, store)
    }

    async fn make_old(store: &Store) {
        for area in Area::ALL {
            for (digest, _) in store.list(area).await.unwrap() {
                let file = File::open(store.file(area, &digest)).unwrap();
                file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_is_looked_up_or_named_between_mark_and_sweep_stays_with_all_it_names() {
        let (_dir, store) = store().await;
        let key = Digest::of("key");
        let blob = store.put("blob".into()).await.unwrap();
        let inner = store.put_manifest("inner", &[blob], &0).await.unwrap();
        let output = store.put_manifest("outer", &[inner], &0).await.unwrap();
        store.record(&key, &output).await.unwrap();
        let part = store.put("part".into()).await.unwrap();
        let garbage = store.put("garbage".into()).await.unwrap();
        make_old(&store).await;

        let mut marks = store.mark_live(&[], HOUR).await.unwrap();
        assert_eq!(store.lookup(&key).await.unwrap(), Some(output));
        let mut report = GcReport::default();
        store
            .sweep_manifests(&mut marks, HOUR, &mut report)
            .await
            .unwrap();
        let named = store.put_manifest("late", &[part], &0).await.unwrap();
        store.sweep_blobs(&marks, HOUR, &mut report).await.unwrap();
        store.sweep_records(&mut report).await.unwrap();

        assert!(store.complete(&output).await.unwrap() && store.complete(&named).await.unwrap());
        assert!(!store.contains(&garbage).await.unwrap());
        assert_eq!((report.swept, report.records), (1, 0));
    }

    #[tokio::test]
    async fn marking_an_object_as_used_and_deleting_it_exclude_each_other() {
        let (_dir, store) = store().await;
        let blob = store.put("blob".into()).await.unwrap();
        make_old(&store).await;
        // As another process would.
        let other = Store::open_local(&store.inner.root).await.unwrap();
        let wait = Duration::from_millis(300);
        {
            let _deleting = other.inner.sweeping.alone().await.unwrap();
            assert!(
                tokio::time::timeout(wait, store.contains(&blob))
                    .await
                    .is_err()
            );
            assert!(
                tokio::time::timeout(wait, store.put("blob".into()))
                    .await
                    .is_err()
            );
        }
        let _marking = other.inner.sweeping.together().await.unwrap();
        assert!(
            tokio::time::timeout(wait, store.gc(&[], HOUR))
                .await
                .is_err()
        );
        assert!(store.file(Area::Blobs, &blob).exists());
    }
}
