//! Documents: small JSON objects by name, replaced whole by compare-and-swap: `{"refs": […], "body": {…}}`.
//!
//! What a document names in `refs` is kept as long as it does, whoever collects garbage.

use futures::TryStreamExt;
use loci_digest::Digest;
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStoreExt, PutMode, PutPayload, UpdateVersion};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::backend::Act;
use crate::error::{Result, StoreError};
use crate::layout::{below, document, document_name, documents};
use crate::{Store, absent};

/// Which content a document had when it was read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(Option<String>, Option<String>);

#[derive(Serialize)]
struct Outgoing<'a, T> {
    refs: &'a [Digest],
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    body: T,
}

#[derive(Deserialize)]
struct Head {
    refs: Vec<Digest>,
}

impl Store {
    /// A document and its version; none when there is none of this name.
    ///
    /// # Errors
    /// When the store cannot be read, or the document is no `T`.
    pub async fn document<T: DeserializeOwned>(&self, name: &str) -> Result<Option<(T, Version)>> {
        let found = self.read_document::<Incoming<T>>(&document(name)).await?;
        Ok(found.map(|(document, version)| (document.body, version)))
    }

    /// Writes a document over the version `over`, or where there is none. Answers with the version that it has now;
    /// none when somebody else has written it since.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn put_document<T: Serialize>(
        &self,
        name: &str,
        refs: &[Digest],
        body: &T,
        over: Option<&Version>,
    ) -> Result<Option<Version>> {
        let at = document(name);
        let json = serde_json::to_vec(&Outgoing { refs, body }).map_err(|source| {
            StoreError::Document {
                place: self.backend().place(&at),
                source,
            }
        })?;
        let bytes = json.len() as u64;
        let written = match over {
            None => self.put_at(&at, json.into(), PutMode::Create).await,
            Some(over) => {
                let mode = PutMode::Update(UpdateVersion {
                    e_tag: over.0.clone(),
                    version: over.1.clone(),
                });
                match self.put_at(&at, json.clone().into(), mode).await {
                    // A directory does not compare by itself.
                    Err(Error::NotImplemented { .. }) => {
                        let _alone = self.backend().alone().await?;
                        if self.version(&at).await?.as_ref() != Some(over) {
                            return Ok(None);
                        }
                        self.put_at(&at, json.into(), PutMode::Overwrite).await
                    }
                    written => written,
                }
            }
        };
        match written {
            Ok(version) => Ok(Some(version)),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(None),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(self.backend().failed(Act::Write(bytes), &at, e)),
        }
    }

    /// Deletes a document of this version. False when somebody else has written or deleted it since.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn delete_document(&self, name: &str, version: &Version) -> Result<bool> {
        let at = document(name);
        let _alone = self.backend().alone().await?;
        if self.version(&at).await?.as_ref() != Some(version) {
            return Ok(false);
        }
        match self.backend().objects().delete(&at).await {
            Ok(()) => Ok(true),
            Err(e) if absent(&e) => Ok(false),
            Err(e) => Err(self.backend().failed(Act::Delete, &at, e)),
        }
    }

    /// Deletes a document, whatever is in it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn remove_document(&self, name: &str) -> Result<()> {
        let at = document(name);
        let _alone = self.backend().alone().await?;
        match self.backend().objects().delete(&at).await {
            Err(e) if !absent(&e) => Err(self.backend().failed(Act::Delete, &at, e)),
            _ => Ok(()),
        }
    }

    /// The names of all documents.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn documents(&self) -> Result<Vec<String>> {
        self.listed(&documents()).await
    }

    /// The names of the documents below a name: of `agents`, `agents/support` and not `agents-eu/support`.
    ///
    /// # Errors
    /// When the store cannot be listed.
    pub async fn documents_below(&self, name: &str) -> Result<Vec<String>> {
        self.listed(&below(name)).await
    }

    async fn listed(&self, at: &Path) -> Result<Vec<String>> {
        let listed = self.backend().objects().list(Some(at));
        let all: Vec<ObjectMeta> = listed
            .try_collect()
            .await
            .map_err(|e| self.backend().failed(Act::Read, at, e))?;
        let mut names: Vec<String> = all
            .iter()
            .filter_map(|object| document_name(&object.location))
            .collect();
        names.sort();
        Ok(names)
    }

    /// What all documents name.
    pub(crate) async fn pinned(&self) -> Result<Vec<Digest>> {
        let mut all = Vec::new();
        for name in self.documents().await? {
            let head = self.read_document::<Head>(&document(&name)).await?;
            all.extend(head.into_iter().flat_map(|(head, _)| head.refs));
        }
        Ok(all)
    }

    async fn read_document<T: DeserializeOwned>(&self, at: &Path) -> Result<Option<(T, Version)>> {
        let failed = |e| self.backend().failed(Act::Read, at, e);
        let found = match self.backend().objects().get(at).await {
            Ok(found) => found,
            Err(e) if absent(&e) => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let version = Version(found.meta.e_tag.clone(), found.meta.version.clone());
        let json = found.bytes().await.map_err(failed)?;
        let read = serde_json::from_slice(&json).map_err(|source| StoreError::Document {
            place: self.backend().place(at),
            source,
        })?;
        Ok(Some((read, version)))
    }

    async fn put_at(
        &self,
        at: &Path,
        payload: PutPayload,
        mode: PutMode,
    ) -> object_store::Result<Version> {
        let objects = self.backend().objects();
        let put = objects.put_opts(at, payload, mode.into()).await?;
        Ok(Version(put.e_tag, put.version))
    }

    async fn version(&self, at: &Path) -> Result<Option<Version>> {
        match self.backend().objects().head(at).await {
            Ok(meta) => Ok(Some(Version(meta.e_tag, meta.version))),
            Err(e) if absent(&e) => Ok(None),
            Err(e) => Err(self.backend().failed(Act::Read, at, e)),
        }
    }
}
