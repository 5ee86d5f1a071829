//! Between two looks at the world.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::controller::Controller;

/// How long nothing happens before a loop may end, at first and at last.
const REST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(64));

impl Controller {
    /// Waits for news or the time. False at shutdown, and when nothing needs this loop any more.
    pub(crate) async fn wait(
        &mut self,
        wake_at: Option<Timestamp>,
        shutdown: &CancellationToken,
    ) -> Result<bool> {
        let due = async {
            match wake_at {
                Some(time) => {
                    let left = time.duration_since(Timestamp::now());
                    tokio::time::sleep(Duration::try_from(left).unwrap_or_default()).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::pin!(due);
        let mut rest = REST.0;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(false),
                () = &mut due => return Ok(true),
                Ok(()) = self.shared.classes.changed() => {
                    self.count_workers();
                    return Ok(true);
                }
                news = self.inbox.recv() => {
                    let Some(news) = news else { return Ok(false) };
                    self.hear(news).await?;
                    return Ok(true);
                }
                () = tokio::time::sleep(rest) => {
                    if self.quiet() && self.keeper.rests(&self.world).await? {
                        return Ok(false);
                    }
                    rest = (rest * 2).min(REST.1);
                }
            }
        }
    }

    /// Whether nothing is under way that only this loop knows of.
    fn quiet(&self) -> bool {
        let (world, serving) = (&self.world, &self.world.serving);
        world.in_flight.is_empty()
            && world.probing.is_empty()
            && serving.preparing.is_empty()
            && self.fleet.quiet()
    }
}
