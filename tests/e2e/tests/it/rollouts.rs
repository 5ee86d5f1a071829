//! Releases: how they take each other's place, and what keeps them from it.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{AGENTS, kubectl};
use crate::objects;
use crate::story::{Story, blocking, documents};

/// Nothing happens: what all else is compared with.
pub async fn steady(story: Arc<Story>) {
    story.quiet(Duration::from_secs(30)).await;
}

pub async fn fifty_releases(story: Arc<Story>) {
    let releases = async || {
        for _ in 0..50 {
            story.follows().await;
        }
    };
    let (report, ()) = story
        .under_load("50 releases", Duration::ZERO, releases)
        .await;
    println!(
        "    the longest from the first answer of a release to the last of the one before: {:?}",
        report.longest_switch()
    );
    assert!(report.failed.is_empty(), "{:?}", report.failed);
    assert!(
        report.longest_switch() < Duration::from_secs(5),
        "replicas differ for {:?}",
        report.longest_switch()
    );
    let pods = objects::list(&story.client, AGENTS, objects::POD).await;
    let addresses = pods
        .iter()
        .filter(|p| p["metadata"]["labels"]["loci.dev/pipeline"] == "shop");
    let served = story.served().await;
    for address in addresses.filter_map(|p| p["status"]["podIP"].as_str()) {
        let report = story
            .asking
            .get(format!("http://{address}:7701/status"))
            .send()
            .await
            .unwrap();
        let report: Value = report.json().await.unwrap();
        assert_eq!(report["serving"], served.as_str(), "{report}");
    }
}

/// The question's answer is drowned in documents that say nothing else.
fn worse() -> Value {
    let mut worse = documents(AGENTS, "The workshop is closed.");
    worse["data"]["returns.md"] = "# Returns\n\nNothing is taken back.\n".into();
    for number in 1..=30 {
        worse["data"][format!("parcel-{number}.md")] = "parcel\n".into();
    }
    worse
}

pub async fn a_worse_candidate_is_rejected(story: Arc<Story>) {
    let served = story.served().await;
    objects::apply(&story.client, &worse()).await;
    let rejected = async || {
        story
            .until("a candidate is rejected", async || {
                let (_, releases) = story.made(AGENTS).await;
                releases.iter().any(|r| r["status"]["phase"] == "Rejected")
            })
            .await;
        story
            .until("the pipeline says so", async || {
                condition(&story, "GatePassed").await == "False"
            })
            .await;
    };
    story.unharmed("a worse candidate", rejected).await;
    assert_eq!(condition(&story, "Ready").await, "True");
    assert_eq!(story.served().await, served, "what served goes on");
    let found = story.status(AGENTS, "shop").await;
    let pipeline = json!({"metadata": {}, "status": found});
    assert_eq!(
        loci_testbed::kstatus::kstatus(&pipeline),
        loci_testbed::kstatus::Kstatus::Current
    );
    story.follows().await;
    assert_eq!(condition(&story, "GatePassed").await, "True");
}

pub async fn condition(story: &Story, kind: &str) -> String {
    let pipeline = json!({"status": story.status(AGENTS, "shop").await});
    let truth = loci_testbed::kstatus::truth(&pipeline, kind);
    truth.unwrap_or_default().to_owned()
}

pub async fn one_command_rolls_back(story: Arc<Story>) {
    let old = story.served().await;
    let new = story.follows().await;
    let number = old.trim_start_matches("shop-").to_owned();
    let back = async || {
        let to = format!("loci.dev/rollback={number}");
        blocking(|| kubectl(&["-n", AGENTS, "annotate", "memorypipeline/shop", &to]));
        story
            .until("the older release serves", async || {
                story.served().await == old
            })
            .await;
    };
    story.unharmed("a rollback", back).await;
    assert_eq!(condition(&story, "Ready").await, "True");
    let (_, releases) = story.made(AGENTS).await;
    let withdrawn = releases
        .iter()
        .find(|r| r["metadata"]["name"] == new.as_str());
    assert_eq!(withdrawn.unwrap()["status"]["phase"], "Withdrawn");
    let resume = async || {
        blocking(|| {
            kubectl(&[
                "-n",
                AGENTS,
                "annotate",
                "memorypipeline/shop",
                "loci.dev/rollback-",
            ])
        });
        story
            .until(
                "what was withdrawn is judged and serves again",
                async || story.served().await != old,
            )
            .await;
    };
    story.unharmed("a resumption", resume).await;
}
