//! Faults in an order that a seed repeats, for a bounded time: `make chaos`. After each the end state is the one that an
//! undisturbed pipeline comes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::cluster::{AGENTS, RIVALS, SYSTEM, apply, kubectl, try_kubectl, until};
use crate::install::ended;
use crate::load::Load;
use crate::node::{self, pods};
use crate::objects::{self, CONFIG_MAP, RELEASE, RUN};
use crate::story::{Story, blocking, documents, namespace, rivals, rolled_out};

/// Longer than NATS waits for a sign of life from who took an item.
const PAST_ACK_WAIT: Duration = Duration::from_secs(100);
/// Longer than a leader's lease.
const PAST_LEASE: Duration = Duration::from_secs(30);

/// A moment in the making of a release, as its objects show it.
#[derive(Clone, Copy, Debug)]
enum Point {
    Step(&'static str),
    Candidate,
    Promoted,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    WorkerKilled(Point),
    WorkerStopped,
    OperatorKilled(Point),
    OperatorStopped(Point),
    TwoOperators,
    NatsLost(Point),
    ApiServerKilled(Point),
    PipelineDeletedUnseen,
    NamespaceDeletedUnseen,
}

use Fault::*;
use Point::*;

const FAULTS: [Fault; 20] = [
    WorkerKilled(Step("Embed")),
    WorkerKilled(Step("Assemble")),
    WorkerKilled(Step("Evaluate")),
    WorkerStopped,
    OperatorKilled(Step("Snapshot")),
    OperatorKilled(Step("Embed")),
    OperatorKilled(Step("Assemble")),
    OperatorKilled(Step("Evaluate")),
    OperatorKilled(Candidate),
    OperatorKilled(Promoted),
    OperatorStopped(Step("Embed")),
    TwoOperators,
    NatsLost(Step("Snapshot")),
    NatsLost(Step("Embed")),
    NatsLost(Step("Evaluate")),
    ApiServerKilled(Step("Snapshot")),
    ApiServerKilled(Step("Evaluate")),
    ApiServerKilled(Candidate),
    PipelineDeletedUnseen,
    NamespaceDeletedUnseen,
];

/// Numbers that a seed repeats.
struct Draws(u64);

impl Draws {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn shuffled(&mut self) -> Vec<Fault> {
        let mut left = Vec::from(FAULTS);
        let mut order = Vec::new();
        while !left.is_empty() {
            order.push(left.swap_remove(self.below(left.len())));
        }
        order
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|n| n.parse().expect("a number"))
}

pub async fn long(story: Arc<Story>) {
    let minutes = number("LOCI_CHAOS_MINUTES").unwrap_or(10);
    let seed = number("LOCI_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("    seed {seed}, {minutes} minutes");
    blocking(|| {
        rivals("The workshop opens at nine.");
        kubectl(&[
            "-n",
            SYSTEM,
            "scale",
            "deployment/loci-worker-cpu",
            "--replicas=2",
        ]);
        rolled_out(SYSTEM, "deployment/loci-worker-cpu");
    });
    let (mut draws, began) = (Draws(seed), Instant::now());
    let load = Load::start(&story.shop());
    let mut done = 0;
    'long: loop {
        for fault in draws.shuffled() {
            if began.elapsed() > Duration::from_secs(60 * minutes) {
                break 'long;
            }
            let began = Instant::now();
            print!("    {fault:?}: ");
            let hit = suffer(&story, fault).await;
            let hit = if hit { "" } else { " (the moment was missed)" };
            println!(
                "the same end state after {:.1} s{hit}",
                began.elapsed().as_secs_f64()
            );
            done += 1;
        }
    }
    let report = load.stop().await;
    println!(
        "    {done} faults: {} asked, {} failed, p99 {:?}",
        report.asked,
        report.failed.len(),
        report.p99()
    );
    assert!(report.failed.is_empty(), "{:?}", report.failed);
}

/// A change, the fault while it is worked on, and the end state. False when the fault came after its moment.
async fn suffer(story: &Story, fault: Fault) -> bool {
    let before = story.made(AGENTS).await.1;
    let text = story.news();
    let change = async || objects::apply(&story.client, &documents(AGENTS, &text)).await;
    let hit = match fault {
        PipelineDeletedUnseen | NamespaceDeletedUnseen => {
            blocking(|| unseen(story, matches!(fault, NamespaceDeletedUnseen)));
            change().await;
            true
        }
        TwoOperators => {
            scale_operator(2);
            change().await;
            story.says(&text).await;
            scale_operator(1);
            true
        }
        WorkerStopped => {
            let stopped = blocking(|| pods(SYSTEM, "worker"));
            let stopped = &stopped[0];
            assert!(stopped.signal(Signal::STOP));
            change().await;
            story.says(&text).await;
            tokio::time::sleep(PAST_ACK_WAIT).await;
            stopped.signal(Signal::CONT)
        }
        WorkerKilled(point)
        | OperatorKilled(point)
        | OperatorStopped(point)
        | NatsLost(point)
        | ApiServerKilled(point) => {
            let desired = desired(story).await;
            change().await;
            let hit = reached(story, point, &desired, &before).await;
            blocking(|| strike(fault));
            hit
        }
    };
    story.says(&text).await;
    settled(story, &before, &text).await;
    hit
}

fn strike(fault: Fault) {
    match fault {
        WorkerKilled(_) => _ = node::kill(SYSTEM, "worker"),
        OperatorKilled(_) => _ = node::kill(SYSTEM, "operator"),
        OperatorStopped(_) => {
            let stopped = pods(SYSTEM, "operator");
            node::signal(&stopped, Signal::STOP);
            std::thread::sleep(PAST_LEASE);
            node::signal(&stopped, Signal::CONT);
        }
        NatsLost(_) => node::kill_nats_and_its_store(SYSTEM),
        ApiServerKilled(_) => node::restart_api_server(),
        WorkerStopped | TwoOperators | PipelineDeletedUnseen | NamespaceDeletedUnseen => {}
    }
}

fn scale_operator(replicas: u32) {
    blocking(|| {
        let replicas = format!("--replicas={replicas}");
        kubectl(&["-n", SYSTEM, "scale", "deployment/loci-operator", &replicas]);
        if replicas.ends_with('0') {
            until("no operator runs", || pods(SYSTEM, "operator").is_empty());
        }
    });
}

/// The other tenant goes while no operator looks, and comes again.
fn unseen(story: &Story, with_namespace: bool) {
    scale_operator(0);
    if with_namespace {
        kubectl(&["delete", "namespace", RIVALS, "--wait"]);
        apply(&[namespace(RIVALS)]);
    } else {
        kubectl(&["-n", RIVALS, "delete", "memorypipeline/shop", "--wait"]);
    }
    until("nothing of it is left", || {
        let left = [
            "-n",
            RIVALS,
            "get",
            "memoryruns,memoryreleases,deployments,configmaps",
            "-lloci.dev/pipeline=shop",
            "-oname",
        ];
        try_kubectl(&left).is_ok_and(|left| left.is_empty())
    });
    // Which brings the operator back, and its Role in the namespace.
    story.install(&["--set", "workers[0].replicas=2"]);
    rivals("The workshop opens at nine.");
}

async fn desired(story: &Story) -> Value {
    let map = objects::get(&story.client, AGENTS, CONFIG_MAP, "shop-serving").await;
    map.map(|m| m["data"]["desired"].clone())
        .unwrap_or_default()
}

/// Waits until objects show that moment; false when it was not seen.
async fn reached(story: &Story, point: Point, before: &Value, releases: &[Value]) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        let there = match point {
            Step(name) => at_work(&objects::list(&story.client, AGENTS, RUN).await, name),
            Candidate => objects::list(&story.client, AGENTS, RELEASE)
                .await
                .iter()
                .any(|r| {
                    let known = releases
                        .iter()
                        .any(|old| old["metadata"]["uid"] == r["metadata"]["uid"]);
                    !known && r["status"]["phase"] == "Candidate"
                }),
            Promoted => desired(story).await != *before,
        };
        if there {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    false
}

fn at_work(runs: &[Value], step: &str) -> bool {
    let steps = runs
        .iter()
        .flat_map(|r| r["status"]["steps"].as_array().into_iter().flatten());
    steps
        .into_iter()
        .any(|s| s["name"] == step && s["completionTime"].is_null())
}

/// Every run has ended and none failed, one change made one release, one release serves, and its content is that of a
/// pipeline that was left alone.
async fn settled(story: &Story, before: &[Value], text: &str) {
    story
        .until("every run has ended", async || {
            ended(&story.made(AGENTS).await.0)
        })
        .await;
    story
        .until("one release says that it serves", async || {
            let (_, releases) = story.made(AGENTS).await;
            releases
                .iter()
                .filter(|r| r["status"]["phase"] == "Serving")
                .count()
                == 1
        })
        .await;
    let (runs, after) = story.made(AGENTS).await;
    let failed: Vec<_> = runs
        .iter()
        .filter(|r| r["status"]["phase"] == "Failed")
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
    let number = |releases: &[Value]| {
        releases
            .iter()
            .filter_map(|r| r["spec"]["number"].as_i64())
            .max()
    };
    assert_eq!(
        number(&after),
        number(before).map(|n| n + 1),
        "one change, one release"
    );
    let content = |releases: &[Value]| {
        let serving = releases.iter().find(|r| r["status"]["phase"] == "Serving");
        serving
            .map(|r| r["spec"]["index"]["contentId"].clone())
            .unwrap_or_default()
    };
    objects::apply(&story.client, &documents(RIVALS, text)).await;
    let expected = content(&after);
    story
        .until(
            "an undisturbed pipeline comes to the same content",
            async || content(&story.made(RIVALS).await.1) == expected,
        )
        .await;
}
