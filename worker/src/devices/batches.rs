//! How much a device computes at once.

use std::collections::BTreeMap;
use std::ops::Range;

use loci_models::ModelError;
use serde::{Deserialize, Serialize};

/// The most texts that a model embeds at once on a device, by the device's UUID and the model's identity, where that was
/// found out: its memory ran out by more. Where it was not, there is no bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batches {
    version: u32,
    most: BTreeMap<String, BTreeMap<String, usize>>,
}

/// Of [`Batches`] as JSON.
const VERSION: u32 = 1;

impl Batches {
    /// As they were written.
    ///
    /// # Errors
    /// A sentence that says why they are not read.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let read: Self = serde_json::from_slice(json).map_err(|e| e.to_string())?;
        match read.version {
            VERSION => Ok(read),
            other => Err(format!(
                "it is of version {other}, and this build reads {VERSION}"
            )),
        }
    }

    /// To be kept.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        let version = VERSION;
        serde_json::to_vec_pretty(&Self {
            version,
            ..self.clone()
        })
    }

    /// The most of `model` at once on `device`.
    pub fn most(&self, device: &str, model: &str) -> usize {
        let known = self.most.get(device).and_then(|models| models.get(model));
        known.copied().unwrap_or(usize::MAX).max(1)
    }

    /// The memory ran out with so many at once: how many are tried next, which is half as many, or fewer where that is
    /// known to be too much. None when it was one: less there is not.
    pub fn ran_out(&mut self, device: &str, model: &str, batch: usize) -> Option<usize> {
        if batch <= 1 {
            return None;
        }
        let most = (batch / 2).min(self.most(device, model));
        let models = self.most.entry(device.to_owned()).or_default();
        models.insert(model.to_owned(), most);
        Some(most)
    }
}

/// Computes `count` things in order, `most` at once. Where the memory runs out, `ran_out` is asked with the size of that
/// batch for a smaller one, by which the same things are tried again.
///
/// # Errors
/// What `compute` fails with, but for memory that suffices for fewer.
pub fn in_batches<T>(
    count: usize,
    mut most: usize,
    mut compute: impl FnMut(Range<usize>) -> Result<T, ModelError>,
    mut ran_out: impl FnMut(usize) -> Option<usize>,
) -> Result<Vec<T>, ModelError> {
    let (mut parts, mut at) = (Vec::new(), 0);
    while at < count {
        let batch = at..at + most.clamp(1, count - at);
        let size = batch.len();
        match compute(batch) {
            Ok(part) => {
                parts.push(part);
                at += size;
            }
            Err(error @ ModelError::OutOfMemory(_)) => match ran_out(size) {
                Some(smaller) => most = smaller.min(size - 1),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A device whose memory holds so many texts: the batches that it was asked for, and the places that it computed.
    struct Simulated {
        room: usize,
        tried: Vec<usize>,
    }

    impl Simulated {
        fn embed(&mut self, batch: Range<usize>) -> Result<Vec<usize>, ModelError> {
            self.tried.push(batch.len());
            match batch.len() <= self.room {
                true => Ok(batch.collect()),
                false => Err(ModelError::OutOfMemory("in a simulation".to_owned())),
            }
        }
    }

    fn run(
        device: &mut Simulated,
        batches: &mut Batches,
        count: usize,
    ) -> Result<Vec<usize>, ModelError> {
        let most = batches.most("GPU-1", "model");
        let ran_out = |size| batches.ran_out("GPU-1", "model", size);
        let parts = in_batches(count, most, |batch| device.embed(batch), ran_out)?;
        Ok(parts.concat())
    }

    fn room(room: usize) -> Simulated {
        Simulated {
            room,
            tried: Vec::new(),
        }
    }

    #[test]
    fn a_batch_that_does_not_fit_is_halved_until_it_does_and_that_is_remembered() {
        let (mut device, mut batches) = (room(300), Batches::default());
        let all: Vec<usize> = (0..1024).collect();
        assert_eq!(run(&mut device, &mut batches, 1024).unwrap(), all);
        assert_eq!(device.tried, [1024, 512, 256, 256, 256, 256]);
        // After a restart nothing runs out again.
        let mut batches = Batches::read(&batches.write().unwrap()).unwrap();
        assert_eq!(batches.most("GPU-1", "model"), 256);
        let mut device = room(300);
        assert_eq!(run(&mut device, &mut batches, 600).unwrap(), all[..600]);
        assert_eq!(device.tried, [256, 256, 88]);
        // Another device or model knows nothing of it.
        assert_eq!(batches.most("GPU-2", "model"), usize::MAX);
        assert_eq!(batches.most("GPU-1", "other"), usize::MAX);
    }

    #[test]
    fn one_text_that_does_not_fit_is_told_and_other_failures_are_not_tried_again() {
        let (mut device, mut batches) = (room(0), Batches::default());
        let error = run(&mut device, &mut batches, 4).unwrap_err();
        assert!(matches!(error, ModelError::OutOfMemory(_)), "{error}");
        assert_eq!(device.tried, [4, 2, 1]);
        assert_eq!(batches.most("GPU-1", "model"), 1);
        let mut asked = 0;
        let failed = in_batches(
            4,
            2,
            |_| {
                asked += 1;
                Err::<(), _>(ModelError::Cancelled)
            },
            |_| Some(1),
        );
        assert!(matches!(failed, Err(ModelError::Cancelled)) && asked == 1);
    }

    #[test]
    fn what_ran_out_late_does_not_raise_what_is_known() {
        let mut batches = Batches::default();
        assert_eq!(batches.ran_out("GPU-1", "model", 16), Some(8));
        assert_eq!(batches.ran_out("GPU-1", "model", 1024), Some(8));
        assert_eq!(batches.ran_out("GPU-1", "model", 3), Some(1));
        assert_eq!(batches.ran_out("GPU-1", "model", 1), None);
    }

    #[test]
    fn what_was_not_written_by_this_is_not_read() {
        for json in ["", "{}", "[]", r#"{"version": 2, "most": {}}"#] {
            assert!(Batches::read(json.as_bytes()).is_err(), "{json}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_embedded_once_in_order_whatever_the_memory(count in 0usize..400, memory in 1usize..500, known in 0usize..300) {
            let (mut device, mut batches) = (room(memory), Batches::default());
            if known > 1 {
                batches.ran_out("GPU-1", "model", known);
            }
            let done = run(&mut device, &mut batches, count).unwrap();
            prop_assert_eq!(done, (0..count).collect::<Vec<_>>());
            prop_assert!(device.tried.iter().all(|size| *size >= 1));
            // Each that ran out halved: there are few of them.
            let ran_out = device.tried.iter().filter(|size| **size > memory).count();
            prop_assert!(ran_out <= 9, "{:?}", device.tried);
        }
    }
}
