//! What the shell began comes to its end.

use std::time::Duration;

use jiff::Timestamp;
use loci_plan::{Look, PrepareFailure, StepFailure, StepInput, StepKey, StepOutcome, StepResult};

use super::{Shell, due};

impl Shell {
    /// All steps that are at work end now.
    pub fn let_go(&mut self) {
        for (end, _) in self.steps.values_mut() {
            *end = self.now;
        }
    }

    /// Seconds on a device that the run of a training has used by now.
    pub(super) fn used(&self, key: &StepKey, input: &StepInput) -> Option<u64> {
        let StepInput::Train { device_seconds, .. } = input else {
            return None;
        };
        let begun = self.begun[key];
        let since = self.now.duration_since(begun).as_secs();
        Some(device_seconds + since.unsigned_abs())
    }

    /// When a training that begins now has used all that it may.
    pub(super) fn stopped_at(&self, input: &StepInput) -> Timestamp {
        match input {
            StepInput::Train {
                device_seconds,
                max_device_seconds: Some(most),
                ..
            } => {
                let left = most.saturating_sub(*device_seconds);
                let end = self.now.checked_add(Duration::from_secs(left));
                end.unwrap_or(Timestamp::MAX)
            }
            _ => Timestamp::MAX,
        }
    }

    /// Takes what has come to its end.
    pub(super) fn finish(&mut self) {
        for key in due(&self.steps, |s| s.0 <= self.now) {
            self.finish_step(key);
        }
        for key in due(&self.probes, |p| p.0 <= self.now) {
            let (_, time, probe) = self.probes.remove(&key).unwrap();
            self.world.probing.remove(&key);
            let result = self.outside.probe(&probe.source, &probe.basis);
            let look = Look {
                probe,
                time,
                result,
            };
            self.checks.looked(&look);
            self.world.looks.insert(key, look);
        }
        for name in due(&self.loads, |l| *l <= self.now) {
            self.finish_load(name);
        }
        if self.follows.is_some_and(|t| t <= self.now) {
            self.follow();
        }
    }

    fn finish_step(&mut self, key: StepKey) {
        let (_, input) = self.steps.remove(&key).unwrap();
        let used = self.used(&key, &input);
        let limit = match &input {
            StepInput::Train {
                max_device_seconds, ..
            } => *max_device_seconds,
            _ => None,
        };
        self.world.in_flight.remove(&key);
        let result = if self.draws.once_in(self.trouble.step) {
            let retryable = !self.draws.once_in(self.trouble.fatal);
            Err(StepFailure {
                reason: "Trouble".into(),
                message: "out of memory".into(),
                retryable,
            })
        } else if limit.is_some() && used >= limit {
            Err(StepFailure {
                reason: "BudgetExceeded".into(),
                message: "it has used all that it may".into(),
                retryable: false,
            })
        } else {
            let mut made = self.outside.work(&self.world.pipeline, &key.run, &input);
            if let Ok(StepResult::Train(trained)) = &mut made {
                trained.device_seconds = used.unwrap_or_default();
            }
            made
        };
        let outcome = StepOutcome {
            key,
            time: self.now,
            result,
        };
        assert!(
            self.world.outcomes.iter().all(|o| o.key != outcome.key),
            "an attempt ended twice"
        );
        self.world.outcomes.push(outcome);
    }

    fn finish_load(&mut self, name: String) {
        self.loads.remove(&name);
        let failed = self.draws.once_in(self.trouble.prepare);
        let serving = &mut self.world.serving;
        serving.preparing.remove(&name);
        if failed {
            let count = serving.failures.get(&name).map_or(0, |f| f.count) + 1;
            let failure = PrepareFailure {
                count,
                time: self.now,
                message: "out of memory".into(),
            };
            serving.failures.insert(name, failure);
            return;
        }
        let Some(release) = self
            .world
            .releases
            .iter()
            .find(|r| r.metadata.name.as_deref() == Some(&name))
        else {
            return;
        };
        let adapters = release.spec.adapters.iter().map(|a| &a.manifest);
        for part in adapters.chain([&release.spec.index.revision]) {
            assert!(
                self.outside.store.contains_key(&part.parse().unwrap()),
                "what {name} serves was collected"
            );
        }
        serving.failures.remove(&name);
        serving.prepared.insert(name.clone());
        if serving.desired.as_deref() == Some(&name) {
            serving.current = Some(name);
        }
    }
}
