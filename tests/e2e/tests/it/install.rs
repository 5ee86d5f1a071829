//! From nothing to an answer, and back.

use std::sync::Arc;

use jiff::Timestamp;
use loci_testbed::root;
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
        let manifest = root().join("examples/quickstart");
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
                until_gone("nothing is left behind", orphans);
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
    let claims = "persistentvolumeclaims";
    let installed = labelled("app.kubernetes.io/instance=loci", claims);
    let mut left: Vec<String> = installed.iter().map(told).collect();
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
    let of_pipelines = labelled("app.kubernetes.io/managed-by=loci-operator", claims);
    left.extend(of_pipelines.iter().filter(|o| !there(o)).map(told));
    left
}

/// Objects of all kinds but one, events aside.
fn labelled(label: &str, but: &str) -> Vec<Value> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "-oname"]);
    let kept = |kind: &&str| !kind.starts_with("events") && *kind != but;
    let kinds = kinds.lines().filter(kept).collect::<Vec<_>>().join(",");
    let all = ["get", &kinds, "-A", "-ojson", "--ignore-not-found", "-l"];
    let found = kubectl(&[&all[..], &[label]].concat());
    let list: Value = serde_json::from_str(&found).unwrap_or_default();
    list["items"].as_array().cloned().unwrap_or_default()
}

fn told(object: &Value) -> String {
    let metadata = &object["metadata"];
    let (namespace, name) = (&metadata["namespace"], &metadata["name"]);
    format!("{} {namespace}/{name}", object["kind"])
}

/// As docs/operations.md says, line by line. The last of all: nothing can be done on the cluster after it.
pub async fn nothing_is_left(_: Arc<Story>) {
    let file = root().join("docs/operations.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, rest) = text.split_once("To leave nothing:\n```sh\n").unwrap();
    let (commands, _) = rest.split_once("```").unwrap();
    blocking(|| {
        for line in commands.lines() {
            let (line, _) = line.split_once('#').unwrap_or((line, ""));
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.split_first() {
                Some((&"kubectl", args)) => kubectl(args),
                Some((&"helm", args)) => helm(args),
                _ => panic!("neither kubectl nor helm: {line}"),
            };
        }
        // The API server forgets a kind a moment after its definition.
        until("the definitions are gone", || {
            !kubectl(&["api-resources", "-oname"]).contains("loci.dev")
        });
        until_gone("nothing is left", leavings);
    });
}

/// Waits until nothing is found any more, and tells of what is left meanwhile.
fn until_gone(what: &str, find: impl Fn() -> Vec<String>) {
    let mut left = Vec::new();
    until(what, || {
        let found = find();
        if found != left {
            println!("    left behind: {found:?}");
        }
        left = found;
        left.is_empty()
    });
}

/// What is ours by its label or its name, claims and policies too.
fn leavings() -> Vec<String> {
    let labels = [
        "app.kubernetes.io/instance=loci",
        "app.kubernetes.io/managed-by=loci-operator",
    ];
    let found = labels.map(|label| labelled(label, "")).concat();
    let policies = "validatingadmissionpolicies,validatingadmissionpolicybindings";
    let named = kubectl(&["get", policies, "-oname"]) + &helm(&["list", "-A", "-q"]);
    let named = named.lines().filter(|name| name.contains("loci"));
    let found = found.iter().map(told);
    found.chain(named.map(str::to_owned)).collect()
}
