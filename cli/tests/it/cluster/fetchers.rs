//! Sources that the namespace's fetcher reads, with Secrets that nobody else sees.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::rbac::v1::Role;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use loci_crds::run::RunPhase;
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};
use loci_testbed::hub;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::Cluster;

/// What nobody but the fetcher and the source may ever see.
const SECRET: &str = "tok-7f3a9c41d2e8";

/// A page that is shown to who has the token. Gives its URL.
async fn page() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hours.md", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    match stream.read_u8().await {
                        Ok(byte) => request.push(byte),
                        Err(_) => return,
                    }
                }
                let request = String::from_utf8_lossy(&request).to_lowercase();
                let known = request.contains(&format!("authorization: bearer {SECRET}"));
                let (code, body) = match known {
                    true => ("200 OK", "# Opening hours\n\nThe workshop opens at nine.\n"),
                    false => ("401 Unauthorized", "who are you?\n"),
                };
                let length = body.len();
                let answer = format!(
                    "HTTP/1.1 {code}\r\ncontent-type: text/markdown\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.write_all(answer.as_bytes()).await;
            });
        }
    });
    url
}

impl Cluster {
    async fn condition(&self, kind: &str) -> Option<(String, String, String)> {
        let pipeline = self.api::<MemoryPipeline>().get("shop").await.unwrap();
        let all = pipeline.status?.conditions;
        let found = all.into_iter().find(|c| c.type_ == kind)?;
        Some((found.status, found.reason, found.message))
    }

    async fn refresh(&self, token: &str) {
        let annotation = json!({"metadata": {"annotations": {"loci.dev/refresh": token}}});
        let (api, params) = (self.api::<MemoryPipeline>(), PatchParams::default());
        api.patch("shop", &params, &Patch::Merge(&annotation))
            .await
            .unwrap();
    }

    /// Everything that a namespace's users can read of the pipeline.
    async fn resources(&self) -> String {
        let all = ListParams::default();
        let pipelines = self.api::<MemoryPipeline>().list(&all).await.unwrap().items;
        let runs = self.api::<MemoryRun>().list(&all).await.unwrap().items;
        let releases = self.api::<MemoryRelease>().list(&all).await.unwrap().items;
        let deployments = self.api::<Deployment>().list(&all).await.unwrap().items;
        json!([pipelines, runs, releases, deployments]).to_string()
    }

    /// What somebody deletes or edits of a fetcher is repaired.
    async fn meddle_with_the_fetcher(&self) {
        let (roles, deployments) = (self.api::<Role>(), self.api::<Deployment>());
        let name = "loci-fetcher";
        let image = |d: &Deployment| {
            let spec = d.spec.as_ref().and_then(|s| s.template.spec.as_ref());
            spec.and_then(|s| s.containers[0].image.clone())
        };
        let before = image(&deployments.get(name).await.unwrap());
        let edit = json!({"spec": {"template": {"spec": {"containers": [{"name": "fetcher", "image": "other"}]}}}});
        let edited = deployments
            .patch(name, &PatchParams::default(), &Patch::Strategic(edit))
            .await;
        assert_ne!(image(&edited.unwrap()), before);
        roles.delete(name, &DeleteParams::default()).await.unwrap();
        self.until("the fetcher is repaired", async || {
            let now = deployments.get(name).await.unwrap();
            image(&now) == before && roles.get_opt(name).await.unwrap().is_some()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetcher_reads_sources_with_secrets_that_nobody_else_sees() {
    let cluster = Cluster::new("fetchers").await;
    let url = page().await;
    let http = json!({"urls": [url], "allowPrivate": true, "secretRef": {"name": "shop-auth"}});
    let pipeline = json!({
        "apiVersion": "loci.dev/v1alpha1",
        "kind": "MemoryPipeline",
        "metadata": {"name": "shop"},
        "spec": {
            "embedder": {"model": hub::MODEL},
            "sources": [{"name": "docs", "memory": "factual", "http": http}],
            "index": {"refresh": {"interval": "1h"}},
        },
    });
    cluster.apply("MemoryPipeline", "shop", pipeline).await;
    let _operator = cluster.operator_with_replicas();
    let _worker = cluster.worker();

    // The operator makes a fetcher that sees this key, and goes with the pipeline.
    cluster
        .until("a fetcher is made", async || {
            let found = cluster.api::<Deployment>().get_opt("loci-fetcher").await;
            found.unwrap().is_some()
        })
        .await;
    let fetcher = cluster
        .api::<Deployment>()
        .get("loci-fetcher")
        .await
        .unwrap();
    let owners = fetcher.metadata.owner_references.unwrap();
    assert_eq!(owners[0].name, "shop");
    let pod = serde_json::to_value(&fetcher.spec.unwrap().template.spec).unwrap();
    let volumes = pod["volumes"].as_array().unwrap();
    let mounted: Vec<_> = volumes.iter().filter_map(|v| v.get("secret")).collect();
    let names: Vec<_> = mounted.iter().map(|s| &s["secretName"]).collect();
    assert_eq!(names, ["shop-auth", "loci-fetcher-nats"], "{volumes:?}");
    assert_eq!(mounted[0]["optional"], true);
    cluster.meddle_with_the_fetcher().await;

    // Before it has started, the pipeline says what it waits for.
    let class = format!("fetch-{}", cluster.namespace);
    cluster
        .until("it says that there is no fetcher", async || {
            let found = cluster.condition("Reconciling").await;
            found.is_some_and(|(_, reason, message)| {
                reason == "NoWorker" && message.contains(&class)
            })
        })
        .await;

    // It has started, and the Secret is not there: where it is mounted, there is nothing yet.
    let secret = cluster.dir.path().join("secrets/shop-auth");
    std::fs::create_dir_all(&secret).unwrap();
    let _fetcher = cluster.fetcher();
    cluster
        .until("the missing Secret is told", async || {
            let found = cluster.condition("Stalled").await;
            found.is_some_and(|(status, reason, message)| {
                status == "True"
                    && reason == "MissingSecret"
                    && message.contains("spec.sources[0].http.secretRef")
            })
        })
        .await;

    // It is there now.
    std::fs::write(secret.join("token"), format!("{SECRET}\n")).unwrap();
    cluster.refresh("once").await;
    cluster
        .until("a run succeeds", async || {
            let runs = cluster.api::<MemoryRun>().list(&Default::default()).await;
            let runs = runs.unwrap().items.into_iter();
            runs.filter_map(|r| r.status)
                .any(|s| s.phase == RunPhase::Succeeded)
        })
        .await;
    let releases = cluster
        .api::<MemoryRelease>()
        .list(&Default::default())
        .await;
    assert_eq!(releases.unwrap().items[0].spec.index.documents, 1);

    let seen = [cluster.resources().await, cluster.logs()];
    for text in seen {
        assert!(text.len() > 100 && !text.contains(SECRET), "{text}");
    }
    let kept = cluster.nats.kept();
    let holds = |needle: &str| kept.windows(needle.len()).any(|w| w == needle.as_bytes());
    assert!(
        holds("shop-auth") || holds(&class),
        "the search finds what is there"
    );
    assert!(!holds(SECRET), "NATS holds the Secret's value");
}
