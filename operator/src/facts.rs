//! What is known of one pipeline: all that the API server holds of it, in little memory.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Resource, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;

use crate::lock;
use crate::packed::{Packed, unpack};
use crate::pointed::Pointer;

/// What an object is to its pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// The pipeline itself.
    Pipeline,
    /// A run of it.
    Run,
    /// A release of it.
    Release,
    /// A ConfigMap of its namespace.
    Map,
    /// The ConfigMap that says what is to be served.
    Pointer,
    /// A replica.
    Pod,
    /// What serves it, by its place among the [served kinds](crate::fleet::SERVING).
    Serving(u8),
}

/// What is known of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// All.
    Object(Box<[u8]>),
    /// What the pointer says.
    Pointer(Box<Pointer>),
    /// A replica.
    Pod(Box<Pod>),
    /// Which of its fields are the operator's, as a hash: it changes when somebody else sets one of them.
    Fields(u64),
    /// That it is there.
    There,
}

/// A pod that is to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its address, once it has one.
    pub address: Option<String>,
    /// Whether queries reach it.
    pub ready: bool,
    /// Whether it is a vLLM with its agent, and no replica.
    pub agent: bool,
}

/// An object at one version.
#[derive(Clone, Debug)]
pub struct Fact {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: Box<str>,
    /// Its resource version. Those of one kind can be compared as numbers: KEP-5504.
    pub version: u64,
    /// What is known of it.
    pub body: Body,
}

impl Fact {
    /// Of an object's metadata.
    pub fn of<K: Resource>(kind: Kind, object: &K, body: Body) -> Self {
        Self {
            kind,
            name: object.name_any().into(),
            version: version(object),
            body,
        }
    }
}

impl Fact {
    /// What a pointer says.
    pub fn of_pointer(map: &ConfigMap) -> Self {
        let pointer = Body::Pointer(Box::new(Pointer::read(map)));
        Self::of(Kind::Pointer, map, pointer)
    }
}

/// An object's resource version.
pub fn version<K: Resource>(object: &K) -> u64 {
    let version = object.resource_version();
    version.and_then(|v| v.parse().ok()).unwrap_or_default()
}

/// All of a pipeline's facts.
#[derive(Default)]
pub struct Facts(Vec<Noted>);

struct Noted {
    /// The listing that it was last seen in.
    listing: u32,
    /// Read by this process before the watch told of it: what the watch tells next is news.
    unheard: bool,
    fact: Fact,
}

/// Of no listing: written by this process, and not heard of yet.
const OWN: u32 = u32::MAX;

impl Facts {
    /// Whether this is news.
    pub fn put(&mut self, listing: u32, fact: Fact) -> bool {
        let same = |n: &&mut Noted| n.fact.kind == fact.kind && n.fact.name == fact.name;
        let Some(noted) = self.0.iter_mut().find(same) else {
            self.0.push(Noted {
                listing,
                unheard: false,
                fact,
            });
            return true;
        };
        let mut unheard = false;
        if listing != OWN {
            noted.listing = listing;
            unheard = std::mem::take(&mut noted.unheard);
        }
        if noted.fact.version >= fact.version {
            return unheard;
        }
        let news = noted.fact.body != fact.body;
        noted.fact = fact;
        news || unheard
    }

    /// Notes what somebody else wrote and this process has read, while nobody acts on it.
    fn read(&mut self, fact: Fact) {
        let (kind, name, version) = (fact.kind, fact.name.clone(), fact.version);
        if self.put(OWN, fact) {
            let same = |n: &&mut Noted| n.fact.kind == kind && n.fact.name == name;
            let read = self.0.iter_mut().find(same);
            if let Some(noted) = read.filter(|n| n.fact.version == version) {
                noted.unheard = true;
            }
        }
    }

    /// Whether it was there.
    pub fn remove(&mut self, kind: Kind, name: &str) -> bool {
        let before = self.0.len();
        self.0
            .retain(|n| n.fact.kind != kind || *n.fact.name != *name);
        self.0.len() != before
    }

    /// Removes what a whole listing did not hold; gives the names.
    pub fn sweep(&mut self, kind: Kind, listing: u32) -> Vec<Box<str>> {
        let vanished = |n: &mut Noted| n.fact.kind == kind && n.listing < listing;
        let gone = self.0.extract_if(.., vanished);
        gone.map(|n| n.fact.name).collect()
    }

    /// Whether nothing is known any more.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The facts of one kind.
    pub fn of(&self, kind: Kind) -> impl Iterator<Item = &Fact> {
        let facts = self.0.iter().map(|n| &n.fact);
        facts.filter(move |f| f.kind == kind)
    }

    fn objects<K>(&self, kind: Kind) -> Vec<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let object = |fact: &Fact| match &fact.body {
            Body::Object(json) => unpack(json),
            _ => None,
        };
        self.of(kind).filter_map(object).collect()
    }

    /// The pipeline.
    pub fn pipeline(&self) -> Option<MemoryPipeline> {
        self.objects(Kind::Pipeline).pop()
    }

    /// Its runs.
    pub fn runs(&self) -> Vec<MemoryRun> {
        self.objects(Kind::Run)
    }

    /// Its releases.
    pub fn releases(&self) -> Vec<MemoryRelease> {
        self.objects(Kind::Release)
    }

    /// One run or release.
    pub fn object<K>(&self, kind: Kind, name: &str) -> Option<K>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let found = self.of(kind).find(|f| *f.name == *name)?;
        match &found.body {
            Body::Object(json) => unpack(json),
            _ => None,
        }
    }

    /// What this pipeline's pointer says, not that of one that had its name before.
    pub fn pointer(&self, of: &MemoryPipeline) -> Option<&Pointer> {
        let uid = of.uid();
        self.of(Kind::Pointer).find_map(|f| match &f.body {
            Body::Pointer(pointer) if pointer.owner == uid => Some(&**pointer),
            _ => None,
        })
    }

    /// Its replicas.
    pub fn pods(&self) -> Vec<Pod> {
        self.all_pods().filter(|pod| !pod.agent).cloned().collect()
    }

    /// The pods that answer its chats, where replicas do not.
    pub fn agents(&self) -> Vec<Pod> {
        self.all_pods().filter(|pod| pod.agent).cloned().collect()
    }

    fn all_pods(&self) -> impl Iterator<Item = &Pod> {
        self.of(Kind::Pod).filter_map(|f| match &f.body {
            Body::Pod(pod) => Some(&**pod),
            _ => None,
        })
    }

    /// Which fields of a serving object are the operator's.
    pub fn fields(&self, place: u8) -> Option<u64> {
        self.of(Kind::Serving(place)).find_map(|f| match f.body {
            Body::Fields(fields) => Some(fields),
            _ => None,
        })
    }
}

/// The facts, shared between who hears of them and the pipeline's task.
#[derive(Default)]
pub struct Known {
    facts: Mutex<Facts>,
    /// Told when what serves has changed.
    pub serving: Notify,
    /// A run may have been made whose creation was not answered.
    pub unanswered: AtomicBool,
}

impl Known {
    /// The facts as they stand. Hold it shortly.
    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        lock(&self.facts)
    }

    /// Notes what this process itself has written.
    pub fn wrote(&self, fact: Fact) {
        self.facts().put(OWN, fact);
    }

    /// Notes a run, a release or the pipeline that this process has written.
    pub fn wrote_object<K>(&self, kind: Kind, object: &K) -> serde_json::Result<()>
    where
        K: Resource + Serialize,
    {
        self.wrote(whole(kind, object)?);
        Ok(())
    }

    /// Notes such an object as somebody else wrote it. The watch is still to tell of it.
    pub fn read_object<K>(&self, kind: Kind, object: &K) -> serde_json::Result<()>
    where
        K: Resource + Serialize,
    {
        self.facts().read(whole(kind, object)?);
        Ok(())
    }
}

fn whole<K: Resource + Serialize>(kind: Kind, object: &K) -> serde_json::Result<Fact> {
    let json = Packed::from_object(object)?.json;
    Ok(Fact::of(kind, object, Body::Object(json)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fact(name: &str, version: u64, body: Body) -> Fact {
        Fact {
            kind: Kind::Run,
            name: name.into(),
            version,
            body,
        }
    }

    fn text(text: &str) -> Body {
        Body::Object(text.as_bytes().into())
    }

    #[test]
    fn what_is_older_or_the_same_is_no_news() {
        let mut facts = Facts::default();
        assert!(facts.put(1, fact("a", 5, text("x"))));
        assert!(!facts.put(1, fact("a", 5, text("y"))));
        assert!(!facts.put(1, fact("a", 4, text("y"))));
        assert!(!facts.put(1, fact("a", 6, text("x"))), "a version only");
        assert!(facts.put(1, fact("a", 7, text("y"))));
        assert!(facts.remove(Kind::Run, "a") && !facts.remove(Kind::Run, "a"));
        assert!(facts.is_empty());
    }

    #[test]
    fn a_listing_takes_away_what_it_lacks_but_not_what_was_written_meanwhile() {
        let mut facts = Facts::default();
        facts.put(1, fact("a", 1, text("x")));
        facts.put(1, fact("b", 2, text("x")));
        facts.put(OWN, fact("c", 9, text("x")));
        facts.put(2, fact("b", 2, text("x")));
        assert_eq!(facts.sweep(Kind::Release, 2), []);
        assert_eq!(facts.sweep(Kind::Run, 2), ["a".into()]);
        // Heard of once, it is as any other.
        facts.put(2, fact("c", 9, text("x")));
        facts.put(3, fact("b", 2, text("x")));
        assert_eq!(facts.sweep(Kind::Run, 3), ["c".into()]);
    }

    #[test]
    fn what_was_read_before_it_was_heard_of_is_news_when_it_is() {
        let mut facts = Facts::default();
        facts.put(1, fact("a", 5, text("x")));
        facts.read(fact("a", 7, text("y")));
        facts.put(OWN, fact("a", 8, text("y, with our status")));
        assert!(facts.put(1, fact("a", 7, text("y"))), "though older");
        assert!(!facts.put(1, fact("a", 8, text("y, with our status"))));
        facts.read(fact("a", 8, text("y, with our status")));
        assert!(!facts.put(1, fact("a", 8, text("y, with our status"))));
    }
}
