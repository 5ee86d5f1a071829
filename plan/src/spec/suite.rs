//! Suites and gates as typed values.

use loci_crds::adapter::AdapterSpec;
use loci_crds::behavior::{BehaviorSuite, BuiltinSuite, PromptContext};
use loci_crds::suite::{GateSpec, SuiteData as DataSpec, SuiteSpec};
use serde::Serialize;

use super::fields::Fields;
use crate::metrics::{Kind, Metric};

/// A suite of questions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Suite {
    /// Its name.
    pub name: String,
    /// Where its lines are.
    pub data: SuiteData,
    /// What it asks for.
    #[serde(skip_serializing_if = "Kind::is_retrieval")]
    pub kind: Kind,
    /// The adapters that a suite of behaviour judges, by name; all of them when empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub adapters: Vec<String>,
    /// Whether who is asked sees what the index finds, as in serving. Of suites of behaviour.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub retrieved: bool,
}

/// Where a suite's lines are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum SuiteData {
    /// A key of a ConfigMap of the pipeline's namespace.
    ConfigMap {
        /// The ConfigMap.
        name: String,
        /// The key.
        key: String,
    },
    /// A file of this machine.
    File(String),
    /// They come with Loci.
    Builtin(BuiltinSuite),
}

/// What a candidate must hold on one metric of one suite. At least one of the three is there.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gate {
    /// The suite.
    pub suite: String,
    /// The metric.
    pub metric: Metric,
    /// The least mean.
    pub floor: Option<f64>,
    /// The most that the mean may fall.
    pub max_regression: Option<f64>,
    /// The least that the mean must be above that of the base model without adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gain: Option<f64>,
}

impl Suite {
    /// Whether it judges an adapter.
    pub fn judges(&self, adapter: &str) -> bool {
        let named = || self.adapters.iter().any(|name| name == adapter);
        self.kind == Kind::Behavior && (self.adapters.is_empty() || named())
    }

    /// The field that says where its lines are, when it is the suite at `index` of the spec.
    pub fn field(&self, index: usize) -> String {
        let kind = match self.kind {
            Kind::Retrieval => "retrieval",
            Kind::Behavior => "behavior",
        };
        let data = match &self.data {
            SuiteData::ConfigMap { .. } => "data.configMap",
            SuiteData::File(_) => "data.file",
            SuiteData::Builtin(_) => "builtin",
        };
        format!("spec.suites[{index}].{kind}.{data}")
    }
}

impl Fields {
    pub(super) fn suites(&mut self, specs: &[SuiteSpec]) -> Vec<Suite> {
        self.unique("spec.suites", specs.iter().map(|s| s.name.as_str()));
        let suites = specs
            .iter()
            .enumerate()
            .filter_map(|(i, s)| self.suite(i, s));
        suites.collect()
    }

    pub(super) fn suite(&mut self, index: usize, spec: &SuiteSpec) -> Option<Suite> {
        let field = format!("spec.suites[{index}]");
        let (kind, data) = match (&spec.retrieval, &spec.behavior) {
            (Some(retrieval), None) => {
                let field = format!("{field}.retrieval.data");
                (Kind::Retrieval, self.data(field, &retrieval.data)?)
            }
            (None, Some(behavior)) => {
                let field = format!("{field}.behavior");
                (Kind::Behavior, self.behavior(&field, behavior)?)
            }
            _ => {
                self.error(field, "give exactly one of retrieval, behavior");
                return None;
            }
        };
        Some(Suite {
            name: spec.name.clone(),
            data,
            kind,
            adapters: spec
                .behavior
                .iter()
                .flat_map(|b| b.adapters.clone())
                .collect(),
            retrieved: spec
                .behavior
                .as_ref()
                .is_some_and(|b| b.context == Some(PromptContext::Retrieved)),
        })
    }

    /// Behaviour suites without an adapter that they judge.
    pub(super) fn judged(&mut self, specs: &[SuiteSpec], adapters: &[AdapterSpec]) {
        for (i, suite) in specs.iter().enumerate() {
            let Some(behavior) = &suite.behavior else {
                continue;
            };
            let field = format!("spec.suites[{i}].behavior");
            if adapters.is_empty() {
                let reason = "behavior suites judge adapters, and the pipeline has none: declare one in spec.adapters, or use retrieval";
                self.error(field, reason);
                continue;
            }
            let field = format!("{field}.adapters");
            self.unique(&field, behavior.adapters.iter().map(String::as_str));
            for (j, name) in behavior.adapters.iter().enumerate() {
                if adapters.iter().all(|a| a.name != *name) {
                    let reason = format!(
                        "\"{name}\" is not in spec.adapters: add it there, or name one that is"
                    );
                    self.error(format!("{field}[{j}]"), reason);
                }
            }
        }
    }

    fn behavior(&mut self, field: &str, spec: &BehaviorSuite) -> Option<SuiteData> {
        match (&spec.data, spec.builtin) {
            (Some(data), None) => self.data(format!("{field}.data"), data),
            (None, Some(builtin)) => Some(SuiteData::Builtin(builtin)),
            _ => {
                self.error(field, "give exactly one of data, builtin");
                None
            }
        }
    }

    fn data(&mut self, field: String, data: &DataSpec) -> Option<SuiteData> {
        if data.git.is_some() || data.bucket.is_some() {
            self.error(
                field.clone(),
                "suite data from git and bucket is not built yet: use configMap or file",
            );
        }
        match (&data.config_map, &data.file) {
            (Some(key), None) => Some(SuiteData::ConfigMap {
                name: key.name.clone(),
                key: key.key.clone(),
            }),
            (None, Some(file)) => Some(SuiteData::File(file.clone())),
            _ => {
                self.error(field, "give exactly one of configMap, file");
                None
            }
        }
    }

    pub(super) fn gates(&mut self, specs: &[GateSpec], suites: &[Suite]) -> Vec<Gate> {
        let keys: Vec<String> = specs
            .iter()
            .map(|g| format!("{} {}", g.suite, g.metric))
            .collect();
        self.unique("spec.gates", keys.iter().map(String::as_str));
        let gates = specs
            .iter()
            .enumerate()
            .filter_map(|(i, g)| self.gate(i, g, suites));
        gates.collect()
    }

    pub(super) fn gate(&mut self, index: usize, spec: &GateSpec, suites: &[Suite]) -> Option<Gate> {
        let field = |leaf: &str| format!("spec.gates[{index}].{leaf}");
        let suite = suites.iter().find(|s| s.name == spec.suite);
        if suite.is_none() {
            self.error(
                field("suite"),
                format!(
                    "\"{}\" is not in spec.suites: add it there, or name one that is",
                    spec.suite
                ),
            );
        }
        if spec.floor.is_none() && spec.max_regression.is_none() && spec.min_gain.is_none() {
            self.error(
                format!("spec.gates[{index}]"),
                "give floor, maxRegression or minGain",
            );
        }
        if spec.min_gain.is_some() && suite.is_some_and(|s| s.kind == Kind::Retrieval) {
            let reason = "minGain compares an adapter with its base model: give it to gates on behavior suites";
            self.error(field("minGain"), reason);
        }
        let floor = self.fraction(field("floor"), spec.floor.as_ref());
        let max_regression = self.fraction(field("maxRegression"), spec.max_regression.as_ref());
        let min_gain = self.fraction(field("minGain"), spec.min_gain.as_ref());
        let metric = match spec.metric.parse::<Metric>() {
            Ok(metric) => metric,
            Err(error) => {
                self.error(field("metric"), error.to_string());
                return None;
            }
        };
        if let Some(suite) = suite.filter(|s| s.kind != metric.kind()) {
            let (name, metrics) = (&suite.name, suite.kind.metrics());
            self.error(
                field("metric"),
                format!("{metric} does not judge what suite {name} asks for: use {metrics}"),
            );
        }
        Some(Gate {
            suite: spec.suite.clone(),
            metric,
            floor,
            max_regression,
            min_gain,
        })
    }
}
