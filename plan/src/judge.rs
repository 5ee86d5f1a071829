//! What becomes of what a run built: known already, or a release with its verdict.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use loci_crds::release::{AdapterComponent, Outcome, ReleasePhase, Verdict};
use loci_crds::run::StepName;
use loci_crds::source::LocalRef;
use loci_crds::{MemoryRelease, MemoryReleaseSpec, MemoryReleaseStatus, MemoryRun};
use loci_digest::Digest;

use crate::clock::stamp;
use crate::compose::Composed;
use crate::conditions::{Finding, conditions};
use crate::gate;
use crate::limits;
use crate::metrics::Kind;
use crate::spec::Gate;
use crate::view::{Lane, ReleaseView, RunView, View};
use crate::world::Evaluated;

/// The release that makes a composition need no verdict, with the reason and a sentence: what serves is
/// it, what is new in it was judged by the same rules or withdrawn, or it waits to be served. A release that
/// this same run made is not one.
pub(crate) fn known<'a>(
    view: &View<'a>,
    run: &str,
    composed: &Composed,
) -> Option<(&'a MemoryRelease, &'static str, String)> {
    let composition = composed.composition();
    let same = |r: &MemoryRelease| r.composition() == composition;
    let served = view.desired().filter(|d| d.spec.run != run && same(d));
    if let Some(release) = served {
        let message = format!("nothing changed: {} serves this content", release.name());
        return Some((release, "Unchanged", message));
    }
    let others = view.releases.iter().copied().rev();
    let mut others = others.filter(|r| r.spec.run != run);
    others.find_map(|release| {
        let name = release.name();
        let (reason, message) = match release.phase() {
            ReleasePhase::Withdrawn if same(release) || withdrew(view, release, composed) => (
                "ContentWithdrawn",
                format!(
                    "{name} has this content and was rolled back: `loci resume` lets it return"
                ),
            ),
            ReleasePhase::Rejected if judged(view, release, composed) => (
                "AlreadyJudged",
                format!("{name} has this content and failed its gates"),
            ),
            ReleasePhase::Inconclusive if judged(view, release, composed) => (
                "AlreadyJudged",
                format!("{name} has this content, and its gates could not tell"),
            ),
            ReleasePhase::Candidate if same(release) && view.verdict_holds(release) => (
                "Unchanged",
                format!("{name} has this content and waits to be served"),
            ),
            _ => return None,
        };
        Some((release, reason, message))
    })
}

/// Whether the verdict of a release is the one that what is new in a composition would get now.
fn judged(view: &View<'_>, release: &MemoryRelease, composed: &Composed) -> bool {
    let lane = composed.lane();
    release.lane() == lane
        && release.component(lane) == composed.component()
        && view.verdict_holds(release)
}

/// Whether a rollback took back what is new in a composition, whatever stood beside it.
fn withdrew(view: &View<'_>, release: &MemoryRelease, composed: &Composed) -> bool {
    let lane = composed.lane();
    let serves = view.desired().and_then(|d| d.component(lane));
    release.component(lane) == composed.component() && serves != composed.component()
}

/// The release of a run: name, spec and status.
pub(crate) fn release(
    view: &View<'_>,
    run: &MemoryRun,
    composed: Composed,
    evaluated: Option<&Evaluated>,
) -> (String, MemoryReleaseSpec, MemoryReleaseStatus) {
    let number = view.releases.last().map_or(0, |r| r.spec.number) + 1;
    let name = format!("{}-{number}", view.pipeline.name);
    let component = composed.component().unwrap_or_default();
    let verdict_inputs = view.verdict_key(composed.lane(), component);
    let verdict = verdict(view, &composed, evaluated);
    let anchor = anchor(view, &name, &composed, &verdict);
    let phase = match verdict.outcome {
        Outcome::Passed | Outcome::NotApplicable => ReleasePhase::Candidate,
        Outcome::Failed => ReleasePhase::Rejected,
        Outcome::Inconclusive => ReleasePhase::Inconclusive,
    };
    let status = MemoryReleaseStatus {
        phase,
        message: Some(sentence(&name, phase)),
        verdict_inputs: Some(verdict_inputs),
        snapshot: snapshot(view, run, &composed).map(|d| d.to_string()),
        anchor: Some(anchor),
        verdict: Some(verdict),
        ..MemoryReleaseStatus::default()
    };
    let mut status = marked(view, None, status);
    let spec = MemoryReleaseSpec {
        pipeline_ref: LocalRef {
            name: view.pipeline.name.clone(),
        },
        number,
        run: run.name().to_owned(),
        index: composed.index,
        embedder: composed.embedder,
        adapter: composed.adapter,
        adapters: composed.adapters,
    };
    limits::release(&spec, &mut status);
    (name, spec, status)
}

/// The sources as what is new in a release was built from: of a rebase, as the release says that it puts upon another.
fn snapshot(view: &View<'_>, run: &MemoryRun, composed: &Composed) -> Option<Digest> {
    let rebased = || {
        let release = view.release(run.spec.release.as_deref()?)?;
        release
            .snapshot()
            .filter(|_| release.lane() == composed.lane())
    };
    run.output(StepName::Snapshot).or_else(rebased)
}

/// With what a release's phase means to who waits for it; `release` is as it is there already.
pub(crate) fn marked(
    view: &View<'_>,
    release: Option<&MemoryRelease>,
    mut status: MemoryReleaseStatus,
) -> MemoryReleaseStatus {
    let reason = format!("{:?}", status.phase);
    let message = status.message.as_deref().unwrap_or_default();
    let finding = |kind, truth: bool| Finding::new(kind, truth, &reason, message);
    let findings = [
        finding("Reconciling", status.phase == ReleasePhase::Candidate),
        finding("Serving", status.phase == ReleasePhase::Serving),
    ];
    let generation = release.and_then(|r| r.metadata.generation).or(Some(1));
    status.conditions = conditions(view.now, generation, &status.conditions, findings);
    status.observed_generation = generation;
    status
}

/// What a release of this phase says for itself.
pub(crate) fn sentence(name: &str, phase: ReleasePhase) -> String {
    let what = match phase {
        ReleasePhase::Candidate => "passed its gates",
        ReleasePhase::Rejected => "failed its gates: what serves stays",
        ReleasePhase::Inconclusive => "its gates cannot tell: what serves stays",
        ReleasePhase::Serving => "serves",
        ReleasePhase::Retired => "was replaced",
        ReleasePhase::Superseded => "was overtaken",
        ReleasePhase::Withdrawn => "was rolled back",
    };
    format!("{name} {what}")
}

fn verdict(view: &View<'_>, composed: &Composed, evaluated: Option<&Evaluated>) -> Verdict {
    let gates = evaluated.map(|e| {
        let scores = gate::Scores {
            candidate: &e.candidate,
            serving: e.baseline.as_deref(),
            anchor: e.anchor.as_deref(),
            base: e.base.as_deref(),
        };
        let expected = gate::Compared {
            serving: e.subjects.baseline.is_some(),
            anchor: e.subjects.anchor.is_some(),
            base: e.base.is_some(),
        };
        let adapter = composed.adapter.as_deref().filter(|_| expected.base);
        let gates = view.pipeline.gates.iter();
        gates
            .map(|g| match unasked(view, g, adapter) {
                Some(why) => gate::unasked(g, why),
                None => gate::judge(g, &scores, expected),
            })
            .collect()
    });
    let gates: Vec<_> = gates.unwrap_or_default();
    Verdict {
        outcome: gate::overall(&gates),
        time: Time(stamp(view.now).0),
        baseline: view.desired().map(|d| d.name().to_owned()),
        evaluation: evaluated.map(|e| e.output.to_string()),
        gates,
        omitted: 0,
    }
}

/// Why a gate on behaviour has nothing to judge in a candidate with this new adapter, or with none.
fn unasked(view: &View<'_>, gate: &Gate, adapter: Option<&str>) -> Option<String> {
    let mut suites = view.pipeline.suites.iter();
    let suite = suites.find(|s| s.name == gate.suite && s.kind == Kind::Behavior)?;
    match adapter {
        None if suite.retrieved => {
            Some("no adapter is new: what the index finds is for suites of retrieval".to_owned())
        }
        None => Some("no adapter is new, so that all behaves as it did".to_owned()),
        Some(name) if suite.judges(name) => None,
        Some(name) => Some(format!("{name} is not among the adapters of the suite")),
    }
}

/// The anchor from the promotion of the release `name` on: itself when it is on every gate as good
/// as the anchor so far, else that one. So small losses are measured against the best, and cannot add up.
/// Adapters that nobody was asked about must be the anchor's own.
fn anchor(view: &View<'_>, name: &str, composed: &Composed, verdict: &Verdict) -> String {
    let Some(serving) = view.desired() else {
        return name.to_owned();
    };
    let so_far = view.anchor_of(serving);
    let mean = |text: &str| text.parse::<f64>().ok();
    let as_good = verdict.gates.iter().all(|g| {
        let best = g.anchor.as_deref().or(g.serving.as_deref()).and_then(mean);
        match (mean(&g.candidate), best) {
            (Some(candidate), Some(best)) => candidate >= best,
            (_, best) => best.is_none(),
        }
    });
    let new = |a: &&AdapterComponent| composed.adapter.as_ref() == Some(&a.name);
    let mut unasked = composed.adapters.iter().filter(|a| !new(a));
    let known =
        |a: &AdapterComponent| so_far.component(Lane::Adapter(&a.name)) == Some(&*a.adapter);
    if as_good && unasked.all(known) {
        name.to_owned()
    } else {
        so_far.name().to_owned()
    }
}
