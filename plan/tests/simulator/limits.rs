//! A run has at most 16 KiB and a release 8 KiB, 704 bytes more for each adapter and 512 for a cross-encoder, whatever sources, workers and suites say.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_digest::Digest;
use loci_plan::gate::{QuestionScore, SuiteScores};
use loci_plan::{
    Action, Assembled, Collected, Embedded, Evaluated, Snapshot, SourceSnapshot, StepFailure,
    StepInput, StepOutcome, StepResult, Trained, World, plan,
};
use serde::Serialize;
use serde_json::{Value, json};

use crate::draws::Draws;
use crate::shell::empty;
use crate::{seeded, seeds, start};

const RUN: usize = 16 << 10;
const RELEASE: usize = 8 << 10;
/// More for each adapter in it.
const ADAPTER: usize = 704;
/// More for a cross-encoder in it.
const CROSS_ENCODER: usize = 512;
/// What an API server adds to say who wrote which field. The operator's tests hold it to this.
const OF_RUN: usize = 2560;
const OF_RELEASE: usize = 2048;

fn letters(n: usize) -> String {
    "n".repeat(n)
}

fn adapter(i: u64) -> String {
    format!("{}-{i:02}", letters(60))
}

fn base() -> String {
    format!("hf://{}/{}@main", letters(90), letters(98))
}

/// A release that has all adapters and serves.
fn before(world: &World) -> MemoryRelease {
    let digest = Digest::of("before").to_string();
    let component = |i: u64| {
        json!({
            "name": adapter(i), "manifest": digest, "adapter": digest, "base": base(), "baseDigest": digest,
            "rank": 256, "dataset": digest,
        })
    };
    let name = format!("{}-1", world.pipeline.name);
    let release = json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRelease", "metadata": {"name": name},
        "spec": {
            "pipelineRef": {"name": world.pipeline.name}, "number": 1, "run": "before",
            "index": {"revision": digest, "contentId": digest, "documents": 1, "passages": 1},
            "embedder": {"model": world.pipeline.model, "identity": digest},
            "adapters": (0..8).map(component).collect::<Vec<Value>>(),
        },
        "status": {
            "phase": "Serving",
            "verdict": {"outcome": "Passed", "time": start()},
        },
    });
    serde_json::from_value(release).unwrap()
}

/// Every list and every name as long as the definition lets it be.
fn pipeline(draws: &mut Draws) -> MemoryPipeline {
    let memory = |i: u64| if i < 31 { "factual" } else { "procedural" };
    let source = |i: u64| json!({"name": format!("{}-{i:02}", letters(60)), "memory": memory(i), "configMap": {"name": letters(253)}});
    let adapter = |i: u64| json!({"name": adapter(i), "base": base(), "sources": [source(31)["name"]], "guard": "none"});
    let suite = |i: u64| json!({"name": format!("{}-{i:02}", letters(60)), "retrieval": {"data": {"configMap": {"name": "c", "key": "k"}}}});
    let suites: Vec<Value> = (0..32).map(suite).collect();
    let gates = suites.iter().flat_map(|s| {
        let gate = |metric: &str| json!({"suite": s["name"], "metric": metric, "floor": "0.5", "maxRegression": "0.01"});
        [gate("citationHitAt100"), gate("recallAt100")]
    });
    let gates: Vec<Value> = gates.take(1 + draws.below(64) as usize).collect();
    let model = format!("hf://org/{}@main", letters(draws.below(2030) as usize + 1));
    serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": letters(40), "namespace": letters(63), "uid": "u", "generation": 1},
        "spec": {
            "embedder": {"model": model},
            "retrieval": {"rerank": {"method": "crossEncoder", "model": base()}},
            "sources": (0..32).map(source).collect::<Vec<_>>(),
            "suites": suites, "gates": gates,
            "adapters": (0..8).map(adapter).collect::<Vec<_>>(),
            "workers": {"class": letters(40)},
            "budget": {
                "currency": "USD", "perRun": "999999999999.999999",
                "prices": [{"class": letters(40), "deviceHour": "123456789012.345678"}],
            },
        },
    }))
    .unwrap()
}

/// What nobody should say.
fn nasty(draws: &mut Draws) -> String {
    let length = [0, 10, 300, 3000, 50_000][draws.below(5) as usize];
    let kinds = [
        "a", "\u{1}", "\"", "<", "é", "語", "\u{2028}", "\n", "word ",
    ];
    (0..length)
        .map(|_| kinds[draws.below(9) as usize])
        .collect()
}

fn metadata(name: &str) -> ObjectMeta {
    let owner = OwnerReference {
        api_version: "loci.dev/v1alpha1".into(),
        kind: "MemoryPipeline".into(),
        name: letters(40),
        uid: "123e4567-e89b-12d3-a456-426614174000".into(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let labels = [
        ("loci.dev/pipeline".to_owned(), letters(40)),
        (
            "app.kubernetes.io/managed-by".to_owned(),
            "loci-operator".to_owned(),
        ),
    ];
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(letters(63)),
        labels: Some(labels.into()),
        owner_references: Some(vec![owner]),
        uid: Some("123e4567-e89b-12d3-a456-426614174000".into()),
        resource_version: Some("1234567890123456789".into()),
        generation: Some(1),
        creation_timestamp: Some(Time(start())),
        ..ObjectMeta::default()
    }
}

/// The bytes of an object in JSON as API servers write it.
fn size(object: &impl Serialize) -> usize {
    let json = serde_json::to_string(object).unwrap();
    let escaped = json.chars().filter(|c| "<>&\u{2028}\u{2029}".contains(*c));
    json.len() + 5 * escaped.count()
}

fn scores(world: &World, draws: &mut Draws) -> Vec<SuiteScores> {
    let mut suite = |name: &str| SuiteScores {
        suite: name.to_owned(),
        questions: (0..12)
            .map(|i| {
                let metrics = world.pipeline.metrics_of(name).into_iter();
                let score = metrics.map(|m| (m, draws.below(1000) as f64 / 999.0));
                QuestionScore {
                    id: i.to_string(),
                    stale: false,
                    chance: 0.0,
                    scores: score.collect::<BTreeMap<_, _>>(),
                }
            })
            .collect(),
    };
    world
        .pipeline
        .suites
        .iter()
        .map(|s| suite(&s.name))
        .collect()
}

fn work(world: &World, input: &StepInput, draws: &mut Draws) -> Result<StepResult, StepFailure> {
    if draws.once_in(3) {
        return Err(StepFailure {
            reason: nasty(draws),
            message: nasty(draws),
            retryable: draws.once_in(2),
        });
    }
    let output = Digest::of(format!("{input:?}"));
    Ok(match input {
        StepInput::Snapshot { adapter, .. } => {
            let mut source = |name: &String| {
                let read = SourceSnapshot {
                    documents: u64::from(u32::MAX),
                    before: draws.below(9),
                    removed: draws.below(9),
                    error: Some(nasty(draws)),
                    ..SourceSnapshot::default()
                };
                (name.clone(), read)
            };
            let sources = world.pipeline.read_by(adapter.as_deref());
            StepResult::Snapshot(Snapshot {
                output,
                sources: sources.map(|s| source(&s.name)).collect(),
                summary: nasty(draws),
            })
        }
        StepInput::Embed { .. } => StepResult::Embed(Embedded {
            output,
            summary: nasty(draws),
        }),
        StepInput::Assemble { .. } => StepResult::Assemble(Assembled {
            revision: output,
            content_id: output,
            embedder: output,
            cross_encoder: Some(output),
            documents: u64::from(u32::MAX),
            passages: u64::from(u32::MAX),
            summary: nasty(draws),
        }),
        StepInput::Collect { .. } => StepResult::Collect(Collected {
            output,
            content: output,
            total: u64::MAX,
            new: u64::MAX,
            not_enough: draws.once_in(4).then(|| nasty(draws)),
            summary: nasty(draws),
        }),
        StepInput::Train { .. } => StepResult::Train(Trained {
            output,
            adapter: output,
            base_digest: output,
            rank: 256,
            device_seconds: u64::MAX,
            summary: nasty(draws),
        }),
        StepInput::Evaluate { subjects, .. } => StepResult::Evaluate(Evaluated {
            output,
            subjects: (**subjects).clone(),
            candidate: scores(world, draws),
            baseline: subjects.baseline.as_ref().map(|_| scores(world, draws)),
            anchor: subjects.anchor.as_ref().map(|_| scores(world, draws)),
            base: None,
            summary: nasty(draws),
        }),
    })
}

fn apply(now: Timestamp, world: &mut World, action: Action, draws: &mut Draws) {
    match action {
        Action::CreateRun { name, spec } => {
            let mut run = MemoryRun::new(&name, spec);
            run.metadata = metadata(&name);
            run.metadata.creation_timestamp = Some(Time(now));
            world.runs.push(run);
        }
        Action::UpdateRun { name, status } => {
            let named = |r: &&mut MemoryRun| r.metadata.name.as_ref() == Some(&name);
            world.runs.iter_mut().find(named).unwrap().status = Some(*status);
        }
        Action::Dispatch { key, input } => {
            let result = work(world, &input, draws);
            let time = now;
            world.outcomes.push(StepOutcome { key, time, result });
        }
        Action::CreateRelease { name, spec, status } => {
            let mut release = MemoryRelease::new(&name, *spec);
            release.metadata = metadata(&name);
            release.status = Some(*status);
            world.releases.push(release);
        }
        Action::UpdateRelease { name, status } => {
            let named = |r: &&mut MemoryRelease| r.metadata.name.as_ref() == Some(&name);
            world.releases.iter_mut().find(named).unwrap().status = Some(*status);
        }
        Action::Prepare { release } => _ = world.serving.prepared.insert(release),
        Action::Promote { release } => {
            world.serving.desired = Some(release.clone());
            world.serving.current = Some(release);
        }
        Action::CollectGarbage { .. } => world.collected = Some(now),
        Action::DeleteRun { .. } | Action::DeleteRelease { .. } => {}
        Action::Stop { .. } | Action::Probe(_) => {}
    }
}

#[test]
fn whatever_is_said_runs_and_releases_stay_small() {
    let (mut largest, mut cut) = ((0, 0), 0);
    for seed in seeds(60) {
        seeded(seed, "nasty", || {
            let mut draws = Draws::new(seed);
            let mut world = empty(&pipeline(&mut draws));
            world.intents.refresh = draws.once_in(2).then(|| "\u{1}".repeat(250));
            if draws.once_in(2) {
                let release = before(&world);
                let name = release.metadata.name.clone();
                (world.serving.current, world.serving.desired) = (name.clone(), name);
                world.releases.push(release);
            }
            let mut now = start();
            for round in 0..40 {
                now = now
                    .checked_add(std::time::Duration::from_secs(700))
                    .unwrap();
                if round % 10 == 9 {
                    world.intents.refresh = Some(format!("again {round}"));
                    let token = || "\u{1}".repeat(250) + &round.to_string();
                    world.intents.tune = (0..8).map(|i| (adapter(i), token())).collect();
                }
                if draws.once_in(2) {
                    let names = world.runs.iter().filter_map(|r| r.metadata.name.clone());
                    world.intents.approved = names.collect();
                }
                let decision = plan(now, &world);
                world.status = decision.status;
                for action in decision.actions {
                    apply(now, &mut world, action, &mut draws);
                }
                for run in &world.runs {
                    let size = size(run) + OF_RUN;
                    assert!(size <= RUN, "{size}: {run:?}");
                    largest.0 = largest.0.max(size);
                }
                for release in world.releases.iter().filter(|r| r.spec.run != "before") {
                    let size = size(release) + OF_RELEASE;
                    let crosses = usize::from(release.spec.index.cross_encoder.is_some());
                    let more = ADAPTER * release.spec.adapters.len() + CROSS_ENCODER * crosses;
                    assert!(size <= RELEASE + more, "{size}: {release:?}");
                    let size = size.saturating_sub(more);
                    largest.1 = largest.1.max(size);
                    let verdict = release.status.as_ref().unwrap().verdict.as_ref().unwrap();
                    let told = verdict.gates.len() as i64 + verdict.omitted;
                    assert_eq!(told, world.pipeline.gates.len() as i64);
                    let decided =
                        |g: &&loci_crds::release::GateResult| g.outcome == verdict.outcome;
                    assert!(verdict.gates.iter().any(|g| decided(&g)), "{verdict:?}");
                    cut += verdict.omitted;
                }
            }
        });
    }
    // Or the worst was not tried.
    assert!(
        largest.0 > RUN / 2 && largest.1 > RELEASE * 3 / 4,
        "{largest:?}"
    );
    assert!(cut > 0);
}
