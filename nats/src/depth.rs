//! How much waits, for who scales workers.

use async_nats::jetstream::consumer;
use futures::TryStreamExt;
use loci_bus::{Priority, Result};

use crate::NatsBus;
use crate::ledger::{JOBS, priority};

/// The items of one class and priority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Depth {
    /// The class.
    pub class: String,
    /// The priority.
    pub priority: Priority,
    /// How many wait for a worker. One that was cancelled counts until somebody asks for work of the class.
    pub waiting: u64,
    /// How many workers hold.
    pub held: u64,
}

impl NatsBus {
    /// How much waits: of one class, or of all that anything was ever published for.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn depths(&self, class: Option<&str>) -> Result<Vec<Depth>> {
        let ledger = &self.shared.ledger;
        let mut depths = Vec::new();
        match class {
            Some(class) => {
                for priority in Priority::ALL {
                    if let Some(consumer) = ledger.consumer(class, priority).await? {
                        depths.extend(depth(consumer.cached_info()));
                    }
                }
            }
            None => {
                let stream = ledger.stream(JOBS).await?;
                let refused = |e: &dyn std::error::Error| ledger.unreachable("list consumers", e);
                let mut all = stream.consumers();
                while let Some(info) = all.try_next().await.map_err(|e| refused(&e))? {
                    depths.extend(depth(&info));
                }
            }
        }
        Ok(depths)
    }
}

fn depth(info: &consumer::Info) -> Option<Depth> {
    let (class, priority) = class_of(&info.name)?;
    Some(Depth {
        class: class.to_owned(),
        priority,
        waiting: info.num_pending,
        held: info.num_ack_pending as u64,
    })
}

/// What a consumer of this name hands out.
fn class_of(consumer: &str) -> Option<(&str, Priority)> {
    let of = |p: &Priority| {
        consumer
            .strip_suffix(priority(*p))?
            .strip_suffix('-')
            .map(|class| (class, *p))
    };
    Priority::ALL.iter().find_map(of)
}
