//! Progress: what steps tell, and how often a run says so.

use jiff::{SignedDuration, Timestamp};
use loci_crds::MemoryRunStatus;
use loci_plan::{PROGRESS_PERIOD, Reported, StepKey, World};

use crate::lookups::run;

/// What a step says that ends at `end`: something else at each moment.
pub fn report(now: Timestamp, key: &StepKey, end: Timestamp) -> Reported {
    Reported {
        key: key.clone(),
        done: 1000_u64.saturating_sub(end.duration_since(now).as_secs().unsigned_abs()),
        total: Some(1000),
        unit: "chunks".to_owned(),
        device_seconds: None,
    }
}

/// Of one attempt it is written seldom, and only while the attempt is under way.
pub fn is_written_seldom(now: Timestamp, world: &World, name: &str, status: &MemoryRunStatus) {
    let Some(progress) = &status.progress else {
        return;
    };
    let open = status.steps.iter().find(|s| s.completion_time.is_none());
    assert_eq!(open.map(|s| s.name), Some(progress.step), "{now}: {name}");
    let key = StepKey {
        run: name.to_owned(),
        step: progress.step,
        attempt: status.attempt,
    };
    assert!(
        world.in_flight.contains(&key),
        "{now}: {key:?} is not under way"
    );
    let before = run(world, name).and_then(|r| r.status.as_ref());
    let before = before.filter(|s| s.attempt == status.attempt);
    let Some(before) = before.and_then(|s| s.progress.as_ref()) else {
        return;
    };
    if before.step == progress.step && before.time != progress.time {
        let passed = progress.time.0.duration_since(before.time.0);
        assert!(
            passed >= SignedDuration::try_from(PROGRESS_PERIOD).unwrap(),
            "{now}: {name} is written after {passed}"
        );
    }
}
