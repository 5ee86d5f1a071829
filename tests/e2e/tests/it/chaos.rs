//! Faults in an order that a seed repeats, for a bounded time: `make chaos`. After each the end state is the one that an
//! undisturbed pipeline comes to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::caught::{Caught, Point};
use crate::cluster::{AGENTS, RIVALS, SYSTEM, apply, kubectl, try_kubectl, until};
use crate::load::Load;
use crate::node::{self, pods};
use crate::objects;
use crate::story::{Story, blocking, documents, namespace, newest, rivals, rolled_out};

/// Longer than a leader's lease.
const PAST_LEASE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Who holds the step's item: a worker, or the fetcher.
    DoerKilled(Point),
    /// For as long as NATS waits by itself.
    WorkerStopped(Point),
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

const FAULTS: [Fault; 21] = [
    DoerKilled(Step("Snapshot")),
    DoerKilled(Step("Embed")),
    DoerKilled(Step("Assemble")),
    DoerKilled(Step("Evaluate")),
    WorkerStopped(Step("Embed")),
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
            suffer(&story, fault).await;
            println!(
                "the same end state after {:.1} s",
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

/// A change, the fault in the midst of it, and the end state.
async fn suffer(story: &Story, fault: Fault) {
    let (before, text) = match fault {
        TwoOperators | PipelineDeletedUnseen | NamespaceDeletedUnseen => {
            let (_, before) = story.made(AGENTS).await;
            let text = story.news();
            around(story, fault, &text).await;
            (before, text)
        }
        DoerKilled(point)
        | WorkerStopped(point)
        | OperatorKilled(point)
        | OperatorStopped(point)
        | NatsLost(point)
        | ApiServerKilled(point) => {
            let mut caught = Caught::at(story, point).await;
            strike(story, fault, &mut caught).await;
            (caught.before.1.clone(), caught.text.clone())
        }
    };
    story.says(&text).await;
    settled(story, &before, &text).await;
}

/// What begins before the change.
async fn around(story: &Story, fault: Fault, text: &str) {
    let change = async || objects::apply(&story.client, &documents(AGENTS, text)).await;
    if matches!(fault, TwoOperators) {
        scale_operator(2);
        change().await;
        story.says(text).await;
        scale_operator(1);
    } else {
        blocking(|| unseen(story, matches!(fault, NamespaceDeletedUnseen)));
        change().await;
    }
}

/// Strikes in the midst of a change; then what was caught goes on.
async fn strike(story: &Story, fault: Fault, caught: &mut Caught) {
    match fault {
        DoerKilled(_) => {
            caught.kill();
            caught.is_soon_done_by_another(story).await;
        }
        WorkerStopped(_) => {
            caught.others_go_on();
            caught.is_done_by_another(story).await;
            story.says(&caught.text).await;
            story.at_rest().await;
            caught.wakes_for_nothing(story).await;
        }
        OperatorKilled(_) => assert!(blocking(|| node::kill(SYSTEM, "operator")) > 0),
        OperatorStopped(_) => {
            let stopped = blocking(|| pods(SYSTEM, "operator"));
            assert!(blocking(|| node::signal(&stopped, Signal::STOP)) > 0);
            caught.go_on();
            tokio::time::sleep(PAST_LEASE).await;
            blocking(|| node::signal(&stopped, Signal::CONT));
        }
        NatsLost(_) => blocking(|| node::kill_nats_and_its_store(SYSTEM)),
        ApiServerKilled(_) => blocking(node::restart_api_server),
        TwoOperators | PipelineDeletedUnseen | NamespaceDeletedUnseen => {}
    }
    caught.go_on();
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

/// Every run has ended and none failed, one change made one release, one release serves, and its content is that of a
/// pipeline that was left alone.
async fn settled(story: &Story, before: &[Value], text: &str) {
    story.at_rest().await;
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
    assert_eq!(
        newest(&after),
        newest(before) + 1,
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
