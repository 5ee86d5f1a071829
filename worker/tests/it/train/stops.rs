//! Where a training can be stopped, and how it goes on.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use loci_worker::step::{StepError, TrainInput, Training};
use tokio::sync::mpsc::unbounded_channel;

use super::{Field, HOUR, PIPELINE, Signals, at, cancel, end, kill, make_way, order, yielded};

#[tokio::test]
async fn wherever_it_is_stopped_another_worker_goes_on_to_the_same_curve_and_adapter() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let whole = field.train(&wanted).await.unwrap();
    let curve = field.curve(&whole).await;
    for checkpoints in [Duration::ZERO, HOUR] {
        let field = Field::new().await;
        assert!(yielded(
            field.attempt(&wanted, checkpoints, at(4, make_way)).await
        ));
        let kept = field.trainings().await.remove(0);
        assert_eq!((kept.step, kept.pipeline.as_str()), (3, PIPELINE));
        assert!(kept.runs["support-1"] > 0.0);
        assert!(yielded(
            field.attempt(&wanted, checkpoints, at(2, end)).await
        ));
        assert_eq!(field.trainings().await[0].step, 5);
        assert!(
            field
                .attempt(&wanted, checkpoints, at(3, kill))
                .await
                .is_none()
        );
        let cancelled = field.attempt(&wanted, checkpoints, at(2, cancel)).await;
        assert!(matches!(cancelled, Some(Err(StepError::Cancelled))));
        // Before the first step, in the middle of epochs and right at their ends.
        for call in 1..4 {
            let killed = field.attempt(&wanted, checkpoints, at(call, kill));
            assert!(killed.await.is_none());
            let stopped = field.attempt(&wanted, checkpoints, at(call, make_way));
            assert!(yielded(stopped.await));
        }
        let kept = field.trainings().await.remove(0);
        assert!(kept.step > 5 && kept.runs.len() == 1);
        // The rest may be computed in less memory.
        let rest = TrainInput {
            recompute: checkpoints == HOUR,
            ..wanted.clone()
        };
        let done = field.train(&rest).await.unwrap();
        assert_eq!((done.adapter, done.content), (whole.adapter, whole.content));
        assert_eq!(field.curve(&done).await, curve);
        assert!(done.device_seconds > kept.runs["support-1"]);
    }
}

#[tokio::test]
async fn a_collection_while_it_waits_takes_nothing_that_it_goes_on_with() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let whole = field.train(&wanted).await.unwrap();
    let field = Field::new().await;
    assert!(yielded(field.attempt(&wanted, HOUR, at(6, make_way)).await));
    let garbage = field.store().put("garbage".into()).await.unwrap();
    field.collect_garbage(&[]).await;
    assert!(!field.store().contains(&garbage).await.unwrap());
    // It goes on from there: the steps that are left are fewer than all.
    let steps = Arc::new(AtomicUsize::new(0));
    let count = steps.clone();
    let hook = move |call, _: &Signals| count.store(call, Ordering::Relaxed);
    let done = field.attempt(&wanted, HOUR, hook).await.unwrap().unwrap();
    assert_eq!(done.adapter, whole.adapter);
    // Before each step that was left, and each of four measurements.
    assert_eq!(
        steps.load(Ordering::Relaxed) as u64,
        done.trained.steps - 5 + 4
    );

    // Once nobody wants it, what is left of it goes, and what it made stays.
    let checkpoint = field.trainings().await[0].checkpoint;
    field.collect_garbage(&[done.adapter]).await;
    assert!(field.store().contains(&checkpoint).await.unwrap());
    let name = field.store().documents().await.unwrap().remove(0);
    let (_, version) = field
        .store()
        .document::<Training>(&name)
        .await
        .unwrap()
        .unwrap();
    assert!(
        field
            .store()
            .delete_document(&name, &version)
            .await
            .unwrap()
    );
    field.collect_garbage(&[done.adapter]).await;
    assert!(!field.store().contains(&checkpoint).await.unwrap());
    assert!(field.store().usable(&done.adapter).await.unwrap());
}

#[tokio::test]
async fn of_two_attempts_the_one_that_is_further_is_the_newest() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let other = TrainInput {
        run: "support-2".to_owned(),
        ..wanted.clone()
    };
    // The slow one stands still at a step until the quick one has made way at another.
    let race = async |slow: usize, quick: usize| {
        let (reached, mut stands) = unbounded_channel();
        let (release, released) = mpsc::channel::<()>();
        let released = Mutex::new(released);
        let hook = move |call: usize, signals: &Signals| {
            if call == slow {
                signals.way.ask();
                reached.send(()).unwrap();
                released.lock().unwrap().recv().unwrap();
            }
        };
        tokio::join!(field.attempt(&wanted, HOUR, hook), async {
            stands.recv().await.unwrap();
            let quick = field.attempt(&other, HOUR, at(quick, make_way)).await;
            release.send(()).unwrap();
            quick
        })
    };
    let (slow, quick) = race(3, 6).await;
    let Some(Err(StepError::Elsewhere(why))) = slow else {
        panic!("{slow:?}");
    };
    assert!(
        why.contains("is at step 5, and this one at step 2"),
        "{why}"
    );
    assert!(yielded(quick));
    let kept = field.trainings().await.remove(0);
    assert_eq!((kept.step, kept.runs.len()), (5, 1));

    let (slow, quick) = race(5, 2).await;
    assert!(yielded(slow) && yielded(quick));
    let kept = field.trainings().await.remove(0);
    assert_eq!(
        kept.runs.keys().collect::<Vec<_>>(),
        ["support-1", "support-2"]
    );
    assert!(kept.step > 7, "{kept:?}");
}
