//! Which release serves: promotion, rollback, hold and pin.
//!
//! The pointer [`Serving::desired`](crate::world::Serving) is the truth; the phases of releases follow
//! it. Only a release that passed is promoted, only when its verdict is the one it would get now, only
//! one that is newer than what serves, and only upon the components that it was judged with, so that no
//! promotion brings back what its run did not build. A hold is the exception: it serves the release that
//! a person named.

use loci_crds::release::ReleasePhase;
use loci_crds::{MemoryRelease, MemoryReleaseStatus};

use crate::action::Action;
use crate::clock::stamp;
use crate::judge::{marked, sentence};
use crate::plan::Draft;
use crate::runs::retry_at;
use crate::view::{Hold, ReleaseView, View};
use crate::world::PrepareFailure;

/// How much of a reason is kept in a status.
const WHY: usize = 600;

pub(crate) fn plan(view: &View<'_>, draft: &mut Draft) {
    let hold = view.hold();
    let next = successor(view, hold.as_ref());
    for release in &view.releases {
        let status = settle(view, release, hold.as_ref(), next);
        if release.status.as_ref() != Some(&status) {
            draft.act(Action::UpdateRelease {
                name: release.name().to_owned(),
                status: Box::new(status),
            });
        }
    }
    if let Some(desired) = view.desired() {
        prepare(view, desired, draft);
    }
    match next {
        Some(release) if loaded(view, release) => draft.act(Action::Promote {
            release: release.name().to_owned(),
        }),
        Some(release) => prepare(view, release, draft),
        None => {}
    }
}

/// The release that is to replace what serves, if any.
fn successor<'a>(view: &View<'a>, hold: Option<&Hold<'a>>) -> Option<&'a MemoryRelease> {
    let desired = view.desired();
    match hold {
        Some(hold) => {
            let held = *hold.release.as_ref().ok()?;
            (desired.map(|d| d.name()) != Some(held.name())).then_some(held)
        }
        None => first_of(view, desired),
    }
}

/// Of the newest candidate of each lane, the oldest that loads: one that takes long to load is not overtaken time and
/// again by others, and one that cannot be loaded stands in nobody's way.
fn first_of<'a>(view: &View<'a>, desired: Option<&'a MemoryRelease>) -> Option<&'a MemoryRelease> {
    let mut newest: Vec<&MemoryRelease> = Vec::new();
    let candidates = view.releases.iter().copied().rev();
    for release in candidates.filter(|r| promotable(view, r, desired)) {
        if newest.iter().all(|n| n.lane() != release.lane()) {
            newest.push(release);
        }
    }
    let fails =
        |r: &MemoryRelease| !loaded(view, r) && view.world.serving.failures.contains_key(r.name());
    let loads = newest.iter().rev().find(|r| !fails(r));
    loads.or(newest.first()).copied()
}

/// The release that is to replace what serves and cannot be loaded everywhere, and why: it waits, and is tried again.
pub(crate) fn held<'a>(view: &View<'a>) -> Option<(&'a MemoryRelease, &'a PrepareFailure)> {
    let next = successor(view, view.hold().as_ref()).filter(|next| !loaded(view, next))?;
    Some((next, view.world.serving.failures.get(next.name())?))
}

/// Whether a candidate may be promoted by the rules, without regard to newer ones.
fn promotable(view: &View<'_>, release: &MemoryRelease, desired: Option<&MemoryRelease>) -> bool {
    release.phase() == ReleasePhase::Candidate
        && release.passed()
        && desired.is_none_or(|d| release.spec.number > d.spec.number)
        && view.is_on_top(release)
        && view.verdict_holds(release)
}

/// The status that a release should have.
fn settle(
    view: &View<'_>,
    release: &MemoryRelease,
    hold: Option<&Hold<'_>>,
    next: Option<&MemoryRelease>,
) -> MemoryReleaseStatus {
    let mut status = release.state();
    let phase = follow(view, release, hold, next);
    if phase != status.phase {
        moved(view, release, hold, phase, &mut status);
    } else if let Some((_, why)) = held(view).filter(|(held, _)| held.name() == release.name()) {
        status.message = Some(refusal(release.name(), why));
    }
    marked(view, Some(release), status)
}

/// Writes down that a release comes to another phase.
fn moved(
    view: &View<'_>,
    release: &MemoryRelease,
    hold: Option<&Hold<'_>>,
    phase: ReleasePhase,
    status: &mut MemoryReleaseStatus,
) {
    let mut message = sentence(release.name(), phase);
    match phase {
        ReleasePhase::Serving => {
            status.promoted_time = Some(stamp(view.now));
            status.replaced_time = None;
        }
        ReleasePhase::Retired | ReleasePhase::Withdrawn if status.replaced_time.is_none() => {
            status.replaced_time = Some(stamp(view.now));
        }
        _ => {}
    }
    if let Some(hold) = hold.filter(|_| phase == ReleasePhase::Withdrawn) {
        message = format!("{message} by {}", hold.by);
    }
    status.phase = phase;
    status.message = Some(message);
}

/// What a release that cannot be loaded says.
pub(crate) fn refusal(name: &str, failure: &PrepareFailure) -> String {
    let why: String = failure.message.chars().take(WHY).collect();
    format!("{name} is held, what serves stays, and it is tried again: {why}")
}

/// The phase that a release should have, by the pointer and the hold.
fn follow(
    view: &View<'_>,
    release: &MemoryRelease,
    hold: Option<&Hold<'_>>,
    next: Option<&MemoryRelease>,
) -> ReleasePhase {
    if view.desired().is_some_and(|d| d.name() == release.name()) {
        // Marked before the pointer moves, so that no crash lets it return.
        let leaves = next.is_some_and(|n| loaded(view, n));
        let withdrawn = hold.is_some_and(|h| leaves && release.spec.number > h.number);
        return if withdrawn {
            ReleasePhase::Withdrawn
        } else {
            ReleasePhase::Serving
        };
    }
    match release.phase() {
        ReleasePhase::Serving => ReleasePhase::Retired,
        ReleasePhase::Withdrawn if hold.is_none() => ReleasePhase::Retired,
        ReleasePhase::Candidate if overtaken(view, release, hold, next) => ReleasePhase::Superseded,
        phase => phase,
    }
}

fn loaded(view: &View<'_>, release: &MemoryRelease) -> bool {
    view.world.serving.prepared.contains(release.name())
}

/// Whether a candidate can never be promoted any more: it is older than what serves, another of its lane is
/// newer and passed, or it was judged against what does not serve. What is new in it may be put upon what
/// serves instead, by a rebase.
fn overtaken(
    view: &View<'_>,
    release: &MemoryRelease,
    hold: Option<&Hold<'_>>,
    next: Option<&MemoryRelease>,
) -> bool {
    let newer = next
        .filter(|_| hold.is_none())
        .is_some_and(|n| n.lane() == release.lane() && n.spec.number > release.spec.number);
    newer || !promotable(view, release, view.desired())
}

/// Sees that a release is loaded beside the one that serves. After a failure it is tried again later.
fn prepare(view: &View<'_>, release: &MemoryRelease, draft: &mut Draft) {
    let serving = &view.world.serving;
    let name = release.name();
    if loaded(view, release) || serving.preparing.contains(name) {
        return;
    }
    if let Some(failure) = serving.failures.get(name) {
        let at = retry_at(
            failure.time,
            i32::try_from(failure.count).unwrap_or(i32::MAX),
        );
        if at > view.now {
            draft.wake(Some(at));
            return;
        }
    }
    draft.act(Action::Prepare {
        release: name.to_owned(),
    });
}

/// The release that `loci rollback` without a number goes to: the newest that served before the one
/// that serves now.
pub fn rollback_target(releases: &[MemoryRelease], serving: &str) -> Option<i64> {
    let number = releases.iter().find(|r| r.name() == serving)?.spec.number;
    let served = |r: &&MemoryRelease| {
        r.phase() == ReleasePhase::Retired && r.passed() && r.spec.number < number
    };
    releases.iter().filter(served).map(|r| r.spec.number).max()
}
