//! What a test asks of a world.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunKind, RunPhase, StepName};
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

/// What runs that must not be at work at the same time have in common.
pub fn lane(run: &MemoryRun) -> (RunKind, Option<&str>) {
    (run.spec.kind, run.spec.adapter.as_deref())
}

/// The newest run of the index.
pub fn newest(world: &World) -> Option<&MemoryRun> {
    let runs = world
        .runs
        .iter()
        .filter(|r| r.spec.kind == RunKind::Refresh);
    runs.max_by_key(order)
}

/// The newest run of the index that succeeded.
pub fn newest_good(world: &World) -> Option<&MemoryRun> {
    let runs = world
        .runs
        .iter()
        .filter(|r| r.spec.kind == RunKind::Refresh);
    let good = runs.filter(|r| phase(r) == RunPhase::Succeeded);
    good.max_by_key(order)
}

/// The newest run of an adapter.
pub fn newest_of<'a>(world: &'a World, adapter: &str) -> Option<&'a MemoryRun> {
    let runs = world.runs.iter();
    let runs = runs.filter(|r| r.spec.adapter.as_deref() == Some(adapter));
    runs.max_by_key(order)
}

/// The newest release that an adapter's run, or that of the index, made.
pub fn tip<'a>(world: &'a World, adapter: Option<&str>) -> Option<&'a MemoryRelease> {
    let releases = world.releases.iter();
    let of_lane = releases.filter(|r| r.spec.adapter.as_deref() == adapter);
    of_lane.max_by_key(|r| r.spec.number)
}

/// The adapter of a name in a release, by digest.
pub fn adapter<'a>(release: &'a MemoryRelease, name: &str) -> Option<&'a str> {
    let mut adapters = release.spec.adapters.iter();
    adapters.find(|a| a.name == name).map(|a| &*a.adapter)
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
