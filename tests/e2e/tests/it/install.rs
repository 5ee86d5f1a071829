//! From nothing to an answer, and back.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{
    AGENTS, SYSTEM, apply, helm, kubectl, plugin, try_kubectl, until, wait_ready,
};
use crate::load::ask;
use crate::story::{Story, blocking, from_config_map, pipeline, rolled_out};

pub async fn a_pipeline_is_applied_and_answers(story: Arc<Story>) {
    blocking(|| helm(&["test", "loci", "--namespace", SYSTEM]));
    let answer = ask(&story.asking, &story.shop()).await.unwrap();
    assert!(
        answer["release"].as_str().unwrap().starts_with("shop-"),
        "{answer}"
    );
    let citation = &answer["passages"][0]["citation"];
    assert_eq!(citation["source"], "docs", "{citation}");
    let explained = blocking(|| kubectl(&["explain", "memorypipeline.spec.index.refresh"]));
    assert!(
        explained.contains("interval") && !explained.contains("<empty>"),
        "{explained}"
    );
}

/// As README.md says: `kubectl apply`, `kubectl wait`, and a question through the API server.
pub async fn the_quickstart_is_applied_and_asked(_: Arc<Story>) {
    blocking(|| {
        let manifest = loci_testbed::root().join("examples/quickstart");
        let manifest = manifest.to_str().unwrap();
        kubectl(&["-n", AGENTS, "apply", "-f", manifest]);
        wait_ready(AGENTS, "handbook");
        rolled_out(AGENTS, "deployment/handbook-recall");
        let question = [
            "query",
            "When is the workshop open?",
            "--pipeline",
            "handbook",
        ];
        let answer = plugin(&[&["-n", AGENTS], &question[..]].concat());
        assert!(answer.contains("1. hours.md"), "{answer}");
        kubectl(&["-n", AGENTS, "delete", "-f", manifest, "--wait"]);
    });
}

/// What was built stays in the store: the same release serves, and no step is done again.
pub async fn resources_are_deleted_and_applied_again(story: Arc<Story>) {
    let (served, text) = story.follows_with().await;
    story
        .until("the run has ended", async || {
            ended(&story.made(AGENTS).await.0)
        })
        .await;
    let content = |releases: &[Value]| {
        let release = releases
            .iter()
            .find(|r| r["metadata"]["name"] == served.as_str());
        release.map(|r| r["spec"].clone()).unwrap_or_default()
    };
    let before = content(&story.made(AGENTS).await.1);
    assert!(before["index"]["contentId"].is_string(), "{before}");
    let began = Timestamp::now();
    blocking(|| {
        for kind in ["memorypipelines", "memoryruns", "memoryreleases"] {
            kubectl(&["-n", AGENTS, "delete", kind, "--all", "--wait"]);
        }
        until("what served is gone", || {
            let left = [
                "-n",
                AGENTS,
                "get",
                "deployment,service,configmap",
                "-lloci.dev/pipeline=shop",
                "-oname",
            ];
            try_kubectl(&left).unwrap().is_empty()
        });
        apply(&pipeline(AGENTS, "shop", from_config_map()));
        wait_ready(AGENTS, "shop");
    });
    story.says(&text).await;
    // Replicas outlive their Role for a moment.
    story.without_rights_since(began);
    let (runs, releases) = story.made(AGENTS).await;
    assert_eq!(story.served().await, served, "the same release serves");
    assert_eq!(
        content(&releases)["index"],
        before["index"],
        "{releases:#?}"
    );
    let embedded = runs
        .iter()
        .flat_map(|r| r["status"]["steps"].as_array().into_iter().flatten());
    let again: Vec<_> = embedded
        .filter(|s| s["name"] == "Assemble" || s["name"] == "Evaluate")
        .collect();
    assert!(again.is_empty(), "nothing is built again: {again:#?}");
}

pub fn ended(runs: &[Value]) -> bool {
    let terminal = ["Succeeded", "Failed", "Cancelled"];
    runs.iter()
        .all(|r| terminal.contains(&r["status"]["phase"].as_str().unwrap_or_default()))
}

/// What the chart made is gone, what pipelines are served by stays and serves, and what was built is taken over.
pub async fn uninstalled_and_reinstalled(story: Arc<Story>) {
    let (_, before) = story.made(AGENTS).await;
    let began = Timestamp::now();
    story
        .unharmed("uninstalling and reinstalling", async || {
            blocking(|| {
                helm(&["uninstall", "loci", "--namespace", SYSTEM, "--wait"]);
                let mut left = Vec::new();
                until("nothing is left behind", || {
                    let now = orphans();
                    if now != left {
                        println!("    left behind: {now:?}");
                    }
                    left = now;
                    left.is_empty()
                });
                story.install(&[]);
            });
        })
        .await;
    story.without_rights_since(began);
    let (_, after) = story.made(AGENTS).await;
    let names = |all: &[Value]| -> Vec<String> {
        all.iter()
            .map(|r| r["metadata"]["uid"].to_string())
            .collect()
    };
    assert_eq!(names(&before), names(&after), "releases are kept");
    story.follows().await;
}

/// Objects of any kind that the chart made, cluster-scoped ones too, and what the operator made for a pipeline that is
/// not there. The claim holds the data and is kept on purpose; events tell what was.
fn orphans() -> Vec<String> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "-oname"]);
    let kept = |kind: &&str| !kind.starts_with("events") && *kind != "persistentvolumeclaims";
    let kinds = kinds.lines().filter(kept).collect::<Vec<_>>().join(",");
    let labelled = |label: &str| -> Vec<Value> {
        let found = kubectl(&[
            "get",
            &kinds,
            "-A",
            "-l",
            label,
            "-ojson",
            "--ignore-not-found",
        ]);
        let list: Value = serde_json::from_str(&found).unwrap_or_default();
        list["items"].as_array().cloned().unwrap_or_default()
    };
    let told = |object: &Value| {
        let metadata = &object["metadata"];
        format!(
            "{} {}/{}",
            object["kind"], metadata["namespace"], metadata["name"]
        )
    };
    let mut left: Vec<String> = labelled("app.kubernetes.io/instance=loci")
        .iter()
        .map(told)
        .collect();
    let pipelines: Value =
        serde_json::from_str(&kubectl(&["get", "memorypipelines", "-A", "-ojson"])).unwrap();
    // What fetches is a namespace's, not one pipeline's.
    let there = |object: &&Value| {
        let metadata = &object["metadata"];
        let owner = &metadata["labels"]["loci.dev/pipeline"];
        let all = pipelines["items"].as_array().into_iter().flatten();
        all.map(|p| &p["metadata"])
            .filter(|m| m["namespace"] == metadata["namespace"])
            .any(|m| m["name"] == *owner || owner.is_null())
    };
    let of_pipelines = labelled("app.kubernetes.io/managed-by=loci-operator");
    left.extend(of_pipelines.iter().filter(|o| !there(o)).map(told));
    left
}
