//! One object, read whole.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use loci_store::Cause;
use object_store::path::Path;
use object_store::{Error, GetOptions, ObjectMeta, ObjectStoreExt};

use super::Bucket;
use super::client::{remote, trouble};
use crate::source::SourceError;

/// How often an object is begun anew.
const ATTEMPTS: usize = 3;
/// Slower than this many bytes a second, an object is given up.
const SLOWEST: u64 = 32 << 10;

pub(super) enum Content {
    Whole(Bytes),
    Absent,
    /// The size that it has by now.
    TooLarge(u64),
    /// The server answers, and does not give this object.
    Refused(SourceError),
}

impl Bucket<'_> {
    /// The object as it was listed, or as it is by now: never a mix of two versions.
    pub(super) async fn read(&self, meta: &ObjectMeta) -> Result<Content, SourceError> {
        let quoted = |tag: &String| tag.starts_with('"');
        let mut expected = meta.e_tag.clone().filter(quoted);
        let mut tag = super::tag(meta);
        for _ in 0..ATTEMPTS {
            let patience = self.patience(meta.size);
            let read = tokio::time::timeout(patience, self.once(meta, expected.take())).await;
            let error = match read {
                Ok(Ok(content)) => return Ok(content),
                Ok(Err(error)) => error,
                Err(_) => return Err(self.slow(meta, patience)),
            };
            // Where an interrupted body is gone on with, the object may be another by then.
            let now = self.store.head(&meta.location).await;
            let now = now.map_or_else(|_| tag.clone(), |now| super::tag(&now));
            if now == tag && !is_another(&error) {
                return self.given_up(meta, error);
            }
            tracing::debug!(object = %meta.location, "read anew: {error}");
            tag = now;
        }
        Err(SourceError::Remote {
            url: self.uri(&meta.location),
            reason: "changed each time that it was read; it is looked at again".to_owned(),
        })
    }

    async fn once(&self, meta: &ObjectMeta, expected: Option<String>) -> Result<Content, Error> {
        let options = GetOptions {
            if_match: expected,
            ..GetOptions::default()
        };
        let found = match self.store.get_opts(&meta.location, options).await {
            Ok(found) => found,
            Err(error) if trouble(self.spec, &error).1 == Cause::Absent => {
                return Ok(Content::Absent);
            }
            Err(error) => return Err(error),
        };
        let size = found.meta.size;
        if self.limits.refuse_size(size).is_some() {
            return Ok(Content::TooLarge(size));
        }
        let mut content = BytesMut::with_capacity(size as usize);
        let mut parts = found.into_stream();
        while let Some(part) = parts.next().await {
            content.extend_from_slice(&part?);
            if self.limits.refuse_size(content.len() as u64).is_some() {
                return Ok(Content::TooLarge(content.len() as u64));
            }
        }
        Ok(Content::Whole(content.freeze()))
    }

    fn given_up(&self, meta: &ObjectMeta, error: Error) -> Result<Content, SourceError> {
        let url = self.uri(&meta.location);
        let (reason, cause) = trouble(self.spec, &error);
        match cause {
            Cause::Access => Ok(Content::Refused(SourceError::Remote { url, reason })),
            _ => Err(remote(self.spec, &error)),
        }
    }

    /// Whether an object that was refused is given now.
    pub(super) async fn is_given(&self, key: &str) -> bool {
        let whole = match self.spec.prefix.as_str() {
            "" => key.to_owned(),
            prefix => format!("{prefix}/{key}"),
        };
        match Path::parse(whole) {
            Ok(location) => self.store.get_range(&location, 0..1).await.is_ok(),
            Err(_) => false,
        }
    }

    /// The time that an object of this size may take, with all retries.
    fn patience(&self, bytes: u64) -> Duration {
        self.spec.timeout * 6 + Duration::from_secs(bytes / SLOWEST)
    }

    fn slow(&self, meta: &ObjectMeta, patience: Duration) -> SourceError {
        SourceError::Remote {
            url: self.uri(&meta.location),
            reason: format!(
                "was not read within {} s; check the network, or raise bucket.timeout",
                patience.as_secs()
            ),
        }
    }
}

/// Whether a condition of the request was not met: the object is another than the listed one.
fn is_another(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(Error::Precondition { .. })) {
            return true;
        }
        cause = error.source();
    }
    false
}
