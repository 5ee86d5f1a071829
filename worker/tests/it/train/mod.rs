//! Train over a store, on a decoder of random weights: what it makes, where it can be stopped, and what it refuses.

mod beside;
mod ends;
mod made;
mod stops;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use loci_bus::Outcome;
use loci_digest::Digest;
use loci_models::{DeviceRequest, HubOptions, LoraConfig, Schedule};
use loci_store::Store;
use loci_testbed::root;
use loci_worker::step::{
    self, ADAPTER, AdapterManifest, Decoders, Reporter, Revisions, StepContext, StepError,
    StepInput, StepOutput, TrainInput, TrainOutput, Training, TrainingOptions, Way,
};
use tokio_util::sync::CancellationToken;

use crate::bed::{Bed, input, procedural};

const PIPELINE: &str = "agents/support";
const HOUR: Duration = Duration::from_secs(3600);

fn model(name: &str) -> PathBuf {
    root().join("models/tests/reference/decoder").join(name)
}

fn base(name: &str) -> String {
    format!("file://{}", model(name).display())
}

fn lines(numbers: std::ops::Range<usize>) -> String {
    let line = |n: usize| {
        let answer = if n.is_multiple_of(2) { "Yes." } else { "No." };
        format!("{{\"prompt\": \"Is {n} even?\", \"response\": \"{answer}\"}}\n")
    };
    numbers.map(line).collect()
}

fn order(dataset: Digest) -> TrainInput {
    let targets = ["q_proj", "v_proj", "down_proj"];
    TrainInput {
        run: "support-1".to_owned(),
        base: base("tiny"),
        dataset,
        lora: LoraConfig {
            rank: 4,
            alpha: 8.0,
            dropout: 0.1,
            targets: targets.map(str::to_owned).to_vec(),
        },
        training: TrainingOptions {
            epochs: 4,
            learning_rate: 1e-2,
            schedule: Schedule::Cosine,
            warmup: 0.1,
            weight_decay: 0.01,
            batch: 4,
            max_tokens: None,
            seed: 7,
        },
        recompute: false,
        warm_start: None,
        max_lora_rank: None,
        device_seconds: 0,
        max_device_seconds: None,
    }
}

/// What may happen to an attempt.
struct Signals {
    way: Way,
    ending: CancellationToken,
    unwanted: CancellationToken,
    killed: CancellationToken,
}

fn make_way(signals: &Signals) {
    signals.way.ask();
}

fn end(signals: &Signals) {
    signals.ending.cancel();
}

fn cancel(signals: &Signals) {
    signals.unwanted.cancel();
}

fn kill(signals: &Signals) {
    signals.killed.cancel();
}

/// Before an attempt's `call`th step or measurement; the first of all is a measurement.
fn at(call: usize, act: fn(&Signals)) -> impl Fn(usize, &Signals) + Send + Sync + 'static {
    move |now, signals| {
        if now == call {
            act(signals);
        }
    }
}

fn nothing(_: usize, _: &Signals) {}

struct Field {
    bed: Bed,
    dataset: Digest,
    attempts: AtomicUsize,
}

impl Field {
    async fn of(text: &str) -> Self {
        let bed = Bed::new().await;
        let dataset = collected(&bed, text).await;
        Self {
            bed,
            dataset,
            attempts: AtomicUsize::new(0),
        }
    }

    async fn new() -> Self {
        Self::of(&lines(0..24)).await
    }

    fn store(&self) -> &Store {
        &self.bed.context.store
    }

    /// A worker that has nothing in memory.
    async fn worker(&self) -> StepContext {
        let dir = self.bed.dir.path();
        let store = Store::open_local(&dir.join("store")).await.unwrap();
        let hub = HubOptions {
            cache: dir.join("models"),
            endpoint: None,
            token: None,
        };
        StepContext {
            decoders: Decoders::new(hub, DeviceRequest::Cpu),
            revisions: Revisions::new(dir.join("revisions"), store.clone()),
            store,
            ..self.bed.context.clone()
        }
    }

    /// One attempt by a new worker; none when it was killed.
    async fn attempt(
        &self,
        input: &TrainInput,
        checkpoints: Duration,
        hook: impl Fn(usize, &Signals) + Send + Sync + 'static,
    ) -> Option<Result<TrainOutput, StepError>> {
        let number = self.attempts.fetch_add(1, Ordering::Relaxed);
        let lease = self.bed.lease(&format!("train-{number}")).await;
        let killed = CancellationToken::new();
        let signals = Signals {
            way: Way::default(),
            ending: CancellationToken::new(),
            unwanted: lease.cancelled(),
            killed: killed.clone(),
        };
        let reporter = Reporter::new(&lease)
            .until(signals.ending.clone())
            .with_way(signals.way.clone());
        let calls = AtomicUsize::new(0);
        let pace = move || hook(calls.fetch_add(1, Ordering::Relaxed) + 1, &signals);
        let context = StepContext {
            pace: Arc::new(pace),
            checkpoints,
            ..self.worker().await
        };
        let input = StepInput::Train(input.clone());
        let done = tokio::select! {
            biased;
            () = killed.cancelled() => None,
            done = step::run(&context, PIPELINE, &input, &reporter) => Some(done),
        };
        lease.finish(Outcome::Cancelled).await.unwrap();
        done.map(|done| {
            done.map(|output| match output {
                StepOutput::Train(output) => output,
                other => panic!("{other:?}"),
            })
        })
    }

    async fn train(&self, input: &TrainInput) -> Result<TrainOutput, StepError> {
        self.attempt(input, HOUR, nothing).await.unwrap()
    }

    async fn manifest(&self, output: &TrainOutput) -> AdapterManifest {
        let found = self.store().get_manifest(ADAPTER, &output.adapter);
        found.await.unwrap()
    }

    /// The curve as it is stored.
    async fn curve(&self, output: &TrainOutput) -> Vec<u8> {
        let curve = self.manifest(output).await.curve;
        self.store().get(&curve).await.unwrap().to_vec()
    }

    /// The documents of trainings.
    async fn trainings(&self) -> Vec<Training> {
        let mut found = Vec::new();
        for name in self.store().documents().await.unwrap() {
            assert!(Training::is_name(&name), "{name}");
            let one = self.store().document::<Training>(&name).await.unwrap();
            found.extend(one.map(|(training, _)| training));
        }
        found
    }

    /// Makes all that is stored two hours old, and sweeps what is older than one.
    async fn collect_garbage(&self, roots: &[Digest]) {
        make_old(&self.bed.dir.path().join("store"));
        let report = self.store().gc(roots, HOUR).await.unwrap();
        assert_eq!(report.missing, []);
    }
}

async fn collected(bed: &Bed, text: &str) -> Digest {
    let files = [("a.jsonl", text)];
    let snapshot = bed.snapshot(&[procedural("runbooks", &files)]).await;
    let collected = bed.collect(input(snapshot, &["runbooks"])).await;
    collected.unwrap().dataset
}

fn make_old(dir: &Path) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            make_old(&path);
        } else {
            let file = File::open(&path).unwrap();
            file.set_modified(SystemTime::now() - 2 * HOUR).unwrap();
        }
    }
}

fn yielded(done: Option<Result<TrainOutput, StepError>>) -> bool {
    matches!(done, Some(Err(StepError::Yielded)))
}
