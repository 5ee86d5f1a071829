//! `loci devices`.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use loci_bus::{Device, Worker};
use loci_nats::NatsBus;
use loci_worker::devices::{Inventory, Library};

use super::Shared;
use super::nats::Nats;
use crate::output::{Output, json, print, say, table};

/// How long workers are waited for to tell of themselves: for a server that comes up, and somewhat longer than they take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Lists the GPUs that models can be computed on, or says why there is none: those of this machine, or of all workers
#[derive(Debug, Args)]
pub struct Devices {
    #[command(subcommand)]
    of: Option<Of>,
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Those of all workers, by what they tell over NATS; its user has to be allowed what the operator is
    Workers(Nats),
}

impl Devices {
    /// Prints them.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        match self.of {
            None => here(shared.output).await,
            Some(Of::Workers(nats)) => of_workers(&nats, shared.output).await,
        }
    }
}

async fn here(output: Output) -> Result<()> {
    let inventory = tokio::task::spawn_blocking(Inventory::take).await?;
    if output == Output::Json {
        return json(&inventory);
    }
    if let Some(why) = &inventory.absent {
        say!("{why}");
        return Ok(());
    }
    let mut devices = table(&["device", "memory", "free", "capability", "uuid"]);
    for device in &inventory.devices {
        devices.add_row([
            device.name.clone(),
            memory(Some(device.memory_bytes)),
            memory(device.free_bytes),
            device.compute_capability.clone(),
            device.uuid.clone(),
        ]);
    }
    print(&devices, "");
    let driver = inventory.driver.map(|driver| driver.to_string());
    say!();
    say!("driver: CUDA {}", driver.unwrap_or_default());
    for library in &inventory.libraries {
        say!("{}", of_library(library));
    }
    Ok(())
}

fn of_library(library: &Library) -> String {
    let Library {
        name,
        version,
        compiles,
    } = library;
    match (version, compiles) {
        (Some(version), _) => format!("{name}: {version}"),
        (None, true) => format!("{name}: not here, and nothing is computed on a GPU without it"),
        (None, false) => format!("{name}: not here"),
    }
}

async fn of_workers(nats: &Nats, output: Output) -> Result<()> {
    let bus = NatsBus::connect(nats.needed("loci-devices")?).await?;
    let mut roster = bus.roster();
    let told = tokio::time::timeout(PATIENCE, roster.wait_for(Option::is_some)).await;
    let told = told.ok().and_then(|roster| (*roster.ok()?).clone());
    let workers = told.with_context(|| {
        format!("NATS has not answered within {PATIENCE:?}: is it there, and is the user right?")
    })?;
    match output {
        Output::Json => json(&workers.values().collect::<Vec<_>>())?,
        Output::Table => show(&workers),
    }
    bus.close().await;
    Ok(())
}

fn show(workers: &BTreeMap<String, Worker>) {
    let mut rows = table(&["worker", "class", "ready", "device", "memory", "capability"]);
    for worker in workers.values() {
        for row in rows_of(worker) {
            rows.add_row(row);
        }
    }
    let nobody =
        "no worker tells of itself: there is none, or this user of NATS may not hear worker.v1.>";
    print(&rows, nobody);
    let troubles = workers.values().filter_map(|worker| {
        let why = worker.trouble.as_ref()?;
        Some(format!("{}: {}", worker.id, why.message))
    });
    for (n, trouble) in troubles.enumerate() {
        if n == 0 {
            say!();
        }
        say!("{trouble}");
    }
}

/// A row for each device; one without, where there is none.
fn rows_of(worker: &Worker) -> Vec<[String; 6]> {
    let row = |device: Option<&Device>| {
        let ready = if worker.idle { "no" } else { "yes" };
        [
            worker.id.clone(),
            worker.class.clone(),
            ready.to_owned(),
            device.map_or_else(|| "-".to_owned(), |device| device.name.clone()),
            memory(device.map(|device| device.memory_bytes)),
            device.map_or_else(
                || "-".to_owned(),
                |device| device.compute_capability.clone(),
            ),
        ]
    };
    match worker.devices.as_slice() {
        [] => vec![row(None)],
        devices => devices.iter().map(|device| row(Some(device))).collect(),
    }
}

fn memory(bytes: Option<u64>) -> String {
    let gibibytes = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    bytes.map_or_else(|| "-".to_owned(), gibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_has_a_row_for_each_device_and_one_without() {
        let device = |name: &str| Device {
            name: name.to_owned(),
            memory_bytes: 24_152_899_584,
            compute_capability: "8.9".to_owned(),
            ..Device::default()
        };
        let mut worker = Worker {
            id: "w".to_owned(),
            class: "gpu".to_owned(),
            idle: true,
            ..Worker::default()
        };
        assert_eq!(rows_of(&worker), [["w", "gpu", "no", "-", "-", "-"]]);
        worker.devices = vec![device("NVIDIA L4"), device("NVIDIA L40S")];
        worker.idle = false;
        let expected = [
            ["w", "gpu", "yes", "NVIDIA L4", "22.5 GiB", "8.9"],
            ["w", "gpu", "yes", "NVIDIA L40S", "22.5 GiB", "8.9"],
        ];
        assert_eq!(rows_of(&worker), expected);
    }

    #[test]
    fn a_library_that_is_not_there_is_told_by_what_follows() {
        let library = |version: Option<&str>, compiles| {
            of_library(&Library {
                name: "NVRTC",
                version: version.map(|v| v.parse().unwrap()),
                compiles,
            })
        };
        assert_eq!(library(Some("12.8"), true), "NVRTC: 12.8");
        assert!(library(None, true).contains("nothing is computed on a GPU"));
        assert_eq!(library(None, false), "NVRTC: not here");
    }
}
