//! The decision framework as advice: where this memory belongs, what it costs, what is missing.
//! A cluster gives the warnings at admission, in the same words: `crds/policies/advice.yaml`.
//!
//! Costs are reckoned, not measured: tokens of a full build = passages x mean tokens; its core hours =
//! tokens / (tokens a core embeds in a second) / 3600. A training costs what the newest one took. A month has 30 days.

mod behavior;
mod costs;

use std::collections::BTreeMap;
use std::time::Duration;

use loci_crds::source::MemoryClass;
use serde::Serialize;

use crate::metrics::Kind;
use crate::spec::{Location, Pipeline};

const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);
const GIB: f64 = (1_u64 << 30) as f64;
/// Names that people give to collections of procedures.
const PROCEDURAL: [&str; 6] = [
    "runbook",
    "playbook",
    "procedure",
    "sop",
    "escalation",
    "protocol",
];
/// Episodes that are looked at less often than this are missed when they are asked for.
const RARELY: Duration = Duration::from_secs(24 * 3600);
/// A hybrid query with its embedding takes some milliseconds on an idle core; below this there is no room.
const TIGHT_BUDGET: Duration = Duration::from_millis(10);

/// What is indexed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Corpus {
    /// Documents.
    pub documents: u64,
    /// Passages.
    pub passages: u64,
    /// Mean tokens of a passage.
    pub tokens_per_passage: f64,
    /// Bytes of all artefacts that are kept, where that is known.
    pub bytes: Option<u64>,
}

/// What things cost, in one currency.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// One hour of one CPU core.
    pub core_hour: f64,
    /// One GiB on disk for a month.
    pub gib_month: f64,
    /// Tokens that one core embeds in a second.
    pub tokens_per_core_second: f64,
    /// One hour on a device that trains, where the pipeline's budget has no price.
    pub device_hour: f64,
}

/// Seconds on a device that the newest training of each adapter took.
pub type Trained = BTreeMap<String, u64>;

/// How much an advice matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Level {
    /// Something is missing or does not fit together.
    Warning,
    /// Worth knowing.
    Info,
}

/// One advice.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Advice {
    /// How much it matters.
    pub level: Level,
    /// The field that it is about.
    pub field: String,
    /// What, why, and what to do.
    pub text: String,
}

/// All advice on a pipeline, warnings first.
pub fn advise(
    pipeline: &Pipeline,
    corpus: Option<&Corpus>,
    trained: &Trained,
    prices: &Prices,
) -> Vec<Advice> {
    let mut all = Vec::new();
    judging(pipeline, &mut all);
    behavior::guarding(pipeline, &mut all);
    behavior::showing(pipeline, &mut all);
    cadence(pipeline, &mut all);
    placement(pipeline, &mut all);
    if let Some(corpus) = corpus {
        all.push(costs::index(pipeline, corpus, prices));
    }
    costs::training(pipeline, corpus, trained, prices, &mut all);
    all.sort_by_key(|a| a.level);
    all
}

fn add(all: &mut Vec<Advice>, level: Level, field: impl Into<String>, text: impl Into<String>) {
    all.push(Advice {
        level,
        field: field.into(),
        text: text.into(),
    });
}

fn judging(pipeline: &Pipeline, all: &mut Vec<Advice>) {
    let gates = pipeline.gates.iter();
    let mut indexed = gates.filter(|g| g.metric.kind() == Kind::Retrieval);
    if indexed.clone().next().is_none() {
        let text = "nothing judges a new index before it is served: add a retrieval suite of 50 questions or more and a gate on it";
        add(all, Level::Warning, "spec.gates", text);
    } else if indexed.all(|g| g.max_regression.is_none()) {
        let text = "floors alone let quality sink to the floor unseen: add maxRegression to a gate";
        add(all, Level::Info, "spec.gates", text);
    }
    for (i, suite) in pipeline.suites.iter().enumerate() {
        if !pipeline.gates.iter().any(|g| g.suite == suite.name) {
            let text = "no gate uses this suite: add one, or remove the suite";
            add(all, Level::Warning, format!("spec.suites[{i}]"), text);
        }
    }
}

fn cadence(pipeline: &Pipeline, all: &mut Vec<Advice>) {
    if let Some(interval) = pipeline
        .schedule
        .interval()
        .filter(|i| *i > pipeline.freshness)
    {
        let text = format!(
            "sources are looked at every {}, so this freshness cannot be kept: shorten the interval, or promise less",
            written(interval)
        );
        add(all, Level::Warning, "spec.index.freshness", text);
    }
    let often = pipeline
        .schedule
        .interval()
        .is_some_and(|i| i < Duration::from_secs(60));
    for (i, source) in pipeline.sources.iter().enumerate() {
        if often
            && matches!(
                source.location,
                Location::Http { .. } | Location::Git { .. } | Location::Bucket(_)
            )
        {
            let text = "a server of someone else is asked more than once a minute: 1m or more is kinder, and most sites block less";
            add(all, Level::Info, format!("spec.sources[{i}]"), text);
        }
    }
    match pipeline.latency_budget {
        None => add(
            all,
            Level::Info,
            "spec.serving.latencyBudget",
            "without a budget, slow queries are not counted: give the agent's own, for example 60ms",
        ),
        Some(budget) if budget < TIGHT_BUDGET => {
            add(
                all,
                Level::Warning,
                "spec.serving.latencyBudget",
                "this leaves no room for embedding a query on a CPU: give 10ms or more",
            );
        }
        Some(_) => {}
    }
}

/// As a manifest has it: in the largest unit that it is a whole number of.
fn written(duration: Duration) -> String {
    let whole = |unit: u64| {
        let count = duration.as_secs() / unit;
        (duration == Duration::from_secs(count * unit)).then_some(count)
    };
    match (whole(3600), whole(60)) {
        (Some(hours), _) => format!("{hours}h"),
        (None, Some(minutes)) => format!("{minutes}m"),
        (None, None) => format!("{}s", duration.as_secs_f64()),
    }
}

fn placement(pipeline: &Pipeline, all: &mut Vec<Advice>) {
    let period = pipeline.schedule.period();
    for (i, source) in pipeline.sources.iter().enumerate() {
        let name = source.name.to_lowercase();
        let indexed = source.memory != MemoryClass::Procedural;
        if indexed && PROCEDURAL.iter().any(|p| name.contains(p)) {
            let text = "sounds like procedures. Indexed, they are looked up and cited, which is right where they change; behaviour that must hold without a look-up belongs in an adapter";
            add(
                all,
                Level::Warning,
                format!("spec.sources[{i}].memory"),
                text,
            );
        }
        if source.memory == MemoryClass::Episodic && period > RARELY {
            let text = format!(
                "what happened is asked for while it is new, and it is looked at every {}: shorten the interval, or call it factual",
                written(period)
            );
            add(
                all,
                Level::Warning,
                format!("spec.sources[{i}].memory"),
                text,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pipeline(more: serde_json::Value) -> Pipeline {
        let mut spec = json!({
            "embedder": {"model": "file:///m"},
            "sources": [{"name": "runbooks", "memory": "factual", "http": {"urls": ["https://example.com/"]}}],
        });
        spec.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        let resource = json!({"apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "p"}, "spec": spec});
        Pipeline::from_resource(&serde_json::from_value(resource).unwrap()).unwrap()
    }

    const PRICES: Prices = Prices {
        core_hour: 0.04,
        gib_month: 0.1,
        tokens_per_core_second: 1000.0,
        device_hour: 1.0,
    };

    #[test]
    fn what_is_missing_comes_first_and_names_its_field() {
        let pipeline = pipeline(
            json!({"index": {"refresh": {"interval": "30s"}, "freshness": "10s"}, "serving": {"latencyBudget": "1ms"}}),
        );
        let all = advise(&pipeline, None, &Trained::new(), &PRICES);
        let fields: Vec<&str> = all
            .iter()
            .filter(|a| a.level == Level::Warning)
            .map(|a| a.field.as_str())
            .collect();
        assert_eq!(
            fields,
            [
                "spec.gates",
                "spec.index.freshness",
                "spec.serving.latencyBudget",
                "spec.sources[0].memory"
            ]
        );
        assert!(
            all.iter()
                .any(|a| a.field == "spec.sources[0].memory" && a.text.contains("adapter"))
        );
        assert!(all.is_sorted_by_key(|a| a.level));
    }

    #[test]
    fn gates_on_behaviour_judge_no_index() {
        let runbooks = json!({"name": "r", "memory": "procedural", "configMap": {"name": "r"}});
        let notices = json!({"name": "n", "memory": "factual", "configMap": {"name": "n"}});
        let adapted = pipeline(json!({
            "sources": [notices, runbooks],
            "adapters": [{"name": "a", "base": "hf://org/base@main", "sources": ["r"]}],
            "suites": [{"name": "sums", "behavior": {"builtin": "arithmetic"}}],
            "gates": [{"suite": "sums", "metric": "accuracy", "maxRegression": "0.03"}],
        }));
        let all = advise(&adapted, None, &Trained::new(), &PRICES);
        let gates: Vec<_> = all.iter().filter(|a| a.field == "spec.gates").collect();
        assert_eq!(gates.len(), 1, "{gates:?}");
        assert!(gates[0].text.contains("nothing judges a new index"));
    }

    #[test]
    fn episodes_are_to_be_looked_at_while_they_are_new() {
        let warned = |memory: &str, refresh: serde_json::Value| {
            let source = json!({"name": "tickets", "memory": memory, "configMap": {"name": "t"}});
            let pipeline = pipeline(json!({"sources": [source], "index": {"refresh": refresh}}));
            let all = advise(&pipeline, None, &Trained::new(), &PRICES);
            let found = all.iter().find(|a| a.field == "spec.sources[0].memory");
            found.map(|a| a.text.clone())
        };
        let weekly = json!({"cron": "0 3 * * 0"});
        let text = warned("episodic", weekly.clone()).unwrap();
        assert!(text.contains("every 168h"), "{text}");
        assert_eq!(warned("factual", weekly), None);
        assert_eq!(warned("episodic", json!({"interval": "24h"})), None);
        let text = warned("episodic", json!({"interval": "1441m"})).unwrap();
        assert!(text.contains("every 1441m"), "{text}");
    }

    #[test]
    fn costs_follow_the_stated_formula() {
        let corpus = Corpus {
            documents: 10,
            passages: 36_000,
            tokens_per_passage: 100.0,
            bytes: Some(1 << 30),
        };
        let all = advise(
            &pipeline(json!({})),
            Some(&corpus),
            &Trained::new(),
            &PRICES,
        );
        let cost = all.iter().find(|a| a.field == "spec.index").unwrap();
        assert!(
            cost.text.contains("costs 0.0400") && cost.text.contains("disk 0.1000"),
            "{}",
            cost.text
        );
        assert!(cost.text.contains("4320 looks"), "{}", cost.text);
    }
}
