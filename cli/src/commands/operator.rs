//! `loci operator`.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use loci_models::DeviceRequest;
use loci_operator::{FetcherTemplate, Network, Options, Program, Serving, Template};
use loci_recall::{Auth, Tokens};

use super::election::Leadership;
use super::nats::Nats;
use super::store::Place;
use super::values::some_time;
use super::{Shared, api_config, service_log, until_terminated};
use crate::up::{device, duration};

/// `loci operator`.
#[derive(Debug, Args)]
pub struct Operator {
    /// A namespace to watch; may be given several times. All, when none is given
    #[arg(long, value_name = "NAMESPACE")]
    watch: Vec<String>,
    /// Where queries are answered
    #[arg(long, default_value = "127.0.0.1:7700")]
    listen: SocketAddr,
    /// A file with bearer tokens, one a line; needed to listen beyond loopback
    #[arg(long, env = "LOCI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
    /// Where encoders run: auto or cpu; cuda is refused until a build has it
    #[arg(long, default_value = "auto", value_parser = device)]
    device: DeviceRequest,
    /// The hub that hf:// models come from
    #[arg(long, env = "HF_ENDPOINT")]
    hub: Option<url::Url>,
    #[command(flatten)]
    store: Place,
    /// How long a pipeline has to be gone before its deletionPolicy is carried out
    #[arg(
        long,
        env = "LOCI_DELETION_GRACE",
        value_name = "DURATION",
        default_value = "1h",
        value_parser = duration
    )]
    deletion_grace: Duration,
    #[command(flatten)]
    nats: Nats,
    /// Where Prometheus reads how much work waits in NATS
    #[arg(
        long,
        env = "LOCI_METRICS",
        value_name = "ADDR",
        requires = "nats_server"
    )]
    metrics: Option<SocketAddr>,
    #[command(flatten)]
    leadership: Leadership,
    #[command(flatten)]
    replicas: Replicas,
}

/// How pipelines are served by pods of their own.
#[derive(Debug, Args)]
struct Replicas {
    /// Serves each pipeline by pods of its own, of this image. Without it, the operator's process serves all
    #[arg(long = "recall-image", env = "LOCI_RECALL_IMAGE", value_name = "IMAGE")]
    image: Option<String>,
    /// When that image is pulled: Always, IfNotPresent or Never
    #[arg(
        long = "recall-pull-policy",
        env = "LOCI_RECALL_PULL_POLICY",
        default_value = "IfNotPresent"
    )]
    pull_policy: String,
    /// Secrets of each namespace that the image is pulled with, separated by commas
    #[arg(
        long = "pull-secrets",
        env = "LOCI_PULL_SECRETS",
        value_name = "SECRETS",
        value_delimiter = ','
    )]
    pull_secrets: Vec<String>,
    /// How many pods a pipeline begins with that does not say how many it wants
    #[arg(
        id = "recall_replicas",
        long = "recall-replicas",
        env = "LOCI_RECALL_REPLICAS",
        default_value_t = 2
    )]
    replicas: u32,
    /// Their resources, as JSON
    #[arg(
        long = "recall-resources",
        env = "LOCI_RECALL_RESOURCES",
        default_value = "{}"
    )]
    resources: String,
    /// A Secret of the pipeline's namespace with bearer tokens under the key `tokens`. Without it, everybody whom the
    /// network lets through may ask
    #[arg(
        long = "recall-token-secret",
        env = "LOCI_RECALL_TOKEN_SECRET",
        value_name = "SECRET"
    )]
    token_secret: Option<String>,
    /// Who may query those pods, as a JSON list of a NetworkPolicy's peers: [] for everybody. What a pod has loaded is told
    /// to the operator alone. `open` lets everybody ask for everything; without it, no policies are made
    #[arg(
        long = "recall-queriers",
        env = "LOCI_RECALL_QUERIERS",
        value_name = "PEERS"
    )]
    queriers: Option<String>,
    /// How long those pods may take to load a release before it is held: 90s, 10m
    #[arg(long, env = "LOCI_LOAD_DEADLINE", default_value = "10m", value_name = "DURATION", value_parser = some_time)]
    load_deadline: Duration,
    /// Where those pods get revisions from
    #[arg(long, default_value = "0.0.0.0:7710")]
    artifacts: SocketAddr,
    /// How they, and fetchers, reach that, as a URL
    #[arg(long, env = "LOCI_ARTIFACTS_URL", value_name = "URL")]
    artifacts_url: Option<url::Url>,
    /// Resources of the pods that read sources, one in each namespace, as JSON
    #[arg(
        long = "fetcher-resources",
        env = "LOCI_FETCHER_RESOURCES",
        default_value = "{}"
    )]
    fetcher_resources: String,
    /// The Secret in each namespace by which those pods reach NATS: its URL, with their user and password, under the
    /// key `url`; and `loci.creds`, `nkey.seed`, `ca.crt`, where the operator is given such a file
    #[arg(
        long = "fetcher-nats-secret",
        env = "LOCI_FETCHER_NATS_SECRET",
        value_name = "SECRET",
        default_value = "loci-fetcher-nats"
    )]
    fetcher_nats_secret: String,
}

impl Replicas {
    /// `home` is the operator's own namespace.
    fn serving(
        self,
        (listen, auth): (SocketAddr, Auth),
        hub: Option<&url::Url>,
        home: Option<String>,
        nats_files: BTreeMap<&'static str, &'static str>,
    ) -> Result<Serving> {
        let Some(image) = self.image else {
            return Ok(Serving::Here { listen, auth });
        };
        let artifacts_url = self
            .artifacts_url
            .context("say how pods reach the operator's artefacts: --artifacts-url")?;
        let resources = serde_json::from_str(&self.resources).context("--recall-resources")?;
        let network = self
            .queriers
            .as_deref()
            .map(|queriers| network(queriers, home));
        let program = Program {
            image,
            pull_policy: self.pull_policy,
            pull_secrets: self.pull_secrets,
            log: std::env::var("RUST_LOG").ok(),
        };
        let of_fetcher = serde_json::from_str(&self.fetcher_resources);
        let fetcher = FetcherTemplate {
            program: program.clone(),
            resources: of_fetcher.context("--fetcher-resources")?,
            nats_secret: self.fetcher_nats_secret,
            nats_files,
        };
        let template = Template {
            program,
            replicas: self.replicas,
            resources,
            token_secret: self.token_secret,
            hub: hub.cloned(),
            network: network.transpose()?,
            deadline: self.load_deadline,
        };
        Ok(Serving::Replicas {
            template: Box::new(template),
            artifacts: self.artifacts,
            artifacts_url,
            fetcher: Box::new(fetcher),
        })
    }
}

/// Who may reach replicas of an operator in the namespace `home`.
fn network(queriers: &str, home: Option<String>) -> Result<Network> {
    if queriers == "open" {
        return Ok(Network::Open);
    }
    Ok(Network::Guarded {
        queriers: serde_json::from_str(queriers).context("--recall-queriers")?,
        operator: home
            .context("--recall-queriers: say where the operator runs by --lease-namespace")?,
    })
}

impl Operator {
    /// Runs until Ctrl-C or SIGTERM.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        service_log();
        let config = api_config().await?;
        let auth = match &self.token_file {
            Some(path) => Auth::Bearer(Tokens::from_file(path)?),
            None => Auth::Off,
        };
        let serving = self.replicas.serving(
            (self.listen, auth),
            self.hub.as_ref(),
            self.leadership.namespace()?,
            self.nats.files(),
        )?;
        let options = Options {
            namespaces: self.watch,
            state: shared.state.clone(),
            serving,
            hub: self.hub,
            device: self.device,
            nats: self.nats.options("loci-operator"),
            metrics: self.metrics,
            store: self.store.url(&shared.state),
            remote: self.store.remote(&shared.state),
            election: self.leadership.election()?,
            deletion_grace: self.deletion_grace,
        };
        loci_operator::run(config, options, until_terminated()).await
    }
}
