//! Answers that are still being sent after their handlers have returned.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The streams of one server. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    running: TaskTracker,
    stop: CancellationToken,
}

impl Streams {
    /// Counts a stream in, until the result is dropped.
    pub(crate) fn enter(&self) -> TaskTrackerToken {
        self.running.token()
    }

    /// Resolves when streams are to end now.
    pub(crate) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// Ends all streams now, and those to come.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Returns when all streams have finished; stops them if they have not after `time`.
    pub(crate) async fn finish_within(&self, time: Duration) {
        self.running.close();
        if tokio::time::timeout(time, self.running.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                seconds = time.as_secs_f64(),
                "streams did not finish in time"
            );
            self.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn streams_have_their_time_to_finish() {
        let streams = Streams::default();
        streams.finish_within(Duration::from_secs(60)).await;
        let running = streams.enter();
        let mut stopped = Box::pin(streams.stopped());
        assert!(futures::poll!(&mut stopped).is_pending());
        streams.finish_within(Duration::from_millis(10)).await;
        stopped.await;
        drop(running);
        streams.finish_within(Duration::from_secs(60)).await;
    }
}
