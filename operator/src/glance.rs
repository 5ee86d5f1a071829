//! Whether a pipeline needs anybody: told from what the API server holds of it, without a request.
//!
//! Ten thousand pipelines are settled most of the time. Such a one has no task and no typed object in memory: the facts
//! are glanced at when one of them changes, or when its time has come. What a task knows beyond them keeps it going.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use kube::ResourceExt;
use loci_crds::MemoryPipeline;
use loci_plan::{Intents, Pipeline, Serving, World, plan};

use crate::annotations::intents;
use crate::dereference::config_maps;
use crate::facts::Facts;
use crate::fleet::Yard;
use crate::maps::Maps;
use crate::pointed::{Pointer, References};

/// What is known beside a pipeline's own facts.
#[derive(Clone)]
pub struct Sight {
    /// ConfigMaps.
    pub maps: Maps,
    /// How pipelines are served, unless by this process: that serves nothing without a task.
    pub yard: Option<Yard>,
}

/// A pipeline that needs nobody.
pub struct Settled {
    /// When it has to be glanced at again.
    pub wake_at: Option<Timestamp>,
}

impl Sight {
    /// Glances at a pipeline. The error is why it needs a task.
    ///
    /// # Errors
    /// When there is something to do, or that cannot be told from here.
    pub fn glance(&self, facts: &Facts, now: Timestamp) -> Result<Settled, &'static str> {
        let yard = self.yard.as_ref().ok_or("this process serves it")?;
        let resource = facts.pipeline().ok_or("it cannot be read")?;
        let pipeline = Pipeline::from_resource(&resource).map_err(|_| "its spec is refused")?;
        let pointer = facts.pointer(&resource).ok_or("nothing was kept of it")?;
        let references = pointer.references.as_ref();
        let references = references.ok_or("its references were not taken in")?;
        if !self.stand(&resource, &pipeline, references) {
            return Err("its spec or what that names has changed");
        }
        let status = resource.status.clone().unwrap_or_default();
        if pointer.desired != status.serving_release {
            return Err("it is not served as it is to be");
        }
        if pointer.desired.is_some() && !facts.pods().iter().any(|pod| pod.ready) {
            return Err("queries reach no replica");
        }
        if !yard.arranged(&resource, facts, pointer) {
            return Err("what serves it is not as it was applied");
        }
        let (intents, None) = intents(resource.annotations()) else {
            return Err("an annotation cannot be read");
        };
        let world = world((&resource, intents), pipeline, pointer, references, facts);
        let decision = plan(now, &world);
        if !decision.actions.is_empty() {
            return Err("something is to be done");
        }
        if decision.status != status {
            return Err("its status is to be written");
        }
        Ok(Settled {
            wake_at: decision.wake_at,
        })
    }

    /// Whether references are still what the spec names, at the versions that were taken in.
    fn stand(&self, resource: &MemoryPipeline, of: &Pipeline, references: &References) -> bool {
        let namespace = resource.namespace().unwrap_or_default();
        let stands = |(name, version): (&String, &u64)| {
            let key = (namespace.clone(), name.clone());
            self.maps.version(&key) == Some(*version)
        };
        resource.metadata.generation == Some(references.generation)
            && config_maps(of).iter().eq(references.maps.keys())
            && references.maps.iter().all(stands)
    }
}

/// The world as the facts alone tell it.
fn world(
    (resource, intents): (&MemoryPipeline, Intents),
    pipeline: Pipeline,
    pointer: &Pointer,
    references: &References,
    facts: &Facts,
) -> World {
    World {
        pipeline,
        generation: references.generation,
        intents,
        suite_data: references.suites.clone(),
        looks: BTreeMap::new(),
        probing: BTreeSet::new(),
        hints: BTreeMap::new(),
        runs: facts.runs(),
        outcomes: Vec::new(),
        in_flight: BTreeSet::new(),
        reported: BTreeMap::new(),
        releases: facts.releases(),
        serving: Serving {
            desired: pointer.desired.clone(),
            current: pointer.desired.clone(),
            prepared: pointer.desired.iter().cloned().collect(),
            ..Serving::default()
        },
        status: resource.status.clone().unwrap_or_default(),
        collected: pointer.collected,
        // Without a good run it is not settled.
        built: None,
        workers: None,
    }
}
