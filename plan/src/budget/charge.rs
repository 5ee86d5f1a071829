//! What a run's training has cost so far, by what workers tell.

use loci_crds::budget::RunCost;
use loci_crds::run::StepName;
use loci_crds::values::Money;
use loci_crds::{MemoryRun, MemoryRunStatus};

use super::{Amount, signed};
use crate::view::{RunView, View};
use crate::world::StepResult;

/// Counts what the training of a run has used, as far as anybody told.
pub(crate) fn charge(view: &View<'_>, run: &MemoryRun, status: &mut MemoryRunStatus) {
    let Some(cost) = &mut status.cost else { return };
    let told = view.world.reported.get(run.name());
    let told = told.filter(|r| r.key.step == StepName::Train);
    let told = told.and_then(|r| r.device_seconds);
    let made = match view.made(run, StepName::Train) {
        Some(StepResult::Train(trained)) => Some(trained.device_seconds),
        _ => None,
    };
    count(cost, told.max(made).unwrap_or(0));
}

/// Counts what a training has used that was stopped at its limit.
pub(crate) fn used_up(status: &mut MemoryRunStatus) {
    if let Some(cost) = &mut status.cost {
        let limit = cost.max_device_seconds.unwrap_or(0);
        count(cost, limit.unsigned_abs());
    }
}

/// All attempts of a run together have used so many seconds at least: what is told of them never gets less.
fn count(cost: &mut RunCost, seconds: u64) {
    cost.device_seconds = cost.device_seconds.max(signed(seconds));
    let seconds = cost.device_seconds.unsigned_abs();
    if let Some(money) = &mut cost.money {
        money.amount = said(&money.device_hour).of_seconds(seconds).money();
    }
}

/// `it has cost 5.00 of the 5.00 USD that it may`.
pub(crate) fn sentence(status: &MemoryRunStatus) -> Option<String> {
    let money = status.cost.as_ref()?.money.as_ref()?;
    let (amount, currency) = (&money.amount, &money.currency);
    Some(match &money.limit {
        Some(limit) => format!("it has cost {amount} of the {limit} {currency} that it may"),
        None => format!("it has cost {amount} {currency}"),
    })
}

/// The amount that a status says. What is none was not written by a plan.
pub(super) fn said(money: &Money) -> Amount {
    Amount::of(money).unwrap_or_default()
}
