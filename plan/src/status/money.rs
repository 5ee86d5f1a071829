//! Whether there is money for training.

use loci_crds::budget::MonthCost;

use crate::budget::{self, Amount};
use crate::clock::stamp;
use crate::conditions::Finding;
use crate::spec::Adapter;
use crate::view::{Lane, View};

/// Whether each adapter that is not at work could be trained now. That does not depend on whether one is to be, so that it
/// can be told from the status alone.
pub(super) fn available(view: &View<'_>, cost: Option<&MonthCost>) -> Finding {
    let kind = "BudgetAvailable";
    let (Some(budget), Some(cost)) = (&view.pipeline.budget, cost) else {
        let message = "the pipeline declares no budget: nothing limits what its runs may cost";
        return Finding::new(kind, true, "NoBudget", message);
    };
    let of = budget.per_month.map(|most| format!(" of {most}"));
    let spent = format!(
        "{}{} {} are spent in {}",
        cost.spent,
        of.unwrap_or_default(),
        cost.currency,
        cost.month
    );
    let waits = |a: &&Adapter| {
        let idle = !view.suspends(a) && view.live(Lane::Adapter(&a.name)).is_none();
        idle && budget::short(view, a).is_some()
    };
    let waiting = view.pipeline.adapters.iter().filter(waits);
    let waiting: Vec<_> = waiting.map(|a| a.name.as_str()).collect();
    if waiting.is_empty() {
        return Finding::new(kind, true, "Available", spent);
    }
    let aside = budget::set_aside(view, cost);
    let aside = (aside > Amount::default())
        .then(|| format!(", and {aside} are set aside for what is at work"));
    let message = format!(
        "{spent}{}: there is no training of {} until there is room, from {} on at the latest; the index is refreshed as ever, and what serves goes on being served",
        aside.unwrap_or_default(),
        waiting.join(", "),
        stamp(budget::next_month(view.now)).0
    );
    Finding::new(kind, false, "MonthSpent", message)
}
