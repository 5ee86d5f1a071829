//! What training costs: estimated before it begins, counted while it is at work, and kept within the pipeline's budget.
//!
//! Workers count seconds on a device; money is these seconds at the price of the class that trains. The index is not
//! counted.
//!
//! A training is let go by its run's status, which says what it may cost at most. That is set aside until the run has
//! ended, so that however wrong estimates are, the trainings of a month pass `perMonth` by no more than a step each.

mod amount;
mod charge;
mod month;

use loci_crds::MemoryRun;
use loci_crds::adapter::AdapterStatus;
use loci_crds::budget::{MonthCost, Pace, RunCost, RunMoney};
use loci_crds::run::{RunPhase, RunTrigger, StepName};

use crate::clock::stamp;
use crate::spec::{Adapter, Budget, digest};
use crate::view::{Lane, RunView, View, status_of};
pub use amount::Amount;
pub(crate) use amount::next_month;
pub(crate) use charge::{charge, sentence, used_up};
pub(crate) use month::Ledger;

/// Why a run failed: its training would cost too much, or has.
pub(crate) const EXCEEDED: &str = "BudgetExceeded";
/// Why a run was cancelled when no person did it: another takes its place when the budget has room for it.
pub(crate) const DEFERRED: &str = "BudgetDeferred";

/// By which terms a run's training is let go.
pub(crate) struct Terms {
    pub cost: RunCost,
    /// Why it is not.
    pub refused: Option<Refused>,
}

/// How a run ends that there is no money for.
pub(crate) struct Refused {
    pub phase: RunPhase,
    pub reason: &'static str,
    pub message: String,
}

/// Whether trainings take from the same money: they are let go one after the other.
pub(crate) fn is_shared(view: &View<'_>) -> bool {
    let budget = view.pipeline.budget.as_ref();
    budget.is_some_and(|b| b.per_month.is_some())
}

/// The terms of a training on so many examples.
pub(crate) fn terms(view: &View<'_>, run: &MemoryRun, examples: u64) -> Terms {
    let adapter = run.spec.adapter.as_deref();
    let adapter = adapter.and_then(|name| view.pipeline.adapter(name));
    let reads = adapter.map_or(0, |a| reads(a, examples));
    let seconds = adapter.and_then(|a| estimated(view, a, reads));
    let mut cost = RunCost {
        month: amount::month(view.now),
        class: view.pipeline.class.clone(),
        reads: signed(reads),
        device_seconds: 0,
        estimated_seconds: seconds.map(signed),
        max_device_seconds: None,
        money: None,
    };
    let Some((budget, price)) = priced(view) else {
        let refused = None;
        return Terms { cost, refused };
    };
    let estimate = seconds.map(|s| price.of_seconds(s));
    let left = left(view, budget, Some(run));
    let refused =
        too_much(budget, run, estimate).or_else(|| too_late(view, budget, estimate, left));
    let limit = least(budget.per_run, left).filter(|_| refused.is_none());
    pay(&mut cost, budget, price, limit);
    Terms { cost, refused }
}

/// What would cost more than the budget ever allows is not begun, unless a person asks for it: that is stopped at the limit.
fn too_much(budget: &Budget, run: &MemoryRun, estimate: Option<Amount>) -> Option<Refused> {
    let (estimate, (cap, field)) = (estimate?, budget.cap()?);
    let refuses = run.spec.trigger != RunTrigger::Requested && estimate > cap;
    refuses.then(|| Refused {
        phase: RunPhase::Failed,
        reason: EXCEEDED,
        message: format!(
            "the training would cost about {estimate} {}, more than the {cap} of {field}: raise that, or train on less; who asks for it by hand has it trained up to the limit",
            budget.currency
        ),
    })
}

fn too_late(
    view: &View<'_>,
    budget: &Budget,
    estimate: Option<Amount>,
    left: Option<Amount>,
) -> Option<Refused> {
    let (left, need) = (left?, budget.need(estimate));
    (left < need).then(|| Refused {
        phase: RunPhase::Cancelled,
        reason: DEFERRED,
        message: wait(view, budget, left, need),
    })
}

fn wait(view: &View<'_>, budget: &Budget, left: Amount, need: Amount) -> String {
    format!(
        "budget.perMonth has {left} {} left in {}, and a training may take {need}: it is trained when there is room, from {} on at the latest",
        budget.currency,
        amount::month(view.now),
        stamp(next_month(view.now)).0
    )
}

/// Why an adapter is not trained now, when that is for the month's budget.
pub(crate) fn short(view: &View<'_>, adapter: &Adapter) -> Option<String> {
    missing(view, adapter, None)
}

/// Whether there would be money for the next training of an adapter, if the run at work ended now.
pub(crate) fn affords(view: &View<'_>, adapter: &Adapter, instead: &MemoryRun) -> bool {
    missing(view, adapter, Some(instead)).is_none()
}

fn missing(view: &View<'_>, adapter: &Adapter, instead: Option<&MemoryRun>) -> Option<String> {
    let (budget, price) = priced(view)?;
    let left = left(view, budget, instead)?;
    let left = left.less(instead.map_or(Amount::default(), |run| used(view, run)));
    let mut runs = view.runs_of(Lane::Adapter(&adapter.name)).rev();
    let collected = runs.find_map(|r| r.status.as_ref()?.dataset.as_ref());
    let reads = collected.map(|d| reads(adapter, d.examples.unsigned_abs()));
    let seconds = reads.and_then(|reads| estimated(view, adapter, reads));
    let need = budget.need(seconds.map(|s| price.of_seconds(s)));
    (left < need).then(|| wait(view, budget, left, need))
}

/// What a run at work has used of this month's budget by now.
fn used(view: &View<'_>, run: &MemoryRun) -> Amount {
    let mut status = status_of(run);
    charge(view, run, &mut status);
    let cost = status.cost.filter(|c| c.month == amount::month(view.now));
    let money = cost.and_then(|c| c.money);
    money.map_or(Amount::default(), |m| charge::said(&m.amount))
}

/// The terms of a training that was let go, when the budget has changed since.
pub(crate) fn changed(view: &View<'_>, cost: &RunCost, run: &MemoryRun) -> Option<RunCost> {
    let priced = priced(view);
    let by = cost.money.as_ref().map(|m| m.budget.as_deref());
    let now = priced.map(|(budget, _)| key(budget));
    if by.flatten() == now.as_deref() {
        return None;
    }
    let mut cost = cost.clone();
    match priced {
        Some((budget, price)) => {
            // What is charged to a month that is over takes nothing from this one.
            let of_now = cost.month == amount::month(view.now);
            let left = left(view, budget, Some(run)).filter(|_| of_now);
            pay(&mut cost, budget, price, least(budget.per_run, left));
        }
        None => {
            cost.max_device_seconds = None;
            if let Some(money) = &mut cost.money {
                (money.limit, money.budget) = (None, None);
            }
        }
    }
    Some(cost)
}

/// Whether a training has used all that it may.
pub(crate) fn is_used_up(cost: &RunCost) -> bool {
    let limit = cost.max_device_seconds;
    limit.is_some_and(|limit| cost.device_seconds >= limit)
}

/// How long an example took in the newest training by an adapter's settings of now.
pub(crate) fn pace(view: &View<'_>, adapter: &Adapter) -> Option<Pace> {
    let lane = Lane::Adapter(&adapter.name);
    let inputs = view.inputs(lane);
    let mut runs = view.runs_of(lane).rev();
    runs.find_map(|run| {
        run.output(StepName::Train)?;
        let cost = run.status.as_ref()?.cost.as_ref()?;
        // What was looked up took no time.
        let fits = run.inputs() == inputs.as_deref() && cost.device_seconds > 0 && cost.reads > 0;
        let micros = cost.device_seconds.saturating_mul(1_000_000);
        fits.then(|| Pace {
            class: cost.class.clone(),
            base: adapter.base.clone(),
            example_microseconds: (micros / cost.reads.max(1)).max(1),
        })
    })
}

/// How often a training on so many examples reads one.
fn reads(adapter: &Adapter, examples: u64) -> u64 {
    examples.saturating_mul(adapter.training.epochs.into())
}

/// The seconds that it takes to read so many, by the last training of this class: of the adapter itself, or else of another
/// of the same base.
fn estimated(view: &View<'_>, adapter: &Adapter, reads: u64) -> Option<u64> {
    let all = &view.world.status.adapters;
    let own = all.iter().filter(|s| s.name == adapter.name);
    let others = all.iter().filter(|s| s.name != adapter.name);
    let known = |s: &AdapterStatus| {
        let pace = s.pace.as_ref()?;
        let fits = pace.class == view.pipeline.class && pace.base == adapter.base;
        fits.then(|| pace.example_microseconds.unsigned_abs())
    };
    let micros = own.chain(others).find_map(known)?;
    let seconds = (u128::from(reads) * u128::from(micros)).div_ceil(1_000_000);
    Some(u64::try_from(seconds).unwrap_or(u64::MAX))
}

/// The budget, and what an hour of the pipeline's class costs by it.
fn priced<'a>(view: &View<'a>) -> Option<(&'a Budget, Amount)> {
    let budget = view.pipeline.budget.as_ref()?;
    Some((budget, budget.price(&view.pipeline.class)?))
}

/// What the month's budget has left for a run; none when there is no such limit.
fn left(view: &View<'_>, budget: &Budget, run: Option<&MemoryRun>) -> Option<Amount> {
    let per_month = budget.per_month?;
    let taken = Ledger::of(view).map(|ledger| ledger.taken(run));
    Some(per_month.less(taken.unwrap_or_default()))
}

/// What is set aside for runs that are not over, beside what the status says that they have cost.
pub(crate) fn set_aside(view: &View<'_>, cost: &MonthCost) -> Amount {
    let taken = Ledger::of(view).map(|ledger| ledger.taken(None));
    taken.unwrap_or_default().less(charge::said(&cost.spent))
}

fn pay(cost: &mut RunCost, budget: &Budget, price: Amount, limit: Option<Amount>) {
    let estimate = cost.estimated_seconds.map(i64::unsigned_abs);
    cost.max_device_seconds = limit.and_then(|l| l.seconds_at(price)).map(signed);
    cost.money = Some(RunMoney {
        currency: budget.currency.clone(),
        device_hour: price.money(),
        amount: price.of_seconds(cost.device_seconds.unsigned_abs()).money(),
        estimate: estimate.map(|s| price.of_seconds(s).money()),
        limit: limit.map(Amount::money),
        budget: Some(key(budget)),
    });
}

fn key(budget: &Budget) -> String {
    digest(&("loci/budget/v1", budget))
}

fn least(a: Option<Amount>, b: Option<Amount>) -> Option<Amount> {
    a.into_iter().chain(b).min()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}
