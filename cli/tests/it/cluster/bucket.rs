//! Artefacts in a bucket: no two processes share a directory.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::Output;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use loci_digest::Digest;
use loci_testbed::{S3, s3};
use rustix::process::Signal;
use serde_json::Value;

use super::Cluster;
use super::replicas::Replica;
use crate::harness::loci;

#[tokio::test(flavor = "multi_thread")]
async fn operator_worker_and_replicas_share_a_bucket_and_no_directory() {
    let cluster = Cluster::with_bucket("bucket").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let (operator, worker) = (cluster.operator_with_replicas(), cluster.worker());
    let _fetcher = cluster.fetcher();
    cluster
        .until("a deployment is made", async || {
            let found = cluster.api::<Deployment>().get_opt("shop-recall").await;
            found.unwrap().is_some()
        })
        .await;
    let replica = Replica::start(&cluster, "shop", 1).await;
    replica.ready(&cluster).await;
    cluster.serving(1).await;
    let client = reqwest::Client::new();
    let (release, text) = replica.ask(&client).await.unwrap();
    assert_eq!(release, "shop-1");
    assert!(text.contains("nine"), "{text}");
    files_come_from_the_bucket(&cluster).await;

    // On other machines, which have nothing but the bucket.
    operator.kill();
    worker.kill();
    for name in ["operator", "worker"] {
        std::fs::remove_dir_all(cluster.dir.path().join(name)).unwrap();
    }
    let (_operator, worker) = (cluster.operator_with_replicas(), cluster.worker());
    cluster.documents("The workshop opens at ten.").await;
    cluster.serving(2).await;
    assert_eq!(replica.ask(&client).await.unwrap().0, "shop-2");

    // Without the bucket for a while, when a step is about to need it.
    worker.signal(Signal::STOP);
    cluster.documents("The workshop opens at eleven.").await;
    cluster.at_work("Embed").await;
    let bucket = cluster.bucket.as_ref().unwrap();
    bucket.kill();
    worker.signal(Signal::CONT);
    assert_eq!(replica.ask(&client).await.unwrap().0, "shop-2");
    tokio::time::sleep(Duration::from_secs(3)).await;
    bucket.start_again();
    cluster.serving(3).await;
    cluster.settled(3).await;
    let (release, text) = replica.ask(&client).await.unwrap();
    assert_eq!(release, "shop-3");
    assert!(text.contains("eleven"), "{text}");
    assert!(!cluster.dir.path().join("store").exists());
}

/// The operator sends on who has the key of a revision to the bucket, where a signature lets in for one file.
async fn files_come_from_the_bucket(cluster: &Cluster) {
    let map = cluster
        .api::<ConfigMap>()
        .get("shop-serving")
        .await
        .unwrap();
    let json = map.data.unwrap().remove("releases").unwrap();
    let bucket = cluster.bucket.as_ref().unwrap();
    let secret = &bucket.variables()["AWS_SECRET_ACCESS_KEY"];
    assert!(!json.contains("X-Amz") && !json.contains(secret), "{json}");
    let releases: BTreeMap<String, Value> = serde_json::from_str(&json).unwrap();
    let text = |field: &str| releases["shop-1"][field].as_str().unwrap().to_owned();
    let (url, key) = (text("url"), text("key"));
    let policy = reqwest::redirect::Policy::none();
    let client = reqwest::Client::builder().redirect(policy).build().unwrap();
    let manifest = client.get(&url).bearer_auth(&key).send().await.unwrap();
    let manifest: Value = manifest.json().await.unwrap();
    let tree = manifest["body"]["tree"].as_object().unwrap();
    let digest: Digest = tree.values().next().unwrap()["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();

    let file = format!("{url}/files/{digest}");
    assert_eq!(client.get(&file).send().await.unwrap().status(), 403);
    let sent = client.get(&file).bearer_auth(&key).send().await.unwrap();
    assert_eq!(sent.status(), 307);
    let to = sent.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        to.starts_with(&bucket.endpoint()) && to.contains("X-Amz-Signature="),
        "{to}"
    );
    let bytes = client.get(&to).send().await.unwrap().bytes().await.unwrap();
    assert_eq!(Digest::of(&bytes), digest);
    // It opens nothing else, and changes nothing.
    let (path, query) = to.split_once('?').unwrap();
    let (folder, _) = path.rsplit_once("/blobs/").unwrap();
    let other = client
        .get(format!("{folder}/FORMAT?{query}"))
        .send()
        .await
        .unwrap();
    assert_eq!(other.status(), 403);
    assert_eq!(client.delete(&to).send().await.unwrap().status(), 403);
}

/// What a worker says that cannot have its store.
async fn worker(
    store: &str,
    variables: BTreeMap<String, String>,
    more: &[&str],
) -> (Output, Duration) {
    let state = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let mut command = loci();
    command
        .args(["worker", "--nats", "nats://127.0.0.1:9"])
        .args(["--store", store])
        .args(more)
        .arg("--state")
        .arg(state.path())
        .envs(variables);
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    (output.await.unwrap(), begun.elapsed())
}

#[tokio::test]
async fn a_worker_says_why_it_cannot_have_its_store() {
    let (bucket, store) = (S3::start(), format!("s3://{}/team/loci", s3::BUCKET));
    let mut wrong = bucket.variables();
    wrong.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "wrong".to_owned());
    let (output, _) = worker(&store, wrong, &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for part in [
        "s3://artefacts/team/loci",
        "access is denied",
        "AWS_SECRET_ACCESS_KEY",
    ] {
        assert!(said.contains(part), "{said}");
    }

    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut variables = bucket.variables();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    variables.insert("AWS_ENDPOINT_URL".to_owned(), endpoint.clone());
    let (output, took) = worker(&store, variables, &["--store-silence", "500ms"]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success() && took < Duration::from_secs(10),
        "{took:?}"
    );
    assert!(
        said.contains("silent for 0.5 s") && said.contains(&endpoint),
        "{said}"
    );

    let (output, _) = worker("gs://acme/loci", BTreeMap::new(), &[]).await;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("gs:// is not supported"), "{said}");
}
