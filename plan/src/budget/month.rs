//! What the trainings of a month have cost, in all.
//!
//! The pipeline's status keeps the sum, since runs are deleted, by the plan and by people: what each run that is there has
//! cost stands beside it by name. A run that is counted once more is the same entry, and one that is gone goes into the
//! sum in the same writing that takes its entry away. So no crash counts a run twice, or not at all.

use loci_crds::MemoryRun;
use loci_crds::budget::{ChargedRun, MonthCost, RunMoney};

use super::charge::said;
use super::{Amount, amount, key};
use crate::view::{RunView, View};

/// The costs of the present month.
pub(crate) struct Ledger<'v> {
    view: &'v View<'v>,
    month: String,
    currency: &'v str,
    /// As the status was last written, in this month and currency.
    before: Option<&'v MonthCost>,
}

impl<'v> Ledger<'v> {
    /// None without a budget, unless there was one in this month.
    pub fn of(view: &'v View<'v>) -> Option<Self> {
        let month = amount::month(view.now);
        let before = view.world.status.cost.as_ref();
        let before = before.filter(|b| b.month == month);
        let declared = view.pipeline.budget.as_ref().map(|b| &b.currency);
        let currency = declared.or(before.map(|b| &b.currency))?.as_str();
        Some(Self {
            view,
            month,
            currency,
            before: before.filter(|b| b.currency == currency),
        })
    }

    /// As the status is to say it: of a run at work, what stood there before, since each writing goes to all who watch.
    pub fn status(&self) -> Option<MonthCost> {
        let entry = |run: &&MemoryRun| {
            let at_work = run.status.as_ref().is_some_and(|s| s.progress.is_some());
            let amount = if at_work {
                self.noted(run.name())
            } else {
                self.charged(run)
            };
            (amount > Amount::default()).then(|| ChargedRun {
                name: run.name().to_owned(),
                amount: amount.money(),
            })
        };
        let runs: Vec<_> = self.view.runs.iter().filter_map(entry).collect();
        let earlier = self.earlier();
        let spent = runs.iter().map(|r| said(&r.amount));
        let spent = spent.fold(earlier, Amount::plus);
        let paid = self.view.runs.iter().any(|run| self.money(run).is_some());
        let told = self.view.pipeline.budget.is_some() || paid || spent > Amount::default();
        told.then(|| MonthCost {
            month: self.month.clone(),
            currency: self.currency.to_owned(),
            spent: spent.money(),
            earlier: earlier.money(),
            runs,
        })
    }

    /// What is spent, and what is set aside for what is not over, but for what concerns one run.
    pub fn taken(&self, but: Option<&MemoryRun>) -> Amount {
        let but = but.map(|run| run.name());
        let others = self.view.runs.iter().filter(|r| Some(r.name()) != but);
        let taken = others.map(|run| self.charged(run).max(self.set_aside(run)));
        taken.fold(self.earlier(), Amount::plus)
    }

    /// What runs have cost that are not there any more.
    fn earlier(&self) -> Amount {
        let there = |name: &str| self.view.runs.iter().any(|r| r.name() == name);
        let entries = self.before.into_iter().flat_map(|b| &b.runs);
        let gone = entries.filter(|c| !there(&c.name));
        let before = self.before.map_or(Amount::default(), |b| said(&b.earlier));
        gone.map(|c| said(&c.amount)).fold(before, Amount::plus)
    }

    fn noted(&self, name: &str) -> Amount {
        let mut entries = self.before.into_iter().flat_map(|b| &b.runs);
        let entry = entries.find(|c| c.name == name);
        entry.map_or(Amount::default(), |c| said(&c.amount))
    }

    fn charged(&self, run: &MemoryRun) -> Amount {
        self.money(run)
            .map_or(Amount::default(), |m| said(&m.amount))
    }

    /// All that a run may cost that is not over. By another budget than this one, it is about to get another limit.
    fn set_aside(&self, run: &MemoryRun) -> Amount {
        let budget = self.view.pipeline.budget.as_ref().map(key);
        let money = self.money(run).filter(|_| !run.phase().is_terminal());
        let limit = money
            .filter(|m| m.budget == budget)
            .and_then(|m| m.limit.as_ref());
        limit.map_or(Amount::default(), said)
    }

    /// What a run says of its costs, when they are of this month.
    fn money<'r>(&self, run: &'r MemoryRun) -> Option<&'r RunMoney> {
        let cost = run.status.as_ref()?.cost.as_ref()?;
        let money = cost.money.as_ref().filter(|_| cost.month == self.month)?;
        (money.currency == self.currency).then_some(money)
    }
}
