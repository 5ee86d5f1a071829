//! An adapter on its way from Git to answers: a commit moves its schedule, its training loses its worker half-way and goes on
//! in another, and one command goes back to the adapter before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use loci_testbed::git::Repository;
use loci_testbed::hub;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::bus::{Items, patience};
use crate::cluster::{AGENTS, SYSTEM, field, kubectl, plugin, state, try_kubectl};
use crate::flux::{FLUX, Flux, Said, follow, said_of};
use crate::load::Load;
use crate::node::pods;
use crate::objects::RUN;
use crate::story::{Story, blocking, rolled_out};
use crate::tuned::{Tuned, lines};

const NAME: &str = "tuned";
/// Once a year, and not now.
const YEARLY: &str = "0 0 1 1 *";
/// How long it may take to go back.
const BACK: Duration = Duration::from_secs(20);
/// How long NATS waits for who was killed: that is not what is tested.
const IMPATIENT: Duration = Duration::from_secs(5);

/// The repository, and what it says.
struct Declared {
    tuned: Tuned,
    repository: Repository,
    hours: &'static str,
    examples: usize,
    cron: String,
}

/// A time of once a year, which is in one minute to two.
fn soon() -> String {
    let at = (Timestamp::now() + 120.seconds()).to_zoned(TimeZone::UTC);
    format!(
        "{} {} {} {} *",
        at.minute(),
        at.hour(),
        at.day(),
        at.month()
    )
}

impl Declared {
    fn new(story: Arc<Story>) -> Self {
        Self {
            tuned: Tuned::new(story, NAME),
            repository: Repository::new(),
            hours: "The workshop opens at nine.",
            examples: 120,
            cron: YEARLY.to_owned(),
        }
    }

    /// Long enough to be caught half-way, and short enough to be waited for.
    fn spec(&self) -> Value {
        let source = |name: &str, memory: &str| json!({"name": name, "memory": memory, "configMap": {"name": format!("tuned-{name}")}});
        json!({
            "embedder": {"model": hub::MODEL},
            "sources": [source("docs", "factual"), source("runbooks", "procedural")],
            "index": {"refresh": {"interval": "1h"}, "maxDeletion": "100%"},
            "adapters": [{
                "name": "escalation", "base": hub::DECODER, "sources": ["runbooks"], "minExamples": 8, "guard": "none",
                "schedule": {"cron": self.cron},
                "lora": {"targetModules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
                "training": {"epochs": 100, "batch": 1, "learningRate": "1e-3"},
            }],
            "suites": [{"name": "even", "behavior": {"data": {"configMap": {"name": "tuned-cases", "key": "cases.jsonl"}}}}],
            "gates": [{"suite": "even", "metric": "likelihood", "minGain": "0.10"}],
        })
    }

    /// Pushes all as it is now; the commit.
    fn push(&self) -> String {
        let map = |name: &str, key: &str, text: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("tuned-{name}")}, "data": {key: text}});
        let pipeline = json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": NAME}, "spec": self.spec(),
        });
        let (examples, cases) = (
            lines(0..self.examples, "response"),
            lines(500..540, "reference"),
        );
        for (name, object) in [
            ("docs", map("docs", "hours.md", self.hours)),
            ("runbooks", map("runbooks", "even.jsonl", &examples)),
            ("cases", map("cases", "cases.jsonl", &cases)),
            ("pipeline", pipeline),
        ] {
            let file = format!("pipelines/{name}.yaml");
            self.repository.write(&file, &object.to_string());
        }
        self.repository.push()
    }

    /// Waits until Flux has done a commit, and is content.
    async fn done(&self, commit: &str) {
        let mut said = Said::Nothing;
        let what = format!("Flux has done {commit}");
        self.tuned
            .until(&what, async || {
                said = blocking(|| said_of(commit));
                said != Said::Nothing
            })
            .await;
        assert_eq!(said, Said::Ready);
    }

    async fn deploy(&self) {
        self.done(&self.push()).await;
    }
}

/// How far the store has the pipeline's training written down.
fn written_down() -> Option<u64> {
    let trainings = state()?.join("volumes/store/documents/training");
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(entry.ok()?.path()).ok()?;
        let document: Value = serde_json::from_str(&text).ok()?;
        let training = &document["body"];
        let ours = training["pipeline"] == format!("{AGENTS}/{NAME}");
        training["step"].as_u64().filter(|_| ours)
    };
    std::fs::read_dir(trainings).ok()?.find_map(of)
}

/// Of the worker's log, whether it went on with a training.
fn goes_on() -> bool {
    let label = "-lapp.kubernetes.io/component=worker";
    let log = try_kubectl(&["-n", SYSTEM, "logs", label, "--tail=-1"]);
    log.is_ok_and(|log| log.contains("a training goes on"))
}

pub async fn one_from_git_is_trained_and_taken_back(story: Arc<Story>) {
    blocking(|| story.install(&["--set", "workers[0].checkpoints=1s"]));
    let mut declared = Declared::new(story.clone());
    let _flux = blocking(Flux::start);
    let repository = declared.repository.serve().await;
    let commit = declared.push();
    blocking(|| follow(&repository));
    declared.done(&commit).await;
    blocking(|| rolled_out(AGENTS, "deployment/tuned-recall"));
    declared.tuned.url = blocking(|| story.url(AGENTS, NAME));
    let refused = declared.tuned.chat().await.unwrap_err();
    assert!(refused.contains("no_chat_model"), "{refused}");

    let load = Load::start(&declared.tuned.url);
    a_commit_moves_the_schedule(&mut declared).await;
    let tuned = &declared.tuned;
    its_worker_is_killed_half_way(tuned).await;
    // Everywhere: a replica that has not switched knows no such name.
    tuned.serves(2).await;
    let chats = tuned.chats();
    let first = tuned.adapter(2).await.expect("the second release has it");
    tuned.answers_by(&first).await;
    another_is_taken_back(&mut declared, &first).await;
    chats.stop().await;
    let report = load.stop().await;
    assert!(report.failed.is_empty(), "{:?}", report.failed);

    blocking(|| {
        kubectl(&["-n", FLUX, "delete", "kustomization,gitrepository", "--all"]);
        story.install(&[]);
    });
}

async fn a_commit_moves_the_schedule(declared: &mut Declared) {
    let next = || {
        let path = "{.status.adapters[0].nextTime}";
        blocking(|| field(&format!("memorypipeline/{NAME}"), AGENTS, path))
    };
    let before = next();
    assert!(before.contains("-01-01T00:00:00"), "{before}");
    declared.cron = soon();
    declared.deploy().await;
    assert_ne!(next(), before);
    assert_eq!(
        declared.tuned.all(RUN).await.len(),
        1,
        "nothing is trained at once"
    );
}

/// It stands still when it has written something down, and then its pod is gone.
async fn its_worker_is_killed_half_way(tuned: &Tuned) {
    let mut items = Items::watch(AGENTS, NAME).await;
    let what = "a training is written down";
    tuned.until(what, async || written_down().is_some()).await;
    let worker = blocking(|| pods(SYSTEM, "worker").remove(0));
    let process = blocking(|| worker.process()).expect("it trains");
    assert!(process.signal(Signal::STOP));
    let step = written_down().expect("the training went by: it has to last longer");
    items.hear().await;
    let held = items.held("cpu");
    let (item, attempt) = held.expect("the training went by: it has to last longer");
    let delete = ["delete", "pod", &worker.name, "--grace-period=0", "--force"];
    blocking(|| kubectl(&[&["-n", SYSTEM], &delete[..], &["--wait=false"]].concat()));
    assert!(process.signal(Signal::KILL));

    let before = patience("cpu", IMPATIENT).await;
    tuned
        .until("another worker has the training", async || {
            items.hear().await;
            items.record(&item)["attempt"].as_u64() > Some(attempt)
        })
        .await;
    patience("cpu", before).await;
    tuned
        .until("it goes on where it was", async || blocking(goes_on))
        .await;
    println!("    killed after step {step}, another went on");
    let run = tuned.all(RUN).await;
    let run = run.iter().find(|r| r["spec"]["kind"] == "FineTune");
    let run = run.expect("the schedule made it");
    assert_eq!(run["spec"]["trigger"], "Schedule", "{run:#}");
}

/// Another adapter follows; one command goes back to the first, and a new index keeps that.
async fn another_is_taken_back(declared: &mut Declared, first: &str) {
    declared.examples = 140;
    declared.deploy().await;
    let tuned = &declared.tuned;
    let ask = |what: &[&str]| blocking(|| plugin(&[&["-n", AGENTS], what].concat()));
    ask(&["run", "finetune", "escalation", "--pipeline", NAME]);
    let what = "there is another adapter";
    tuned
        .until(what, async || tuned.adapter(3).await.is_some())
        .await;
    let second = tuned.adapter(3).await.unwrap();
    assert_ne!(second, first);
    tuned.serves(3).await;
    tuned.answers_by(&second).await;
    let shown = ask(&["releases", NAME, "show", "3"]);
    assert!(shown.contains("adapter escalation"), "{shown}");

    let began = Instant::now();
    ask(&["rollback", NAME]);
    tuned.answers_by(first).await;
    println!(
        "    the adapter before answered {:.1?} after",
        began.elapsed()
    );
    assert!(began.elapsed() < BACK, "{:?}", began.elapsed());

    declared.hours = "The workshop opens at ten.";
    declared.deploy().await;
    let tuned = &declared.tuned;
    tuned
        .until("there is another index", async || {
            tuned.adapter(4).await.is_some()
        })
        .await;
    assert_eq!(tuned.adapter(4).await.as_deref(), Some(first));
    let answer = tuned.chat().await.unwrap();
    assert_eq!(answer["release"], "tuned-2", "held: {answer}");
    ask(&["resume", NAME]);
    tuned
        .until("the hold is over", async || {
            let answer = tuned.chat().await;
            answer.is_ok_and(|answer| answer["release"] != "tuned-2")
        })
        .await;
}
