//! Budgets as typed values.

use std::collections::BTreeMap;

use loci_crds::MemoryPipelineSpec;
use loci_crds::values::Money;
use serde::Serialize;

use super::fields::Fields;
use crate::budget::Amount;

/// What training may cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Budget {
    /// The currency of all amounts.
    pub currency: String,
    /// What one run may cost.
    pub per_run: Option<Amount>,
    /// What the trainings of a month may cost together.
    pub per_month: Option<Amount>,
    /// What an hour on a device costs, by class.
    pub prices: BTreeMap<String, Amount>,
}

impl Budget {
    /// What an hour on a device of a class costs.
    pub fn price(&self, class: &str) -> Option<Amount> {
        self.prices.get(class).copied()
    }

    /// The most that any run may cost, and the field that says so.
    pub(crate) fn cap(&self) -> Option<(Amount, &'static str)> {
        let per_run = self.per_run.map(|a| (a, "budget.perRun"));
        let per_month = self.per_month.map(|a| (a, "budget.perMonth"));
        let both = per_run.into_iter().chain(per_month);
        both.min_by_key(|(amount, _)| *amount)
    }

    /// What must be left for a run to begin: what it is estimated to cost, as far as it is let go on; without an estimate
    /// all that it may cost.
    pub(crate) fn need(&self, estimate: Option<Amount>) -> Amount {
        let cap = self.cap().map(|(amount, _)| amount);
        let need = match estimate {
            Some(estimate) => cap.map_or(estimate, |cap| cap.min(estimate)),
            None => cap.filter(|_| self.per_run.is_some()).unwrap_or_default(),
        };
        need.max(Amount::LEAST)
    }
}

impl Fields {
    pub(super) fn budget(&mut self, spec: &MemoryPipelineSpec, class: &str) -> Option<Budget> {
        let budget = spec.budget.as_ref()?;
        if spec.adapters.is_empty() {
            let reason = "a budget is for training adapters, and the pipeline has none: declare one in spec.adapters, or remove the field";
            self.error("spec.budget", reason);
        }
        let currency = &budget.currency;
        if currency.len() != 3 || !currency.bytes().all(|b| b.is_ascii_uppercase()) {
            let reason = format!("\"{currency}\" is no currency: write it as USD");
            self.error("spec.budget.currency", reason);
        }
        let classes = budget.prices.iter().map(|p| p.class.as_str());
        self.unique("spec.budget.prices", classes);
        let mut prices = BTreeMap::new();
        for (i, price) in budget.prices.iter().enumerate() {
            let field = format!("spec.budget.prices[{i}].deviceHour");
            let amount = self.amount(&field, Some(&price.device_hour));
            prices.insert(price.class.clone(), amount.unwrap_or_default());
        }
        if !prices.contains_key(class) {
            let reason = format!(
                "there is no price for {class}, the class of the workers that train: add one"
            );
            self.error("spec.budget.prices", reason);
        }
        Some(Budget {
            currency: currency.clone(),
            per_run: self.amount("spec.budget.perRun", budget.per_run.as_ref()),
            per_month: self.amount("spec.budget.perMonth", budget.per_month.as_ref()),
            prices,
        })
    }

    fn amount(&mut self, field: &str, money: Option<&Money>) -> Option<Amount> {
        self.take(field, Amount::of(money?))
    }
}
