//! Records: what a step made from an input, so that a retry is a lookup.

use bytes::Bytes;
use loci_digest::Digest;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::error::{Result, StoreError, io_error};
use crate::layout::Area;

#[derive(Serialize, Deserialize)]
struct Record {
    key: Digest,
    output: Digest,
}

impl Store {
    /// Records `output` under the input `key` of the step that made it, and returns the output that
    /// stands: that of the first writer, unless it is gone.
    ///
    /// # Errors
    /// [`StoreError::MissingReference`] when `output` is not stored; when writing fails.
    pub async fn record(&self, key: &Digest, output: &Digest) -> Result<Digest> {
        if !self.contains(output).await? {
            return Err(StoreError::MissingReference {
                what: format!("record of {key}"),
                digest: *output,
            });
        }
        if self.write_record(key, output, PutMode::Create).await? {
            return Ok(*output);
        }
        let _alone = self.inner.replacing.alone().await?;
        if let Some(winner) = self.lookup(key).await? {
            return Ok(winner);
        }
        self.write_record(key, output, PutMode::Overwrite).await?;
        Ok(*output)
    }

    /// The output recorded under `key`. None also when that output, or anything it names, is gone or
    /// known to be damaged: the step has to run again. What it returns counts as new for
    /// [`Store::gc`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn lookup(&self, key: &Digest) -> Result<Option<Digest>> {
        let Some(output) = self.read_record(key).await? else {
            return Ok(None);
        };
        Ok(self.usable(&output).await?.then_some(output))
    }

    /// Writes a record; false when `mode` is `Create` and there is one.
    async fn write_record(&self, key: &Digest, output: &Digest, mode: PutMode) -> Result<bool> {
        let path = self.file(Area::Records, key);
        let record = Record {
            key: *key,
            output: *output,
        };
        let json = serde_json::to_vec(&record).map_err(|e| StoreError::write(&path, 0, e))?;
        let bytes = json.len() as u64;
        // Not while a collection decides whether the record there is of use.
        let _shared = self.inner.sweeping.together().await?;
        let payload = PutPayload::from_bytes(Bytes::from(json));
        match self
            .inner
            .objects
            .put_opts(&Area::Records.location(key), payload, mode.into())
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(e) => Err(StoreError::write(&path, bytes, io_error(e))),
        }
    }

    /// The output that the record of `key` names, whether stored or not. A damaged record is as good
    /// as none: the step runs again and replaces it.
    pub(crate) async fn read_record(&self, key: &Digest) -> Result<Option<Digest>> {
        let path = self.file(Area::Records, key);
        let json = match self.inner.objects.get(&Area::Records.location(key)).await {
            Ok(found) => found
                .bytes()
                .await
                .map_err(|e| StoreError::read(&path, io_error(e)))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(e) => return Err(StoreError::read(&path, io_error(e))),
        };
        match serde_json::from_slice::<Record>(&json) {
            Ok(record) if record.key == *key => Ok(Some(record.output)),
            _ => {
                tracing::warn!(%key, path = %path.display(), "damaged record, taken as absent");
                Ok(None)
            }
        }
    }
}
