//! How far the step at work has come, as the run's status says it: seldom, because every writing of it goes to all who
//! watch.

use std::time::Duration;

use jiff::Timestamp;
use loci_crds::run::RunProgress;
use loci_crds::{MemoryRun, MemoryRunStatus};

use crate::clock::{after, stamp};
use crate::plan::Draft;
use crate::runs::update;
use crate::view::View;
use crate::world::{Reported, StepKey};

/// The least time between two writings of one attempt's progress.
pub const PERIOD: Duration = Duration::from_secs(30);
/// An attempt that is over sooner leaves no trace of its progress: the status says that its step began.
const GRACE: Duration = Duration::from_secs(2);

/// Writes how far the attempt that is under way has come, when it is time.
pub(crate) fn plan(
    view: &View<'_>,
    run: &MemoryRun,
    mut status: MemoryRunStatus,
    key: &StepKey,
    draft: &mut Draft,
) {
    let reported = view.world.reported.get(&key.run).filter(|r| r.key == *key);
    let Some(reported) = reported else { return };
    match note(view.now, &status, reported) {
        Note::Nothing => {}
        Note::Later(time) => draft.wake(Some(time)),
        Note::Write(progress) => {
            status.progress = Some(progress);
            draft.act(update(view, run, status));
        }
    }
}

/// What is to become of a report.
#[derive(Clone, Debug, PartialEq)]
enum Note {
    /// The status says as much already.
    Nothing,
    /// Written now.
    Write(RunProgress),
    /// Not before this time.
    Later(Timestamp),
}

/// Whether the status of a run should say now what the attempt at work has reported. The status has none but of this
/// attempt.
fn note(now: Timestamp, status: &MemoryRunStatus, reported: &Reported) -> Note {
    let step = reported.key.step;
    let progress = RunProgress {
        step,
        done: saturating(reported.done),
        total: reported.total.map(saturating),
        unit: reported.unit.clone(),
        time: stamp(now),
    };
    let began = status.steps.iter().find(|s| s.name == step);
    let due = match &status.progress {
        Some(written) if same(written, &progress) => return Note::Nothing,
        Some(written) => after(written.time.0, PERIOD),
        None => began.map_or(now, |s| after(s.start_time.0, GRACE)),
    };
    if due > now {
        Note::Later(due)
    } else {
        Note::Write(progress)
    }
}

/// Nobody learns anything from another time alone.
fn same(a: &RunProgress, b: &RunProgress) -> bool {
    (a.step, a.done, a.total, &a.unit) == (b.step, b.done, b.total, &b.unit)
}

fn saturating(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use loci_crds::run::{StepName, StepStatus};

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn reported(done: u64) -> Reported {
        Reported {
            key: StepKey {
                run: "support-1".to_owned(),
                step: StepName::Embed,
                attempt: 1,
            },
            done,
            total: Some(100),
            unit: "chunks".to_owned(),
            device_seconds: None,
        }
    }

    fn status() -> MemoryRunStatus {
        MemoryRunStatus {
            steps: vec![StepStatus {
                name: StepName::Embed,
                start_time: stamp(at(0)),
                completion_time: None,
                output: None,
                summary: None,
            }],
            ..MemoryRunStatus::default()
        }
    }

    #[test]
    fn what_is_soon_over_is_not_written() {
        assert_eq!(note(at(1), &status(), &reported(5)), Note::Later(at(2)));
        let Note::Write(written) = note(at(2), &status(), &reported(5)) else {
            panic!("due")
        };
        assert_eq!((written.done, written.total), (5, Some(100)));
        assert_eq!(
            (written.unit.as_str(), written.time),
            ("chunks", stamp(at(2)))
        );
    }

    #[test]
    fn it_is_written_every_so_often_at_most_and_only_when_it_has_changed() {
        let mut status = status();
        let mut writings = Vec::new();
        for second in 0..300 {
            match note(at(second), &status, &reported(second as u64 / 2)) {
                Note::Write(written) => {
                    writings.push(second);
                    status.progress = Some(written);
                }
                Note::Later(due) => assert!(due > at(second)),
                Note::Nothing => {}
            }
        }
        assert_eq!(writings, (0..10).map(|n| 2 + 30 * n).collect::<Vec<_>>());
        let last = status.progress.clone().unwrap().done as u64;
        assert_eq!(note(at(900), &status, &reported(last)), Note::Nothing);
    }

    #[test]
    fn numbers_beyond_what_a_resource_holds_are_cut_off() {
        let Note::Write(written) = note(at(9), &status(), &reported(u64::MAX)) else {
            panic!("due")
        };
        assert_eq!(written.done, i64::MAX);
    }
}
