//! A change that is caught half way. Who works on it is let run for a moment at a time, until it is seen to be where it
//! is wanted; then it stands still, and a fault strikes in the midst of it, however short that is.

use std::slice::from_ref;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;

use crate::bus::{Items, patience};
use crate::cluster::{AGENTS, SYSTEM, until};
use crate::install::ended;
use crate::node::{Pod, Process, pods};
use crate::objects::{self, CONFIG_MAP, RELEASE, RUN};
use crate::story::{Story, blocking, documents, newest};

/// How long it runs at a time: shorter than any step.
const SLICE: Duration = Duration::from_millis(2);
/// By then what it had sent has arrived.
const ARRIVED: Duration = Duration::from_millis(300);
/// A change that takes longer is not caught.
const LONGEST: Duration = Duration::from_secs(90);
/// So many changes are made before a moment counts as one that is never there.
const TRIES: usize = 5;
/// How long NATS waits for who was killed, when that is not what is tested: its own measure is 90 s.
const IMPATIENT: Duration = Duration::from_secs(5);

/// A moment in the making of a release.
#[derive(Clone, Copy, Debug)]
pub enum Point {
    /// A worker holds this step's item; of Snapshot, a fetcher.
    Step(&'static str),
    /// The operator has made the release, which does not serve yet.
    Candidate,
    /// The operator has pointed replicas to it, and has not yet said that it serves.
    Promoted,
}

impl Point {
    fn doer(self) -> (&'static str, &'static str) {
        match self {
            Self::Step("Snapshot") => (AGENTS, "fetcher"),
            Self::Step(_) => (SYSTEM, "worker"),
            Self::Candidate | Self::Promoted => (SYSTEM, "operator"),
        }
    }

    /// The class of work.
    fn class(self) -> &'static str {
        match self {
            Self::Step("Snapshot") => "fetch-agents",
            _ => "cpu",
        }
    }
}

/// What stands still. It goes on when this is dropped.
pub struct Caught {
    /// What answers have to say in the end.
    pub text: String,
    /// Runs and releases before the change.
    pub before: (Vec<Value>, Vec<Value>),
    /// Who works on it.
    pub pod: Pod,
    process: Process,
    /// Who else could.
    others: Vec<Process>,
    point: Point,
    items: Items,
    /// What it holds, and as which attempt.
    held: (String, u64),
}

impl Caught {
    /// Changes the shop's documents, and catches that there. A moment that cannot be caught fails the test.
    pub async fn at(story: &Story, point: Point) -> Self {
        for _ in 0..TRIES {
            let mut caught = Self::stand(story, point).await;
            objects::apply(&story.client, &documents(AGENTS, &caught.text)).await;
            if caught.creep(story).await {
                return caught;
            }
            println!("    {point:?} went by");
            caught.go_on();
            story.says(&caught.text).await;
            story.at_rest().await;
        }
        panic!("{point:?} was not caught in {TRIES} changes: no fault can strike there");
    }

    /// All who could work stand still.
    async fn stand(story: &Story, point: Point) -> Self {
        let before = story.made(AGENTS).await;
        let (namespace, component) = point.doer();
        let mut running = Vec::new();
        blocking(|| {
            // Killed before, it may be about to start again.
            until("somebody works", || {
                let all = pods(namespace, component).into_iter();
                let alive = all.filter_map(|pod| pod.process().map(|process| (pod, process)));
                running = alive.collect();
                !running.is_empty()
            });
        });
        let (pod, process) = running[0].clone();
        let others = running.iter().skip(1).map(|(_, process)| *process);
        let caught = Self {
            text: story.news(),
            before,
            pod,
            process,
            others: others.collect(),
            point,
            items: Items::watch(AGENTS, "shop").await,
            held: (String::new(), 0),
        };
        for process in caught.others.iter().chain([&caught.process]) {
            process.signal(Signal::STOP);
        }
        caught
    }

    /// False when the moment went by.
    async fn creep(&mut self, story: &Story) -> bool {
        let began = Instant::now();
        while began.elapsed() < LONGEST {
            self.process.signal(Signal::CONT);
            tokio::time::sleep(SLICE).await;
            self.process.signal(Signal::STOP);
            self.items.hear().await;
            if self.there(story).await {
                tokio::time::sleep(ARRIVED).await;
                self.items.hear().await;
                return self.there(story).await;
            }
            if self.over(story).await {
                return false;
            }
        }
        false
    }

    /// Whether it stands where it is wanted.
    async fn there(&mut self, story: &Story) -> bool {
        match self.point {
            Point::Step(name) => {
                let Some(held) = self.items.held(self.point.class()) else {
                    return false;
                };
                self.held = held;
                is_open(&objects::list(&story.client, AGENTS, RUN).await, name)
            }
            Point::Candidate => self.phase(story).await == "Candidate",
            Point::Promoted => {
                let map = objects::get(&story.client, AGENTS, CONFIG_MAP, "shop-serving").await;
                let desired = map.unwrap_or_default()["data"]["desired"].clone();
                let made = self.release(story).await;
                desired == made["metadata"]["name"] && made["status"]["phase"] == "Candidate"
            }
        }
    }

    /// Whether the release is there that the step is part of, or serves already.
    async fn over(&self, story: &Story) -> bool {
        let phase = self.phase(story).await;
        match self.point {
            Point::Step(_) => phase != Value::Null,
            _ => phase == "Serving",
        }
    }

    /// The release that the change makes; null before.
    async fn release(&self, story: &Story) -> Value {
        let all = objects::list(&story.client, AGENTS, RELEASE).await;
        let known = newest(&self.before.1);
        let mut made = all.into_iter();
        made.find(|r| r["spec"]["number"].as_i64() > Some(known))
            .unwrap_or_default()
    }

    async fn phase(&self, story: &Story) -> Value {
        self.release(story).await["status"]["phase"].clone()
    }

    /// `kill -9`, where it stands. Others go on.
    pub fn kill(&self) {
        assert!(self.process.signal(Signal::KILL));
        self.others_go_on();
    }

    pub fn others_go_on(&self) {
        for process in &self.others {
            process.signal(Signal::CONT);
        }
    }

    pub fn go_on(&self) {
        self.process.signal(Signal::CONT);
        self.others_go_on();
    }

    /// Whether the kubelet has told it to end.
    pub fn is_told_to_end(&self) -> bool {
        self.process.is_sent(Signal::TERM)
    }

    /// Which attempt at its item is the last so far, and whether that has ended.
    pub async fn attempt(&mut self) -> (u64, bool) {
        self.items.hear().await;
        let record = self.items.record(&self.held.0);
        let attempt = record["attempt"].as_u64().unwrap_or_default();
        (attempt, record["state"]["finished"].is_object())
    }

    /// Waits until somebody else has done what it holds: by NATS' own measure.
    pub async fn is_done_by_another(&mut self, story: &Story) {
        let ours = self.held.1;
        story
            .until("another attempt has done the step", async || {
                let (attempt, done) = self.attempt().await;
                attempt > ours && done
            })
            .await;
    }

    /// The same, and NATS does not wait as long as it would.
    pub async fn is_soon_done_by_another(&mut self, story: &Story) {
        let class = self.point.class();
        let before = patience(class, IMPATIENT).await;
        self.is_done_by_another(story).await;
        patience(class, before).await;
    }

    /// It wakes when its step was done without it, and what it has to say comes too late.
    pub async fn wakes_for_nothing(&mut self, story: &Story) {
        self.items.hear().await;
        let record = self.items.record(&self.held.0);
        assert!(record["state"]["finished"].is_object(), "{record}");
        story
            .until("what was made says that it serves", async || {
                self.release(story).await["metadata"]["name"] == story.served().await
            })
            .await;
        let made = made(story).await;
        self.go_on();
        tokio::time::sleep(Duration::from_secs(3)).await;
        self.items.hear().await;
        assert_eq!(self.items.record(&self.held.0), record, "an end is the end");
        assert_eq!(made, self::made(story).await, "nothing is done twice");
    }
}

impl Drop for Caught {
    fn drop(&mut self) {
        self.go_on();
    }
}

/// Runs and releases, and the one that serves.
async fn made(story: &Story) -> (Vec<Value>, String) {
    let (runs, releases) = story.made(AGENTS).await;
    let names = |all: Vec<Value>| all.into_iter().map(|o| o["metadata"]["uid"].clone());
    let all = names(runs).chain(names(releases)).collect();
    (all, story.served().await)
}

/// Whether a run of the shop that goes on has begun this step and not ended it.
fn is_open(runs: &[Value], step: &str) -> bool {
    let of_shop = |r: &&Value| r["spec"]["pipelineRef"]["name"] == "shop";
    let mut live = runs.iter().filter(of_shop).filter(|r| !ended(from_ref(*r)));
    live.any(|r| {
        let mut steps = r["status"]["steps"].as_array().into_iter().flatten();
        steps.any(|s| s["name"] == step && s["completionTime"].is_null())
    })
}
