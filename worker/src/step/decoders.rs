//! Decoders that steps ask.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use loci_models::{Decoder, DeviceRequest, HubOptions, ModelRef};
use tokio::sync::OnceCell;

use super::{StepError, blocking};

/// A model that is loaded once.
type Cell = Arc<OnceCell<Arc<Decoder>>>;

/// Decoders by model reference. Each is loaded by itself, so that who needs one does not wait for others.
#[derive(Clone)]
pub struct Decoders {
    hub: Arc<HubOptions>,
    device: DeviceRequest,
    cells: Arc<Mutex<HashMap<String, Cell>>>,
}

impl Decoders {
    /// Loads from `hub` onto `device`.
    pub fn new(hub: HubOptions, device: DeviceRequest) -> Self {
        Self {
            hub: Arc::new(hub),
            device,
            cells: Arc::default(),
        }
    }

    /// The decoder of `model`, fetched and loaded at the first call.
    ///
    /// # Errors
    /// When the reference is wrong, the model cannot be had or does not load.
    pub async fn get(&self, model: &str) -> Result<Arc<Decoder>, StepError> {
        let cell = self.cell(model);
        let decoder = cell.get_or_try_init(|| self.load(model)).await?;
        Ok(decoder.clone())
    }

    fn cell(&self, model: &str) -> Cell {
        let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.entry(model.to_owned()).or_default().clone()
    }

    async fn load(&self, model: &str) -> Result<Arc<Decoder>, StepError> {
        let reference: ModelRef = model.parse()?;
        let path = loci_models::fetch(&reference, &self.hub).await?;
        let device = self.device;
        blocking(move || Ok(Arc::new(Decoder::load(&path, device)?))).await
    }
}
