//! What happens on the API server: one stream of all that a pipeline's task should hear of.

use std::collections::HashSet;
use std::fmt::Debug;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::core::{DeserializeGuard, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde::de::DeserializeOwned;

use crate::fleet::COMPONENT;

/// `namespace, name`.
pub type Key = (String, String);

/// Something was written, deleted, or seen for the first time.
pub enum Seen<K> {
    /// It is so now.
    There(K),
    /// It was deleted.
    Gone(Key),
    /// Everything that there is was told of once.
    All,
}

impl<K> Seen<K> {
    fn boxed(self) -> Seen<Box<K>> {
        match self {
            Self::There(object) => Seen::There(Box::new(object)),
            Self::Gone(key) => Seen::Gone(key),
            Self::All => Seen::All,
        }
    }
}

/// Of any kind.
pub enum Any {
    /// A pipeline.
    Pipeline(Seen<Box<MemoryPipeline>>),
    /// A run.
    Run(Seen<MemoryRun>),
    /// A release.
    Release(Seen<MemoryRelease>),
    /// A ConfigMap, without its data.
    ConfigMap(Seen<PartialObjectMeta<ConfigMap>>),
}

/// Watches these namespaces; all, when there are none.
pub fn watch(client: &Client, namespaces: &[String]) -> BoxStream<'static, Any> {
    let mut all = Vec::new();
    for namespace in scopes(namespaces) {
        let pipelines =
            guarded::<MemoryPipeline>(client, namespace).map(|seen| Any::Pipeline(seen.boxed()));
        let runs = guarded::<MemoryRun>(client, namespace).map(Any::Run);
        let releases = guarded::<MemoryRelease>(client, namespace).map(Any::Release);
        let maps = seen(api::<PartialObjectMeta<ConfigMap>>(client, namespace)).map(Any::ConfigMap);
        all.extend([
            pipelines.boxed(),
            runs.boxed(),
            releases.boxed(),
            maps.boxed(),
        ]);
    }
    futures::stream::select_all(all).boxed()
}

/// The pods that are replicas, and the task that keeps knowing them.
pub fn replicas(
    client: &Client,
    namespaces: &[String],
) -> (Arc<[Store<Pod>]>, impl Future<Output = ()> + use<>) {
    let only = format!("app.kubernetes.io/component={COMPONENT}");
    let config = watcher::Config::default().labels(&only);
    let (mut stores, mut watching) = (Vec::new(), Vec::new());
    for namespace in scopes(namespaces) {
        let (store, writer) = reflector::store();
        let events = watcher(api::<Pod>(client, namespace), config.clone()).default_backoff();
        // Where they are and whether they are ready is all that is asked.
        let small = events.modify(|pod| {
            pod.metadata.managed_fields = None;
            pod.spec = None;
        });
        watching.push(small.reflect(writer).for_each(|event| {
            if let Err(error) = event {
                tracing::warn!("replicas cannot be watched; trying again: {error}");
            }
            std::future::ready(())
        }));
        stores.push(store);
    }
    let all = async {
        futures::future::join_all(watching).await;
    };
    (stores.into(), all)
}

fn scopes(namespaces: &[String]) -> Vec<Option<&String>> {
    match namespaces {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    }
}

fn api<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// One object that cannot be read stalls nobody: it is told of and left out.
fn guarded<K>(
    client: &Client,
    namespace: Option<&String>,
) -> impl Stream<Item = Seen<K>> + Send + use<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let stream = seen(api::<DeserializeGuard<K>>(client, namespace));
    stream.filter_map(|seen| async move {
        match seen {
            Seen::There(DeserializeGuard(Ok(object))) => Some(Seen::There(object)),
            Seen::There(DeserializeGuard(Err(invalid))) => {
                let name = invalid.metadata.name.as_deref().unwrap_or_default();
                tracing::error!("{} {name} cannot be read: {}", K::kind(&()), invalid.error);
                None
            }
            Seen::Gone(key) => Some(Seen::Gone(key)),
            Seen::All => Some(Seen::All),
        }
    })
}

fn seen<K>(api: Api<K>) -> impl Stream<Item = Seen<K>> + Send
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut known = Known::default();
    watcher(api, watcher::Config::default())
        .default_backoff()
        .flat_map(move |event| {
            let seen = match event {
                Ok(event) => known.take(event),
                Err(error) => {
                    tracing::warn!("watching {}: {error}", K::plural(&()));
                    Vec::new()
                }
            };
            futures::stream::iter(seen)
        })
}

/// What is there, so that what vanished while a watch was broken is told of as deleted.
#[derive(Default)]
struct Known {
    there: HashSet<Key>,
    listed: HashSet<Key>,
}

impl Known {
    fn take<K: Resource<DynamicType = ()>>(&mut self, event: Event<K>) -> Vec<Seen<K>> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(key(&object));
                self.there.insert(key(&object));
                vec![Seen::There(object)]
            }
            Event::Apply(object) => {
                self.there.insert(key(&object));
                vec![Seen::There(object)]
            }
            Event::Delete(object) => {
                self.there.remove(&key(&object));
                vec![Seen::Gone(key(&object))]
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                let before = std::mem::replace(&mut self.there, listed);
                let gone = before.difference(&self.there).cloned().map(Seen::Gone);
                gone.chain([Seen::All]).collect()
            }
        }
    }
}

/// An object's namespace and name.
pub fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}
