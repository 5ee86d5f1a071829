//! What a declaration says of a bucket.

use std::time::Duration;

use loci_digest::Digest;
use url::Url;

use crate::source::state::spec_digest;
use crate::source::{Limits, Secret};

/// Objects of a bucket.
#[derive(Clone, Debug)]
pub struct BucketSpec {
    /// What the server speaks, and who asks.
    pub provider: BucketProvider,
    /// The bucket, or the container.
    pub bucket: String,
    /// The folder to read; empty for all.
    pub prefix: String,
    /// The server, where it is not the provider's own.
    pub endpoint: Option<Url>,
    /// Globs of the keys below the prefix to read; empty: all Markdown, HTML, text and JSON Lines.
    pub include: Vec<String>,
    /// Globs of keys to leave out.
    pub exclude: Vec<String>,
    /// How many objects may match.
    pub max_objects: usize,
    /// The most bytes of one object.
    pub max_object_bytes: u64,
    /// Loopback and private addresses may be asked. Link-local ones never may.
    pub allow_private: bool,
    /// How long the server may stay silent before a request is tried again.
    pub timeout: Duration,
    /// The name of the Secret that the credentials are from; named in errors.
    pub secret: Option<String>,
}

/// What a bucket's server speaks, and who asks; without credentials, anybody.
#[derive(Clone, Debug)]
pub enum BucketProvider {
    /// S3 and what speaks its protocol.
    S3 {
        /// The bucket's region; `us-east-1` when absent.
        region: Option<String>,
        /// Who asks.
        credentials: Option<S3Credentials>,
    },
    /// Google Cloud Storage.
    Gcs {
        /// A service account's key, as JSON.
        service_account: Option<Secret>,
    },
    /// Azure Blob Storage. With both credentials the token is used.
    Azure {
        /// The storage account.
        account: String,
        /// The account's key.
        account_key: Option<Secret>,
        /// A shared access signature.
        sas_token: Option<Secret>,
    },
}

/// Keys of an S3 user or role.
#[derive(Clone, Debug)]
pub struct S3Credentials {
    /// Who it is.
    pub access_key_id: Secret,
    /// What requests are signed with.
    pub secret_access_key: Secret,
    /// Of credentials that expire.
    pub session_token: Option<Secret>,
}

impl BucketProvider {
    pub(super) fn scheme(&self) -> &'static str {
        match self {
            Self::S3 { .. } => "s3",
            Self::Gcs { .. } => "gs",
            Self::Azure { .. } => "az",
        }
    }
}

impl BucketSpec {
    /// `s3://bucket/prefix`.
    pub(super) fn url(&self) -> String {
        let Self { bucket, prefix, .. } = self;
        let url = format!("{}://{bucket}/{prefix}", self.provider.scheme());
        url.trim_end_matches('/').to_owned()
    }

    pub(super) fn digest(&self, limits: &Limits) -> Digest {
        let account = match &self.provider {
            BucketProvider::Azure { account, .. } => Some(account),
            _ => None,
        };
        spec_digest(&(
            self.url(),
            account,
            &self.endpoint,
            &self.include,
            &self.exclude,
            self.limits(limits),
        ))
    }

    pub(super) fn limits(&self, limits: &Limits) -> Limits {
        Limits {
            max_document_bytes: self.max_object_bytes.min(limits.max_document_bytes),
            max_documents: self.max_objects.min(limits.max_documents),
        }
    }
}
