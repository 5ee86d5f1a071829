//! The API server, and errors that say what to do.

use std::fmt::Debug;

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::NamespaceResourceScope;
use kube::config::KubeConfigOptions;
use kube::{Api, Client, Config, Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde::de::DeserializeOwned;

use super::{PROGRAM, Target};
use crate::show::{Lead, names};

/// A namespaced kind, as the API server gives it.
pub trait Kind:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Clone
    + Debug
    + DeserializeOwned
    + Send
    + Sync
    + 'static
{
}

impl<K> Kind for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static
{
}

/// Where a list looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The one namespace.
    Namespace,
    /// All of them.
    Everywhere,
}

/// A namespace of a cluster.
pub struct Cluster {
    /// The API server.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    server: String,
}

impl Cluster {
    /// By the kubeconfig; nothing is asked of the API server yet.
    pub async fn connect(target: &Target) -> Result<Self> {
        let config = match &target.context {
            None => Config::infer()
                .await
                .context("no way to a cluster: set KUBECONFIG to a kubeconfig, as for kubectl")?,
            Some(context) => {
                let options = KubeConfigOptions {
                    context: Some(context.clone()),
                    ..KubeConfigOptions::default()
                };
                Config::from_kubeconfig(&options)
                    .await
                    .with_context(|| format!("context {context}"))?
            }
        };
        let namespace = target.namespace.clone();
        Ok(Self {
            namespace: namespace.unwrap_or_else(|| config.default_namespace.clone()),
            server: config.cluster_url.to_string(),
            client: Client::try_from(config)?,
        })
    }

    /// The objects of the namespace.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// The objects of the namespace, or of all.
    pub fn scoped<K: Kind>(&self, scope: Scope) -> Api<K> {
        match scope {
            Scope::Namespace => self.api(),
            Scope::Everywhere => Api::all(self.client.clone()),
        }
    }

    /// All objects of a kind.
    pub async fn list<K: Kind>(&self, scope: Scope) -> Result<Vec<K>> {
        let listed = self.scoped::<K>(scope).list(&Default::default()).await;
        Ok(listed.map_err(|e| self.explain(e))?.items)
    }

    /// The pipeline of this name, or the only one.
    pub async fn pipeline(&self, wanted: Option<&str>) -> Result<MemoryPipeline> {
        if let Some(name) = wanted {
            let found = self.api::<MemoryPipeline>().get_opt(name).await;
            if let Some(found) = found.map_err(|e| self.explain(e))? {
                return Ok(found);
            }
        }
        let mut all = self.list::<MemoryPipeline>(Scope::Namespace).await?;
        let namespace = &self.namespace;
        let has = names(all.iter().map(|p| p.name_any()));
        match (wanted, all.len()) {
            (_, 0) => bail!(
                "there is no pipeline in the namespace {namespace}: give another with -n; `{PROGRAM} status -A` lists all"
            ),
            (Some(wanted), _) => {
                bail!(
                    "there is no pipeline {wanted} in the namespace {namespace}, which has: {has}"
                )
            }
            (None, 1) => Ok(all.remove(0)),
            (None, _) => bail!("say which pipeline: {has}"),
        }
    }

    /// The runs of a pipeline.
    pub async fn runs_of(&self, pipeline: &str) -> Result<Vec<MemoryRun>> {
        let mut runs = self.list::<MemoryRun>(Scope::Namespace).await?;
        runs.retain(|r| r.spec.pipeline_ref.name == pipeline);
        Ok(runs)
    }

    /// The releases of a pipeline.
    pub async fn releases_of(&self, pipeline: &str) -> Result<Vec<MemoryRelease>> {
        let mut releases = self.list::<MemoryRelease>(Scope::Namespace).await?;
        releases.retain(|r| r.spec.pipeline_ref.name == pipeline);
        Ok(releases)
    }

    /// What went wrong, and the way out.
    pub fn explain(&self, error: kube::Error) -> anyhow::Error {
        let server = &self.server;
        match error {
            // An object that is not there has a reason; a kind that is not known has none.
            kube::Error::Api(status) if status.code == 404 && status.reason != "NotFound" => {
                anyhow!(
                    "the cluster at {server} does not know Loci's kinds: `helm install loci-crds charts/loci-crds` defines them"
                )
            }
            kube::Error::Api(status) if status.code == 401 => {
                anyhow!("{server} does not accept the credentials of this context: log in again")
            }
            kube::Error::Api(status) => anyhow!("{}", status.message),
            error @ (kube::Error::Service(_) | kube::Error::HyperError(_)) => {
                anyhow::Error::new(error).context(format!("no answer from {server}"))
            }
            error => error.into(),
        }
    }
}

/// What a table of several pipelines begins with.
pub fn lead(scope: Scope) -> Lead {
    match scope {
        Scope::Namespace => Lead::Pipeline,
        Scope::Everywhere => Lead::Namespace,
    }
}
