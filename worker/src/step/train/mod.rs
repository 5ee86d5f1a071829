//! Train: an adapter of a base model from a dataset, by low-rank adaptation (Hu et al., 2021).
//!
//! What the same input came to before is looked up. A training under way writes down where it is every so often, and when it
//! makes way; another attempt, on whatever worker, goes on from there to the same adapter.

mod adapter;
mod checkpoint;
mod course;
mod curve;
mod error;
mod input;
mod prepare;

use std::collections::BTreeSet;
use std::sync::Arc;

use loci_digest::Digest;
use loci_models::{Adapter, Decoder, Example, LoraConfig, ModelError, Trainer};
use loci_store::StoreError;
use tokio_util::sync::CancellationToken;

pub use adapter::{ADAPTER, AdapterManifest, Trained};
pub use checkpoint::{CHECKPOINT, CheckpointManifest, Stretch, Training};
pub use curve::CurvePoint;
pub use error::TrainError;
pub use input::{TrainInput, TrainOutput, TrainingOptions};
pub use prepare::LeftOut;

use super::{DATASET, DatasetManifest, Reporter, StepContext, StepError, blocking};
use checkpoint::{Desk, Left};
use course::{Clock, Course, Pause, Surroundings, after};
use curve::Curve;
use prepare::{Longest, Prepared, Written, prepare};

pub(super) async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &TrainInput,
    reporter: &Reporter,
) -> Result<TrainOutput, StepError> {
    input.check()?;
    let store = &context.store;
    let dataset: DatasetManifest = store.get_manifest(DATASET, &input.dataset).await?;
    let base = context.decoders.get(&input.base).await?;
    input.fits(&base)?;
    let key = input.key(pipeline, base.identity(), &dataset)?;
    let mut desk = Desk::open(store, key, pipeline, &input.run).await?;
    if let Some(adapter) = store.lookup(&key).await? {
        return output(context, adapter, desk.used()).await;
    }
    reporter.offer_way();
    let order = Order {
        context,
        input,
        base,
        reporter,
    };
    // A thread that trains hears of it when nobody waits for this any more.
    let gone = CancellationToken::new();
    let _waits = gone.clone().drop_guard();
    let parent = order.parent().await?;
    let prepared = order.prepared(&dataset).await?;
    let left_out = prepared.left_out.clone();
    let mut course = order.course(&desk, parent.clone(), prepared, gone).await?;
    loop {
        let until = after(context.checkpoints);
        let (back, pause, left) = blocking(move || {
            let pause = course.go(until)?;
            let left = match pause {
                Pause::Over => None,
                Pause::Due | Pause::Way => course.left()?,
            };
            Ok((course, pause, left))
        })
        .await?;
        course = back;
        if let Some(left) = left {
            desk.keep(left, input.dataset, course.used()).await?;
        }
        match pause {
            Pause::Due => {}
            Pause::Way => return Err(StepError::Yielded),
            Pause::Over => break,
        }
    }
    let used = course.used();
    let adapter = order.finished(course, parent, left_out).await?;
    output(context, store.record(&key, &adapter).await?, used).await
}

async fn output(
    context: &StepContext,
    adapter: Digest,
    device_seconds: f64,
) -> Result<TrainOutput, StepError> {
    let store = &context.store;
    let manifest: AdapterManifest = store.get_manifest(ADAPTER, &adapter).await?;
    Ok(TrainOutput {
        adapter,
        content: manifest.content,
        base_weights: manifest.base_weights,
        rank: manifest.lora.rank,
        trained: manifest.trained,
        device_seconds,
    })
}

/// The adapter that a training starts from, and what its manifest says.
type Parent = Arc<(AdapterManifest, Adapter)>;

/// What is to be trained, on what.
struct Order<'a> {
    context: &'a StepContext,
    input: &'a TrainInput,
    base: Arc<Decoder>,
    reporter: &'a Reporter,
}

impl Order<'_> {
    async fn parent(&self) -> Result<Option<Parent>, StepError> {
        let Some(digest) = self.input.warm_start else {
            return Ok(None);
        };
        let store = &self.context.store;
        // With the datasets that it was learned from: what is made of it names them, too.
        if !store.usable(&digest).await? {
            let what = "training's warm start".to_owned();
            return Err(StoreError::MissingReference { what, digest }.into());
        }
        let manifest: AdapterManifest = store.get_manifest(ADAPTER, &digest).await?;
        if manifest.lora != self.input.lora {
            return Err(TrainError::WarmStart {
                adapter: digest,
                has: shape(&manifest.lora),
                asked: shape(&self.input.lora),
            }
            .into());
        }
        let revisions = &self.context.revisions;
        let adapter = manifest.load(store, revisions, &self.base).await?;
        Ok(Some(Arc::new((manifest, adapter))))
    }

    async fn prepared(&self, dataset: &DatasetManifest) -> Result<Prepared, StepError> {
        let store = &self.context.store;
        let written = Written {
            train: store.get(&dataset.train).await?,
            held_out: store.get(&dataset.held_out).await?,
            lineage: store.get(&dataset.lineage).await?,
            last: dataset.context.is_some(),
        };
        let (base, reporter) = (self.base.clone(), self.reporter.clone());
        let longest = Longest::of(self.input.training.max_tokens, &base);
        let prepared = blocking(move || prepare(&base, &written, longest, &reporter)).await?;
        if prepared.train.is_empty() {
            let first = prepared.left_out.first().map(ToString::to_string);
            return Err(TrainError::NoExamples {
                count: prepared.left_out.len(),
                first: first.unwrap_or_default(),
            }
            .into());
        }
        Ok(prepared)
    }

    /// The training, from where the newest checkpoint left it.
    async fn course(
        &self,
        desk: &Desk<'_>,
        parent: Option<Parent>,
        prepared: Prepared,
        gone: CancellationToken,
    ) -> Result<Course, StepError> {
        let around = Surroundings {
            decoder: self.base.clone(),
            held_out: prepared.held_out,
            clock: Clock::new(
                desk.used().max(self.input.device_seconds as f64),
                self.input.max_device_seconds,
            ),
            pace: self.context.pace.clone(),
            reporter: self.reporter.clone(),
            gone,
        };
        let (left, input) = (desk.newest().await?, self.input.clone());
        blocking(move || {
            if let Some(left) = left
                && let Some(trainer) = resumed(&around.decoder, &prepared.train, &left)?
            {
                let trainer = trainer.recomputing(input.recompute);
                let curve = Curve::read(&left.curve)?;
                return Ok(Course::new(trainer, around, curve, left.computed));
            }
            let (base, examples) = (around.decoder.clone(), prepared.train);
            let settings = input.training.settings();
            let trainer = match &parent {
                Some(parent) => Trainer::warm(base, &parent.1, settings, examples),
                None => Trainer::new(base, input.lora, settings, examples),
            };
            let trainer = trainer?.recomputing(input.recompute);
            Ok(Course::new(trainer, around, Curve::default(), Vec::new()))
        })
        .await
    }

    /// Stores what a training that is over made.
    async fn finished(
        &self,
        course: Course,
        parent: Option<Parent>,
        left_out: Vec<LeftOut>,
    ) -> Result<Digest, StepError> {
        let (course, adapter, probes) = blocking(move || {
            let adapter = course.trainer().adapter()?;
            let probes = adapter::probes(course.decoder(), &adapter)?;
            Ok((course, adapter, probes))
        })
        .await?;
        let store = &self.context.store;
        let (lines, first_left_out) = adapter::written(&left_out)?;
        let mut taint = BTreeSet::from([self.input.dataset]);
        taint.extend(parent.iter().flat_map(|parent| &parent.0.taint));
        let manifest = AdapterManifest {
            tree: adapter::stored(store, &adapter).await?,
            content: adapter.digest(),
            base: self.input.base.clone(),
            base_weights: self.base.identity().weights,
            lora: self.input.lora.clone(),
            dataset: self.input.dataset,
            parent: self.input.warm_start,
            curve: store.put(course.curve.lines().to_vec().into()).await?,
            left_out: store.put(lines.into()).await?,
            probes,
            computed: course.computed.clone(),
            trained: trained(&course, &adapter, left_out.len(), first_left_out),
            taint,
        };
        let files = manifest.tree.values().map(|file| file.digest);
        let refs: Vec<Digest> = files
            .chain([manifest.curve, manifest.left_out])
            .chain(manifest.taint.iter().copied())
            .collect();
        Ok(store.put_manifest(ADAPTER, &refs, &manifest).await?)
    }
}

/// The training that a checkpoint left. One that this build does not read is as good as none.
fn resumed(
    base: &Arc<Decoder>,
    examples: &[Example],
    left: &Left,
) -> Result<Option<Trainer>, ModelError> {
    let step = left.step;
    match Trainer::resume(base.clone(), examples.to_vec(), &left.trainer) {
        Ok(trainer) => {
            tracing::info!(step, "a training goes on");
            Ok(Some(trainer))
        }
        Err(error @ ModelError::Checkpoint(_)) => {
            tracing::warn!(step, %error, "a training begins anew");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn trained(
    course: &Course,
    adapter: &Adapter,
    left_out: usize,
    first_left_out: Vec<String>,
) -> Trained {
    let (trainer, curve) = (course.trainer(), &course.curve);
    let examples = adapter.training().map_or(0, |record| record.examples);
    Trained {
        examples: examples as u64,
        held_out: course.held_out() as u64,
        left_out: left_out as u64,
        first_left_out,
        steps: trainer.done() as u64,
        tokens: curve.tokens(),
        loss: curve.loss().unwrap_or_default(),
        held_out_before: curve.held_out(0),
        held_out_after: curve.held_out(trainer.settings().epochs),
    }
}

fn shape(lora: &LoraConfig) -> String {
    format!(
        "rank {}, alpha {}, dropout {} and {}",
        lora.rank,
        lora.alpha,
        lora.dropout,
        lora.targets.join(", ")
    )
}
