//! Budgets: what training may cost, and what it has cost.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::values::Money;

/// What training adapters may cost. The index is not counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BudgetSpec {
    /// The currency of all its amounts, by ISO 4217. When it changes, the month's sum begins anew.
    #[schemars(length(min = 3, max = 3), regex(pattern = r"^[A-Z]{3}$"), extend("example" = "USD"))]
    pub currency: String,
    /// What one run may cost: a training that has cost so much is stopped before its next step, and its run fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_run: Option<Money>,
    /// What all trainings that begin in a month, in UTC, may cost together. A run that would cost more than is left waits for the next month.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_month: Option<Money>,
    /// What an hour on a device costs, by the class of workers; that of the pipeline's own class is needed.
    #[schemars(length(min = 1, max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["class".into()]))]
    pub prices: Vec<PriceSpec>,
}

/// The price of a class of workers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriceSpec {
    /// The class, as in `workers.class`.
    #[schemars(length(min = 1, max = 40), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "gpu-l4"))]
    pub class: String,
    /// What an hour on one of its devices costs.
    pub device_hour: Money,
}

/// What the training of a run takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunCost {
    /// The month that it is charged to, in UTC: that in which it was let go.
    pub month: String,
    /// The class of workers that trains.
    pub class: String,
    /// Examples that it reads, each as often as it is read.
    pub reads: i64,
    /// Seconds on the device that it has used, in all attempts together; of one at work, as it last told.
    pub device_seconds: i64,
    /// Seconds on the device that it was estimated to use before it began; absent when no training tells how long an example takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_seconds: Option<i64>,
    /// Seconds on the device after which it is stopped; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_device_seconds: Option<i64>,
    /// The same in money; absent when the pipeline had no budget.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money: Option<RunMoney>,
}

/// What the training of a run costs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunMoney {
    /// The currency.
    pub currency: String,
    /// What an hour on the device costs.
    pub device_hour: Money,
    /// What it has cost.
    pub amount: Money,
    /// What it was estimated to cost before it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Money>,
    /// What it may cost: perRun, or what was left of perMonth when it was let go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Money>,
    /// The digest of the budget that it goes by; absent since that was removed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<String>,
}

/// What trainings have cost that began in a month.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct MonthCost {
    /// The month, in UTC: `2026-11`.
    pub month: String,
    /// The currency.
    pub currency: String,
    /// What all of them have cost; one at work counts as far as it had come when it last began or stopped.
    pub spent: Money,
    /// The part of it that runs have cost that are not kept any more.
    pub earlier: Money,
    /// The part of it that each run has cost that is still there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub runs: Vec<ChargedRun>,
}

/// What a run has cost.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChargedRun {
    /// The run.
    pub name: String,
    /// What it has cost.
    pub amount: Money,
}

/// How long an example takes, as the newest training told: estimates go by it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Pace {
    /// The class of workers that trained.
    pub class: String,
    /// The base that was trained.
    pub base: String,
    /// Microseconds on the device for reading an example once.
    pub example_microseconds: i64,
}
