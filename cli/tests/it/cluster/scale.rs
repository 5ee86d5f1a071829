//! Many settled pipelines: what a cold start and idleness cost an operator, and that it is awake all the same.
//!
//! One pipeline is built for real and left to settle. The others are its copies: the API server holds of each what it
//! would hold had it been built. The first operator that meets them arranges what serves them. The one that is measured
//! finds everything settled.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::Request;
use kube::{Api, ResourceExt};
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_testbed::ControlPlane;
use serde_json::json;

use super::copies::{PROTOTYPE, Prototype};
use super::replicas::Replica;
use super::{Cluster, Process};

/// The bounds.
const COLD: Duration = Duration::from_secs(60);
const MEMORY: u64 = 250_000_000;

/// How many, by `LOCI_SCALE`, and how long idleness is watched. Ten thousand is `make bench-scale`.
fn scale() -> (usize, Duration) {
    match std::env::var("LOCI_SCALE") {
        Ok(n) => (n.parse().unwrap(), Duration::from_secs(60)),
        Err(_) => (100, Duration::from_secs(5)),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn settled_pipelines_cost_an_operator_next_to_nothing() {
    let (pipelines, watched) = scale();
    // Of its own: what everybody writes to it is counted.
    let plane = Box::leak(Box::new(ControlPlane::start().await.unwrap()));
    let cluster = Cluster::on(plane, "tenant").await;
    let site = Site::new(cluster);
    let began = Instant::now();
    let copies = site.prototype().await.copies(pipelines - 1).await;
    eprintln!("{pipelines} pipelines were made in {:?}", began.elapsed());

    // The first operator arranges what serves the copies.
    let began = Instant::now();
    let first = site.operator("first");
    site.looked_at("first").await;
    site.no_more_writes().await;
    let arranged = began.elapsed();
    first.end();

    let before = site.writes().await;
    let (began, cold) = (Instant::now(), site.operator("cold"));
    let settled = site.looked_at("cold").await;
    let took = began.elapsed();
    let (_, peak) = cold.memory();
    tokio::time::sleep(watched).await;
    let (resident, _) = cold.memory();
    let writes = site.writes().await - before;

    let megabytes = |bytes: u64| format!("{} MB", bytes / 1_000_000);
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        format!("{pipelines} pipelines").as_str(),
        "measured",
        "bound",
    ]);
    let idle = format!("resident after {} s idle", watched.as_secs());
    let written = format!(
        "API writes in the cold start and {} s idle",
        watched.as_secs()
    );
    for row in [
        [
            "arranged by the first operator".to_owned(),
            format!("{:.1} s", arranged.as_secs_f64()),
            String::new(),
        ],
        [
            "cold start until every one was reconciled".to_owned(),
            format!("{:.1} s", took.as_secs_f64()),
            "60 s".to_owned(),
        ],
        [
            "settled then".to_owned(),
            settled.to_string(),
            pipelines.to_string(),
        ],
        [
            "resident at most during the cold start".to_owned(),
            megabytes(peak),
            megabytes(MEMORY),
        ],
        [idle, megabytes(resident), megabytes(MEMORY)],
        [written, writes.to_string(), "0".to_owned()],
    ] {
        table.add_row(row);
    }
    println!("{table}");
    site.is_awake(&copies).await;
    drop(cold);
    assert_eq!(settled, pipelines, "{}", site.cluster.logs());
    assert!(
        took < COLD && peak.max(resident) < MEMORY && writes == 0,
        "{table}"
    );
}

struct Site {
    cluster: Cluster,
    artifacts: String,
}

impl Site {
    fn new(cluster: Cluster) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let artifacts = listener.local_addr().unwrap().to_string();
        Self { cluster, artifacts }
    }

    fn operator(&self, name: &str) -> Process {
        let url = format!("http://{}", self.artifacts);
        self.cluster.spawn(
            name,
            &[
                "operator",
                "--recall-image=loci",
                "--recall-replicas=1",
                "--artifacts",
                &self.artifacts,
                "--artifacts-url",
                &url,
            ],
        )
    }

    /// A pipeline with two runs and two releases, all by the real programs.
    async fn prototype(&self) -> Prototype<'_> {
        let cluster = &self.cluster;
        cluster.documents("The workshop opens at nine.").await;
        cluster.pipeline_named(PROTOTYPE, "24h").await;
        let operator = self.operator("maker");
        let (worker, fetcher) = (cluster.worker(), cluster.fetcher());
        cluster
            .until("what serves is made", async || {
                let name = format!("{PROTOTYPE}-recall");
                let account = cluster.api::<ServiceAccount>().get_opt(&name).await;
                account.unwrap().is_some()
            })
            .await;
        let replica = Replica::start(cluster, PROTOTYPE, 1).await;
        replica.ready(cluster).await;
        cluster.serves(PROTOTYPE, 1).await;
        cluster.documents("The workshop opens at ten.").await;
        cluster.serves(PROTOTYPE, 2).await;
        let pointer = format!("{PROTOTYPE}-serving");
        let maps = cluster.api::<ConfigMap>();
        cluster
            .until("the prototype has settled", async || {
                let map = maps.get(&pointer).await.unwrap();
                let data = map.data.unwrap_or_default();
                let releases = data.get("releases").cloned().unwrap_or_default();
                data.contains_key("references") && !releases.contains("prototype-1")
            })
            .await;
        self.no_more_writes().await;
        operator.end();
        drop((worker, fetcher, replica));
        let all = ListParams::default();
        let mut runs = cluster.api::<MemoryRun>().list(&all).await.unwrap().items;
        runs.sort_by_key(ResourceExt::name_any);
        let mut releases = cluster
            .api::<MemoryRelease>()
            .list(&all)
            .await
            .unwrap()
            .items;
        releases.sort_by_key(|r| r.spec.number);
        assert_eq!((runs.len(), releases.len()), (2, 2));
        Prototype {
            cluster,
            pipeline: cluster.api().get(PROTOTYPE).await.unwrap(),
            runs,
            releases,
            pointer: maps.get(&pointer).await.unwrap(),
            data: vec![
                maps.get("docs").await.unwrap(),
                maps.get("faq").await.unwrap(),
            ],
        }
    }

    /// Requests that changed something, so far, but for leases.
    async fn writes(&self) -> u64 {
        let request = Request::new("")
            .get("metrics", &Default::default())
            .unwrap();
        let text = self.cluster.client.request_text(request).await.unwrap();
        let writes = [
            "POST",
            "PUT",
            "PATCH",
            "APPLY",
            "DELETE",
            "DELETECOLLECTION",
        ];
        let counted = |line: &&str| {
            line.starts_with("apiserver_request_total{")
                && !line.contains("resource=\"leases\"")
                && writes
                    .iter()
                    .any(|verb| line.contains(&format!("verb=\"{verb}\"")))
        };
        let counts = text.lines().filter(counted).map(|line| {
            let (_, count) = line.rsplit_once(' ').unwrap();
            count.parse::<f64>().unwrap() as u64
        });
        counts.sum()
    }

    /// Waits until nothing was written for a while.
    async fn no_more_writes(&self) {
        let (mut last, mut since) = (self.writes().await, Instant::now());
        while since.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let now = self.writes().await;
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
    }

    /// Waits until an operator has looked at all pipelines; how many of them were settled.
    async fn looked_at(&self, operator: &str) -> usize {
        let log = self.cluster.log(operator);
        let began = Instant::now();
        loop {
            let text = std::fs::read_to_string(&log).unwrap();
            let found = text
                .lines()
                .find(|line| line.contains("all pipelines were looked at"));
            if let Some(line) = found {
                let (_, settled) = line.split_once("settled=").unwrap();
                let digits = settled.split(|c: char| !c.is_ascii_digit()).next();
                return digits.unwrap().parse().unwrap();
            }
            assert!(began.elapsed() < COLD * 5, "{}", self.cluster.logs());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// A changed spec is observed, and what somebody changes of what serves is repaired.
    async fn is_awake(&self, copies: &[(String, String)]) {
        let (namespace, name) = &copies[copies.len() / 2];
        let client = &self.cluster.client;
        let person = PatchParams::default();
        let pipelines: Api<MemoryPipeline> = Api::namespaced(client.clone(), namespace);
        let fresher = json!({"spec": {"index": {"freshness": "100h"}}});
        let changed = pipelines
            .patch(name, &person, &Patch::Merge(&fresher))
            .await
            .unwrap();
        self.cluster
            .until("a changed spec is observed", async || {
                let now = pipelines.get(name).await.unwrap();
                Some(now.status.unwrap().observed_generation) == changed.metadata.generation
            })
            .await;
        let (namespace, name) = &copies[copies.len() / 3];
        let services: Api<Service> = Api::namespaced(client.clone(), namespace);
        let service = format!("{name}-recall");
        let elsewhere = json!({"spec": {"selector": {"loci.dev/pipeline": "another"}}});
        services
            .patch(&service, &person, &Patch::Merge(&elsewhere))
            .await
            .unwrap();
        self.cluster
            .until("the service selects its pods again", async || {
                let selector = services.get(&service).await.unwrap().spec.unwrap().selector;
                selector.unwrap().get("loci.dev/pipeline") == Some(name)
            })
            .await;
    }
}
