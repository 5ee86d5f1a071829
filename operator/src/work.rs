//! Who does the steps.

use std::collections::BTreeSet;
use std::sync::Arc;

use loci_bus::Worker;
use loci_nats::NatsBus;
use loci_shell::Classes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows which classes have a worker.
pub fn classes(bus: &NatsBus) -> watch::Receiver<Classes> {
    let (told, classes) = watch::channel(None);
    let mut roster = bus.roster();
    tokio::spawn(async move {
        while roster.changed().await.is_ok() {
            let workers = roster.borrow_and_update().clone();
            let now = workers.map(|all| {
                let classes = all.values().map(|worker| worker.class.clone());
                Arc::new(classes.collect::<BTreeSet<_>>())
            });
            told.send_if_modified(|before| {
                let other = *before != now;
                *before = now;
                other
            });
        }
    });
    classes
}

/// Until `shutdown`.
///
/// # Errors
/// When NATS is elsewhere.
pub async fn stays(bus: &NatsBus, shutdown: &CancellationToken) -> anyhow::Result<()> {
    match shutdown.run_until_cancelled(bus.moved()).await {
        Some(moved) => Err(moved.into()),
        None => Ok(()),
    }
}

/// What a worker of this process tells of itself.
pub fn worker(class: &str, slots: usize) -> Worker {
    let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "worker".to_owned());
    let host: String = host
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    Worker {
        id: format!("{host}-{}", std::process::id()),
        class: class.to_owned(),
        slots,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        devices: loci_worker::devices(),
        leaving: false,
    }
}
