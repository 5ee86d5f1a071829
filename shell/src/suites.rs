//! The suites of a pipeline, read by their kind.

use std::collections::BTreeMap;

use loci_crds::behavior::BuiltinSuite;
use loci_plan::FieldError;
use loci_plan::metrics::{Kind, Metric};
use loci_plan::spec::{Gate, Suite};
use loci_worker::behavior::{self, ABILITY, ARITHMETIC};
use loci_worker::step::suite;

/// What a suite asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// How many questions it has.
    pub count: usize,
    /// What a person could ask, too: the questions of a retrieval suite.
    pub queries: Vec<String>,
    /// How many questions have a metric of behaviour.
    scored: BTreeMap<Metric, usize>,
}

impl Questions {
    /// How many questions have this metric.
    pub fn scored_by(&self, metric: Metric) -> usize {
        match metric.kind() {
            Kind::Retrieval => self.count,
            Kind::Behavior => self.scored.get(&metric).copied().unwrap_or(0),
        }
    }
}

/// The lines of a suite that comes with Loci.
pub fn builtin(suite: BuiltinSuite) -> &'static str {
    match suite {
        BuiltinSuite::Ability => ABILITY,
        BuiltinSuite::Arithmetic => ARITHMETIC,
    }
}

/// Reads the lines of a suite, the one at `index` of its pipeline's spec, by its kind.
///
/// # Errors
/// Names the field and what is wrong: every line of a behaviour suite, the first of a retrieval suite, or the gate whose
/// metric none of its questions has.
pub fn questions(
    (index, suite): (usize, &Suite),
    gates: &[Gate],
    data: &[u8],
) -> Result<Questions, FieldError> {
    let refuse = |reason: String| FieldError {
        field: suite.field(index),
        reason,
    };
    let text = std::str::from_utf8(data)
        .map_err(|_| refuse(format!("suite {} is not UTF-8", suite.name)))?;
    let questions = match suite.kind {
        Kind::Retrieval => retrieval(&suite.name, text),
        Kind::Behavior => asked(&suite.name, text),
    };
    let questions = questions.map_err(refuse)?;
    for (i, gate) in gates.iter().enumerate() {
        if gate.suite == suite.name && questions.scored_by(gate.metric) == 0 {
            let (name, metric) = (&suite.name, gate.metric);
            let had: Vec<String> = questions.scored.keys().map(ToString::to_string).collect();
            let had = had.join(", ");
            return Err(FieldError {
                field: format!("spec.gates[{i}].metric"),
                reason: format!("no line of suite {name} has {metric}: its lines have {had}"),
            });
        }
    }
    Ok(questions)
}

fn retrieval(name: &str, text: &str) -> Result<Questions, String> {
    let questions = suite::parse(name, text).map_err(|e| e.to_string())?;
    Ok(Questions {
        count: questions.len(),
        queries: questions.into_iter().map(|q| q.question).collect(),
        scored: BTreeMap::new(),
    })
}

fn asked(name: &str, text: &str) -> Result<Questions, String> {
    let cases = behavior::cases(name, text).map_err(|e| e.to_string())?;
    Ok(Questions {
        count: cases.len(),
        queries: Vec::new(),
        scored: behavior::scored(&cases),
    })
}

#[cfg(test)]
mod tests {
    use loci_plan::spec::SuiteData;

    use super::*;

    fn suite(kind: Kind) -> Suite {
        Suite {
            name: "s".into(),
            data: SuiteData::File("s.jsonl".into()),
            kind,
            adapters: Vec::new(),
            retrieved: false,
        }
    }

    fn gate(metric: Metric) -> Gate {
        Gate {
            suite: "s".into(),
            metric,
            floor: Some(0.5),
            max_regression: None,
            min_gain: None,
        }
    }

    const RETRIEVAL: &str = r#"{"question": "Where?", "expected": [{"document": "a.md"}]}"#;
    const BEHAVIOR: &str = r#"{"prompt": "Say yes.", "expected": "yes"}"#;

    #[test]
    fn suites_are_read_by_their_kind() {
        let gates = [gate(Metric::Mrr), gate(Metric::ExactMatch)];
        let read = |kind, gate: &Gate, text: &str| {
            questions(
                (3, &suite(kind)),
                std::slice::from_ref(gate),
                text.as_bytes(),
            )
        };
        let found = read(Kind::Retrieval, &gates[0], RETRIEVAL).unwrap();
        assert_eq!((found.count, found.queries), (1, vec!["Where?".to_owned()]));
        let found = read(Kind::Behavior, &gates[1], BEHAVIOR).unwrap();
        assert_eq!((found.count, found.queries.len()), (1, 0));
        assert_eq!(found.scored_by(Metric::Accuracy), 1);
        for (kind, text, field) in [
            (Kind::Retrieval, BEHAVIOR, "retrieval"),
            (Kind::Behavior, RETRIEVAL, "behavior"),
        ] {
            let error = read(kind, &gates[0], text).unwrap_err();
            assert_eq!(error.field, format!("spec.suites[3].{field}.data.file"));
            assert!(error.reason.contains("suite s, line 1"), "{error}");
        }
        let error = questions((3, &suite(Kind::Behavior)), &[], b"\xff").unwrap_err();
        assert!(error.reason.contains("UTF-8"), "{error}");
    }

    #[test]
    fn a_gate_whose_metric_no_line_has_is_named() {
        let gates = [gate(Metric::Accuracy), gate(Metric::Likelihood)];
        let suite = suite(Kind::Behavior);
        let error = questions((0, &suite), &gates, BEHAVIOR.as_bytes()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "spec.gates[1].metric: no line of suite s has likelihood: its lines have exactMatch, accuracy"
        );
    }

    #[test]
    fn what_comes_with_loci_can_be_asked() {
        for suite in [BuiltinSuite::Ability, BuiltinSuite::Arithmetic] {
            let read = Suite {
                name: "s".into(),
                data: SuiteData::Builtin(suite),
                kind: Kind::Behavior,
                adapters: Vec::new(),
                retrieved: false,
            };
            let found = questions(
                (0, &read),
                &[gate(Metric::Accuracy)],
                builtin(suite).as_bytes(),
            );
            let found = found.unwrap();
            assert_eq!(found.scored_by(Metric::Accuracy), found.count);
        }
    }
}
