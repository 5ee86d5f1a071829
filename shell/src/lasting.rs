//! What outlives a pipeline's resources: its record in the store, kept up to date, and what is taken from it when the
//! resources are gone.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use kube::{Resource, ResourceExt};
use loci_crds::budget::MonthCost;
use loci_crds::pipeline::SourceStatus;
use loci_crds::run::RunPhase;
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;
use loci_plan::{Built, PipelineRecord, StepOutcome, restore};
use loci_store::{Store, Version};

use crate::keeper::{Keeper, Kept, Told};

/// The record of one pipeline.
pub(crate) struct Lasting {
    store: Store,
    /// `namespace/name`.
    name: String,
    version: Option<Version>,
    /// The digest of what was written last: nothing is written that is there.
    written: Option<Digest>,
}

/// What was taken from a record.
#[derive(Default)]
pub(crate) struct Taken {
    pub built: Option<Built>,
    /// The sources as the record has them, when no run tells of them.
    pub unread: Option<Vec<SourceStatus>>,
    /// What trainings have cost, should the status not say so.
    pub cost: Option<MonthCost>,
    /// The pointer has to be written.
    pub pointed: bool,
    /// What steps of a live run made.
    pub results: Vec<StepOutcome>,
}

impl Lasting {
    /// With the record as it is, if there is one.
    pub async fn open(store: Store, name: String) -> Result<(Self, Option<PipelineRecord>)> {
        let found = store.document::<PipelineRecord>(&name).await?;
        let (record, version) = found.unzip();
        let written = record.as_ref().map(Digest::of_json).transpose()?;
        let lasting = Self {
            store,
            name,
            version,
            written,
        };
        Ok((lasting, record))
    }

    /// Keeps `record`, unless that is what is kept.
    pub async fn write(&mut self, record: &PipelineRecord) -> Result<()> {
        let digest = Digest::of_json(record)?;
        if self.written == Some(digest) {
            return Ok(());
        }
        if !self.put(record).await? {
            // Who looks for pipelines that are gone writes, too.
            let found = self.store.document::<PipelineRecord>(&self.name).await?;
            let (there, version) = found.unzip();
            if there.is_some_and(|there| there.uid != record.uid) {
                bail!(
                    "the record of {} in the store is another pipeline's by now",
                    self.name
                );
            }
            self.version = version;
            if !self.put(record).await? {
                bail!(
                    "the record of {} in the store is changed all the time",
                    self.name
                );
            }
        }
        self.written = Some(digest);
        Ok(())
    }

    async fn put(&mut self, record: &PipelineRecord) -> Result<bool> {
        let (roots, over) = (record.roots(), self.version.as_ref());
        let put = self.store.put_document(&self.name, &roots, record, over);
        let put = put.await.context("cannot keep the pipeline's record")?;
        let written = put.is_some();
        self.version = put.or(self.version.take());
        Ok(written)
    }

    /// Makes what is in the record and missing among the resources. Repeating it is harmless: what exists stays.
    pub async fn restore(
        &mut self,
        keeper: &dyn Keeper,
        mut record: PipelineRecord,
        uid: &str,
        (kept, runs, releases): (&mut Kept, &[MemoryRun], &mut Vec<MemoryRelease>),
    ) -> Result<Taken> {
        let ours = record.uid == uid;
        let mut results = std::mem::take(&mut record.results);
        results.retain(|o| ours && runs.iter().any(|r| goes_on(r, &o.key.run)));
        let there = |name: &String| releases.iter().any(|r| r.name_any() == *name);
        let whole = record.releases.iter().all(|r| there(&r.name));
        let good = runs.iter().any(succeeded);
        if ours && whole && good {
            return Ok(Taken {
                built: record.built,
                cost: record.cost,
                results,
                ..Taken::default()
            });
        }
        let usable = self.usable(&record).await?;
        let restored = restore(&record, kept.desired.as_deref(), releases, &usable);
        if !ours || !restored.releases.is_empty() {
            // Not from a pipeline that is there in our stead, nor for one that is on its way out.
            keeper.confirm().await?;
        }
        if !ours && !self.claim(&record, uid).await? {
            bail!(
                "somebody else takes over the record of {} in the store",
                self.name
            );
        }
        for release in restored.releases {
            releases.push(keeper.create_release(release).await?);
        }
        for lost in &restored.lost {
            let trouble =
                format!("release {lost} cannot be taken over: its content is gone from the store");
            keeper.tell(Told::Trouble(trouble));
        }
        let pointed = kept.desired != restored.desired;
        kept.desired = restored.desired;
        Ok(Taken {
            built: restored.built,
            unread: (!good).then_some(record.sources),
            cost: record.cost,
            pointed,
            results,
        })
    }

    /// Takes over the record of a pipeline that is gone. False when somebody else has written it since it was read.
    async fn claim(&mut self, record: &PipelineRecord, uid: &str) -> Result<bool> {
        let claimed = PipelineRecord {
            uid: uid.to_owned(),
            missing_since: None,
            purged: false,
            ..record.clone()
        };
        self.put(&claimed).await
    }

    async fn usable(&self, record: &PipelineRecord) -> Result<BTreeSet<Digest>> {
        let mut usable = BTreeSet::new();
        for digest in record.roots() {
            if self.store.usable(&digest).await? {
                usable.insert(digest);
            }
        }
        Ok(usable)
    }
}

fn succeeded(run: &MemoryRun) -> bool {
    let status = run.status.as_ref();
    status.is_some_and(|s| s.phase == RunPhase::Succeeded)
}

fn goes_on(run: &MemoryRun, name: &str) -> bool {
    let phase = run.status.as_ref().map(|s| &s.phase);
    run.name_any() == name && phase.is_some_and(|p| !p.is_terminal())
}

/// Whether an object is that of another pipeline: one that had this name before, and whose objects are on their way out.
pub(crate) fn foreign<K: Resource>(object: &K, uid: &str) -> bool {
    let owners = object.owner_references();
    !owners.is_empty() && owners.iter().all(|owner| owner.uid != uid)
}
