//! One pipeline's resources on the API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams};
use kube::core::object::HasStatus;
use kube::{Api, Client, Resource, ResourceExt};
use loci_crds::{
    MemoryPipeline, MemoryPipelineStatus, MemoryRelease, MemoryReleaseStatus, MemoryRun,
    MemoryRunSpec, MemoryRunStatus,
};
use loci_plan::Intents;
use loci_shell::{Keeper, Kept, Told};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::events::Events;
use crate::fleet::{DESIRED, config_map};
use crate::{MANAGER, annotations, pointer};

/// The pipeline that a resource belongs to.
pub const PIPELINE: &str = "loci.dev/pipeline";
const COLLECTED: &str = "collected";

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
    /// What the pointer says: written when that changes, not with each look.
    written: Mutex<Pointer>,
}

/// The ConfigMap that says what is to be served.
#[derive(Clone, Default, PartialEq)]
struct Pointer {
    desired: Option<String>,
    collected: Option<Timestamp>,
}

impl Cluster {
    /// For `pipeline` as it was read last.
    pub fn new(
        client: Client,
        pipeline: MemoryPipeline,
        annotations: Annotations,
        events: Events,
        term: u64,
    ) -> Self {
        let namespace = pipeline.namespace().unwrap_or_default();
        Self {
            client,
            pipeline,
            namespace,
            annotations,
            events,
            term,
            written: Mutex::default(),
        }
    }

    /// Reads what was kept, and all runs and releases, from the API server itself.
    pub async fn read(&self) -> Result<(Kept, Vec<MemoryRun>, Vec<MemoryRelease>)> {
        let name = self.pipeline.name_any();
        let pointer = self.api::<ConfigMap>().get_opt(&self.pointer()).await?;
        let pointer = pointer.filter(|p| self.owns(p));
        let data = pointer.and_then(|p| p.data).unwrap_or_default();
        let pointer = Pointer {
            desired: data.get(DESIRED).cloned(),
            collected: data.get(COLLECTED).and_then(|t| t.parse().ok()),
        };
        *self.written() = pointer.clone();
        let all = Default::default();
        let runs = self.api::<MemoryRun>().list(&all).await?.items;
        let releases = self.api::<MemoryRelease>().list(&all).await?.items;
        let kept = Kept {
            desired: pointer.desired,
            collected: pointer.collected,
            ..Kept::default()
        };
        let runs = runs
            .into_iter()
            .filter(|r| r.spec.pipeline_ref.name == name);
        let of_us = |r: &MemoryRelease| r.spec.pipeline_ref.name == name;
        let mut own = Vec::new();
        for release in releases.into_iter().filter(of_us) {
            if unwritten(&release) && self.owns(&release) {
                // Its creation was cut off before its status was written: who wanted it makes it again.
                self.delete_release(&release.name_any()).await?;
            } else {
                own.push(release);
            }
        }
        Ok((kept, runs.collect(), own))
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

    /// The pipeline's.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    fn pointer(&self) -> String {
        config_map(&self.pipeline.name_any())
    }

    fn written(&self) -> std::sync::MutexGuard<'_, Pointer> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn metadata(&self, name: &str) -> ObjectMeta {
        let labels = [
            (PIPELINE.to_owned(), self.pipeline.name_any()),
            (
                "app.kubernetes.io/managed-by".to_owned(),
                MANAGER.to_owned(),
            ),
        ];
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.namespace.clone()),
            labels: Some(labels.into()),
            owner_references: self.pipeline.controller_owner_ref(&()).map(|r| vec![r]),
            ..ObjectMeta::default()
        }
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

    /// Writes a status over the version that was read. Somebody may have changed the object's metadata since: then it is
    /// read again and written once more. A status that has changed is another leader's, and planning begins anew.
    async fn put_status<K>(&self, object: &K, status: K::Status) -> Result<K>
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
        let mut object = object.clone();
        let before = object.status().cloned();
        for _ in 0..3 {
            *object.status_mut() = Some(status.clone());
            match api.replace_status(&name, &params, &object).await {
                Err(kube::Error::Api(refused)) if refused.is_conflict() => {
                    object = api.get(&name).await?;
                    if object.status() != before.as_ref() {
                        bail!("the status of {name} was written by somebody else meanwhile");
                    }
                }
                written => {
                    return written.with_context(|| format!("cannot write the status of {name}"));
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
        run.metadata = self.metadata(name);
        self.create(&run).await
    }

    async fn update_run(&self, run: &MemoryRun, status: MemoryRunStatus) -> Result<MemoryRun> {
        self.put_status(run, status).await
    }

    async fn delete_run(&self, name: &str) -> Result<()> {
        self.delete::<MemoryRun>(name).await
    }

    async fn create_release(&self, mut release: MemoryRelease) -> Result<MemoryRelease> {
        let status = release.status.take().unwrap_or_default();
        release.metadata = self.metadata(&release.name_any());
        let created = self.create(&release).await?;
        self.update_release(&created, status).await
    }

    async fn update_release(
        &self,
        release: &MemoryRelease,
        status: MemoryReleaseStatus,
    ) -> Result<MemoryRelease> {
        self.put_status(release, status).await
    }

    async fn delete_release(&self, name: &str) -> Result<()> {
        self.delete::<MemoryRelease>(name).await
    }

    async fn write_status(&self, status: &MemoryPipelineStatus) -> Result<()> {
        let api = self.api::<MemoryPipeline>();
        let name = self.pipeline.name_any();
        let now = api.get(&name).await?;
        if now.uid() != self.pipeline.uid() {
            bail!("{name} was deleted and made anew");
        }
        self.put_status(&now, status.clone()).await?;
        Ok(())
    }

    async fn keep(&self, kept: &Kept) -> Result<()> {
        let pointer = Pointer {
            desired: kept.desired.clone(),
            collected: kept.collected,
        };
        if *self.written() == pointer {
            return Ok(());
        }
        let mut data = BTreeMap::new();
        data.extend(pointer.desired.clone().map(|d| (DESIRED.to_owned(), d)));
        let collected = pointer
            .collected
            .map(|t| (COLLECTED.to_owned(), t.to_string()));
        data.extend(collected);
        let map = ConfigMap {
            metadata: self.metadata(&self.pointer()),
            data: Some(data),
            ..ConfigMap::default()
        };
        pointer::write(&self.api(), MANAGER, self.term, map)
            .await
            .context("cannot write which release is to be served")?;
        *self.written() = pointer;
        Ok(())
    }

    fn tell(&self, told: Told<'_>) {
        if let Told::Trouble(what) = &told {
            tracing::warn!(pipeline = self.pipeline.name_any(), "{what}");
        }
        self.events.tell(&told);
    }
}
