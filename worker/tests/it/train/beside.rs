//! A training on a worker that has other work to do, and on one that is told to end.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use loci_bus::{Dispatcher, Event, Events, LocalBus, Outcome, Priority, WorkItem, WorkQueue};
use loci_worker::service;
use loci_worker::step::{StepContext, StepInput, StepOutput, TrainOutput};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Field, HOUR, PIPELINE, lines, order};
use crate::bed::{input, procedural};

const SOON: Duration = Duration::from_secs(60);

fn item(id: &str, priority: Priority, input: &StepInput) -> WorkItem {
    WorkItem {
        id: id.to_owned(),
        pipeline: PIPELINE.to_owned(),
        run: "support-1".to_owned(),
        step: id.to_owned(),
        attempt: 1,
        fence: 0,
        priority,
        class: "cpu".to_owned(),
        payload: serde_json::to_value(input).unwrap(),
        term: 0,
        traceparent: None,
    }
}

/// A worker with one slot that takes its time before each step.
async fn worker(field: &Field, pause: Duration) -> (JoinHandle<()>, CancellationToken) {
    let context = StepContext {
        pace: Arc::new(move || std::thread::sleep(pause)),
        checkpoints: HOUR,
        ..field.worker().await
    };
    let (bus, stop) = (field.bed.bus.clone(), CancellationToken::new());
    let stopped = stop.clone();
    let serving = async move { service::serve(&bus, "cpu", &context, 1, stopped).await };
    (tokio::spawn(serving), stop)
}

async fn next(events: &mut Events) -> Event {
    let event = tokio::time::timeout(SOON, events.next()).await;
    event.expect("an event within a minute").unwrap()
}

/// Waits until an item has come so far.
async fn reached(events: &mut Events, id: &str, done: u64) {
    loop {
        match next(events).await {
            Event::Progress(progress) if progress.id == id && progress.done >= done => return,
            Event::Finished { id, outcome, .. } => panic!("{id} has ended: {outcome:?}"),
            _ => {}
        }
    }
}

fn trained(outcome: Outcome) -> TrainOutput {
    let Outcome::Done { output } = outcome else {
        panic!("{outcome:?}");
    };
    match serde_json::from_value(output).unwrap() {
        StepOutput::Train(output) => output,
        other => panic!("{other:?}"),
    }
}

async fn publish(bus: &LocalBus, item: WorkItem) {
    bus.publish(item).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_training_makes_way_for_what_is_due_and_goes_on_to_the_same_adapter() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let whole = Field::new().await.train(&wanted).await.unwrap();
    let bus = &field.bed.bus;
    let mut events = bus.events().await.unwrap();
    publish(bus, item("train", Priority::P2, &StepInput::Train(wanted))).await;
    let (serving, stop) = worker(&field, Duration::from_millis(250)).await;
    reached(&mut events, "train", 1).await;

    let text = lines(50..60);
    let files = [("b.jsonl", text.as_str())];
    let snapshot = field.bed.snapshot(&[procedural("runbooks", &files)]).await;
    let due = StepInput::Collect(input(snapshot, &["runbooks"]));
    publish(bus, item("collect", Priority::P1, &due)).await;
    let mut order = Vec::new();
    let output = loop {
        match next(&mut events).await {
            Event::Claimed { id, attempt } => order.push(format!("{id} {attempt}")),
            Event::Finished { id, outcome, .. } if id == "train" => break trained(outcome),
            Event::Finished { id, .. } => order.push(format!("{id} ends")),
            Event::Progress(_) => {}
        }
    };
    assert_eq!(order, ["collect 1", "collect ends", "train 2"]);
    assert_eq!(output.adapter, whole.adapter);
    stop.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_told_to_end_leaves_a_training_where_it_is_to_another() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let whole = Field::new().await.train(&wanted).await.unwrap();
    let bus = &field.bed.bus;
    let mut events = bus.events().await.unwrap();
    publish(bus, item("train", Priority::P2, &StepInput::Train(wanted))).await;
    let (serving, stop) = worker(&field, Duration::from_millis(100)).await;
    reached(&mut events, "train", 3).await;
    stop.cancel();
    tokio::time::timeout(SOON, serving).await.unwrap().unwrap();
    assert!(field.trainings().await[0].step >= 3);
    let lease = bus.pull("cpu", Duration::ZERO).await.unwrap();
    let lease = lease.expect("it is due at once");
    assert_eq!(lease.item().attempt, 2);
    lease.give_back();

    let (serving, stop) = worker(&field, Duration::ZERO).await;
    let output = loop {
        if let Event::Finished { outcome, .. } = next(&mut events).await {
            break trained(outcome);
        }
    };
    assert_eq!(output.adapter, whole.adapter);
    stop.cancel();
    serving.await.unwrap();
}
