//! A fetcher's process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use async_trait::async_trait;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use loci_nats::{NatsBus, NatsOptions};
use loci_plan::FieldError;
use loci_plan::spec::{Location, Source};
use loci_shell::{FETCH, Resolver, SECRET_KEYS};
use loci_worker::service::{self, FETCHES};
use loci_worker::source::SourceSpec;
use loci_worker::step::{FetchContext, Missing, SourceInput, SourceProvider, StepError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::artifacts::IDLE;
use crate::dereference::{Found, data};
use crate::metrics::{Scope, serve_metrics};
use crate::work::{stays, worker};

/// How a fetcher runs.
pub struct FetcherOptions {
    /// The namespace whose sources it reads.
    pub namespace: String,
    /// Where caches are.
    pub state: PathBuf,
    /// Where the Secrets are that sources name: a directory for each, a file for each key.
    pub secrets: PathBuf,
    /// Where its work comes from.
    pub nats: NatsOptions,
    /// Where `/metrics` are.
    pub metrics: Option<SocketAddr>,
}

/// Reads sources until `shutdown`; what is under way then goes back into the queue. Sources that are ConfigMaps need a
/// way to the API server.
///
/// # Errors
/// When the state directory or an address cannot be had, or the options are wrong.
pub async fn fetch(
    client: Option<Client>,
    options: FetcherOptions,
    shutdown: CancellationToken,
) -> Result<()> {
    let git_cache = options.state.join("git");
    std::fs::create_dir_all(&git_cache)
        .with_context(|| format!("cannot create {}", git_cache.display()))?;
    let namespace = options.namespace;
    let class = format!("{FETCH}-{namespace}");
    let context = FetchContext {
        sources: Arc::new(Mounted {
            maps: client.map(|client| Api::namespaced(client, &namespace)),
            namespace,
            secrets: options.secrets,
            git_cache,
        }),
        store: None,
        http: reqwest::Client::builder().pool_idle_timeout(IDLE).build()?,
    };
    let bus = NatsBus::connect(options.nats).await?;
    let told = worker(&class, FETCHES);
    tracing::info!(class, id = told.id, "reading sources");
    let metrics = async {
        match options.metrics {
            Some(address) => {
                let scope = Scope::Class(class.clone());
                serve_metrics(address, bus.clone(), scope, shutdown.clone()).await
            }
            None => Ok(()),
        }
    };
    let work = async {
        service::serve(&bus, &class, &context, FETCHES, shutdown.clone()).await;
        Ok(())
    };
    let (_unchanged, told) = watch::channel(told);
    let advertised = async { Ok(bus.advertise(told, &shutdown).await?) };
    tokio::try_join!(metrics, work, advertised, stays(&bus, &shutdown))?;
    bus.close().await;
    Ok(())
}

/// Sources of one namespace, with the Secrets that are mounted.
struct Mounted {
    namespace: String,
    secrets: PathBuf,
    git_cache: PathBuf,
    maps: Option<Api<ConfigMap>>,
}

#[async_trait]
impl SourceProvider for Mounted {
    async fn open(&self, pipeline: &str, input: &SourceInput) -> Result<SourceSpec, StepError> {
        let of = pipeline.split_once('/').map(|(namespace, _)| namespace);
        if of != Some(&self.namespace) {
            return Err(StepError::UnknownPipeline(pipeline.to_owned()));
        }
        refuse_local(input)?;
        let found = self.find(&input.source).await?;
        let resolver = Resolver {
            objects: &found,
            namespace: &self.namespace,
            base: Path::new("/"),
            git_cache: &self.git_cache,
        };
        Ok(resolver.open(input)?)
    }
}

/// Paths of this pod are nobody's sources, and a fetcher has no documents that were pushed.
fn refuse_local(input: &SourceInput) -> Result<(), Missing> {
    let what = match &input.source.location {
        Location::Directory { .. } => "a path of one machine",
        Location::Git { url, .. } if url.starts_with("file://") => "a path of one machine",
        Location::Push { .. } => "push sources are not built yet in a cluster",
        Location::Git { .. }
        | Location::Http { .. }
        | Location::Bucket(_)
        | Location::ConfigMap { .. } => return Ok(()),
    };
    Err(Missing {
        reason: "InvalidSource",
        error: FieldError {
            field: input.field.clone(),
            reason: format!("{what}: use git, http, bucket or configMap"),
        },
    })
}

impl Mounted {
    /// The object that a source names, if it is there.
    async fn find(&self, source: &Source) -> Result<Found, StepError> {
        let mut found = Found::default();
        if let Some(name) = source.location.secret() {
            let directory = self.secrets.join(name);
            if !directory.is_dir() {
                let why = format!("the Secret {name} is not mounted here");
                return Err(StepError::Elsewhere(why));
            }
            let secret = secret(&directory).map_err(|error| StepError::File {
                path: directory.display().to_string(),
                error,
            })?;
            found
                .secrets
                .extend(secret.map(|secret| (name.to_owned(), secret)));
        }
        if let Location::ConfigMap { name, .. } = &source.location {
            let cannot = |why: String| {
                StepError::Sources(format!("cannot read the ConfigMap {name}: {why}"))
            };
            let nowhere = || StepError::Elsewhere("no way to the API server".to_owned());
            let maps = self.maps.as_ref().ok_or_else(nowhere)?;
            let map = maps
                .get_opt(name)
                .await
                .map_err(|e| cannot(e.to_string()))?;
            found
                .config_maps
                .extend(map.map(|map| (name.clone(), data(map))));
        }
        Ok(found)
    }
}

/// The keys of a mounted Secret that sources may name; none when it is not there.
fn secret(directory: &Path) -> std::io::Result<Option<BTreeMap<String, Vec<u8>>>> {
    let mut keys = BTreeMap::new();
    for key in SECRET_KEYS {
        match std::fs::read(directory.join(key)) {
            Ok(value) => _ = keys.insert(key.to_owned(), value),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok((!keys.is_empty()).then_some(keys))
}
