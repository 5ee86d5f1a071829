//! What training costs, in words.

use loci_crds::MemoryRun;
use loci_crds::budget::{BudgetSpec, MonthCost};

use crate::output::count;

/// What the training of a run cost, or has cost so far: `1.02 USD`.
pub fn in_short(run: &MemoryRun) -> Option<String> {
    let money = run.status.as_ref()?.cost.as_ref()?.money.as_ref()?;
    Some(format!("{} {}", money.amount, money.currency))
}

/// The same with all that is known of it:
/// `cost 1.02 USD of 5.00, estimated 0.90; 1,468 s on a device of class cpu, estimated 1,296 s`.
pub fn of_run(run: &MemoryRun) -> Option<String> {
    let cost = run.status.as_ref()?.cost.as_ref()?;
    let seconds = |n: i64| format!("{} s", count(n.unsigned_abs()));
    let mut parts = Vec::new();
    if let (Some(short), Some(money)) = (in_short(run), &cost.money) {
        let limit = money.limit.as_ref().map(|m| format!(" of {m}"));
        let estimate = money.estimate.as_ref().map(|m| format!(", estimated {m}"));
        let known = [limit, estimate].map(Option::unwrap_or_default);
        parts.push(format!("cost {short}{}", known.concat()));
    }
    let estimate = cost.estimated_seconds.map(seconds);
    let estimate = estimate.map(|s| format!(", estimated {s}"));
    parts.push(format!(
        "{} on a device of class {}{}",
        seconds(cost.device_seconds),
        cost.class,
        estimate.unwrap_or_default()
    ));
    Some(parts.join("; "))
}

/// What the trainings of a month cost: `2026-11: 12.40 USD of 300.00 for training, at most 50.00 a run`.
pub fn of_month(cost: &MonthCost, budget: Option<&BudgetSpec>) -> String {
    let limit = budget.and_then(|b| b.per_month.as_ref());
    let limit = limit.map(|m| format!(" of {m}")).unwrap_or_default();
    let each = budget.and_then(|b| b.per_run.as_ref());
    let each = each.map(|m| format!(", at most {m} a run"));
    format!(
        "{}: {} {}{limit} for training{}",
        cost.month,
        cost.spent,
        cost.currency,
        each.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn run(cost: Value) -> MemoryRun {
        let spec = json!({"pipelineRef": {"name": "shop"}, "kind": "FineTune", "adapter": "tone", "trigger": "Schedule"});
        let run = json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryRun", "metadata": {"name": "shop-tone-1"},
            "spec": spec, "status": {"phase": "Running", "cost": cost},
        });
        serde_json::from_value(run).unwrap()
    }

    #[test]
    fn a_run_says_what_it_cost_and_what_was_expected() {
        let mut cost =
            json!({"month": "2026-11", "class": "gpu", "reads": 540, "deviceSeconds": 1468});
        let bare = run(cost.clone());
        assert_eq!(in_short(&bare), None);
        assert_eq!(of_run(&bare).unwrap(), "1,468 s on a device of class gpu");
        cost["estimatedSeconds"] = json!(1296);
        cost["money"] = json!({
            "currency": "USD", "deviceHour": "2.50", "amount": "1.02", "estimate": "0.90", "limit": "5.00",
        });
        let paid = run(cost);
        assert_eq!(in_short(&paid).unwrap(), "1.02 USD");
        assert_eq!(
            of_run(&paid).unwrap(),
            "cost 1.02 USD of 5.00, estimated 0.90; 1,468 s on a device of class gpu, estimated 1,296 s"
        );
        let none: MemoryRun = run(Value::Null);
        assert_eq!((of_run(&none), in_short(&none)), (None, None));
    }

    #[test]
    fn a_month_says_what_is_spent_of_what() {
        let cost =
            json!({"month": "2026-11", "currency": "USD", "spent": "12.40", "earlier": "0.00"});
        let cost: MonthCost = serde_json::from_value(cost).unwrap();
        assert_eq!(of_month(&cost, None), "2026-11: 12.40 USD for training");
        let budget = json!({
            "currency": "USD", "perRun": "50", "perMonth": "300", "prices": [{"class": "gpu", "deviceHour": "2.50"}],
        });
        let budget: BudgetSpec = serde_json::from_value(budget).unwrap();
        assert_eq!(
            of_month(&cost, Some(&budget)),
            "2026-11: 12.40 USD of 300 for training, at most 50 a run"
        );
    }
}
