//! Suites that ask for behaviour: what a model says, not what an index finds.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::suite::SuiteData;

/// A behaviour suite: JSONL lines `{"id"?, "prompt", "system"?}` (or `"messages"`) with one of `"expected"`, `"pattern"`, `"schema"`, `"choices"`
/// and `"answer"`, `"reference"`; or lines `{"id"?, "text"}`. Exactly one of data, builtin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.data) != has(self.builtin)").message("give exactly one of data, builtin"))]
pub struct BehaviorSuite {
    /// Where the lines are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<SuiteData>,
    /// A suite that comes with Loci.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtin: Option<BuiltinSuite>,
    /// The adapters whose training it judges, by name; all of them when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 63)))]
    pub adapters: Vec<String>,
    /// What the model is given beside the prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<PromptContext>,
}

/// A suite that comes with Loci, to see what a fine-tuned model forgot. Its metric is accuracy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum BuiltinSuite {
    /// Facts, plain language, and instructions that are easy to follow.
    Ability,
    /// Sums, differences and products of one and two digits.
    Arithmetic,
}

/// What a model is given beside the prompt; none when absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PromptContext {
    /// Nothing.
    None,
    /// What the index finds for it, as in serving.
    Retrieved,
}
