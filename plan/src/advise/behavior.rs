//! What an adapter must not forget, and whether it is trained, judged and asked alike.

use loci_crds::adapter::Context;

use super::{Advice, Level, add};
use crate::metrics::Kind;
use crate::spec::{Pipeline, SuiteData};

/// What an adapter must not forget, and what the one after it must not do worse.
pub(super) fn guarding(pipeline: &Pipeline, all: &mut Vec<Advice>) {
    for (i, adapter) in pipeline.adapters.iter().enumerate() {
        let field = format!("spec.adapters[{i}].guard");
        if pipeline.guarded_by_default(&adapter.name) {
            let text = "no gate keeps what the model could do before, so what comes with Loci does: of ability and arithmetic it may lose 0.05 each; to have others judge, add a behavior suite and a gate on it with maxRegression";
            add(all, Level::Info, field, text);
        } else if !pipeline.guards(&adapter.name) {
            let text = "nothing keeps what the model could do before: remove guard, or add a behavior suite and a gate on it with maxRegression";
            add(all, Level::Warning, field, text);
        }
    }
    for (i, gate) in pipeline.gates.iter().enumerate() {
        if gate.min_gain.is_some() && gate.max_regression.is_none() {
            let text = "an adapter may do worse here than the one that serves, as long as it does better than the model without one: add maxRegression";
            add(all, Level::Info, format!("spec.gates[{i}]"), text);
        }
    }
}

/// What is trained, asked by suites and asked by chats with passages, and what without. The suites that come with Loci ask
/// what no document says.
pub(super) fn showing(pipeline: &Pipeline, all: &mut Vec<Advice>) {
    for (i, adapter) in pipeline.adapters.iter().enumerate() {
        let trained = adapter.context == Context::Retrieved;
        if !trained {
            let text = "trained without passages, and chats have five of them unless they say \"k\": 0: have them say so, or train and judge with context: retrieved";
            add(
                all,
                Level::Info,
                format!("spec.adapters[{i}].context"),
                text,
            );
        }
        for (j, suite) in pipeline.suites.iter().enumerate() {
            let own = suite.kind == Kind::Behavior && !matches!(suite.data, SuiteData::Builtin(_));
            if own && suite.judges(&adapter.name) && suite.retrieved != trained {
                let (name, has, asks) = match trained {
                    true => (&adapter.name, "with", "without"),
                    false => (&adapter.name, "without", "with"),
                };
                let text = format!(
                    "asks {asks} passages what adapter {name} is trained {has}: set context of both alike"
                );
                let field = format!("spec.suites[{j}].behavior.context");
                add(all, Level::Info, field, text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::advise::{Prices, Trained, advise};

    const PRICES: Prices = Prices {
        core_hour: 0.04,
        gib_month: 0.1,
        tokens_per_core_second: 1000.0,
        device_hour: 1.0,
    };

    /// What is advised of a pipeline with these adapters.
    fn of(adapters: Value, suites: Value, gates: Value) -> Vec<Advice> {
        let spec = json!({
            "embedder": {"model": "file:///m"},
            "sources": [
                {"name": "n", "memory": "factual", "configMap": {"name": "n"}},
                {"name": "r", "memory": "procedural", "configMap": {"name": "r"}},
            ],
            "adapters": adapters, "suites": suites, "gates": gates,
        });
        let resource = json!({"apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "p"}, "spec": spec});
        let resource = serde_json::from_value(resource).unwrap();
        let pipeline = Pipeline::from_resource(&resource).unwrap();
        advise(&pipeline, None, &Trained::new(), &PRICES)
    }

    #[test]
    fn what_is_trained_judged_and_asked_with_passages_is_told_where_it_differs() {
        let told = |trained: &str, asked: &str| -> Vec<String> {
            let adapter = |name: &str| json!({"name": name, "base": "hf://org/base@main", "sources": ["r"], "context": trained});
            let suites = json!([
                {"name": "sums", "behavior": {"builtin": "arithmetic"}},
                {"name": "target", "behavior": {"data": {"file": "a.jsonl"}, "context": asked, "adapters": ["b"]}},
            ]);
            let gates = json!([
                {"suite": "sums", "metric": "accuracy", "maxRegression": "0.03"},
                {"suite": "target", "metric": "exactMatch", "minGain": "0.10"},
            ]);
            let all = of(json!([adapter("a"), adapter("b")]), suites, gates).into_iter();
            let about = all.filter(|a| a.field.ends_with(".context"));
            about.map(|a| format!("{}: {}", a.field, a.text)).collect()
        };
        let without = told("none", "none");
        assert_eq!(without.len(), 2, "{without:?}");
        let starts = "spec.adapters[0].context: trained without passages";
        assert!(without[0].starts_with(starts), "{without:?}");
        assert_eq!(told("retrieved", "retrieved"), [""; 0]);
        let shown = told("retrieved", "none");
        assert_eq!(
            shown,
            [
                "spec.suites[1].behavior.context: asks without passages what adapter b is trained with: set context of both alike"
            ]
        );
        let asked = told("none", "retrieved");
        let differs =
            |a: &&String| a.contains("asks with passages what adapter b is trained without");
        assert_eq!((asked.len(), asked.iter().filter(differs).count()), (3, 1));
    }

    #[test]
    fn an_adapter_wants_a_gate_on_what_it_must_not_forget() {
        let said = |guard: &str, suite: Value, gate: Value| {
            let adapter = |name: &str| json!({"name": name, "base": "hf://org/base@main", "sources": ["r"], "guard": guard});
            let suites = json!([{"name": "sums", "behavior": suite}]);
            let all = of(json!([adapter("a"), adapter("b")]), suites, json!([gate]));
            let about = |start: &str| -> Vec<String> {
                let found = all.iter().filter(|a| {
                    let told = a.text.contains("keeps what") || a.text.contains("may do worse");
                    told && a.field.starts_with(start)
                });
                found.map(|a| a.field.clone()).collect()
            };
            let warned = all
                .iter()
                .any(|a| a.level == Level::Warning && a.field.starts_with("spec.adapters"));
            (about("spec.adapters"), about("spec.gates"), warned)
        };
        let told = |suite, gate| {
            let (unguarded, worse, warned) = said("none", suite, gate);
            assert_eq!(warned, !unguarded.is_empty());
            (unguarded, worse)
        };
        let gate =
            |terms: &str, value: &str| json!({"suite": "sums", "metric": "accuracy", terms: value});
        let (sums, kept) = (
            json!({"builtin": "arithmetic"}),
            gate("maxRegression", "0.03"),
        );
        assert_eq!(told(sums.clone(), kept.clone()), (vec![], vec![]));
        let one = json!({"builtin": "arithmetic", "adapters": ["b"]});
        assert_eq!(
            told(one.clone(), kept.clone()).0,
            ["spec.adapters[0].guard"]
        );
        let (stood_in, _, warned) = said("builtin", one, kept);
        assert_eq!((stood_in.len(), warned), (1, false));
        assert_eq!(told(sums.clone(), gate("floor", "0.40")).0.len(), 2);
        let (unguarded, worse) = told(sums.clone(), gate("minGain", "0.10"));
        assert_eq!(
            unguarded,
            ["spec.adapters[0].guard", "spec.adapters[1].guard"]
        );
        assert_eq!(worse, ["spec.gates[0]"]);
        // Both say what is to be learned, and how much of that may be lost again.
        let mut both = gate("minGain", "0.10");
        both["maxRegression"] = json!("0.03");
        let (unguarded, worse) = told(sums, both);
        assert_eq!((unguarded.len(), worse.len()), (2, 0));
    }
}
