//! What happens on the API server: one stream of all that a pipeline's task should hear of.

use std::fmt::Debug;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{self, ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::core::PartialObjectMeta;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Config, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde::de::DeserializeOwned;

use crate::MANAGER;
use crate::cluster::PIPELINE;
use crate::facts::{Body, Fact, Kind, Pod};
use crate::fetchers::FETCHER;
use crate::fleet::{AGENT, COMPONENT, SERVING, config_map, fields, place, serving_name};
use crate::packed::Packed;

/// `namespace, name`.
pub type Key = (String, String);

/// The label that tells what a pod is.
const OF_COMPONENT: &str = "app.kubernetes.io/component";
/// How often a listing is refused before it counts as empty: an API server that has just come up refuses, too.
const REFUSALS: u32 = 5;
/// A listing comes in pages, so that neither side holds all of it at once.
const PAGE: u32 = 200;

/// Something was written, deleted, or seen for the first time.
pub struct Seen {
    /// What it is to a pipeline.
    pub kind: Kind,
    /// The listing that it belongs to; counted up with each.
    pub listing: u32,
    /// What became of it.
    pub what: What,
}

/// What became of an object.
pub enum What {
    /// It is so now. The key is its pipeline's, or a ConfigMap's own.
    There(Key, Fact),
    /// It was deleted.
    Gone(Key, Box<str>),
    /// Everything that there is in this namespace, or in all, was told of; true for the first time.
    All(Option<String>, bool),
}

/// A stream of what happens, and the number of listings that it begins with.
pub struct Watch {
    /// What happens.
    pub seen: BoxStream<'static, Seen>,
    /// How often [`What::All`] comes before all is known.
    pub listings: usize,
}

impl Watch {
    fn of(all: Vec<Watching>) -> Self {
        Self {
            listings: all.len(),
            seen: futures::stream::select_all(all).boxed(),
        }
    }
}

/// Watches these namespaces; all, when there are none. `replicas`: also what serves pipelines.
pub fn watch(client: &Client, namespaces: &[String], replicas: bool) -> Watch {
    let mut all = Vec::new();
    for namespace in scopes(namespaces) {
        let scope = Scope { client, namespace };
        all.extend(scope.pipelines());
        if replicas {
            all.extend(scope.replicas());
        }
    }
    Watch::of(all)
}

/// Watches what reads the sources of these namespaces.
pub fn watch_fetchers(client: &Client, namespaces: &[String]) -> Watch {
    let labels =
        format!("app.kubernetes.io/component={FETCHER},app.kubernetes.io/managed-by={MANAGER}");
    let mut all = Vec::new();
    for namespace in scopes(namespaces) {
        let (scope, config) = (
            Scope { client, namespace },
            Config::default().labels(&labels),
        );
        all.extend([
            scope.fields::<ServiceAccount>(config.clone(), |o| Some(key(o))),
            scope.fields::<Role>(config.clone(), |o| Some(key(o))),
            scope.fields::<RoleBinding>(config.clone(), |o| Some(key(o))),
            scope.fields::<Deployment>(config, |o| Some(key(o))),
        ]);
    }
    Watch::of(all)
}

fn scopes(namespaces: &[String]) -> Vec<Option<&String>> {
    match namespaces {
        [] => vec![None],
        some => some.iter().map(Some).collect(),
    }
}

/// One namespace, or all.
#[derive(Clone, Copy)]
struct Scope<'a> {
    client: &'a Client,
    namespace: Option<&'a String>,
}

type Watching = BoxStream<'static, Seen>;
/// What an object is to a pipeline: whose it is, what is known of it, and whether it does not count as deleted.
type Reading = Option<(Key, Fact, bool)>;

impl Scope<'_> {
    fn pipelines(self) -> Vec<Watching> {
        let config = Config::default;
        let pointers = format!("app.kubernetes.io/managed-by={MANAGER},{PIPELINE}");
        let pointers = config().labels(&pointers);
        vec![
            self.stream(Kind::Pipeline, config(), |p: Packed<MemoryPipeline>| {
                let key = key(&p);
                there(
                    key,
                    Fact::of(Kind::Pipeline, &p, Body::Object(p.json.clone())),
                )
            }),
            self.stream(Kind::Run, config(), |run: Packed<MemoryRun>| {
                child(Kind::Run, run)
            }),
            self.stream(Kind::Release, config(), |release: Packed<MemoryRelease>| {
                child(Kind::Release, release)
            }),
            self.stream(Kind::Map, config(), |map: PartialObjectMeta<ConfigMap>| {
                there(key(&map), Fact::of(Kind::Map, &map, Body::There))
            }),
            self.stream(Kind::Pointer, pointers, |map: ConfigMap| {
                there(named(&map, config_map)?, Fact::of_pointer(&map))
            }),
        ]
    }

    fn replicas(self) -> Vec<Watching> {
        let mut all = vec![self.stream(Kind::Pod, answering(), |pod: v1::Pod| {
            let replica = Body::Pod(Box::new(replica(&pod)));
            let fact = Fact::of(Kind::Pod, &pod, replica);
            Some((labelled(&pod)?, fact, lives(&pod)))
        })];
        for kind in SERVING {
            all.push(match kind {
                "ServiceAccount" => self.fields::<ServiceAccount>(component(), served),
                "Role" => self.fields::<Role>(component(), served),
                "RoleBinding" => self.fields::<RoleBinding>(component(), served),
                "Service" => self.fields::<Service>(component(), served),
                "NetworkPolicy" => self.fields::<NetworkPolicy>(component(), served),
                "PodDisruptionBudget" => self.fields::<PodDisruptionBudget>(component(), served),
                _ => self.fields::<Deployment>(component(), served),
            });
        }
        all
    }

    /// Watches objects without their content: whose fields are whose tells whether somebody changed them.
    fn fields<K>(self, config: Config, of: fn(&PartialObjectMeta<K>) -> Option<Key>) -> Watching
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Send
            + 'static,
    {
        let kind = Kind::Serving(place(&K::kind(&())));
        self.stream(kind, config, move |object: PartialObjectMeta<K>| {
            let body = Body::Fields(fields(&object.metadata));
            there(of(&object)?, Fact::of(kind, &object, body))
        })
    }

    fn stream<K>(
        self,
        kind: Kind,
        config: Config,
        read: impl Fn(K) -> Reading + Send + 'static,
    ) -> Watching
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + DeserializeOwned
            + Send
            + 'static,
    {
        let api: Api<K> = match self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let events = watcher(api, config.page_size(PAGE)).default_backoff();
        seen(events, kind, self.namespace.cloned(), read).boxed()
    }
}

fn seen<K: Resource<DynamicType = ()>>(
    events: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    kind: Kind,
    namespace: Option<String>,
    read: impl Fn(K) -> Reading,
) -> impl Stream<Item = Seen> {
    use watcher::Event;
    let (mut listing, mut first, mut refusals) = (0, true, 0);
    events.filter_map(move |event| {
        let what = match event {
            Ok(Event::Init) => {
                listing += 1;
                None
            }
            Ok(Event::InitApply(object) | Event::Apply(object)) => {
                read(object).map(|(key, fact, there)| match there {
                    true => What::There(key, fact),
                    false => What::Gone(key, fact.name),
                })
            }
            Ok(Event::Delete(object)) => read(object).map(|(key, f, _)| What::Gone(key, f.name)),
            Ok(Event::InitDone) => Some(What::All(namespace.clone(), std::mem::take(&mut first))),
            Err(error) => {
                tracing::warn!("watching {}: {error}; tried again", K::plural(&()));
                refusals += u32::from(forbidden(&error));
                // A namespace that is not to be seen keeps nobody else waiting.
                (first && namespace.is_some() && refusals >= REFUSALS)
                    .then(|| What::All(namespace.clone(), std::mem::take(&mut first)))
            }
        };
        let seen = what.map(|what| Seen {
            kind,
            listing,
            what,
        });
        std::future::ready(seen)
    })
}

fn forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.is_forbidden())
}

/// What loses its label counts as deleted.
fn component() -> Config {
    Config::default().labels(&format!("{OF_COMPONENT}={COMPONENT},{PIPELINE}"))
}

/// Pods that answer queries, or chats.
fn answering() -> Config {
    Config::default().labels(&format!(
        "{OF_COMPONENT} in ({COMPONENT}, {AGENT}),{PIPELINE}"
    ))
}

fn there(key: Key, fact: Fact) -> Reading {
    Some((key, fact, true))
}

/// The pipeline that an object serves.
fn served<K: Resource>(object: &K) -> Option<Key> {
    named(object, serving_name)
}

/// A run or a release.
fn child<K: Resource<DynamicType = ()>>(kind: Kind, packed: Packed<K>) -> Reading {
    let of = (packed.namespace()?, packed.pipeline.clone()?);
    there(
        of,
        Fact::of(kind, &packed, Body::Object(packed.json.clone())),
    )
}

/// The same, of the object that has the name of such: who copies an object copies its labels.
fn named<K: Resource>(object: &K, name: fn(&str) -> String) -> Option<Key> {
    labelled(object).filter(|(_, pipeline)| object.name_any() == name(pipeline))
}

/// The pipeline that an object's label names.
fn labelled<K: Resource>(object: &K) -> Option<Key> {
    let pipeline = object.labels().get(PIPELINE)?.clone();
    Some((object.namespace()?, pipeline))
}

/// Whether a pod may still answer. One that has ended is not deleted at once, and its address may be another's by then.
fn lives(pod: &v1::Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    let ended = matches!(phase, Some("Failed" | "Succeeded"));
    pod.metadata.deletion_timestamp.is_none() && !ended
}

fn replica(pod: &v1::Pod) -> Pod {
    let status = pod.status.as_ref();
    let mut conditions = status.iter().flat_map(|s| s.conditions.iter().flatten());
    Pod {
        uid: pod.uid().unwrap_or_default(),
        name: pod.name_any(),
        address: status.and_then(|s| s.pod_ip.clone()),
        ready: conditions.any(|c| c.type_ == "Ready" && c.status == "True"),
        agent: pod.labels().get(OF_COMPONENT).is_some_and(|c| c == AGENT),
    }
}

/// An object's namespace and name.
pub fn key<K: Resource<DynamicType = ()>>(object: &K) -> Key {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// `namespace/name`.
pub fn full((namespace, name): &Key) -> String {
    format!("{namespace}/{name}")
}
