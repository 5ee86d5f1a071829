//! Evaluation suites and the gates that judge by them.

use std::collections::BTreeMap;

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::behavior::BehaviorSuite;
use crate::values::Fraction;

/// A named set of questions with known answers: exactly one of retrieval, behavior.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.retrieval) != has(self.behavior)").message("give exactly one of retrieval, behavior"))]
pub struct SuiteSpec {
    /// The suite's name, unique in the pipeline.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "faq"))]
    pub name: String,
    /// Questions with the documents or spans that answer them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retrieval: Option<RetrievalSuite>,
    /// Prompts with the behaviour that is expected. An adapter is asked before it is served, and the base model beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behavior: Option<BehaviorSuite>,
}

impl SuiteSpec {
    /// Where its lines are, with the field that says so: one, in a suite that is accepted, or none.
    pub fn data(&self) -> impl Iterator<Item = (&'static str, &SuiteData)> {
        let retrieval = self.retrieval.as_ref().map(|r| &r.data);
        let behavior = self.behavior.as_ref().and_then(|b| b.data.as_ref());
        let fields = [("retrieval.data", retrieval), ("behavior.data", behavior)];
        fields
            .into_iter()
            .filter_map(|(field, data)| Some((field, data?)))
    }
}

/// A retrieval suite: JSONL lines `{"id"?, "question", "expected": [{"source"?, "document", "span"?}], "filters"?}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RetrievalSuite {
    /// Where the lines are.
    pub data: SuiteData,
}

/// Exactly one of configMap, file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.git) && !has(self.bucket)").message("suite data from git and bucket is not built yet: use configMap or file"),
    validation = Rule::new("has(self.git) || has(self.bucket) || has(self.configMap) != has(self.file)").message("give exactly one of configMap, file"),
)]
pub struct SuiteData {
    /// One key of a ConfigMap of the pipeline's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapKey>,
    /// A file of this machine; a relative path starts at the manifest's own directory. For `loci up` only: a cluster refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 4096))]
    pub file: Option<String>,
    /// A file of a Git repository. Not built yet, and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub git: Option<BTreeMap<String, serde_json::Value>>,
    /// An object of a bucket. Not built yet, and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::schema::any_object")]
    pub bucket: Option<BTreeMap<String, serde_json::Value>>,
}

/// One key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapKey {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// What a candidate must hold on one metric of one suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.minGain) || has(self.floor) || has(self.maxRegression)").message("give floor, maxRegression or minGain"))]
pub struct GateSpec {
    /// A suite of this pipeline.
    #[schemars(length(min = 1, max = 63))]
    pub suite: String,
    /// A metric of a retrieval suite (recallAtK, ndcgAtK or citationHitAtK with K from 1 to 100, or mrr) or of a behavior suite (exactMatch, regexMatch, schemaValid, accuracy, likelihood or perplexity).
    #[schemars(length(max = 32), regex(pattern = r"^((recallAt|ndcgAt|citationHitAt)([1-9][0-9]?|100)|mrr|exactMatch|regexMatch|schemaValid|accuracy|likelihood|perplexity)$"), extend("example" = "recallAt5"))]
    pub metric: String,
    /// The least mean that the candidate must reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub floor: Option<Fraction>,
    /// The most that the mean may fall against the serving release and the anchor (one-sided 95 % bound).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_regression: Option<Fraction>,
    /// The least gain of the mean over the base model without adapter (one-sided 95 % bound). For gates on behavior suites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_gain: Option<Fraction>,
}
