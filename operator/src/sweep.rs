//! What becomes of pipelines that are deleted: there is no finalizer, so that nobody has to be up for a deletion. From
//! time to time the records in the store are compared with the pipelines that there are.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use loci_crds::MemoryPipeline;
use loci_shell::{Census, Sweeper};
use tokio_util::sync::CancellationToken;

use crate::pipeline::Site;
use crate::watch::key;

/// Pipelines listed at once.
const PAGE: u32 = 500;

/// Sweeps until `stop`. Without `namespaces`, all are looked after.
pub async fn run(
    site: Site,
    namespaces: Vec<String>,
    grace: Duration,
    stop: CancellationToken,
) -> Result<()> {
    let mut sweeper = Sweeper::new(site.shared, grace);
    loop {
        let census = count(&site.client, &namespaces).await;
        if let Err(error) = sweeper.round(&census).await {
            tracing::warn!("deleted pipelines are not swept: {error:#}");
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(sweeper.pause()) => {}
        }
    }
}

/// Which pipelines there are, as far as that can be told.
async fn count(client: &Client, namespaces: &[String]) -> Census {
    let mut census = Census {
        namespaces: (!namespaces.is_empty()).then(HashSet::new),
        complete: true,
        pipelines: HashMap::new(),
    };
    let scopes: Vec<Option<&String>> = match namespaces {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    };
    for scope in scopes {
        match list(client, scope).await {
            Ok(pipelines) => {
                census.pipelines.extend(pipelines);
                let counted = census.namespaces.as_mut().zip(scope.cloned());
                counted.map(|(counted, namespace)| counted.insert(namespace));
            }
            Err(error) => {
                tracing::warn!(namespace = scope, "pipelines cannot be counted: {error:#}");
                census.complete = false;
            }
        }
    }
    census
}

/// The uids of the pipelines of a namespace, or of all; none of a namespace that is not there any more.
async fn list(client: &Client, namespace: Option<&String>) -> Result<Vec<(String, String)>> {
    let api: Api<MemoryPipeline> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let (mut found, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let listed = match (api.list_metadata(&page).await, namespace) {
            // With a namespace go the roles in it.
            (Err(kube::Error::Api(status)), Some(namespace)) if status.is_forbidden() => {
                let all: Api<Namespace> = Api::all(client.clone());
                match all.get_metadata_opt(namespace).await? {
                    None => return Ok(Vec::new()),
                    Some(_) => return Err(kube::Error::Api(status).into()),
                }
            }
            (listed, _) => listed?,
        };
        found.extend(listed.items.iter().map(|pipeline| {
            let (namespace, name) = key(pipeline);
            (
                format!("{namespace}/{name}"),
                pipeline.uid().unwrap_or_default(),
            )
        }));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}
