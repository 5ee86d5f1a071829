//! Records: what a step made from an input, so that a retry is a lookup.

use bytes::Bytes;
use loci_digest::Digest;
use object_store::path::Path as Location;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::backend::Stored;
use crate::error::{Result, StoreError};
use crate::layout::{Area, Name};

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
        let (name, mut before) = (Name(Area::Records, *key), None);
        loop {
            if self.write_record(key, output, before.as_ref()).await?
                && self.backend().stands(name).await?
            {
                return Ok(*output);
            }
            before = self.stored(&name.location()).await?;
            let winner = before.as_ref().and_then(|b| self.output(key, b));
            if let Some(winner) = winner
                && self.usable(&winner).await?
            {
                return Ok(winner);
            }
        }
    }

    /// What is kept under `name` beside the artefacts: `value`, unless someone was here before.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub async fn once(&self, name: &str, value: Bytes) -> Result<Bytes> {
        let location = Location::from(name);
        loop {
            if let Some(stored) = self.stored(&location).await? {
                return Ok(stored.bytes);
            }
            self.backend().swap(&location, None, value.clone()).await?;
        }
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

    /// Writes a record over what was there before; false when something else is there.
    async fn write_record(
        &self,
        key: &Digest,
        output: &Digest,
        before: Option<&Stored>,
    ) -> Result<bool> {
        let location = Area::Records.location(key);
        let record = Record {
            key: *key,
            output: *output,
        };
        let json = serde_json::to_vec(&record).map_err(|e| StoreError::Write {
            place: self.place(Area::Records, key),
            bytes: 0,
            source: e.into(),
        })?;
        self.backend().swap(&location, before, json.into()).await
    }

    /// The output that the record of `key` names, whether stored or not. A damaged record is as good
    /// as none: the step runs again and replaces it.
    pub(crate) async fn read_record(&self, key: &Digest) -> Result<Option<Digest>> {
        let stored = self.stored(&Area::Records.location(key)).await?;
        Ok(stored.and_then(|stored| self.output(key, &stored)))
    }

    fn output(&self, key: &Digest, stored: &Stored) -> Option<Digest> {
        match serde_json::from_slice::<Record>(&stored.bytes) {
            Ok(record) if record.key == *key => Some(record.output),
            _ => {
                let place = self.place(Area::Records, key);
                tracing::warn!(%key, place, "damaged record, taken as absent");
                None
            }
        }
    }
}
