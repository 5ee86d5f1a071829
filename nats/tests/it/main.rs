//! The bus over a real NATS server: `make test` says where it is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../../bus/tests/contract/mod.rs"]
mod contract;
mod faults;
mod roles;
mod secure;
mod told;
mod upgrade;

use std::time::Duration;

use contract::Bed;
use loci_nats::{NatsBus, NatsOptions};
use loci_testbed::Nats;

/// A bus on a server of its own.
async fn bed() -> Bed {
    let server = Nats::start();
    Bed::new(connect(&server).await, server)
}

async fn connect(server: &Nats) -> NatsBus {
    let options = NatsOptions {
        ack_wait: Duration::from_secs(2),
        ..NatsOptions::new(server.url(), "loci-test")
    };
    NatsBus::connect(options).await.unwrap()
}
