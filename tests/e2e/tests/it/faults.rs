//! `kill -9` for one part after another, under load, while a release is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rustix::process::Signal;
use serde_json::Value;

use crate::audit;
use crate::caught::{Caught, Point};
use crate::cluster::{AGENTS, SYSTEM, field, kubectl, until};
use crate::node::{self, pods};
use crate::objects;
use crate::story::{Story, blocking, newest, rolled_out};

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

/// One change, a fault while a worker holds this step of it, and then: one more release, every run ended, none failed.
async fn survives(
    story: &Arc<Story>,
    what: &str,
    step: &'static str,
    fault: impl AsyncFnOnce(&mut Caught),
) {
    let act = async || {
        let mut caught = Caught::at(story, Point::Step(step)).await;
        let struck = Instant::now();
        fault(&mut caught).await;
        caught.go_on();
        story.says(&caught.text).await;
        (caught, struck.elapsed().as_secs_f64())
    };
    let (caught, took) = story.unharmed(what, act).await;
    println!("    {what}, in {step}: the change was answered and settled {took:.1} s after");
    made_once(story, &caught).await;
}

async fn made_once(story: &Story, caught: &Caught) {
    story.at_rest().await;
    let (old, before) = &caught.before;
    let (runs, after) = story.made(AGENTS).await;
    assert_eq!(
        newest(&after),
        newest(before) + 1,
        "one change, one release"
    );
    let known = |run: &Value| {
        let mut uids = old.iter().map(|o| &o["metadata"]["uid"]);
        uids.any(|uid| *uid == run["metadata"]["uid"])
    };
    let failed = runs.iter().filter(|r| r["status"]["phase"] == "Failed");
    let failed: Vec<_> = failed.filter(|r| !known(r)).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

pub async fn a_worker_is_killed(story: Arc<Story>) {
    let kill = async |caught: &mut Caught| {
        caught.kill();
        caught.is_soon_done_by_another(&story).await;
    };
    survives(&story, "kill -9 of the worker", "Embed", kill).await;
}

/// How long a step of a worker that ends may wait for another: far less than NATS waits for one that is silent.
const HANDED_OVER: Duration = Duration::from_secs(45);

/// As `kubectl drain` and a rollout do: with a period of grace.
pub async fn a_worker_is_told_to_end_while_it_works(story: Arc<Story>) {
    let mut caught = Caught::at(&story, Point::Step("Embed")).await;
    let name = caught.pod.name.clone();
    let last = objects::last(&story.client, SYSTEM, objects::POD, &name);
    blocking(|| {
        kubectl(&["-n", SYSTEM, "delete", "pod", &name, "--wait=false"]);
        until("it is told to end", || caught.is_told_to_end());
    });
    let told = Instant::now();
    caught.go_on();
    story.says(&caught.text).await;
    let took = told.elapsed();
    let (attempt, done) = caught.attempt().await;
    println!("    its step was done by attempt {attempt}, and answered {took:.1?} after");
    assert!(done && took < HANDED_OVER, "{took:?}");
    let last = last.await.unwrap().expect("the pod was seen to go");
    let state = &last["status"]["containerStatuses"][0]["state"];
    assert_eq!(state["terminated"]["exitCode"], 0, "{last:#}");
    made_once(&story, &caught).await;
    blocking(|| rolled_out(SYSTEM, WORKERS));
}

const WORKERS: &str = "deployment/loci-worker-cpu";

fn scale_workers(replicas: &str) {
    kubectl(&["-n", SYSTEM, "scale", WORKERS, replicas]);
    rolled_out(SYSTEM, WORKERS);
}

/// The only worker stands still with a step in its hands. Another does it when NATS has waited for long enough, and what
/// the first says when it wakes changes nothing. `make chaos` waits as long as NATS does by itself.
pub async fn a_worker_that_is_stuck_is_followed_by_another(story: Arc<Story>) {
    let mut caught = Caught::at(&story, Point::Step("Embed")).await;
    blocking(|| scale_workers("--replicas=2"));
    caught.is_soon_done_by_another(&story).await;
    story.says(&caught.text).await;
    made_once(&story, &caught).await;
    caught.wakes_for_nothing(&story).await;
    made_once(&story, &caught).await;
    blocking(|| scale_workers("--replicas=1"));
    story.follows().await;
}

pub async fn nats_is_killed_and_its_store_deleted(story: Arc<Story>) {
    let what = "kill -9 of NATS, its store deleted";
    let lose = async |_: &mut Caught| blocking(|| node::kill_nats_and_its_store(SYSTEM));
    survives(&story, what, "Embed", lose).await;
}

pub async fn the_operator_is_killed(story: Arc<Story>) {
    let kill = async |_: &mut Caught| {
        assert!(blocking(|| node::kill(SYSTEM, "operator")) > 0);
    };
    survives(&story, "kill -9 of the operator", "Assemble", kill).await;
}

pub async fn the_api_server_is_killed(story: Arc<Story>) {
    let began = Timestamp::now();
    let kill = async |_: &mut Caught| blocking(node::restart_api_server);
    survives(&story, "kill -9 of the API server", "Evaluate", kill).await;
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
    let stop = async |caught: &mut Caught| {
        let began = Instant::now();
        assert!(stuck.signal(Signal::STOP));
        // What is done now is told to nobody who leads.
        caught.go_on();
        story
            .until("another leads", async || blocking(leader) != first)
            .await;
        println!("    another led after {:?}", began.elapsed());
        assert!(began.elapsed() < HANDOVER);
    };
    let what = "SIGSTOP of the leader of two operators";
    survives(&story, what, "Embed", stop).await;
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
