//! Who is asked what suites of behaviour ask, and whose scores the answers are.

use loci_digest::Digest;
use loci_plan::{StepInput, Subject};
use loci_worker::step::BehaviorInput;

use crate::declared::Declared;

/// One of those that are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    Candidate,
    Serving,
    Anchor,
    /// The base model without adapter.
    Base,
}

/// A suite that a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) suite: String,
    data: Digest,
    /// The adapter's manifest; none of the base model by itself.
    pub(crate) adapter: Option<Digest>,
    /// The index that is asked for passages, where the suite has them before its questions.
    pub(crate) revision: Option<Digest>,
    /// Whose scores these are: of several, where they are the same model.
    pub(crate) of: Vec<Whom>,
}

/// All that is asked about the adapter that is new in a candidate, as far as gates go by it; none when no adapter is. Where a
/// release has no such adapter, its base answers. Passages come from the index beside which an adapter serves, or is to:
/// those of the base, from the candidate's.
pub(crate) fn asks(declared: &Declared, input: &StepInput) -> Option<Vec<Ask>> {
    let StepInput::Evaluate {
        candidate,
        adapter: Some(adapter),
        baseline,
        anchor,
        ..
    } = input
    else {
        return None;
    };
    let of = |subject: &Subject| (subject.adapters.get(adapter).copied(), subject.revision);
    let pipeline = &declared.pipeline;
    let mut all: Vec<Ask> = Vec::new();
    for suite in pipeline.suites.iter().filter(|s| s.judges(adapter)) {
        let Some(data) = declared.suites.get(&suite.name) else {
            continue;
        };
        let gates = || pipeline.gates.iter().filter(|g| g.suite == suite.name);
        let falls = gates().any(|g| g.max_regression.is_some());
        let gains = gates().any(|g| g.min_gain.is_some());
        let models = [
            (Whom::Candidate, Some(of(candidate))),
            (Whom::Serving, baseline.as_ref().filter(|_| falls).map(of)),
            (Whom::Anchor, anchor.as_ref().filter(|_| falls).map(of)),
            (Whom::Base, gains.then_some((None, candidate.revision))),
        ];
        let first = all.len();
        for (whom, model) in models {
            let Some((adapter, revision)) = model else {
                continue;
            };
            let revision = suite.retrieved.then_some(revision);
            let mut asked = all.iter_mut().skip(first);
            match asked.find(|ask| (ask.adapter, ask.revision) == (adapter, revision)) {
                Some(ask) => ask.of.push(whom),
                None => all.push(Ask {
                    suite: suite.name.clone(),
                    data: *data,
                    adapter,
                    revision,
                    of: vec![whom],
                }),
            }
        }
    }
    Some(all)
}

/// The same as a worker is told.
pub(crate) fn behaviors(declared: &Declared, input: &StepInput) -> Vec<BehaviorInput> {
    let asks = asks(declared, input).unwrap_or_default().into_iter();
    let told = |ask: Ask| BehaviorInput {
        suite: ask.suite,
        data: ask.data,
        base: declared.base.clone().unwrap_or_default(),
        adapter: ask.adapter,
        revision: ask.revision,
    };
    asks.map(told).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};
    use std::sync::Arc;

    use loci_crds::MemoryPipeline;
    use loci_plan::Pipeline;
    use serde_json::json;

    use super::*;

    fn declared() -> Declared {
        let adapter =
            |name: &str| json!({"name": name, "base": "file://base", "sources": ["runbooks"]});
        let resource = json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "support"},
            "spec": {
                "embedder": {"model": "file://model"},
                "sources": [
                    {"name": "notices", "memory": "episodic", "configMap": {"name": "notices"}},
                    {"name": "runbooks", "memory": "procedural", "configMap": {"name": "runbooks"}},
                ],
                "adapters": [adapter("escalation"), adapter("tone")],
                "suites": [
                    {"name": "faq", "retrieval": {"data": {"file": "faq.jsonl"}}},
                    {"name": "target", "behavior": {"data": {"file": "cases.jsonl"}, "adapters": ["escalation"]}},
                    {"name": "sums", "behavior": {"builtin": "arithmetic"}},
                    {"name": "shown", "behavior": {"builtin": "ability"}},
                ],
                "gates": [
                    {"suite": "target", "metric": "exactMatch", "minGain": "0.10"},
                    {"suite": "sums", "metric": "accuracy", "maxRegression": "0.03"},
                ],
            },
        });
        let resource: MemoryPipeline = serde_json::from_value(resource).unwrap();
        let pipeline = Pipeline::from_resource(&resource).unwrap();
        let data = |name: &str| (name.to_owned(), Digest::of(name));
        Declared {
            resource,
            pipeline: Arc::new(pipeline),
            model: "file:///model".into(),
            base: Some("file:///base".into()),
            cross_encoder: None,
            suites: HashMap::from(["faq", "target", "sums", "shown"].map(data)),
            watched: Vec::new(),
        }
    }

    /// As declared, with passages before the questions of a suite.
    fn retrieved(suite: &str) -> Declared {
        let mut declared = declared();
        let pipeline = Arc::make_mut(&mut declared.pipeline);
        let suite = pipeline.suites.iter_mut().find(|s| s.name == suite);
        suite.unwrap().retrieved = true;
        declared
    }

    fn subject(adapters: &[(&str, &str)]) -> Subject {
        let adapters = adapters.iter();
        Subject {
            revision: Digest::of("revision"),
            adapters: adapters
                .map(|(name, manifest)| ((*name).to_owned(), Digest::of(*manifest)))
                .collect::<BTreeMap<_, _>>(),
        }
    }

    fn evaluate(adapter: Option<&str>, baseline: &[(&str, &str)]) -> StepInput {
        StepInput::Evaluate {
            candidate: subject(&[("escalation", "new"), ("tone", "new")]),
            adapter: adapter.map(str::to_owned),
            subjects: Box::default(),
            baseline: Some(subject(baseline)),
            anchor: Some(subject(&[("escalation", "best")])),
        }
    }

    type Told = (String, Option<Digest>, Vec<Whom>);

    fn told(input: &StepInput) -> Vec<Told> {
        let asks = asks(&declared(), input).unwrap().into_iter();
        asks.map(|a| (a.suite, a.adapter, a.of)).collect()
    }

    #[test]
    fn what_gates_go_by_is_asked_of_whom_they_compare() {
        use Whom::{Anchor, Base, Candidate, Serving};
        let of = |suite: &str, adapter: &str, whom: &[Whom]| {
            let adapter = (!adapter.is_empty()).then(|| Digest::of(adapter));
            (suite.to_owned(), adapter, whom.to_vec())
        };
        let first = told(&evaluate(Some("escalation"), &[("escalation", "old")]));
        assert_eq!(
            first,
            [
                of("target", "new", &[Candidate]),
                of("target", "", &[Base]),
                of("sums", "new", &[Candidate]),
                of("sums", "old", &[Serving]),
                of("sums", "best", &[Anchor]),
                of("shown", "new", &[Candidate]),
            ]
        );
        // What serves has no such adapter: it answers as its base does. The suite of another adapter is not asked.
        let second = told(&evaluate(Some("tone"), &[("escalation", "old")]));
        assert_eq!(
            second,
            [
                of("sums", "new", &[Candidate]),
                of("sums", "", &[Serving, Anchor]),
                of("shown", "new", &[Candidate]),
            ]
        );
    }

    #[test]
    fn passages_come_from_the_index_beside_which_each_answers() {
        let mut input = evaluate(Some("escalation"), &[("escalation", "old")]);
        let StepInput::Evaluate {
            baseline, anchor, ..
        } = &mut input
        else {
            panic!("another step");
        };
        // What serves has the candidate's index, the anchor an older one, and the very adapter that serves.
        let (Some(baseline), Some(anchor)) = (baseline, anchor) else {
            panic!("nothing to compare with");
        };
        anchor.revision = Digest::of("older");
        anchor.adapters.clone_from(&baseline.adapters);
        let told = |declared: &Declared, suite: &str| -> Vec<_> {
            let asks = asks(declared, &input).unwrap().into_iter();
            let of = asks.filter(|ask| ask.suite == suite);
            of.map(|ask| (ask.revision, ask.of)).collect()
        };
        let (own, older) = (Some(Digest::of("revision")), Some(Digest::of("older")));
        assert_eq!(
            told(&declared(), "sums"),
            [
                (None, vec![Whom::Candidate]),
                (None, vec![Whom::Serving, Whom::Anchor])
            ]
        );
        assert_eq!(
            told(&retrieved("sums"), "sums"),
            [
                (own, vec![Whom::Candidate]),
                (own, vec![Whom::Serving]),
                (older, vec![Whom::Anchor])
            ]
        );
        assert_eq!(
            told(&retrieved("target"), "target"),
            [(own, vec![Whom::Candidate]), (own, vec![Whom::Base])]
        );
        let behaviors = behaviors(&retrieved("sums"), &input);
        let revisions: Vec<_> = behaviors.iter().map(|b| b.revision).collect();
        assert_eq!(revisions, [None, None, own, own, older, None]);
    }

    #[test]
    fn nobody_is_asked_when_no_adapter_is_new() {
        let input = evaluate(None, &[("escalation", "old")]);
        assert_eq!(asks(&declared(), &input), None);
        assert_eq!(behaviors(&declared(), &input), []);
        let input = evaluate(Some("tone"), &[]);
        let behaviors = behaviors(&declared(), &input);
        assert_eq!(behaviors.len(), 3);
        assert!(behaviors.iter().all(|b| b.base == "file:///base"));
    }
}
