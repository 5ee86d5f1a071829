//! Garbage collection: mark from the roots, sweep what is unmarked and old.
//!
//! What documents name is a root, wherever the collector has its others from. Young manifests are roots too: a step that just stored one, or just looked one up, has not yet
//! named it in a release, and still needs all of it.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;

use crate::Store;
use crate::backend::{Object, Sweep};
use crate::error::{Result, StoreError};
use crate::layout::{Area, Name};
use crate::manifest::PARALLEL;

/// An upload that nobody wrote to for this long was interrupted.
const UPLOAD_IDLE: Duration = Duration::from_secs(3600);

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

type Listing = HashMap<Digest, Object>;

struct Marks {
    live: HashSet<Digest>,
    missing: Vec<Digest>,
    /// What there was at the start of the collection. What has been stored since is young.
    blobs: Listing,
    manifests: Listing,
}

impl Store {
    /// Deletes the blobs and manifests that no root reaches and that were last stored or used at
    /// least `grace` ago; the records whose output is gone; and leftovers of interrupted uploads.
    /// Safe while others store and read. `grace` has to exceed the time from storing or looking up an
    /// object to naming it in a manifest or a root; in a bucket by half an hour, see [`crate::RemoteOptions`].
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
        let blobs = self.listing(Area::Blobs).await?;
        let manifests = self.listing(Area::Manifests).await?;
        let stored = |digest| blobs.contains_key(digest) || manifests.contains_key(digest);
        if let Some(digest) = roots.iter().find(|digest| !stored(digest)) {
            let what = "list of roots for garbage collection".to_owned();
            return Err(StoreError::MissingReference {
                what,
                digest: *digest,
            });
        }
        let now = SystemTime::now();
        let young = manifests.iter().filter(|(_, o)| o.age(now) < grace);
        // What of these is lost is told as missing: it must not keep all other garbage.
        let pinned = self.pinned().await?;
        let from = roots.iter().chain(&pinned);
        let from = from.chain(young.map(|(digest, _)| digest));
        let from = from.copied().collect();
        let mut marks = Marks {
            live: HashSet::new(),
            missing: Vec::new(),
            blobs,
            manifests,
        };
        self.mark(from, &mut marks).await?;
        Ok(marks)
    }

    async fn listing(&self, area: Area) -> Result<Listing> {
        Ok(self.backend().list(area).await?.into_iter().collect())
    }

    async fn mark(&self, mut from: Vec<Digest>, marks: &mut Marks) -> Result<()> {
        while !from.is_empty() {
            let mut open = std::mem::take(&mut from);
            open.retain(|digest| marks.live.insert(*digest));
            let blob = |d: &Digest| marks.blobs.contains_key(d) && !marks.manifests.contains_key(d);
            open.retain(|digest| !blob(digest));
            let mut answers = stream::iter(open)
                .map(|digest| async move { (digest, self.refs(&digest).await) })
                .buffer_unordered(PARALLEL);
            while let Some((digest, refs)) = answers.next().await {
                match refs? {
                    Some(refs) => from.extend(refs),
                    None if self.has(Area::Blobs, &digest).await? => {}
                    None => marks.missing.push(digest),
                }
            }
        }
        Ok(())
    }

    async fn sweep(&self, mut marks: Marks, grace: Duration) -> Result<GcReport> {
        let mut report = GcReport::default();
        self.sweep_manifests(&mut marks, grace, &mut report).await?;
        self.sweep_blobs(&mut marks, grace, &mut report).await?;
        self.sweep_records(&marks, &mut report).await?;
        report.uploads = self.backend().sweep_uploads(UPLOAD_IDLE).await?;
        report.kept = (marks.blobs.len() + marks.manifests.len()) as u64;
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
        let doomed = unmarked(Area::Manifests, &marks.manifests, &marks.live);
        if doomed.is_empty() {
            return Ok(());
        }
        let sweep = self.backend().sweep(&doomed).await?;
        let done = self.delete_manifests(&*sweep, marks, grace, report).await;
        sweep.end().await;
        done
    }

    async fn delete_manifests(
        &self,
        sweep: &dyn Sweep,
        marks: &mut Marks,
        grace: Duration,
        report: &mut GcReport,
    ) -> Result<()> {
        let (mut there, now) = (sweep.look().await?, sweep.now());
        // What was used while the marking went on is young by now, and so is all that it names.
        let young = there.iter().filter(|(_, object)| object.age(now) < grace);
        let young = young.map(|(name, _)| name.1).collect();
        self.mark(young, marks).await?;
        there.retain(|(name, _)| !marks.live.contains(&name.1));
        delete(sweep, &there, &mut marks.manifests, report).await
    }

    async fn sweep_blobs(
        &self,
        marks: &mut Marks,
        grace: Duration,
        report: &mut GcReport,
    ) -> Result<()> {
        let doomed = unmarked(Area::Blobs, &marks.blobs, &marks.live);
        for batch in doomed.chunks(self.backend().batch()) {
            let sweep = self.backend().sweep(batch).await?;
            let done = delete_old(&*sweep, grace, &mut marks.blobs, report).await;
            sweep.end().await;
            done?;
        }
        Ok(())
    }

    async fn sweep_records(&self, marks: &Marks, report: &mut GcReport) -> Result<()> {
        let all = self.backend().list(Area::Records).await?;
        let all: Vec<Digest> = all.into_iter().map(|(key, _)| key).collect();
        let doomed = self.of_no_use(all, marks).await?;
        for batch in doomed.chunks(self.backend().batch()) {
            let sweep = self.backend().sweep(batch).await?;
            let done = self.delete_records(&*sweep, batch, marks).await;
            sweep.end().await;
            report.records += done?;
        }
        Ok(())
    }

    async fn delete_records(
        &self,
        sweep: &dyn Sweep,
        batch: &[Name],
        marks: &Marks,
    ) -> Result<u64> {
        let keys = batch.iter().map(|name| name.1).collect();
        let old = self.of_no_use(keys, marks).await?;
        sweep.delete(&old).await?;
        Ok(old.len() as u64)
    }

    /// The records of these whose output is gone.
    async fn of_no_use(&self, keys: Vec<Digest>, marks: &Marks) -> Result<Vec<Name>> {
        let looked = stream::iter(keys)
            .map(|key| async move { Ok::<_, StoreError>((key, self.of_use(&key, marks).await?)) })
            .buffer_unordered(PARALLEL);
        let looked: Vec<(Digest, bool)> = looked.try_collect().await?;
        let useless = looked.into_iter().filter(|(_, of_use)| !of_use);
        Ok(useless.map(|(key, _)| Name(Area::Records, key)).collect())
    }

    async fn of_use(&self, key: &Digest, marks: &Marks) -> Result<bool> {
        let Some(output) = self.read_record(key).await? else {
            return Ok(false);
        };
        Ok(marks.manifests.contains_key(&output)
            || marks.blobs.contains_key(&output)
            || self.has(Area::Manifests, &output).await?
            || self.has(Area::Blobs, &output).await?)
    }
}

fn unmarked(area: Area, all: &Listing, live: &HashSet<Digest>) -> Vec<Name> {
    let dead = all.keys().filter(|digest| !live.contains(digest));
    dead.map(|digest| Name(area, *digest)).collect()
}

async fn delete_old(
    sweep: &dyn Sweep,
    grace: Duration,
    from: &mut Listing,
    report: &mut GcReport,
) -> Result<()> {
    let (mut there, now) = (sweep.look().await?, sweep.now());
    there.retain(|(_, object)| object.age(now) >= grace);
    delete(sweep, &there, from, report).await
}

async fn delete(
    sweep: &dyn Sweep,
    old: &[(Name, Object)],
    from: &mut Listing,
    report: &mut GcReport,
) -> Result<()> {
    let names: Vec<Name> = old.iter().map(|(name, _)| *name).collect();
    sweep.delete(&names).await?;
    for (name, object) in old {
        from.remove(&name.1);
        report.swept += 1;
        report.bytes += object.size;
    }
    Ok(())
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
            for (digest, _) in store.backend().list(area).await.unwrap() {
                let file = File::open(store.place(area, &digest)).unwrap();
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
        store
            .sweep_blobs(&mut marks, HOUR, &mut report)
            .await
            .unwrap();
        store.sweep_records(&marks, &mut report).await.unwrap();

        assert!(store.complete(&output).await.unwrap() && store.complete(&named).await.unwrap());
        assert!(!store.contains(&garbage).await.unwrap());
        assert_eq!((report.swept, report.records), (1, 0));
    }
}
