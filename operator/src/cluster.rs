//! One pipeline's resources on the API server.

mod pointing;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use loci_crds::release::ReleasePhase;
use loci_crds::{
    MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryReleaseStatus, MemoryRun,
    MemoryRunSpec, MemoryRunStatus,
};
use loci_plan::{Intents, World};
use loci_shell::{Keeper, Kept, Told};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use crate::events::Events;
use crate::facts::{Kind, Known};
use crate::glance::Sight;
use crate::pointed::{Pointer, References};
use crate::{MANAGER, annotations, lock};

/// The pipeline that a resource belongs to.
pub const PIPELINE: &str = "loci.dev/pipeline";

/// What people wrote at the pipeline since, shared with who watches.
pub type Annotations = Arc<RwLock<BTreeMap<String, String>>>;

/// The resources of one pipeline.
pub struct Cluster {
    client: Client,
    pipeline: MemoryPipeline,
    namespace: String,
    annotations: Annotations,
    events: Events,
    /// Of the leader that this process is.
    term: u64,
    known: Arc<Known>,
    sight: Sight,
    /// What the spec names, as it was read last.
    references: References,
    /// What the pointer says: written when that changes, not with each look.
    written: Mutex<Pointer>,
    /// Held until there is nothing to do for the first time.
    start: Mutex<Option<Arc<OwnedSemaphorePermit>>>,
}

/// What a pipeline's resources are kept with.
pub struct Held {
    /// The API server.
    pub client: Client,
    /// What is known of the pipeline.
    pub known: Arc<Known>,
    /// What is known beside.
    pub sight: Sight,
    /// What people wrote at it.
    pub annotations: Annotations,
    /// Where events go.
    pub events: Events,
    /// Of the leader that this process is.
    pub term: u64,
}

impl Cluster {
    /// For `pipeline` as it was read last, with what it names.
    pub fn new(
        held: Held,
        pipeline: MemoryPipeline,
        references: References,
        start: Option<Arc<OwnedSemaphorePermit>>,
    ) -> Self {
        Self {
            client: held.client,
            namespace: pipeline.namespace().unwrap_or_default(),
            pipeline,
            annotations: held.annotations,
            events: held.events,
            term: held.term,
            known: held.known,
            sight: held.sight,
            references,
            written: Mutex::default(),
            start: Mutex::new(start),
        }
    }

    /// What was kept, and all runs and releases, as far as this process has heard. What it wrote itself it knows, and a
    /// write over what somebody else wrote meanwhile is refused.
    pub async fn read(&self) -> Result<(Kept, Vec<MemoryRun>, Vec<MemoryRelease>)> {
        if self.known.unanswered.load(Ordering::Relaxed) {
            self.look_for_runs().await?;
        }
        let runs = self.known.facts().runs();
        let releases = self.known.facts().releases();
        let mut own = Vec::new();
        for release in releases {
            own.extend(self.whole(release).await?);
        }
        let written = self.reread().await?;
        let phase = |r: &MemoryRelease| r.status.as_ref().map(|s| s.phase);
        let serving = |r: &&MemoryRelease| phase(r) == Some(ReleasePhase::Serving);
        let mut kept = Kept {
            desired: written.desired,
            collected: written.collected,
            ..Kept::default()
        };
        if kept.desired.is_none() {
            // Somebody may have deleted the pointer.
            let served = own.iter().filter(|r| self.owns(*r)).find(serving);
            kept.desired = served.map(ResourceExt::name_any);
            self.keep(&kept).await?;
        }
        Ok((kept, runs, own))
    }

    /// Another run would take the place of one that nobody has told of yet.
    async fn look_for_runs(&self) -> Result<()> {
        let of = format!("{PIPELINE}={}", self.pipeline.name_any());
        let of = ListParams::default().labels(&of);
        for run in self.api::<MemoryRun>().list(&of).await? {
            self.known.read_object(Kind::Run, &run)?;
        }
        self.known.unanswered.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// A release whose creation was cut off before its status was written is deleted: who wanted it makes it again.
    async fn whole(&self, release: MemoryRelease) -> Result<Option<MemoryRelease>> {
        if !unwritten(&release) || !self.owns(&release) {
            return Ok(Some(release));
        }
        let name = release.name_any();
        let now = self.api::<MemoryRelease>().get_opt(&name).await?;
        if now.as_ref().is_some_and(unwritten) {
            self.delete_release(&name).await?;
            return Ok(None);
        }
        Ok(now)
    }

    /// Whether an object is this pipeline's, and not of one that had its name before.
    fn owns<K: Resource>(&self, object: &K) -> bool {
        let ours = self.pipeline.uid();
        let owners = object.owner_references();
        owners.iter().any(|owner| Some(&owner.uid) == ours.as_ref())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates an object, or gives the one that is there. One of another pipeline is not taken over.
    async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
    {
        let (api, name) = (self.api::<K>(), object.name_any());
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let there = match api.create(&params, object).await {
            Err(kube::Error::Api(status)) if status.is_already_exists() => api.get(&name).await?,
            created => return created.with_context(|| format!("cannot create {name}")),
        };
        if !self.owns(&there) {
            bail!("{name} exists already and belongs to something else: delete or rename it");
        }
        Ok(there)
    }

    /// Writes a status over the version that was read. Somebody may have changed the object's metadata since: it is
    /// read again and written once more. A status that changed since was written by an operator that nobody has heard of
    /// yet, or by this one in a request whose answer was lost.
    async fn put_status<K>(&self, kind: Kind, object: &K, status: K::Status) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + HasStatus
            + Clone
            + std::fmt::Debug
            + Serialize
            + DeserializeOwned,
        K::Status: Clone + PartialEq,
    {
        let (api, name) = (self.api::<K>(), object.name_any());
        let params = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let (before, mut object) = (object.status().cloned(), object.clone());
        for _ in 0..3 {
            *object.status_mut() = Some(status.clone());
            match api.replace_status(&name, &params, &object).await {
                Err(kube::Error::Api(refused)) if refused.is_conflict() => {
                    let now = api.get(&name).await?;
                    if now.uid() != object.uid() {
                        bail!("{name} was deleted and made anew");
                    }
                    self.known.read_object(kind, &now)?;
                    if now.status().cloned() != before {
                        bail!("the status of {name} has changed since it was read");
                    }
                    object = now;
                }
                Err(kube::Error::Api(refused)) if refused.is_not_found() => {
                    // Nobody may ever tell of it, if it was made and deleted while nobody watched.
                    self.known.facts().remove(kind, &name);
                    bail!("{name} was deleted");
                }
                written => {
                    let written =
                        written.with_context(|| format!("cannot write the status of {name}"))?;
                    self.known.wrote_object(kind, &written)?;
                    return Ok(written);
                }
            }
        }
        bail!("the status of {name} could not be written: somebody changes it all the time")
    }

    async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        match self.api::<K>().delete(name, &DeleteParams::default()).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot delete {name}")),
            Ok(_) => Ok(()),
        }
    }
}

/// Metadata of an object that belongs to a pipeline.
pub fn metadata(pipeline: &MemoryPipeline, name: &str) -> ObjectMeta {
    let labels = [
        (PIPELINE.to_owned(), pipeline.name_any()),
        (
            "app.kubernetes.io/managed-by".to_owned(),
            MANAGER.to_owned(),
        ),
    ];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: pipeline.namespace(),
        labels: Some(labels.into()),
        owner_references: pipeline.controller_owner_ref(&()).map(|r| vec![r]),
        ..ObjectMeta::default()
    }
}

/// Whether a release has no status but what an API server gives it.
fn unwritten(release: &MemoryRelease) -> bool {
    let observed = release.status.as_ref().and_then(|s| s.observed_generation);
    release.status.is_none() || observed == Some(-1)
}

#[async_trait]
impl Keeper for Cluster {
    async fn intents(&self) -> Result<Intents> {
        let annotations = self
            .annotations
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (intents, wrong) = annotations::intents(&annotations);
        if let Some(wrong) = wrong {
            self.tell(Told::Trouble(wrong));
        }
        Ok(intents)
    }

    async fn confirm(&self) -> Result<()> {
        let name = self.pipeline.name_any();
        let there = self.api::<MemoryPipeline>().get(&name).await?;
        if there.uid() != self.pipeline.uid() {
            bail!("{name} was deleted and made anew");
        }
        if there.metadata.deletion_timestamp.is_some() {
            bail!("{name} is being deleted");
        }
        Ok(())
    }

    async fn create_run(&self, name: &str, spec: MemoryRunSpec) -> Result<MemoryRun> {
        let mut run = MemoryRun::new(name, spec);
        run.metadata = metadata(&self.pipeline, name);
        self.known.unanswered.store(true, Ordering::Relaxed);
        let run = self.create(&run).await?;
        self.known.unanswered.store(false, Ordering::Relaxed);
        self.known.wrote_object(Kind::Run, &run)?;
        Ok(run)
    }

    async fn update_run(&self, run: &MemoryRun, status: MemoryRunStatus) -> Result<MemoryRun> {
        self.put_status(Kind::Run, run, status).await
    }

    async fn delete_run(&self, name: &str) -> Result<()> {
        self.delete::<MemoryRun>(name).await?;
        self.known.facts().remove(Kind::Run, name);
        Ok(())
    }

    async fn create_release(&self, mut release: MemoryRelease) -> Result<MemoryRelease> {
        let status = release.status.take().unwrap_or_default();
        release.metadata = metadata(&self.pipeline, &release.name_any());
        let created = self.create(&release).await?;
        self.known.wrote_object(Kind::Release, &created)?;
        self.update_release(&created, status).await
    }

    async fn update_release(
        &self,
        release: &MemoryRelease,
        status: MemoryReleaseStatus,
    ) -> Result<MemoryRelease> {
        self.put_status(Kind::Release, release, status).await
    }

    async fn delete_release(&self, name: &str) -> Result<()> {
        self.delete::<MemoryRelease>(name).await?;
        self.known.facts().remove(Kind::Release, name);
        Ok(())
    }

    async fn write_status(&self, status: &MemoryPipelineStatus) -> Result<()> {
        let now = self.known.facts().pipeline();
        let now = now.filter(|now| now.uid() == self.pipeline.uid());
        let Some(now) = now else {
            bail!("{} was deleted", self.pipeline.name_any());
        };
        self.put_status(Kind::Pipeline, &now, status.clone())
            .await?;
        Ok(())
    }

    async fn keep(&self, kept: &Kept) -> Result<()> {
        let pointer = Pointer {
            desired: kept.desired.clone(),
            collected: kept.collected,
            ..self.written().clone()
        };
        self.point(pointer).await
    }

    fn idle(&self) {
        lock(&self.start).take();
    }

    async fn rests(&self, world: &World) -> Result<bool> {
        if loci_plan::answered(world) {
            let pointer = Pointer {
                desired: world.serving.desired.clone(),
                collected: world.collected,
                references: Some(self.references.clone()),
                ..self.written().clone()
            };
            self.point(pointer).await?;
        }
        let glance = self.sight.glance(&self.known.facts(), Timestamp::now());
        if let Err(why) = &glance {
            tracing::debug!(pipeline = self.pipeline.name_any(), "does not rest: {why}");
        }
        Ok(glance.is_ok())
    }

    fn tell(&self, told: Told<'_>) {
        if let Told::Trouble(what) = &told {
            tracing::warn!(pipeline = self.pipeline.name_any(), "{what}");
        }
        self.events.tell(&told);
    }
}

#[cfg(test)]
mod tests;
