//! What an index costs in a month, beside what training costs.

use std::time::Duration;

use super::{Advice, Corpus, GIB, Level, MONTH, Prices, Trained, add};
use crate::spec::{Adapter, Pipeline};

/// What an index costs.
struct Index {
    tokens: f64,
    build: f64,
    /// Looks at its sources in a month.
    looks: Option<f64>,
    disk: Option<f64>,
}

impl Index {
    fn of(pipeline: &Pipeline, corpus: &Corpus, prices: &Prices) -> Self {
        let tokens = corpus.passages as f64 * corpus.tokens_per_passage;
        let bytes = corpus.bytes.map(|b| b as f64);
        Self {
            tokens,
            build: tokens / prices.tokens_per_core_second / 3600.0 * prices.core_hour,
            looks: pipeline.schedule.interval().map(times),
            disk: bytes.map(|b| b / GIB * prices.gib_month),
        }
    }

    /// What a month costs in which a hundredth is new at each look.
    fn churn(&self, looks: f64) -> f64 {
        self.build * looks / 100.0
    }
}

/// How often something comes in a month that comes each `period`.
fn times(period: Duration) -> f64 {
    MONTH.as_secs_f64() / period.as_secs_f64().max(1.0)
}

/// What the index costs.
pub(super) fn index(pipeline: &Pipeline, corpus: &Corpus, prices: &Prices) -> Advice {
    let index = Index::of(pipeline, corpus, prices);
    let disk = index.disk;
    let disk = disk.map(|d| format!("; keeping it on disk {d:.4} a month"));
    let churn = index.looks.map(|looks| {
        let cost = index.churn(looks);
        format!("; were 1 % new at each of {looks:.0} looks a month, {cost:.2}")
    });
    let text = format!(
        "{} documents, {} passages, about {:.0} tokens: a full build costs {:.4}{}{}. What changes stays cheap in an index; a fine-tune would be paid again with every change",
        corpus.documents,
        corpus.passages,
        index.tokens,
        index.build,
        churn.unwrap_or_default(),
        disk.unwrap_or_default()
    );
    Advice {
        level: Level::Info,
        field: "spec.index".to_owned(),
        text,
    }
}

/// What training each adapter costs, beside the index.
pub(super) fn training(
    pipeline: &Pipeline,
    corpus: Option<&Corpus>,
    trained: &Trained,
    prices: &Prices,
    all: &mut Vec<Advice>,
) {
    if pipeline.adapters.is_empty() {
        return;
    }
    if pipeline.budget.is_none() {
        let text = "nothing limits what training may cost: give perRun and perMonth, with the price of an hour on a device";
        add(all, Level::Info, "spec.budget", text);
    }
    let budget = pipeline.budget.as_ref();
    let declared = budget.and_then(|b| b.price(&pipeline.class));
    let hour = declared.map_or(prices.device_hour, |price| price.to_f64());
    let index = corpus.map(|c| Index::of(pipeline, c, prices));
    let period = pipeline.schedule.period();
    let index = index.map(|i| i.churn(times(period)) + i.disk.unwrap_or_default());
    let mut month = 0.0;
    for (i, adapter) in pipeline.adapters.iter().enumerate() {
        let each = trained.get(&adapter.name);
        let each = each.map(|seconds| (*seconds, *seconds as f64 / 3600.0 * hour));
        let often = adapter.schedule.as_ref().map(|s| times(s.period()));
        month += each
            .zip(often)
            .map_or(0.0, |((_, cost), often)| cost * often);
        let text = said(adapter, each, often, (hour, index));
        add(all, Level::Info, format!("spec.adapters[{i}]"), text);
    }
    let limit = budget.and_then(|b| b.per_month).map(|l| l.to_f64());
    if let Some(limit) = limit.filter(|limit| month > *limit) {
        let text = format!(
            "the schedules ask for trainings of about {month:.2} a month, more than {limit:.2}: some will wait for the next month; train less often, or raise it"
        );
        add(all, Level::Warning, "spec.budget.perMonth", text);
    }
}

/// What one adapter costs, where a training has told how long it takes.
fn said(
    adapter: &Adapter,
    each: Option<(u64, f64)>,
    often: Option<f64>,
    (hour, index): (f64, Option<f64>),
) -> String {
    let Some((seconds, cost)) = each else {
        return format!(
            "a training costs {hour:.2} for each hour on a device; none has told yet how many it takes"
        );
    };
    let month = match (often, adapter.trigger) {
        (Some(often), _) => format!(", and {:.2} a month by its schedule", cost * often),
        (None, Some(new)) => format!(", each time that {new} examples are new"),
        (None, None) => ", each time that somebody asks".to_owned(),
    };
    let beside = index.map(|index| {
        let paid = cost * often.unwrap_or(1.0);
        let ratio = paid / index;
        let times = (ratio.is_finite() && ratio >= 1.5).then(|| format!(", {ratio:.0} times less"));
        format!(
            "; the index costs {index:.2} a month, were 1 % new at each look{}",
            times.unwrap_or_default()
        )
    });
    format!(
        "a training took {seconds} s on a device, which costs {cost:.4}{month}{}. Train what must be done the same way each time, and look up what changes",
        beside.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::advise;
    use super::*;

    const PRICES: Prices = Prices {
        core_hour: 0.04,
        gib_month: 0.1,
        tokens_per_core_second: 1000.0,
        device_hour: 3.0,
    };

    fn pipeline(more: Value) -> Pipeline {
        let adapter = json!({
            "name": "escalation", "base": "hf://org/base@main", "sources": ["runbooks"],
            "schedule": {"cron": "0 3 * * *"},
        });
        let mut spec = json!({
            "embedder": {"model": "file:///m"},
            "sources": [
                {"name": "notices", "memory": "factual", "configMap": {"name": "n"}},
                {"name": "runbooks", "memory": "procedural", "configMap": {"name": "r"}},
            ],
            "index": {"refresh": {"interval": "72h"}},
            "adapters": [adapter],
            "suites": [{"name": "sums", "behavior": {"builtin": "arithmetic"}}],
            "gates": [{"suite": "sums", "metric": "accuracy", "maxRegression": "0.03"}],
        });
        let all = spec.as_object_mut().unwrap();
        all.extend(more.as_object().unwrap().clone());
        let resource = json!({"apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "p"}, "spec": spec});
        Pipeline::from_resource(&serde_json::from_value(resource).unwrap()).unwrap()
    }

    fn of(pipeline: &Pipeline, seconds: Option<u64>) -> Vec<Advice> {
        let corpus = Corpus {
            documents: 10,
            passages: 36_000,
            tokens_per_passage: 100.0,
            bytes: Some(1 << 30),
        };
        let trained = seconds.map(|s| ("escalation".to_owned(), s));
        advise(
            pipeline,
            Some(&corpus),
            &trained.into_iter().collect(),
            &PRICES,
        )
    }

    fn text<'a>(all: &'a [Advice], field: &str) -> Option<&'a str> {
        all.iter().find(|a| a.field == field).map(|a| &*a.text)
    }

    #[test]
    fn a_month_of_training_is_told_beside_that_of_the_index() {
        // An hour costs 3, and there are 30 trainings in 30 days; of 10 looks each finds 0.0004 new, and a GiB is 0.1.
        let all = of(&pipeline(json!({})), Some(3600));
        let told = text(&all, "spec.adapters[0]").unwrap();
        for part in [
            "took 3600 s",
            "costs 3.0000, and 90.00 a month",
            "the index costs 0.10 a month",
            "865 times less",
        ] {
            assert!(told.contains(part), "\"{part}\" is not in: {told}");
        }
        assert!(text(&all, "spec.budget").unwrap().contains("perMonth"));
        let all = of(&pipeline(json!({})), None);
        let told = text(&all, "spec.adapters[0]").unwrap();
        assert!(told.contains("3.00 for each hour"), "{told}");
    }

    #[test]
    fn a_budget_has_its_own_price_and_is_measured_by_what_is_asked_of_it() {
        let budget = |month: &str| json!({"budget": {"currency": "USD", "perMonth": month, "prices": [{"class": "cpu", "deviceHour": "1"}]}});
        let all = of(&pipeline(budget("29")), Some(3600));
        let told = text(&all, "spec.adapters[0]").unwrap();
        assert!(told.contains("30.00 a month"), "{told}");
        let warned = |a: &Advice| a.field == "spec.budget.perMonth" && a.level == Level::Warning;
        assert!(all.iter().any(warned), "{all:?}");
        assert_eq!(text(&all, "spec.budget"), None);
        let all = of(&pipeline(budget("31")), Some(3600));
        assert_eq!(text(&all, "spec.budget.perMonth"), None);
    }
}
