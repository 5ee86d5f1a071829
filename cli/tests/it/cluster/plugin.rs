//! `kubectl loci`: the built program by a link in PATH, started by the real kubectl, on a real API server with a real
//! operator.

use std::process::{Command, Output};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use loci_crds::run::{RunPhase, RunTrigger};
use loci_crds::{MemoryPipeline, MemoryRun};
use loci_operator::{APPROVE, ROLLBACK};
use loci_testbed::ControlPlane;
use serde_json::{Value, json};

use super::{Cluster, Process};
use crate::harness::{loci, text};

/// `kubectl loci`, in the namespace of a cluster.
pub fn plugin(cluster: &Cluster, args: &[&str]) -> Command {
    let mut command = on(cluster.plane, &cluster.dir);
    command.args(["-n", &cluster.namespace]).args(args);
    command
}

/// The real kubectl finds the program by its link.
fn on(plane: &ControlPlane, dir: &tempfile::TempDir) -> Command {
    let link = dir.path().join("kubectl-loci");
    if !link.exists() {
        std::os::unix::fs::symlink(loci().get_program(), &link).unwrap();
    }
    let path = std::env::var("PATH").unwrap();
    let mut command = plane.kubectl().unwrap();
    command
        .arg("loci")
        .env("PATH", format!("{}:{path}", dir.path().display()));
    command
}

/// The real kubectl, from the top of the repository.
fn kubectl(cluster: &Cluster, args: &[&str]) -> String {
    let mut command = cluster.plane.kubectl().unwrap();
    command.current_dir(loci_testbed::root());
    command.args(["-n", &cluster.namespace]).args(args);
    said(command)
}

/// What it prints; it must succeed.
pub fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", both(&output));
    text(&output.stdout)
}

/// What it complains of; it must fail.
fn refused(mut command: Command) -> String {
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{command:?}: {}", both(&output));
    text(&output.stderr)
}

fn both(output: &Output) -> String {
    format!("{}{}", text(&output.stdout), text(&output.stderr))
}

fn json(mut command: Command) -> Value {
    command.args(["-o", "json"]);
    serde_json::from_str(&said(command)).unwrap()
}

/// An operator whose queries are answered at a known address.
pub fn operator(cluster: &Cluster) -> (Process, String) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let here = ["--listen", &address];
    let process = cluster.spawn("operator", &[&cluster.watching()[..], &here].concat());
    (process, format!("http://{address}"))
}

/// What Git says, as Flux would apply it.
async fn sync(cluster: &Cluster, annotations: Value) {
    let mut pipeline = super::manifest();
    pipeline["metadata"]["annotations"] = annotations;
    let params = PatchParams::apply("kustomize-controller").force();
    let api = cluster.api::<MemoryPipeline>();
    api.patch("shop", &params, &Patch::Apply(&pipeline))
        .await
        .unwrap();
}

async fn shop(cluster: &Cluster) -> MemoryPipeline {
    cluster.api::<MemoryPipeline>().get("shop").await.unwrap()
}

/// Who applies a field, by its path in managedFields.
fn appliers(pipeline: &MemoryPipeline, path: &[&str]) -> Vec<String> {
    let applied = pipeline.managed_fields().iter().filter(|m| {
        let fields = m.fields_v1.as_ref().map(|f| &f.0);
        let found = fields.and_then(|f| path.iter().try_fold(f, |at, part| at.get(part)));
        m.operation.as_deref() == Some("Apply") && found.is_some()
    });
    applied.filter_map(|m| m.manager.clone()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plugin_shows_what_serves_and_starts_runs() {
    let cluster = Cluster::new("plugin").await;
    assert_eq!(
        said(plugin(&cluster, &["status"])).trim(),
        "No pipelines yet."
    );
    let error = refused(plugin(&cluster, &["releases", "shop"]));
    assert!(error.contains("no pipeline in the namespace"), "{error}");

    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let (_operator, url) = operator(&cluster);
    let _worker = cluster.worker();
    cluster.serving(1).await;
    let table = said(plugin(&cluster, &["status"]));
    let (head, row) = table.split_once('\n').unwrap();
    for heading in ["PIPELINE", "READY", "RELEASE", "FRESH", "NEXT LOOK", "NOW"] {
        assert!(head.contains(heading), "{table}");
    }
    for cell in ["shop", "True", "shop-1", "True (", "in 5"] {
        assert!(row.contains(cell), "{cell}: {table}");
    }
    let one = said(plugin(&cluster, &["status", "shop"]));
    for part in [
        "IndexFresh",
        "docs",
        "shop-1 serves",
        "recallAt5",
        "gates: Passed",
    ] {
        assert!(one.contains(part), "{part}: {one}");
    }
    let status = json(plugin(&cluster, &["status", "shop"]));
    assert_eq!(status["release"]["spec"]["number"], 1);
    assert!(said(plugin(&cluster, &["status", "-A"])).contains(&cluster.namespace));

    // The columns that every kubectl shows, in a terminal of 80.
    for (kind, headings) in [
        ("mp", "NAME READY RELEASE FRESH REFRESHED NEXT AGE"),
        ("mrun", "NAME ADAPTER TRIGGER PHASE STEP RELEASE AGE"),
        ("mrel", "NAME PIPELINE NUMBER PHASE VERDICT AGE"),
    ] {
        let table = kubectl(&cluster, &["get", kind]);
        let head: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
        assert_eq!(head.join(" "), headings, "{table}");
        assert!(table.lines().all(|l| l.trim_end().len() <= 80), "{table}");
        assert!(table.contains("shop-1"), "{table}");
    }

    // A run by hand, followed to its end: lines, because nobody looks at a terminal.
    let waited = said(plugin(&cluster, &["run", "refresh", "--wait"]));
    let name = waited.lines().next().unwrap().to_owned();
    assert!(name.starts_with("shop-refresh-"), "{waited}");
    assert!(waited.contains("Succeeded"), "{waited}");
    let run = cluster.api::<MemoryRun>().get(&name).await.unwrap();
    assert_eq!(run.spec.trigger, RunTrigger::Requested);
    assert_eq!(run.owner_references()[0].name, "shop");
    let runs = json(plugin(&cluster, &["runs", "shop"]));
    assert_eq!(runs.as_array().unwrap().len(), 2);
    assert_eq!(runs[0]["metadata"]["name"], name.as_str());
    let steps = said(plugin(&cluster, &["runs", &name]));
    assert!(
        steps.contains("Snapshot") && steps.contains("Assemble"),
        "{steps}"
    );
    let followed = said(plugin(&cluster, &["runs", &name, "-w", "--until-done"]));
    assert!(followed.contains("Succeeded"), "{followed}");

    // Asked at an address; there are no pods here.
    let ask = ["query", "opening hours", "-k", "1"];
    let answer = said(plugin(&cluster, &[&ask[..], &["--url", &url]].concat()));
    assert!(
        answer.contains("hours.md") && answer.contains("release shop-1"),
        "{answer}"
    );
    let error = refused(plugin(&cluster, &ask));
    assert!(error.contains("no pod serves shop"), "{error}");
    let advice = said(plugin(&cluster, &["advise", "shop"]));
    assert!(
        advice.contains("2 documents") && advice.contains("latencyBudget"),
        "{advice}"
    );

    let error = refused(plugin(&cluster, &["rollback"]));
    assert!(error.contains("served before"), "{error}");
    let error = refused(plugin(&cluster, &["releases", "shoe", "show", "1"]));
    assert!(
        error.contains("no pipeline shoe") && error.contains("shop"),
        "{error}"
    );
    // The same without kubectl and without a link.
    let mut alone = loci();
    alone.args(["kubectl", "-n", &cluster.namespace, "releases"]);
    alone.env("KUBECONFIG", cluster.plane.kubeconfig());
    assert!(said(alone).contains("shop-1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_asks_for_stands_beside_what_git_says() {
    let cluster = Cluster::new("owned").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    sync(&cluster, json!({})).await;
    let (_operator, _) = operator(&cluster);
    let _worker = cluster.worker();
    cluster.serving(1).await;
    cluster.documents("The workshop opens at ten.").await;
    cluster.serving(2).await;

    // Back to the release before, and there it stays, whatever Git is synchronised.
    let text = said(plugin(&cluster, &["rollback"]));
    assert!(text.contains("goes back to release 1"), "{text}");
    cluster.serving(1).await;
    let annotation = format!("f:{ROLLBACK}");
    let path = ["f:metadata", "f:annotations", annotation.as_str()];
    sync(&cluster, json!({"team": "support"})).await;
    let pipeline = shop(&cluster).await;
    assert_eq!(appliers(&pipeline, &path), ["loci-rollback"]);
    assert_eq!(pipeline.annotations().get(ROLLBACK).unwrap(), "1");
    let status = said(plugin(&cluster, &["status"]));
    assert!(status.contains("shop-1 (held)"), "{status}");

    // Suspended beside that: each stands by itself.
    said(plugin(&cluster, &["suspend", "shop"]));
    sync(&cluster, json!({})).await;
    let pipeline = shop(&cluster).await;
    assert!(pipeline.spec.suspend && pipeline.annotations().contains_key(ROLLBACK));
    assert_eq!(
        appliers(&pipeline, &["f:spec", "f:suspend"]),
        ["loci-suspend"]
    );
    let error = refused(plugin(&cluster, &["run", "refresh"]));
    assert!(
        error.contains("suspended") && error.contains("suspend --off"),
        "{error}"
    );
    said(plugin(&cluster, &["suspend", "--off"]));
    assert!(!shop(&cluster).await.spec.suspend);
    said(plugin(&cluster, &["resume"]));
    assert!(!shop(&cluster).await.annotations().contains_key(ROLLBACK));
    cluster.serving(3).await;
    let error = refused(plugin(&cluster, &["resume"]));
    assert!(error.contains("not held"), "{error}");

    // What was set without the plugin is taken back too, but not what Git would set again.
    let patch = Patch::Merge(json!({"metadata": {"annotations": {ROLLBACK: "1"}}}));
    let by = PatchParams {
        field_manager: Some("kubectl-annotate".into()),
        ..PatchParams::default()
    };
    let api = cluster.api::<MemoryPipeline>();
    api.patch("shop", &by, &patch).await.unwrap();
    said(plugin(&cluster, &["resume"]));
    assert!(!shop(&cluster).await.annotations().contains_key(ROLLBACK));
    sync(&cluster, json!({ROLLBACK: "2"})).await;
    for command in [&["resume", "shop"][..], &["rollback", "shop", "1"]] {
        let error = refused(plugin(&cluster, command));
        assert!(error.contains("kustomize-controller"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_run_goes_on_once_it_is_approved() {
    let cluster = Cluster::new("approve").await;
    cluster.documents("The workshop opens at nine.").await;
    cluster.pipeline().await;
    let (_operator, _) = operator(&cluster);
    let _worker = cluster.worker();
    cluster.serving(1).await;
    let error = refused(plugin(&cluster, &["approve"]));
    assert!(error.contains("is held"), "{error}");

    let less = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "docs"},
        "data": {"returns.md": "# Returns\n\nA parcel can be sent back within thirty days.\n"},
    });
    cluster.apply("ConfigMap", "docs", less).await;
    let held = async || {
        let runs = cluster
            .api::<MemoryRun>()
            .list(&Default::default())
            .await
            .unwrap();
        let held = |r: &MemoryRun| r.status.as_ref().is_some_and(|s| s.phase == RunPhase::Held);
        runs.items.into_iter().find(held).map(|r| r.name_any())
    };
    cluster
        .until("a run is held", async || held().await.is_some())
        .await;
    let run = held().await.unwrap();
    let status = said(plugin(&cluster, &["status"]));
    assert!(status.contains("held: MaxDeletionExceeded"), "{status}");
    let text = said(plugin(&cluster, &["approve"]));
    assert!(text.contains(&run), "{text}");
    cluster.serving(2).await;
    let pipeline = shop(&cluster).await;
    assert_eq!(pipeline.annotations().get(APPROVE), Some(&run));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_definitions_is_told_apart() {
    let plane = ControlPlane::start().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    for args in [
        &["status"][..],
        &["runs", "-w"],
        &["rollback"],
        &["advise", "shop"],
    ] {
        let mut command = on(&plane, &dir);
        command.args(args);
        let error = refused(command);
        assert!(
            error.contains("helm install loci-crds"),
            "{args:?}: {error}"
        );
    }
    let mut elsewhere = on(&plane, &dir);
    elsewhere.args(["status", "--context", "moon"]);
    let error = refused(elsewhere);
    assert!(error.contains("moon"), "{error}");
}

/// `kubectl apply -f examples/quickstart`, with the model that it names.
#[tokio::test(flavor = "multi_thread")]
async fn the_quickstart_of_a_cluster_serves_and_is_judged() {
    let cluster = Cluster::new("quickstart").await;
    let (_operator, url) = operator(&cluster);
    let _worker = cluster.worker();
    let kubectl = |args: &[&str]| kubectl(&cluster, args);
    kubectl(&["apply", "-f", "examples/quickstart"]);
    let ready = "--for=condition=Ready";
    kubectl(&["wait", ready, "memorypipeline/handbook", "--timeout=60s"]);
    let ask = [
        "query",
        "When is the workshop open?",
        "-k",
        "1",
        "--url",
        &url,
    ];
    let answer = said(plugin(&cluster, &ask));
    assert!(
        answer.contains("hours.md") && answer.contains("nine"),
        "{answer}"
    );

    // Edited as its README says, it is served.
    let edit = |text: &str, files: &[&str]| {
        let data: serde_json::Map<_, _> = files
            .iter()
            .map(|f| ((*f).to_owned(), json!(text)))
            .collect();
        let patch = json!({"data": data}).to_string();
        kubectl(&[
            "patch",
            "configmap",
            "handbook",
            "--type",
            "merge",
            "-p",
            &patch,
        ]);
    };
    edit(
        "# Opening hours\n\nThe workshop opens at seven. On Sundays it is closed.",
        &["hours.md"],
    );
    let newest = async |phase: &str| {
        cluster
            .until(&format!("a release is {phase}"), async || {
                let all = json(plugin(&cluster, &["releases", "handbook"]));
                all[0]["status"]["phase"] == phase && all.as_array().unwrap().len() > 1
            })
            .await;
    };
    newest("Serving").await;
    // And broken as it says, it is not.
    edit("# To be rewritten", &["hours.md", "theft.md", "battery.md"]);
    newest("Rejected").await;
    let status = said(plugin(&cluster, &["status", "handbook"]));
    assert!(
        status.contains("handbook-2 serves") && status.contains("GatePassed"),
        "{status}"
    );
    let map = cluster.api::<ConfigMap>().get("handbook").await.unwrap();
    assert_eq!(map.data.unwrap().len(), 6);
}
