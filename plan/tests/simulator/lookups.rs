//! What a test asks of a world.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;
use loci_plan::{Built, World};

pub fn named<'a>(world: &'a World, name: Option<&str>) -> Option<&'a MemoryRelease> {
    world
        .releases
        .iter()
        .find(|r| r.metadata.name.as_deref() == name)
}

pub fn run<'a>(world: &'a World, name: &str) -> Option<&'a MemoryRun> {
    let is = |r: &&MemoryRun| r.metadata.name.as_deref() == Some(name);
    world.runs.iter().find(is)
}

/// Where a rollback without a number goes to.
pub fn rollback_target(world: &World) -> Option<i64> {
    loci_plan::rollback_target(&world.releases, world.serving.desired.as_deref()?)
}

pub fn phase(run: &MemoryRun) -> RunPhase {
    run.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

pub fn release_phase(release: &MemoryRelease) -> ReleasePhase {
    release.status.as_ref().unwrap().phase
}

fn order(run: &&MemoryRun) -> (Option<Time>, Option<String>) {
    (
        run.metadata.creation_timestamp.clone(),
        run.metadata.name.clone(),
    )
}

pub fn newest(world: &World) -> Option<&MemoryRun> {
    world.runs.iter().max_by_key(order)
}

/// The newest run that succeeded.
pub fn newest_good(world: &World) -> Option<&MemoryRun> {
    let good = world
        .runs
        .iter()
        .filter(|r| phase(r) == RunPhase::Succeeded);
    good.max_by_key(order)
}

/// What the newest good run came to, when that is gone.
pub fn built(world: &World) -> Option<&Built> {
    let ended = newest_good(world).and_then(|r| r.status.as_ref()?.completion_time.as_ref());
    let built = world.built.as_ref();
    built.filter(|b| ended.is_none_or(|ended| ended.0 < b.ended))
}

/// The sources as the newest good run read them, though it may be gone.
pub fn basis(world: &World) -> Option<Digest> {
    match built(world) {
        Some(built) => Some(built.snapshot),
        None => newest_good(world).and_then(snapshot_of),
    }
}

/// The release that the newest good run came to, though that may be gone.
pub fn came_to(world: &World) -> Option<&str> {
    match built(world) {
        Some(built) => built.release.as_deref(),
        None => newest_good(world)?.status.as_ref()?.release.as_deref(),
    }
}

pub fn snapshot_of(run: &MemoryRun) -> Option<Digest> {
    let steps = &run.status.as_ref()?.steps;
    steps
        .iter()
        .find(|s| s.name == StepName::Snapshot)?
        .output
        .as_ref()?
        .parse()
        .ok()
}
