//! `kill -9` for one part after another, under load, while a release is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::audit;
use crate::cluster::{AGENTS, SYSTEM, field, kubectl};
use crate::install::ended;
use crate::node::{self, pods};
use crate::story::{Story, blocking, documents, rolled_out};

/// How long queries may fail after a replica was killed: until it is out of the endpoints on every node.
const HARM: Duration = Duration::from_secs(5);

/// What is promised for a replica that is killed: the other answers all, but for what reaches the dead one.
pub async fn a_replica_is_killed(story: Arc<Story>) {
    let act = async || {
        let killed = blocking(|| {
            pods(AGENTS, "recall")
                .into_iter()
                .find(|p| p.name.starts_with("shop-"))
                .unwrap()
        });
        let at = Instant::now();
        assert!(killed.signal(Signal::KILL));
        at
    };
    let began = Instant::now();
    let (report, at) = story
        .under_load("kill -9 of a replica", Duration::from_secs(15), act)
        .await;
    let kill = at - began;
    let harm = report
        .failed
        .iter()
        .map(|(when, _)| when.saturating_sub(kill))
        .max()
        .unwrap_or_default();
    println!(
        "    queries failed until {harm:?} after the kill: {}",
        report.failed.len()
    );
    assert!(harm < HARM, "{:?}", report.failed);
    blocking(|| rolled_out(AGENTS, "deployment/shop-recall"));
}

/// One change, a fault while it is worked on, and then: one more release, every run ended, none failed.
async fn survives(story: &Arc<Story>, what: &str, fault: impl AsyncFn()) {
    let (old, before) = story.made(AGENTS).await;
    let act = async || {
        let (began, text) = (Instant::now(), story.news());
        crate::objects::apply(&story.client, &documents(AGENTS, &text)).await;
        // Work is under way by then, or about to be.
        tokio::time::sleep(Duration::from_millis(150)).await;
        fault().await;
        story.says(&text).await;
        began.elapsed().as_secs_f64()
    };
    let took = story.unharmed(what, act).await;
    println!("    {what}: the change was answered and settled after {took:.1} s");
    story
        .until("every run has ended", async || {
            ended(&story.made(AGENTS).await.0)
        })
        .await;
    let (runs, after) = story.made(AGENTS).await;
    let number = |releases: &[Value]| {
        releases
            .iter()
            .filter_map(|r| r["spec"]["number"].as_i64())
            .max()
            .unwrap_or(0)
    };
    assert_eq!(
        number(&after),
        number(&before) + 1,
        "one change, one release"
    );
    let known = |run: &Value| {
        old.iter()
            .any(|o| o["metadata"]["uid"] == run["metadata"]["uid"])
    };
    let failed: Vec<_> = runs
        .iter()
        .filter(|r| r["status"]["phase"] == "Failed" && !known(r))
        .collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

pub async fn a_worker_is_killed(story: Arc<Story>) {
    survives(&story, "kill -9 of the worker", async || {
        assert!(blocking(|| node::kill(SYSTEM, "worker")) > 0);
    })
    .await;
}

pub async fn nats_is_killed_and_its_store_deleted(story: Arc<Story>) {
    survives(&story, "kill -9 of NATS, its store deleted", async || {
        blocking(|| node::kill_nats_and_its_store(SYSTEM));
    })
    .await;
}

pub async fn the_operator_is_killed(story: Arc<Story>) {
    survives(&story, "kill -9 of the operator", async || {
        assert!(blocking(|| node::kill(SYSTEM, "operator")) > 0);
    })
    .await;
}

pub async fn the_api_server_is_killed(story: Arc<Story>) {
    let began = Timestamp::now();
    survives(&story, "kill -9 of the API server", async || {
        blocking(node::restart_api_server)
    })
    .await;
    // One that comes up refuses everybody until it has read the Roles.
    story.without_rights_since(began);
}

/// How long a leader that is stuck may keep another from leading.
const HANDOVER: Duration = Duration::from_secs(20);

fn leader() -> String {
    field("lease/loci-operator", SYSTEM, "{.spec.holderIdentity}")
}

pub async fn a_leader_that_is_stuck_is_followed_by_another(story: Arc<Story>) {
    blocking(|| {
        kubectl(&[
            "-n",
            SYSTEM,
            "scale",
            "deployment/loci-operator",
            "--replicas=2",
        ]);
        rolled_out(SYSTEM, "deployment/loci-operator");
    });
    let pods = blocking(|| pods(SYSTEM, "operator"));
    let first = blocking(leader);
    let stuck = pods
        .iter()
        .find(|pod| first.contains(&pod.name))
        .expect("one of them leads")
        .clone();
    survives(
        &story,
        "SIGSTOP of the leader of two operators",
        async || {
            let began = Instant::now();
            assert!(stuck.signal(Signal::STOP));
            story
                .until("another leads", async || blocking(leader) != first)
                .await;
            println!("    another led after {:?}", began.elapsed());
            assert!(began.elapsed() < HANDOVER);
        },
    )
    .await;
    let followed = Timestamp::now();
    assert!(stuck.signal(Signal::CONT));
    // What it was about to write is refused, or it ends before it writes.
    story.unharmed("the old leader wakes", async || ()).await;
    let written = blocking(|| audit::written_by(&stuck.name, followed));
    assert!(written.is_empty(), "the old leader wrote: {written:#?}");
    blocking(|| {
        kubectl(&[
            "-n",
            SYSTEM,
            "scale",
            "deployment/loci-operator",
            "--replicas=1",
        ])
    });
    story.follows().await;
}
