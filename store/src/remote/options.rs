//! How a bucket is reached.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// How long an object store may stay silent, unless said otherwise.
const SILENCE: Duration = Duration::from_secs(30);

/// How a store in a bucket is reached.
///
/// Its clock and those of all who use it may differ by a quarter of an hour, beyond which S3 refuses requests; and an
/// object used within ten minutes is not marked again. Both shorten the grace of a collection.
#[derive(Clone)]
pub struct RemoteOptions {
    /// A directory for local copies of blobs that are needed as files. Those that nobody links to are deleted in time.
    pub cache: PathBuf,
    /// How long the server may stay silent before a request is tried again; thrice that, and it failed.
    pub silence: Duration,
    /// What programs of AWS take from the environment: `AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `AWS_REGION` and so on.
    pub settings: BTreeMap<String, String>,
}

impl RemoteOptions {
    /// With the settings of this process' environment.
    pub fn from_env(cache: PathBuf) -> Self {
        let variables = std::env::vars_os();
        let text =
            variables.filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
        let wanted = |key: &String| key.starts_with("AWS_") || key == "HOME";
        Self {
            cache,
            silence: SILENCE,
            settings: text.filter(|(key, _)| wanted(key)).collect(),
        }
    }
}
