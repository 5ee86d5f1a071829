//! The device that a worker computes on.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loci_bus::Device;
use tokio_util::sync::CancellationToken;

use super::fit::named;
use super::{After, Batches, Health, Unusable};

/// The file of what ran out, in the state directory.
const FILE: &str = "batches.json";

/// A device that is computed on: what fits into it, and how it is. All clones are the same.
#[derive(Clone, Debug)]
pub struct Card(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    device: Device,
    file: PathBuf,
    batches: Mutex<Batches>,
    halvings: AtomicU64,
    health: Mutex<Health>,
    failures: AtomicU64,
    drained: CancellationToken,
    why: Mutex<Option<Unusable>>,
}

impl Card {
    /// Remembers in `directory` what fits into `device`, and begins with what is remembered there. What cannot be read
    /// is said and begun anew: it is found out again.
    pub fn new(device: Device, directory: &Path) -> Self {
        let file = directory.join(FILE);
        let read = match std::fs::read(&file) {
            Ok(json) => Batches::read(&json),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Batches::default()),
            Err(error) => Err(error.to_string()),
        };
        let batches = read.unwrap_or_else(|why| {
            tracing::warn!(file = %file.display(), why, "what fits into the device is not read, and is found out again");
            Batches::default()
        });
        Self(Arc::new(Inner {
            device,
            file,
            batches: Mutex::new(batches),
            halvings: AtomicU64::new(0),
            health: Mutex::default(),
            failures: AtomicU64::new(0),
            drained: CancellationToken::new(),
            why: Mutex::default(),
        }))
    }

    /// Which it is.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// The most texts of a model at once.
    pub fn most(&self, model: &str) -> usize {
        lock(&self.0.batches).most(&self.0.device.uuid, model)
    }

    /// Its memory ran out with so many texts of a model: how many are tried next. None when it was one.
    pub fn ran_out(&self, model: &str, batch: usize) -> Option<usize> {
        let mut batches = lock(&self.0.batches);
        let next = batches.ran_out(&self.0.device.uuid, model, batch)?;
        self.0.halvings.fetch_add(1, Ordering::Relaxed);
        let device = named(&self.0.device);
        tracing::warn!(
            device,
            model,
            batch,
            next,
            "out of memory: fewer at once from now on"
        );
        if let Err(error) = self.keep(&batches) {
            tracing::warn!(file = %self.0.file.display(), %error, "what fits into the device is not written down");
        }
        Some(next)
    }

    fn keep(&self, batches: &Batches) -> std::io::Result<()> {
        let directory = self.0.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&batches.write()?)?;
        file.persist(&self.0.file)?;
        Ok(())
    }

    /// It did what it was asked for.
    pub fn worked(&self) {
        lock(&self.0.health).worked();
    }

    /// It failed, as `said`, in an attempt of this number at an item.
    pub fn failed(&self, said: &str, attempt: u32) -> After {
        self.0.failures.fetch_add(1, Ordering::Relaxed);
        let after = lock(&self.0.health).failed(attempt);
        let device = named(&self.0.device);
        tracing::error!(
            device,
            said,
            attempt,
            drains = after.drains,
            "the device failed"
        );
        if after.drains {
            let said = said.to_owned();
            lock(&self.0.why).get_or_insert(Unusable::DeviceFailed { device, said });
            self.0.drained.cancel();
        }
        after
    }

    /// Fires when it has failed as often as it may.
    pub fn drained(&self) -> CancellationToken {
        self.0.drained.clone()
    }

    /// Why nothing more is computed on it.
    pub fn failure(&self) -> Option<Unusable> {
        lock(&self.0.why).clone()
    }

    /// How often its memory ran out, and how often it failed, since this process began.
    pub fn counts(&self) -> [u64; 2] {
        [&self.0.halvings, &self.0.failures].map(|count| count.load(Ordering::Relaxed))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::Item;
    use super::*;

    fn card(directory: &Path, uuid: &str) -> Card {
        let device = Device {
            name: "NVIDIA L4".to_owned(),
            uuid: uuid.to_owned(),
            ..Device::default()
        };
        Card::new(device, directory)
    }

    #[test]
    fn what_fits_is_remembered_across_restarts_of_each_card() {
        let state = tempfile::tempdir().unwrap();
        let directory = state.path().join("devices");
        let first = card(&directory, "GPU-1");
        assert_eq!(first.most("model"), usize::MAX);
        assert_eq!(first.ran_out("model", 1024), Some(512));
        assert_eq!(first.ran_out("model", 512), Some(256));
        assert_eq!(first.counts(), [2, 0]);
        let again = card(&directory, "GPU-1");
        assert_eq!((again.most("model"), again.counts()), (256, [0, 0]));
        assert_eq!(card(&directory, "GPU-2").most("model"), usize::MAX);
        // What is damaged is found out again.
        std::fs::write(directory.join(FILE), "{").unwrap();
        let anew = card(&directory, "GPU-1");
        assert_eq!(anew.most("model"), usize::MAX);
        assert_eq!(anew.ran_out("model", 8), Some(4));
        assert_eq!(card(&directory, "GPU-1").most("model"), 4);
    }

    #[test]
    fn a_card_that_failed_twice_says_which_it_is_and_how() {
        let state = tempfile::tempdir().unwrap();
        let card = card(state.path(), "GPU-1");
        assert_eq!(card.failed("CUDA_ERROR_LAUNCH_FAILED", 1).item, Item::Later);
        assert!(!card.drained().is_cancelled() && card.failure().is_none());
        assert_eq!(
            card.failed("CUDA_ERROR_ILLEGAL_ADDRESS", 2).item,
            Item::AtOnce
        );
        assert!(card.drained().is_cancelled());
        assert_eq!(card.counts(), [0, 2]);
        let why = card.failure().unwrap();
        assert_eq!(why.reason(), "DeviceFailed");
        let said = why.to_string();
        for part in ["NVIDIA L4 (GPU-1)", "CUDA_ERROR_ILLEGAL_ADDRESS", "Xid"] {
            assert!(said.contains(part), "{part}: {said}");
        }
    }
}
