//! How to reach NATS.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{ArgGroup, Args};
use loci_nats::{NatsOptions, Server};

/// Where work items are, and who asks for them.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("nats_server").args(["url", "url_file"]))]
pub struct Nats {
    /// The NATS server that work items go through: nats://host:port or tls://host:port
    #[arg(
        long = "nats",
        env = "LOCI_NATS_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    url: Option<String>,
    /// A file that holds this URL: a changed password in it is taken up without a restart
    #[arg(
        long = "nats-url-file",
        env = "LOCI_NATS_URL_FILE",
        value_name = "FILE"
    )]
    url_file: Option<PathBuf>,
    /// A .creds file for NATS
    #[arg(
        long = "nats-credentials",
        env = "LOCI_NATS_CREDENTIALS",
        value_name = "FILE",
        requires = "nats_server"
    )]
    credentials: Option<PathBuf>,
    /// A file with the seed of an NKey for NATS
    #[arg(
        long = "nats-nkey",
        env = "LOCI_NATS_NKEY",
        value_name = "FILE",
        requires = "nats_server"
    )]
    nkey: Option<PathBuf>,
    /// The certificates (PEM) of the authority that signed the NATS server's
    #[arg(
        long = "nats-ca",
        env = "LOCI_NATS_CA",
        value_name = "FILE",
        requires = "nats_server"
    )]
    ca: Option<PathBuf>,
    /// Replicas of each stream: 1, 3 or 5
    #[arg(
        id = "nats_replicas",
        long = "nats-replicas",
        env = "LOCI_NATS_REPLICAS",
        default_value_t = 1,
        value_name = "N"
    )]
    replicas: usize,
}

impl Nats {
    /// The URL and the files that are given, as a Secret holds them, by the variables that name them.
    pub fn files(&self) -> BTreeMap<&'static str, &'static str> {
        let all = [
            (true, "LOCI_NATS_URL_FILE", "url"),
            (
                self.credentials.is_some(),
                "LOCI_NATS_CREDENTIALS",
                "loci.creds",
            ),
            (self.nkey.is_some(), "LOCI_NATS_NKEY", "nkey.seed"),
            (self.ca.is_some(), "LOCI_NATS_CA", "ca.crt"),
        ];
        let given = all.into_iter().filter(|(given, ..)| *given);
        given.map(|(_, name, file)| (name, file)).collect()
    }

    /// For who cannot do without.
    pub fn needed(&self, name: &str) -> Result<NatsOptions> {
        self.options(name).context(
            "say where NATS is: --nats or --nats-url-file, LOCI_NATS_URL or LOCI_NATS_URL_FILE",
        )
    }

    /// None when no server was named.
    pub fn options(&self, name: &str) -> Option<NatsOptions> {
        let server = match (&self.url_file, &self.url) {
            (Some(path), _) => Server::File(path.clone()),
            (None, url) => Server::Url(url.clone()?),
        };
        Some(NatsOptions {
            credentials: self.credentials.clone(),
            nkey: self.nkey.clone(),
            ca: self.ca.clone(),
            replicas: self.replicas,
            ..NatsOptions::of(server, name)
        })
    }
}
