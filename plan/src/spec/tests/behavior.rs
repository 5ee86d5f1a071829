use loci_crds::behavior::BuiltinSuite;

use super::*;

fn suite_of(spec: Value) -> (Option<Suite>, Vec<String>) {
    let mut fields = Fields::default();
    let suite = fields.suite(2, &serde_json::from_value(spec).unwrap());
    let errors = fields.finish(()).err().unwrap_or_default();
    (suite, errors.iter().map(ToString::to_string).collect())
}

#[test]
fn behaviour_suites_are_read() {
    let of = |behavior: Value| suite_of(json!({"name": "s", "behavior": behavior}));
    for (behavior, field) in [
        (json!({"builtin": "arithmetic"}), "builtin"),
        (json!({"builtin": "ability", "context": "none"}), "builtin"),
        (
            json!({"builtin": "ability", "context": "retrieved"}),
            "builtin",
        ),
        (json!({"data": {"file": "a"}}), "data.file"),
        (
            json!({"data": {"configMap": {"name": "m", "key": "k"}}}),
            "data.configMap",
        ),
    ] {
        let (suite, errors) = of(behavior.clone());
        let suite = suite.unwrap();
        assert_eq!(suite.kind, Kind::Behavior);
        assert_eq!(suite.field(2), format!("spec.suites[2].behavior.{field}"));
        assert_eq!(errors, [""; 0]);
        assert!(suite.judges("escalation"));
        let retrieved = behavior["context"] == "retrieved";
        assert_eq!(suite.retrieved, retrieved, "{behavior}");
    }
    for (behavior, expected) in [
        (json!({}), "spec.suites[2].behavior: give exactly one"),
        (
            json!({"builtin": "ability", "data": {"file": "a"}}),
            "spec.suites[2].behavior: give exactly one",
        ),
        (
            json!({"data": {}}),
            "spec.suites[2].behavior.data: give exactly one",
        ),
    ] {
        let (_, errors) = of(behavior);
        assert!(
            errors.iter().any(|e| e.starts_with(expected)),
            "{expected}: {errors:?}"
        );
    }
    let (neither, errors) = suite_of(json!({"name": "s"}));
    assert_eq!(neither, None);
    assert_eq!(
        errors,
        ["spec.suites[2]: give exactly one of retrieval, behavior"]
    );
}

#[test]
fn gates_fit_the_kind_of_their_suite() {
    let suites = [Kind::Retrieval, Kind::Behavior].map(|kind| Suite {
        name: format!("{kind:?}"),
        data: SuiteData::File("a".into()),
        kind,
        adapters: Vec::new(),
        retrieved: false,
    });
    let of = |suite: &str, metric: &str, gate: Value| {
        let mut spec = json!({"suite": suite, "metric": metric});
        spec.as_object_mut()
            .unwrap()
            .extend(gate.as_object().unwrap().clone());
        let mut fields = Fields::default();
        let gate = fields.gate(0, &serde_json::from_value(spec).unwrap(), &suites);
        let errors = fields.finish(()).err().unwrap_or_default();
        let errors: Vec<_> = errors.iter().map(ToString::to_string).collect();
        (gate, errors)
    };
    let floor = || json!({"floor": "0.5"});
    assert_eq!(of("Retrieval", "mrr", floor()).1, [""; 0]);
    assert_eq!(of("Behavior", "accuracy", floor()).1, [""; 0]);
    assert_eq!(of("Behavior", "schemaValid", floor()).1, [""; 0]);
    for (suite, metric, way_out) in [
        ("Retrieval", "accuracy", "use recallAtK"),
        ("Behavior", "recallAt5", "use exactMatch"),
        ("Retrieval", "schemaValid", "use recallAtK"),
    ] {
        let errors = of(suite, metric, floor()).1;
        assert!(
            errors.len() == 1
                && errors[0].starts_with("spec.gates[0].metric: ")
                && errors[0].contains(way_out),
            "{errors:?}"
        );
    }
    let (gate, errors) = of("Behavior", "accuracy", json!({"minGain": "0.10"}));
    assert_eq!(gate.unwrap().min_gain, Some(0.1));
    assert_eq!(errors, [""; 0]);
    let errors = of("Retrieval", "mrr", json!({"minGain": "0.10"})).1;
    assert!(
        errors
            .iter()
            .any(|e| e.contains("gates on behavior suites")),
        "{errors:?}"
    );
}

#[test]
fn a_behaviour_suite_without_gates_is_scored_by_all_that_its_cases_have() {
    let p = Pipeline {
        suites: vec![Suite {
            name: "b".into(),
            data: SuiteData::Builtin(BuiltinSuite::Ability),
            kind: Kind::Behavior,
            adapters: Vec::new(),
            retrieved: false,
        }],
        ..pipeline(|_| {})
    };
    assert_eq!(p.metrics_of("b"), Metric::BEHAVIOR);
    assert_eq!(p.depth_of("b"), 0);
}

#[test]
fn a_suite_judges_the_adapters_that_it_names_or_all() {
    let of = |spec: Value| suite_of(json!({"name": "s", "behavior": spec})).0.unwrap();
    let all = of(json!({"builtin": "ability"}));
    let one = of(json!({"builtin": "ability", "adapters": ["tone"]}));
    let judges = |suite: &Suite| ["tone", "escalation"].map(|adapter| suite.judges(adapter));
    assert_eq!((judges(&all), judges(&one)), ([true; 2], [true, false]));
    let (retrieval, _) = suite_of(json!({"name": "s", "retrieval": {"data": {"file": "a"}}}));
    assert!(!retrieval.unwrap().judges("tone"));
}

#[test]
fn what_a_suite_shows_is_what_verdicts_depend_on() {
    let inputs = |context: Option<&str>| {
        let mut behavior = json!({"builtin": "ability"});
        if let Some(context) = context {
            behavior["context"] = json!(context);
        }
        let (suite, _) = suite_of(json!({"name": "s", "behavior": behavior}));
        let suites = vec![suite.unwrap()];
        Pipeline {
            suites,
            ..pipeline(|_| {})
        }
        .gate_inputs()
    };
    assert_eq!(inputs(None), inputs(Some("none")));
    assert_ne!(inputs(None), inputs(Some("retrieved")));
}
