//! Models by reference, each loaded once for all steps of a process.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use loci_models::{
    CrossEncoder, Decoder, DecoderTokenizer, DeviceRequest, Encoder, HubOptions, ModelRef,
};
use tokio::sync::OnceCell;

use super::revisions::file;
use super::{StepError, blocking};

/// Encoders and cross-encoders by model reference. All that were loaded stay.
#[derive(Clone)]
pub struct Encoders {
    hub: Arc<HubOptions>,
    device: DeviceRequest,
    loaded: Loaded<Encoder>,
    crosses: Loaded<CrossEncoder>,
}

/// Decoders by model reference. Of those that nobody uses, the one stays that was asked for last: they are large.
#[derive(Clone)]
pub struct Decoders {
    hub: Arc<HubOptions>,
    device: DeviceRequest,
    loaded: Loaded<Decoder>,
}

/// A place for each model: one that is being loaded holds nobody up who wants another.
struct Loaded<T>(Arc<Mutex<HashMap<String, Place<T>>>>);

type Place<T> = Arc<OnceCell<Arc<T>>>;

impl<T> Clone for Loaded<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Loaded<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Loaded<T> {
    fn place(&self, model: &str) -> Place<T> {
        self.lock().entry(model.to_owned()).or_default().clone()
    }

    fn has(&self, model: &str) -> bool {
        self.get(model).is_some()
    }

    /// The model, if it is loaded.
    fn get(&self, model: &str) -> Option<Arc<T>> {
        self.lock().get(model)?.get().cloned()
    }

    /// Lets go of all others that nobody uses or loads.
    fn keep(&self, model: &str) {
        self.lock().retain(|name, place| {
            let used = place.get().is_some_and(|m| Arc::strong_count(m) > 1);
            name == model || used || Arc::strong_count(place) > 1
        });
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Place<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Encoders {
    /// Loads from `hub` onto `device`.
    pub fn new(hub: HubOptions, device: DeviceRequest) -> Self {
        Self {
            hub: Arc::new(hub),
            device,
            loaded: Loaded::default(),
            crosses: Loaded::default(),
        }
    }

    /// The memory that loading `model` takes at its peak: its weights as they are stored and as they are computed with.
    /// None when it is loaded. The model is fetched for that.
    ///
    /// # Errors
    /// When the reference is wrong or the model cannot be had.
    pub async fn weight(&self, model: &str) -> Result<u64, StepError> {
        if self.loaded.has(model) {
            return Ok(0);
        }
        self.stored_twice(model).await
    }

    /// The same of a cross-encoder.
    ///
    /// # Errors
    /// As [`Self::weight`].
    pub async fn cross_encoder_weight(&self, model: &str) -> Result<u64, StepError> {
        if self.crosses.has(model) {
            return Ok(0);
        }
        self.stored_twice(model).await
    }

    async fn stored_twice(&self, model: &str) -> Result<u64, StepError> {
        let directory = fetched(model, &self.hub).await?;
        let bytes = blocking(move || weights(&directory).map_err(|e| file(&directory, e)));
        Ok(2 * bytes.await?)
    }

    /// The encoder of `model`, fetched and loaded at the first call.
    ///
    /// # Errors
    /// When the reference is wrong, the model cannot be had or does not load.
    pub async fn get(&self, model: &str) -> Result<Arc<Encoder>, StepError> {
        let (place, device) = (self.loaded.place(model), self.device);
        let load = || async {
            let directory = fetched(model, &self.hub).await?;
            blocking(move || Ok(Arc::new(Encoder::load(&directory, device)?))).await
        };
        Ok(place.get_or_try_init(load).await?.clone())
    }

    /// The cross-encoder of `model`, fetched and loaded at the first call.
    ///
    /// # Errors
    /// [`StepError::Rerank`] when the reference is wrong, the model cannot be had or does not load.
    pub async fn cross_encoder(&self, model: &str) -> Result<Arc<CrossEncoder>, StepError> {
        let (place, device) = (self.crosses.place(model), self.device);
        let load = || async {
            let directory = fetched(model, &self.hub).await?;
            blocking(move || Ok(Arc::new(CrossEncoder::load(&directory, device)?))).await
        };
        let loaded = place.get_or_try_init(load).await;
        let named = |e: StepError| StepError::Rerank(e.to_string());
        Ok(loaded.map_err(named)?.clone())
    }
}

impl Decoders {
    /// Loads from `hub` onto `device`.
    pub fn new(hub: HubOptions, device: DeviceRequest) -> Self {
        Self {
            hub: Arc::new(hub),
            device,
            loaded: Loaded::default(),
        }
    }

    /// The memory that loading `model` takes at its peak: its weights as f32, however they are stored, and one tensor
    /// more. None when it is loaded. The model is fetched for that.
    ///
    /// # Errors
    /// When the reference is wrong, the model cannot be had or its files are damaged.
    pub async fn weight(&self, model: &str) -> Result<u64, StepError> {
        if self.loaded.has(model) {
            return Ok(0);
        }
        let path = fetched(model, &self.hub).await?;
        blocking(move || Ok(Decoder::memory(&path)?)).await
    }

    /// The memory that generating takes for a text of so many tokens, or of all that `model` has room for. The model is
    /// fetched for that unless it is loaded.
    ///
    /// # Errors
    /// As [`Self::weight`].
    pub async fn text_memory(&self, model: &str, tokens: usize) -> Result<u64, StepError> {
        if let Some(decoder) = self.loaded.get(model) {
            return Ok(decoder.text_memory(tokens));
        }
        let path = fetched(model, &self.hub).await?;
        blocking(move || Ok(Decoder::text_memory_of(&path, tokens)?)).await
    }

    /// The tokenizer of `model`, fetched without the model unless that is loaded.
    ///
    /// # Errors
    /// When the reference is wrong, the tokenizer cannot be had or is none of a decoder.
    pub async fn tokenizer(&self, model: &str) -> Result<DecoderTokenizer, StepError> {
        if let Some(decoder) = self.loaded.get(model) {
            return Ok(decoder.tokenizer().clone());
        }
        let reference: ModelRef = model.parse()?;
        let directory = loci_models::fetch_tokenizer(&reference, &self.hub).await?;
        blocking(move || Ok(DecoderTokenizer::read(&directory)?)).await
    }

    /// The decoder of `model`, fetched and loaded at the first call.
    ///
    /// # Errors
    /// When the reference is wrong, the model cannot be had or does not load.
    pub async fn get(&self, model: &str) -> Result<Arc<Decoder>, StepError> {
        let (place, device) = (self.loaded.place(model), self.device);
        self.loaded.keep(model);
        let load = || async {
            let path = fetched(model, &self.hub).await?;
            blocking(move || Ok(Arc::new(Decoder::load(&path, device)?))).await
        };
        Ok(place.get_or_try_init(load).await?.clone())
    }
}

async fn fetched(model: &str, hub: &HubOptions) -> Result<PathBuf, StepError> {
    let reference: ModelRef = model.parse()?;
    Ok(loci_models::fetch(&reference, hub).await?)
}

/// The bytes of all weights below a model's directory.
fn weights(directory: &Path) -> std::io::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        // A hub's cache holds links.
        let metadata = std::fs::metadata(&path)?;
        if metadata.is_dir() {
            bytes += weights(&path)?;
        } else if path.extension().is_some_and(|e| e == "safetensors") {
            bytes += metadata.len();
        }
    }
    Ok(bytes)
}
