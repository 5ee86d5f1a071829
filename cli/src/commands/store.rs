//! Where artefacts are.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use loci_store::{RemoteOptions, StoreUrl};

use super::values::some_time;

/// The store, and how it is reached.
#[derive(Debug, Args)]
pub struct Place {
    /// Where artefacts are: a directory that the operator and all workers share, or s3://BUCKET/PREFIX, reached as the usual
    /// AWS_… variables or ~/.aws/credentials say (AWS_ENDPOINT_URL names a server other than AWS). By default `store` in
    /// the state directory
    #[arg(
        id = "store",
        long = "store",
        env = "LOCI_STORE",
        value_name = "DIRECTORY|URL"
    )]
    url: Option<StoreUrl>,
    /// How long an object store may stay silent before a request is tried again; thrice that, and it failed
    #[arg(long = "store-silence", env = "LOCI_STORE_SILENCE", default_value = "30s", value_name = "DURATION", value_parser = some_time)]
    silence: Duration,
}

impl Place {
    /// Where it is.
    pub fn url(&self, state: &Path) -> StoreUrl {
        let named = self.url.clone();
        named.unwrap_or_else(|| state.join("store").into())
    }

    /// How it is reached when it is not a directory.
    pub fn remote(&self, state: &Path) -> RemoteOptions {
        RemoteOptions {
            silence: self.silence,
            ..RemoteOptions::from_env(state.join("objects"))
        }
    }
}
