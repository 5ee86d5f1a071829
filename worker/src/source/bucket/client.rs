//! The client of a bucket's server, with the credentials of the declaration and no others.
//!
//! What `object_store` takes from the environment and from the metadata services of clouds is the machine's, not the
//! pipeline's: without a Secret a bucket is read as anybody.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use loci_store::{Cause, explain};
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::azure::{AzureConfigKey, AzureCredential, MicrosoftAzureBuilder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::{GcpCredential, GoogleCloudStorageBuilder};
use object_store::{
    BackoffConfig, ClientOptions, ObjectStore, RetryConfig, StaticCredentialProvider,
};
use reqwest::redirect;
use url::Url;

use super::{BucketProvider, BucketSpec, S3Credentials};
use crate::source::address::{Guard, refused_in};
use crate::source::error::chain;
use crate::source::{Secret, SourceError};

const CONNECT: Duration = Duration::from_secs(10);
const RETRIES: usize = 2;
const SECRET: &str = "bucket.secretRef";
/// The most of a server's words in an error.
const WORDS: usize = 300;

pub(super) fn field(field: &'static str, reason: impl Into<String>) -> SourceError {
    SourceError::Field {
        field,
        reason: reason.into(),
    }
}

pub(super) fn build(spec: &BucketSpec) -> Result<Arc<dyn ObjectStore>, SourceError> {
    let connector = Guarded::new(spec)?;
    let endpoint = spec.endpoint.as_ref();
    let endpoint = endpoint.map(|url| url.as_str().trim_end_matches('/').to_owned());
    match &spec.provider {
        BucketProvider::S3 {
            region,
            credentials,
        } => {
            let builder = s3(spec, region.as_deref(), credentials.as_ref());
            let builder = builder.with_http_connector(connector);
            let builder = match endpoint {
                Some(endpoint) => builder.with_endpoint(endpoint),
                None => builder,
            };
            let store = builder.build().map_err(|error| refused(&error))?;
            Ok(Arc::new(store))
        }
        BucketProvider::Gcs { service_account } => {
            gcs(spec, service_account.as_ref(), connector, endpoint)
        }
        BucketProvider::Azure { account, .. } => azure(spec, account, connector, endpoint),
    }
}

type Built = Result<Arc<dyn ObjectStore>, SourceError>;

fn s3(
    spec: &BucketSpec,
    region: Option<&str>,
    credentials: Option<&S3Credentials>,
) -> AmazonS3Builder {
    let text = |secret: &Secret| secret.expose().to_owned();
    let credential = AwsCredential {
        key_id: credentials.map_or_else(String::new, |of| text(&of.access_key_id)),
        secret_key: credentials.map_or_else(String::new, |of| text(&of.secret_access_key)),
        token: credentials
            .and_then(|of| of.session_token.as_ref())
            .map(text),
    };
    AmazonS3Builder::new()
        .with_retry(retries(spec))
        .with_bucket_name(&spec.bucket)
        .with_region(region.unwrap_or("us-east-1"))
        .with_credentials(Arc::new(StaticCredentialProvider::new(credential)))
        .with_skip_signature(credentials.is_none())
}

fn gcs(
    spec: &BucketSpec,
    service_account: Option<&Secret>,
    connector: Guarded,
    endpoint: Option<String>,
) -> Built {
    let builder = GoogleCloudStorageBuilder::new()
        .with_http_connector(connector)
        .with_retry(retries(spec))
        .with_bucket_name(&spec.bucket);
    // Not the server that a key names: it is the declaration's to say.
    let builder = builder.with_base_url(
        endpoint
            .as_deref()
            .unwrap_or("https://storage.googleapis.com"),
    );
    let builder = match service_account {
        Some(key) => builder.with_service_account_key(key.expose()),
        None => builder
            .with_credentials(Arc::new(StaticCredentialProvider::new(GcpCredential {
                bearer: String::new(),
            })))
            .with_skip_signature(true),
    };
    match (builder.build(), service_account) {
        (Ok(store), _) => Ok(Arc::new(store)),
        // What the parser says may hold a part of the key.
        (Err(_), Some(_)) => Err(wrong_key(
            spec,
            "serviceAccount",
            "the JSON key of a service account, as Google gives it",
        )),
        (Err(error), None) => Err(refused(&error)),
    }
}

fn azure(spec: &BucketSpec, account: &str, connector: Guarded, endpoint: Option<String>) -> Built {
    let mut builder = MicrosoftAzureBuilder::new()
        .with_http_connector(connector)
        .with_retry(retries(spec))
        .with_account(account)
        .with_container_name(&spec.bucket);
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let (builder, key) = match &spec.provider {
        BucketProvider::Azure {
            sas_token: Some(token),
            ..
        } => (
            builder.with_config(AzureConfigKey::SasKey, token.expose()),
            Some(("sasToken", "a shared access signature: sv=…&sig=…")),
        ),
        BucketProvider::Azure {
            account_key: Some(key),
            ..
        } => (
            builder.with_access_key(key.expose()),
            Some(("accountKey", "a key of the account, in base64")),
        ),
        _ => {
            let nobody = AzureCredential::BearerToken(String::new());
            let builder = builder
                .with_credentials(Arc::new(StaticCredentialProvider::new(nobody)))
                .with_skip_signature(true);
            (builder, None)
        }
    };
    match (builder.build(), key) {
        (Ok(store), _) => Ok(Arc::new(store)),
        (Err(_), Some((key, what))) => Err(wrong_key(spec, key, what)),
        (Err(error), None) => Err(refused(&error)),
    }
}

fn refused(error: &object_store::Error) -> SourceError {
    field("bucket", chain(error))
}

fn wrong_key(spec: &BucketSpec, key: &str, what: &str) -> SourceError {
    let name = spec.secret.as_deref().unwrap_or_default();
    let reason = format!("{key} of the Secret {name} is not {what}");
    field(SECRET, reason)
}

/// Beyond these an object is begun anew, or the source fails.
fn retries(spec: &BucketSpec) -> RetryConfig {
    RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.,
        },
        max_retries: RETRIES,
        retry_timeout: spec.timeout * 3,
    }
}

/// Sends requests to allowed addresses only, follows no redirects, and does not wait for a server that is silent.
#[derive(Clone, Debug)]
struct Guarded {
    client: reqwest::Client,
    guard: Guard,
}

impl Guarded {
    fn new(spec: &BucketSpec) -> Result<Self, SourceError> {
        let guard = Guard {
            allow_private: spec.allow_private,
        };
        let plain = spec.endpoint.as_ref().is_some_and(|e| e.scheme() == "http");
        // A proxy would resolve names itself, past the guard. Objects are read as they are stored.
        let client = reqwest::Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .no_gzip()
            .https_only(!plain)
            .connect_timeout(CONNECT.min(spec.timeout))
            .read_timeout(spec.timeout)
            .user_agent(concat!("loci/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| field("bucket", chain(&error)))?;
        Ok(Self { client, guard })
    }
}

impl HttpConnector for Guarded {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Guarded {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Of no kind that is tried again.
        let never = |error: Box<dyn std::error::Error + Send + Sync>| {
            HttpError::new_boxed(HttpErrorKind::Unknown, error)
        };
        let url = request.uri().to_string();
        let url = Url::parse(&url).map_err(|error| never(error.into()))?;
        self.guard
            .check_url(&url)
            .map_err(|refused| never(refused.into()))?;
        let answer = HttpService::call(&self.client, request).await;
        answer.map_err(|error| match refused_in(&error) {
            Some(refused) => never(refused.into()),
            None => error,
        })
    }
}

/// Why the server does not give what it was asked for, and what to look at.
pub(super) fn trouble(spec: &BucketSpec, error: &object_store::Error) -> (String, Cause) {
    let (mut reason, cause) = explain(error, &spec.bucket, spec.timeout);
    if is_bad_key(error) {
        reason = error.to_string();
    }
    if let Some((end, _)) = reason.char_indices().nth(WORDS) {
        reason.truncate(end);
        reason.push('…');
    }
    (reason, cause)
}

/// The source fails by it.
pub(super) fn remote(spec: &BucketSpec, error: &object_store::Error) -> SourceError {
    let url = spec.url();
    if let Some(refused) = refused_in(error) {
        return SourceError::Refused { url, refused };
    }
    let (reason, cause) = trouble(spec, error);
    let server = match &spec.endpoint {
        Some(endpoint) => format!(" (at {})", endpoint.as_str().trim_end_matches('/')),
        None => String::new(),
    };
    let advice = advice(spec, cause, error);
    SourceError::Remote {
        url: format!("{url}{server}"),
        reason: format!("{reason}; {advice}"),
    }
}

fn advice(spec: &BucketSpec, cause: Cause, error: &object_store::Error) -> String {
    match (cause, &spec.secret) {
        (Cause::Access, Some(name)) => {
            let keys = keys(&spec.provider);
            format!(
                "check {keys} in the Secret {name} of {SECRET}, and that their owner may list and read there"
            )
        }
        (Cause::Access, None) => {
            format!("the bucket is not open to anybody: name a Secret by {SECRET}")
        }
        (Cause::Bucket, _) => "correct bucket.url, or create the bucket".to_owned(),
        (Cause::Region, _) => "set bucket.region to the bucket's".to_owned(),
        (Cause::Clock, _) => "set the clock".to_owned(),
        (Cause::Busy, _) => "it was tried several times, and is again at the next look".to_owned(),
        (Cause::Way, _) => "check bucket.endpoint, the server and the network to it".to_owned(),
        (Cause::Absent, _) => "check bucket.url and bucket.endpoint".to_owned(),
        (Cause::Space | Cause::Server, _) if is_bad_key(error) => {
            "rename that object, or read a folder beside it by bucket.url".to_owned()
        }
        (Cause::Space | Cause::Server, _) => "see what the server logs".to_owned(),
    }
}

fn is_bad_key(error: &object_store::Error) -> bool {
    matches!(error, object_store::Error::InvalidPath { .. })
}

fn keys(provider: &BucketProvider) -> &'static str {
    match provider {
        BucketProvider::S3 { .. } => "accessKeyId and secretAccessKey",
        BucketProvider::Gcs { .. } => "serviceAccount",
        BucketProvider::Azure {
            sas_token: Some(_), ..
        } => "sasToken",
        BucketProvider::Azure { .. } => "accountKey",
    }
}
