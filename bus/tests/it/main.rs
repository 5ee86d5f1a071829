//! The form of the bus within one process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../contract/mod.rs"]
mod contract;
mod crowd;

use contract::Bed;
use loci_bus::LocalBus;

async fn bed() -> Bed {
    Bed::new(LocalBus::new(), ())
}
