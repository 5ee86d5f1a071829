//! `kubectl loci query`.

use anyhow::{Context, Result, anyhow};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use loci_operator::{COMPONENT, PIPELINE, PORT};

use super::Target;
use super::cluster::Cluster;
use super::forward::Forward;
use crate::client::Client;
use crate::commands::Question;
use crate::output::Output;

/// `kubectl loci query`.
#[derive(Debug, Args)]
pub struct Query {
    #[command(flatten)]
    question: Question,
    /// The pipeline; may be left out where the namespace has one only
    #[arg(long)]
    pipeline: Option<String>,
    /// Asks at this address, and not a pod through the API server
    #[arg(long)]
    url: Option<String>,
}

impl Query {
    /// Asks and prints.
    pub async fn run(self, target: &Target, output: Output) -> Result<()> {
        let token = self.question.token_file.clone();
        if let Some(url) = &self.url {
            let client = Client::new(url, token.as_deref(), "is that where a pipeline is served?")?;
            return self.question.ask(&client, self.pipeline, output).await;
        }
        let cluster = Cluster::connect(target).await?;
        let pipeline = cluster.pipeline(self.pipeline.as_deref()).await?.name_any();
        let pod = ready(&cluster, &pipeline).await?;
        let forward = Forward::to(cluster.api(), pod.clone(), PORT).await;
        let forward = forward.map_err(|error| {
            let why = cluster.explain(error);
            anyhow!("no way to the pod {pod}: {why:#}; it takes the rights to get and to create pods/portforward. --url asks elsewhere")
        })?;
        let client = Client::new(
            &forward.url,
            token.as_deref(),
            "the pod may just have ended: ask again",
        )?;
        self.question.ask(&client, None, output).await
    }
}

/// The name of a replica that answers.
async fn ready(cluster: &Cluster, pipeline: &str) -> Result<String> {
    let labels = format!("app.kubernetes.io/component={COMPONENT},{PIPELINE}={pipeline}");
    let pods = cluster
        .api::<Pod>()
        .list(&ListParams::default().labels(&labels))
        .await;
    let pods = pods.map_err(|e| cluster.explain(e))?.items;
    let found = pods.iter().find(|p| is_ready(p)).map(|p| p.name_any());
    found.with_context(|| {
        let namespace = &cluster.namespace;
        match pods.len() {
            0 => format!(
                "no pod serves {pipeline}: `kubectl loci status {pipeline}` may say why; where the operator serves it itself, give --url"
            ),
            n => format!(
                "none of the {n} pods that serve {pipeline} is ready: `kubectl -n {namespace} get pods -l {labels}`"
            ),
        }
    })
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten());
    let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
    pod.metadata.deletion_timestamp.is_none() && ready.next().is_some()
}
