//! Who does the steps.

use std::collections::BTreeMap;
use std::sync::Arc;

use loci_bus::Worker;
use loci_nats::NatsBus;
use loci_shell::Classes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows which classes have a worker, and why some take no steps.
pub fn classes(bus: &NatsBus) -> watch::Receiver<Classes> {
    let (told, classes) = watch::channel(None);
    let mut roster = bus.roster();
    tokio::spawn(async move {
        while roster.changed().await.is_ok() {
            let workers = roster.borrow_and_update().clone();
            let now = workers.map(|all| Arc::new(sorted(&all)));
            told.send_if_modified(|before| {
                let other = *before != now;
                *before = now;
                other
            });
        }
    });
    classes
}

/// The workers of a roster, by what can be said of their classes.
fn sorted(all: &BTreeMap<String, Worker>) -> loci_plan::Classes {
    let mut classes = loci_plan::Classes::default();
    for worker in all.values() {
        let class = worker.class.clone();
        match worker.trouble.as_ref().filter(|_| worker.idle) {
            None => drop(classes.at_work.insert(class)),
            // One of them is told of: those of a class are alike.
            Some(why) => {
                let told = format!("{}: {}", worker.id, why.message);
                classes.idle.entry(class).or_insert(told);
            }
        }
    }
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

/// What a worker of this process tells of itself, but for its devices.
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
        ..Worker::default()
    }
}

#[cfg(test)]
mod tests {
    use loci_bus::Trouble;

    use super::*;

    #[test]
    fn a_class_is_at_work_by_those_that_take_steps_and_idle_by_the_others() {
        let of = |id: &str, idle| Worker {
            id: id.to_owned(),
            trouble: Some(Trouble {
                reason: "NoDriver".to_owned(),
                message: format!("{id} has no driver"),
            }),
            idle,
            ..worker("gpu", 1)
        };
        let roster = |all: Vec<Worker>| all.into_iter().map(|w| (w.id.clone(), w)).collect();
        let classes = sorted(&roster(vec![of("a", true), of("b", true)]));
        assert!(classes.at_work.is_empty());
        assert_eq!(classes.idle["gpu"], "a: a has no driver");
        // One that computes on the CPU instead takes steps.
        let classes = sorted(&roster(vec![of("a", true), of("b", false)]));
        assert!(classes.at_work.contains("gpu"));
        let classes = sorted(&roster(vec![of("b", false), worker("cpu", 1)]));
        assert_eq!(classes.at_work.len(), 2);
        assert!(classes.idle.is_empty());
    }
}
