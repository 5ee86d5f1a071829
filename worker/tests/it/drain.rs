//! A worker whose device fails: it does no more, and loses nothing.

use std::time::Duration;

use async_trait::async_trait;
use loci_bus::{Device, Dispatcher, LocalBus, Outcome, Priority, WorkItem, WorkQueue};
use loci_models::ModelError;
use loci_worker::devices::Card;
use loci_worker::service::{self, Work};
use loci_worker::step::{Reporter, StepError, StepOutput};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(20);

/// Whatever it does ends as on a device that has failed.
#[derive(Clone)]
struct Broken(Card);

#[async_trait]
impl Work for Broken {
    async fn work(&self, _: &WorkItem, _: &Reporter) -> Result<StepOutput, StepError> {
        let error = ModelError::DeviceFailed("CUDA_ERROR_LAUNCH_FAILED".to_owned());
        Err(error.into())
    }

    fn card(&self) -> Option<&Card> {
        Some(&self.0)
    }
}

fn card(state: &std::path::Path) -> Card {
    let device = Device {
        name: "NVIDIA L4".to_owned(),
        uuid: "GPU-1".to_owned(),
        ..Device::default()
    };
    Card::new(device, state)
}

async fn publish(bus: &LocalBus, attempt: u32) {
    let item = WorkItem {
        id: "1".into(),
        pipeline: "agents/support".into(),
        run: "support-1".into(),
        step: "Embed".into(),
        attempt,
        fence: 0,
        priority: Priority::P1,
        class: "gpu".into(),
        payload: Value::Null,
        term: 0,
        traceparent: None,
    };
    bus.publish(item).await.unwrap();
}

#[tokio::test]
async fn a_device_that_fails_twice_drains_its_worker_and_another_gets_the_item() {
    let (bus, state) = (LocalBus::new(), tempfile::tempdir().unwrap());
    let card = card(state.path());
    publish(&bus, 1).await;
    let stop = CancellationToken::new();
    let broken = Broken(card.clone());
    let serving = service::serve(&bus, "gpu", &broken, 1, stop.clone());
    let ended = tokio::time::timeout(PATIENCE, serving).await;
    ended.expect("it ends by itself");
    assert!(!stop.is_cancelled(), "the process is not asked to end");
    assert_eq!(card.counts(), [0, 2]);
    assert_eq!(card.failure().unwrap().reason(), "DeviceFailed");
    // At once, as the next attempt.
    let lease = bus.pull("gpu", Duration::from_secs(1)).await.unwrap();
    let lease = lease.expect("nothing is lost");
    assert_eq!(lease.item().attempt, 3);
    lease.finish(Outcome::Cancelled).await.unwrap();
}

#[tokio::test]
async fn an_item_that_failed_on_many_devices_is_told_as_failed() {
    use futures::StreamExt;
    let (bus, state) = (LocalBus::new(), tempfile::tempdir().unwrap());
    let mut events = bus.events().await.unwrap();
    publish(&bus, 5).await;
    let stop = CancellationToken::new();
    let broken = Broken(card(state.path()));
    let serving = service::serve(&bus, "gpu", &broken, 1, stop.clone());
    let told = async {
        let finished = events.by_ref().filter_map(async |event| match event {
            loci_bus::Event::Finished { outcome, .. } => Some(outcome),
            _ => None,
        });
        let outcome = std::pin::pin!(finished).next().await;
        stop.cancel();
        outcome
    };
    let both = async { tokio::join!(serving, told).1 };
    let outcome = tokio::time::timeout(PATIENCE, both).await.unwrap().unwrap();
    let Outcome::Failed {
        reason, retryable, ..
    } = outcome
    else {
        panic!("{outcome:?}");
    };
    assert_eq!((reason.as_str(), retryable), ("DeviceFailed", true));
}
