//! Every version of Loci's objects that an API server has shown, and whether each said what was so.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::TryStreamExt;
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::kstatus::truth;
use crate::meaning::State;

const KINDS: [&str; 3] = ["MemoryPipeline", "MemoryRun", "MemoryRelease"];
const PAUSE: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(30);

/// `kind, namespace, name`.
pub(crate) type Key = (String, String, String);

/// An object from one write to the next.
struct Version {
    revision: u64,
    key: Key,
    /// None when it was deleted.
    object: Option<Value>,
    /// Versions may be missing before it.
    anew: bool,
}

/// What is written down while it goes on.
pub struct History {
    client: Client,
    seen: Arc<Mutex<Seen>>,
    watching: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    versions: Vec<Version>,
    /// What could not be seen.
    gaps: Vec<String>,
}

impl History {
    /// Of all namespaces, from now on.
    ///
    /// # Errors
    /// When the definitions are not installed.
    pub async fn watch(client: &Client) -> Result<Self> {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut watching = Vec::new();
        for kind in KINDS {
            let api = api(client, kind);
            let list = api.list(&ListParams::default()).await?;
            let revision = list.metadata.resource_version.unwrap_or_default();
            for object in list.items {
                note(&seen, kind, object, Seeing::Anew);
            }
            watching.push(tokio::spawn(follow(api, kind, revision, seen.clone())));
        }
        Ok(Self {
            client: client.clone(),
            seen,
            watching,
        })
    }

    /// What was wrong with any version so far, in order.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn faults(&self) -> Result<Vec<String>> {
        let until = self.caught_up().await?;
        let mut seen = self.seen();
        let mut faults = std::mem::take(&mut seen.gaps);
        seen.versions.sort_by_key(|v| v.revision);
        let mut state = State::default();
        for version in seen.versions.iter().filter(|v| v.revision <= until) {
            if version.anew {
                state.forget(&version.key);
            }
            for fault in state.take(&version.key, version.object.as_ref()) {
                let (kind, namespace, name) = &version.key;
                faults.push(format!(
                    "{kind} {namespace}/{name} at {}: {fault}",
                    version.revision
                ));
            }
        }
        Ok(faults)
    }

    /// How many versions were seen.
    pub fn len(&self) -> usize {
        self.seen().versions.len()
    }

    /// Begins anew: what an earlier build wrote is not judged.
    pub fn forget(&self) {
        lock(&self.seen).versions.clear();
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The versions of a pipeline that were not Ready after it had been, by their revision and why.
    pub fn unready(&self, namespace: &str, name: &str) -> Vec<String> {
        let mut seen = self.seen();
        seen.versions.sort_by_key(|v| v.revision);
        let of =
            |v: &&Version| v.key.0 == "MemoryPipeline" && v.key.1 == namespace && v.key.2 == name;
        let objects = seen
            .versions
            .iter()
            .filter(of)
            .filter_map(|v| Some((v.revision, v.object.as_ref()?)));
        let since = objects.skip_while(|(_, o)| truth(o, "Ready") != Some("True"));
        let unready = since.filter(|(_, o)| truth(o, "Ready") != Some("True"));
        unready
            .map(|(revision, o)| format!("{revision}: {}", o["status"]))
            .collect()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    /// Waits until all that is there now has been seen; gives the revision of that.
    async fn caught_up(&self) -> Result<u64> {
        let (mut wanted, mut now) = (Vec::new(), u64::MAX);
        for kind in KINDS {
            let list = api(&self.client, kind).list(&ListParams::default()).await?;
            let revision = list
                .metadata
                .resource_version
                .as_deref()
                .unwrap_or_default();
            now = now.min(revision.parse().unwrap_or(u64::MAX));
            wanted.extend(list.iter().map(|o| (kind, o.name_any(), self::revision(o))));
        }
        let started = Instant::now();
        while let Some(missing) = self.missing(&wanted) {
            if started.elapsed() > PATIENCE {
                self.seen().gaps.push(missing);
                break;
            }
            sleep(PAUSE).await;
        }
        Ok(now)
    }

    fn missing(&self, wanted: &[(&str, String, u64)]) -> Option<String> {
        let seen = self.seen();
        let there = |(_, _, revision): &&(&str, String, u64)| {
            seen.versions.iter().any(|v| v.revision == *revision)
        };
        let (kind, name, revision) = wanted.iter().find(|w| !there(w))?;
        Some(format!("{kind} {name} was not seen at {revision}"))
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("loci.dev", "v1alpha1", kind));
    Api::all_with(client.clone(), &resource)
}

fn revision(object: &DynamicObject) -> u64 {
    object
        .resource_version()
        .and_then(|v| v.parse().ok())
        .unwrap_or(0)
}

/// Follows one kind, version by version. An API server that was started again has forgotten what was before: all is read
/// anew then; while it was away nobody wrote.
async fn follow(
    api: Api<DynamicObject>,
    kind: &'static str,
    mut from: String,
    seen: Arc<Mutex<Seen>>,
) {
    loop {
        if let Err(kube::Error::Api(status)) = go_on(&api, kind, &mut from, &seen).await
            && status.code == 410
            && let Ok(revision) = read_anew(&api, kind, &seen).await
        {
            from = revision;
        }
        sleep(PAUSE).await;
    }
}

/// Notes all that is there, and that the rest is not any more.
async fn read_anew(
    api: &Api<DynamicObject>,
    kind: &str,
    seen: &Mutex<Seen>,
) -> kube::Result<String> {
    let list = api.list(&ListParams::default()).await?;
    let now = list.metadata.resource_version.clone().unwrap_or_default();
    let of_kind = |v: &&Version| v.key.0 == kind;
    let mut gone: BTreeSet<Key> = {
        let seen = lock(seen);
        let versions = seen.versions.iter().filter(of_kind);
        versions.map(|v| v.key.clone()).collect()
    };
    for object in list.items {
        gone.remove(&key(kind, &object));
        note(seen, kind, object, Seeing::Anew);
    }
    let revision = now.parse().unwrap_or(0);
    lock(seen)
        .versions
        .extend(gone.into_iter().map(|key| Version {
            revision,
            key,
            object: None,
            anew: true,
        }));
    Ok(now)
}

async fn go_on(
    api: &Api<DynamicObject>,
    kind: &str,
    from: &mut String,
    seen: &Mutex<Seen>,
) -> kube::Result<()> {
    let params = WatchParams::default().timeout(240);
    let mut events = std::pin::pin!(api.watch(&params, from).await?);
    while let Some(event) = events.try_next().await? {
        let (object, how) = match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, Seeing::Written),
            WatchEvent::Deleted(object) => (object, Seeing::Deleted),
            WatchEvent::Bookmark(mark) => {
                *from = mark.metadata.resource_version;
                continue;
            }
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        };
        *from = object.resource_version().unwrap_or_default();
        note(seen, kind, object, how);
    }
    Ok(())
}

/// How a version came to be seen.
#[derive(PartialEq)]
enum Seeing {
    Written,
    Deleted,
    /// Versions may have been missed before it.
    Anew,
}

fn key(kind: &str, object: &DynamicObject) -> Key {
    let namespace = object.namespace().unwrap_or_default();
    (kind.to_owned(), namespace, object.name_any())
}

fn note(seen: &Mutex<Seen>, kind: &str, mut object: DynamicObject, how: Seeing) {
    object.metadata.managed_fields = None;
    let there = how != Seeing::Deleted;
    let version = Version {
        revision: revision(&object),
        key: key(kind, &object),
        object: serde_json::to_value(&object).ok().filter(|_| there),
        anew: how == Seeing::Anew,
    };
    lock(seen).versions.push(version);
}
