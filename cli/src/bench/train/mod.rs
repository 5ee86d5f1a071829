//! Steps that train an adapter, against torch and PEFT on the same weights, from the same adapter, on the same examples.

mod examples;
mod figure;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use loci_models::{
    Decoder, DeviceRequest, Example, LoraConfig, Schedule, Trainer, TrainingSettings,
};

use super::peer::Peer;
use super::side::{Marked, Step, Task, TrainTask};
use super::{PACKAGES, bar, corpus};
use crate::commands::Shared;
use crate::output::{self, Output, count};
use examples::{LENGTH, SPREAD, TEXTS};
use figure::{Against, Figure};

const SCRIPT: &str = include_str!("../../../../tests/python/bench_train.py");

/// What the script calls its ways to make a batch of examples.
const WAYS: [&str; 3] = ["trainer", "padded", "packed"];

/// Training speed and memory beside torch and PEFT, in interleaved rounds
#[derive(Debug, Args)]
pub struct Train {
    /// The model: a .gguf file, or a directory as transformers writes it
    #[arg(long)]
    model: PathBuf,
    /// A directory with Markdown or text files, to take real texts from
    #[arg(long)]
    documents: PathBuf,
    /// Chats of a step
    #[arg(long, default_value_t = 8, value_parser = value_parser!(u16).range(1..=1000))]
    chats: u16,
    /// Rounds of a step each, after one that does not count; in each, all take their turn, in an order that changes
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Threads for everybody
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// The rank of the adapter
    #[arg(long, default_value_t = 8)]
    rank: usize,
    /// With the rank, what it is scaled by
    #[arg(long, default_value_t = 16.0)]
    alpha: f64,
    /// The linear layers that it adapts
    #[arg(long, value_delimiter = ',', default_values = ["q_proj", "v_proj"])]
    targets: Vec<String>,
    /// All compute layers again on the way back, instead of keeping what they computed
    #[arg(long)]
    recompute: bool,
    /// A Python with the packages of tests/python/bench.txt
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Fails below so many times the tokens a second of the fastest peer
    #[arg(long, value_name = "TIMES")]
    faster: Option<f64>,
    /// Fails above such a share of the memory of the fastest peer
    #[arg(long, value_name = "SHARE")]
    memory: Option<f64>,
}

/// Examples, all of which every step takes.
struct Workload {
    name: String,
    /// Of a step.
    tokens: usize,
    targets: usize,
    task: PathBuf,
}

impl Train {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when a peer's losses are others, when nothing is learned, and when `--faster` or `--memory` is missed.
    pub fn run(self, shared: &Shared) -> Result<()> {
        let dir = tempfile::tempdir()?;
        let weights = self.weights(dir.path())?;
        let mut figures = Vec::new();
        for workload in &self.workloads(dir.path(), &weights)? {
            figures.push(self.measure(workload)?);
        }
        match shared.output {
            Output::Json => output::json(&figures)?,
            Output::Table => figure::show(&figures),
        }
        let missed: Vec<String> = figures
            .iter()
            .flat_map(|figure| figure.missed(self.faster, self.memory))
            .collect();
        if !missed.is_empty() {
            bail!("{}", missed.join("; "));
        }
        Ok(())
    }

    /// The weights as the peers read them. They are unpacked once, before anything is measured.
    fn weights(&self, dir: &Path) -> Result<PathBuf> {
        if self.model.join("config.json").exists() {
            return Ok(self.model.clone());
        }
        if self.model.extension() != Some(OsStr::new("gguf")) {
            bail!(
                "--model {}: give a .gguf file, or a directory with config.json and model.safetensors",
                self.model.display()
            );
        }
        let weights = dir.join("weights");
        let args = [
            OsStr::new("convert"),
            self.model.as_os_str(),
            weights.as_os_str(),
        ];
        eprintln!("unpacking the weights for the peers");
        // It is done when it says what it is.
        Peer::python(&self.python, SCRIPT, &args, self.threads, PACKAGES)?;
        Ok(weights)
    }

    fn workloads(&self, dir: &Path, weights: &Path) -> Result<Vec<Workload>> {
        let decoder = Arc::new(Decoder::load(&self.model, DeviceRequest::Cpu)?);
        let chats = usize::from(self.chats);
        let pieces = corpus::read(&self.documents, SPREAD * chats.max(TEXTS))?;
        let of = [
            (
                format!("{} chats", count(chats as u64)),
                examples::chats(&decoder, &pieces, chats)?,
            ),
            (
                format!("{TEXTS} texts of {LENGTH} tokens"),
                examples::texts(&decoder, &pieces)?,
            ),
        ];
        let made = of.into_iter().enumerate().map(|(i, (name, examples))| {
            let dir = dir.join(i.to_string());
            self.workload(name, &decoder, examples, &dir, weights)
        });
        made.collect()
    }

    /// Writes down what all sides are to do, and the adapter that they start from.
    fn workload(
        &self,
        name: String,
        decoder: &Arc<Decoder>,
        examples: Vec<Example>,
        dir: &Path,
        weights: &Path,
    ) -> Result<Workload> {
        let tokens: usize = examples.iter().map(|e| e.tokens().len()).sum();
        let targets: usize = examples.iter().map(Example::count).sum();
        let lora = LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: 0.0,
            targets: self.targets.clone(),
        };
        let settings = TrainingSettings {
            epochs: usize::from(self.rounds) + 1,
            batch: examples.len(),
            pass_tokens: tokens,
            schedule: Schedule::Constant,
            warmup: 0.0,
            ..TrainingSettings::default()
        };
        let marked = examples.iter().map(|example| Marked {
            tokens: example.tokens().to_vec(),
            targets: example.targets().to_vec(),
        });
        let task = TrainTask {
            model: self.model.clone(),
            weights: weights.to_owned(),
            adapter: dir.join("adapter"),
            threads: self.threads,
            lora: lora.clone(),
            settings: settings.clone(),
            recompute: self.recompute,
            examples: marked.collect(),
        };
        let trainer = Trainer::new(Arc::clone(decoder), lora, settings, examples)?;
        trainer.adapter()?.write(&task.adapter)?;
        let path = dir.join("task.json");
        Task::Train(Box::new(task)).write(&path)?;
        Ok(Workload {
            name,
            tokens,
            targets,
            task: path,
        })
    }

    fn measure(&self, work: &Workload) -> Result<Figure> {
        let mut own = Peer::own(&work.task)?;
        let mut peers = Vec::new();
        for way in WAYS {
            let args = [OsStr::new(way), work.task.as_os_str()];
            let peer = Peer::python(&self.python, SCRIPT, &args, self.threads, PACKAGES)?;
            eprintln!("against {} on {} threads", peer.name, self.threads);
            peers.push(peer);
        }
        let bar = bar(u64::from(self.rounds) + 1, "rounds").with_message(work.name.clone());
        let mut ours: Vec<Step> = Vec::new();
        let mut theirs: Vec<Vec<Step>> = vec![Vec::new(); peers.len()];
        for round in 0..=usize::from(self.rounds) {
            // Nobody is always first, or always after the same.
            for turn in 0..=peers.len() {
                match (turn + round) % (peers.len() + 1) {
                    0 => ours.push(own.ask_alone("step")?),
                    n => theirs[n - 1].push(peers[n - 1].ask_alone("step")?),
                }
            }
            for (peer, theirs) in peers.iter().zip(&theirs) {
                figure::agree(&peer.name, &ours, theirs)?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let against = peers.iter().zip(&theirs);
        let against = against.map(|(peer, theirs)| Against::new(peer, work, &ours, theirs));
        Figure::new(work, own.resident, &ours, against.collect())
    }
}
