//! The control plane is a real one, ends when it should, and takes Loci's definitions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod charts;
mod definitions;
mod explain;
mod plane;
mod policies;

use std::time::{Duration, Instant};

/// Waits until `done`.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !done().await {
        assert!(start.elapsed() < Duration::from_secs(60), "never: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What an API server says when it refuses: the code and the message.
fn refusal<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("not refused: {other:?}"),
    }
}
