//! The adapters, one by one.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::adapter::AdapterStatus;
use loci_crds::release::ReleasePhase;
use loci_crds::run::{RunPhase, StepName};
use loci_crds::{MemoryRelease, MemoryRun};

use super::findings::message_of;
use super::work::{absent, waits};
use crate::budget;
use crate::clock::stamp;
use crate::judge::sentence;
use crate::limits;
use crate::schedule::Hours;
use crate::spec::Adapter;
use crate::steps::RETRYING;
use crate::view::{Lane, ReleaseView, RunView, View};

pub(super) fn statuses(view: &View<'_>) -> Vec<AdapterStatus> {
    let adapters = view.pipeline.adapters.iter();
    adapters.map(|a| status(view, a)).collect()
}

fn status(view: &View<'_>, adapter: &Adapter) -> AdapterStatus {
    let lane = Lane::Adapter(&adapter.name);
    let mut before = view.world.status.adapters.iter();
    let before = before.find(|s| s.name == adapter.name);
    let newest = view.runs_of(lane).next_back().map(|r| r.name().to_owned());
    let mut collected = view.runs_of(lane).rev();
    let collected = collected.find_map(|r| r.status.as_ref()?.dataset.as_ref());
    let runs = !(view.suspends(adapter) || view.pipeline.suspend);
    let next = || view.due(adapter).or_else(|| view.upcoming(adapter));
    let last = view.last_schedule(adapter).unwrap_or(view.now);
    let serves = view.desired().and_then(|d| d.component(lane));
    AdapterStatus {
        name: adapter.name.clone(),
        adapter: serves.map(str::to_owned),
        schedule: adapter.cron.clone(),
        last_schedule_time: adapter.schedule.as_ref().map(|_| stamp(last)),
        next_time: runs.then(next).flatten().map(Time),
        last_run: newest.or_else(|| before?.last_run.clone()),
        new_examples: collected
            .map(|d| d.new_examples)
            .or_else(|| before?.new_examples),
        pace: budget::pace(view, adapter).or_else(|| before?.pace.clone()),
        message: message(view, adapter).map(|m| limits::clip(&m, limits::IN_SHORT)),
    }
}

/// What is under way, or why nothing is.
fn message(view: &View<'_>, adapter: &Adapter) -> Option<String> {
    let lane = Lane::Adapter(&adapter.name);
    if let Some(run) = view.live(lane) {
        return Some(at_work(view, run));
    }
    if view.suspends(adapter) || view.pipeline.suspend {
        return Some("suspended".to_owned());
    }
    if view.desired().is_none() {
        return Some("it is trained once there is an index to release it with".to_owned());
    }
    if let Some(why) = budget::short(view, adapter) {
        return Some(why);
    }
    let newest = view.newest_ended(lane);
    let unsuccessful =
        |r: &&MemoryRun| r.phase() == RunPhase::Failed || r.reason() == "NotEnoughSignal";
    if let Some(run) = newest.filter(unsuccessful) {
        return Some(format!("{}: {}", run.name(), message_of(run)));
    }
    let refused = |r: &&MemoryRelease| {
        matches!(
            r.phase(),
            ReleasePhase::Rejected | ReleasePhase::Inconclusive
        )
    };
    let tip = view.tip(lane).filter(refused);
    tip.map(|tip| sentence(tip.name(), tip.phase()))
}

fn at_work(view: &View<'_>, run: &MemoryRun) -> String {
    let name = run.name();
    if run.phase() == RunPhase::Held {
        return format!("{name} is held: {}", message_of(run));
    }
    if run.phase() == RunPhase::Pending {
        return format!("{name} waits to begin");
    }
    if let Some(class) = absent(view, run) {
        return waits(view, name, class);
    }
    match view.hours(run, run.open().unwrap_or(StepName::Snapshot)) {
        Hours::Open(_) if run.reason() == RETRYING => format!("{name}: {}", message_of(run)),
        Hours::Open(_) => format!("{name} is under way"),
        Hours::Closed(None) => format!("{name} waits for a window, and none comes"),
        Hours::Closed(Some(opens)) => {
            let opens = stamp(opens).0;
            format!("{name} waits for its window, which opens at {opens}")
        }
    }
}
