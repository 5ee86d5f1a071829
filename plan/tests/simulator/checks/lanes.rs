//! What must hold where several components of a release get further, each by itself.

use jiff::Timestamp;
use loci_crds::{MemoryRelease, MemoryRun};
use loci_digest::Digest;
use loci_plan::World;

use super::Checks;
use crate::lookups::lane;
use crate::outside::{Listing, Outside};

/// The sources that a part of a release was made from.
fn listing<'o>(outside: &'o Outside, part: &str) -> &'o Listing {
    &outside.store[&part.parse::<Digest>().unwrap()]
}

impl Checks {
    /// A training begins because of a request, new examples, or a due time for which there was none.
    pub(super) fn may_train(&mut self, now: Timestamp, world: &World, run: &MemoryRun) {
        let name = run.spec.adapter.clone().unwrap();
        let adapter = world.pipeline.adapter(&name);
        let adapter = adapter.unwrap_or_else(|| panic!("{now}: {name} is not declared"));
        let suspended = adapter.suspend || world.intents.suspended.contains(&name);
        assert!(!suspended, "{now}: {name} is suspended");
        assert!(
            world.serving.desired.is_some(),
            "{now}: nothing to release {name} with"
        );
        if let Some(due) = &run.spec.scheduled_time {
            assert!(due.0 <= now, "{now}: {name} before it is due");
            let gave_way = world.runs.iter().any(|r| {
                let reason = r.status.as_ref().and_then(|s| s.reason.as_deref());
                lane(r) == lane(run)
                    && r.spec.scheduled_time == run.spec.scheduled_time
                    && matches!(reason, Some("Superseded" | "BudgetDeferred"))
            });
            assert!(
                self.trainings.insert((name.clone(), due.0)) || gave_way,
                "{now}: {name} twice for {due:?}"
            );
        }
    }

    /// By rule a release replaces only what is older and hardly better.
    pub(super) fn is_progress(
        &self,
        now: Timestamp,
        outside: &Outside,
        release: &MemoryRelease,
        serving: Option<&MemoryRelease>,
    ) {
        let Some(serving) = serving else { return };
        assert!(
            release.spec.number > serving.spec.number,
            "{now}: an older release returns"
        );
        let goes_on = |new: &str, old: &str| {
            let old = listing(outside, old);
            for (source, (version, _)) in listing(outside, new) {
                let before = old.get(source).map_or(0, |o| o.0);
                assert!(
                    *version >= before,
                    "{now}: {source} goes back from {before} to {version}"
                );
            }
        };
        goes_on(&release.spec.index.revision, &serving.spec.index.revision);
        for old in &serving.spec.adapters {
            let mut adapters = release.spec.adapters.iter();
            match adapters.find(|a| a.name == old.name) {
                Some(new) if new.adapter == old.adapter => {}
                Some(new) => goes_on(&new.dataset, &old.dataset),
                None => assert!(
                    !self.declared.contains(&old.name),
                    "{now}: {} is lost",
                    old.name
                ),
            }
        }
        let lost = |r: &MemoryRelease| {
            let parts = r.spec.adapters.iter().map(|a| &a.manifest);
            let parts = parts.chain([&r.spec.index.revision]);
            let parts: Vec<Digest> = parts.map(|p| p.parse().unwrap()).collect();
            outside.lost(&parts)
        };
        assert!(
            lost(release) <= lost(serving) + self.may_lose.unwrap_or(1),
            "{now}: {} for {}",
            lost(release),
            lost(serving)
        );
    }
}
