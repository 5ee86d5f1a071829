//! This program's own side of a measurement, in a process of its own as those of its peers, so that the memory of that
//! process is what the work takes.

use std::fs;
use std::io::{self, BufRead, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use loci_models::{
    Decoder, DeviceRequest, Example, Generation, LoraConfig, Prompt, Trainer, TrainingSettings,
    limit_threads,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::search::own::{self, AnswerTask, SearchTask};

/// One side of a measurement: reads commands and answers them
#[derive(Debug, Args)]
pub struct Side {
    /// What is measured, as JSON
    task: PathBuf,
}

/// What all sides of a measurement are to do. The peers read it, too.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Task {
    Train(Box<TrainTask>),
    Generate(GenerateTask),
    Search(SearchTask),
    Answer(AnswerTask),
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrainTask {
    /// The model as this program reads it.
    pub model: PathBuf,
    /// The directory of its weights as transformers reads them.
    pub weights: PathBuf,
    /// The directory of the adapter that the training starts from, as PEFT reads it.
    pub adapter: PathBuf,
    pub threads: usize,
    pub lora: LoraConfig,
    pub settings: TrainingSettings,
    /// Whether layers are computed again on the way back.
    pub recompute: bool,
    /// Every step takes all of them.
    pub examples: Vec<Marked>,
}

/// The tokens of an example, and which of them are learned.
#[derive(Debug, Serialize, Deserialize)]
pub struct Marked {
    pub tokens: Vec<u32>,
    pub targets: Vec<bool>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GenerateTask {
    pub model: PathBuf,
    pub threads: usize,
    /// Tokens that the longest prompt and its continuation have together.
    pub context: usize,
    /// Tokens of a continuation.
    pub tokens: usize,
    /// The tokens of each.
    pub prompts: Vec<Vec<u32>>,
}

/// A step of a training: what is answered to `step`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Step {
    pub seconds: f64,
    /// Before the step.
    pub loss: f64,
    /// Bytes that the process has had in memory at most.
    pub peak: u64,
}

/// A continuation: what is answered to `run N`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Continued {
    /// Seconds to its first token.
    pub first: f64,
    /// Seconds from there to the last.
    pub rest: f64,
    pub tokens: Vec<u32>,
    /// Bytes that the process has had in memory at most.
    pub peak: u64,
}

impl Task {
    /// Writes it into a file.
    pub fn write(&self, path: &Path) -> Result<()> {
        fs::write(path, serde_json::to_vec(self)?)
            .with_context(|| format!("cannot write {}", path.display()))
    }

    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_slice(&bytes).with_context(|| format!("{} is no task", path.display()))
    }
}

impl Side {
    /// Answers until no more commands come.
    pub fn run(self) -> Result<()> {
        match Task::read(&self.task)? {
            Task::Train(task) => train(*task),
            Task::Generate(task) => generate(&task),
            Task::Search(task) => own::search(&task),
            Task::Answer(task) => own::answer(&task),
        }
    }
}

fn train(task: TrainTask) -> Result<()> {
    limit_threads(task.threads)?;
    let decoder = Arc::new(Decoder::load(&task.model, DeviceRequest::Cpu)?);
    let examples = task.examples.into_iter();
    let examples = examples.map(|example| Example::new(example.tokens, example.targets));
    let examples = examples.collect::<Result<Vec<_>, _>>()?;
    let trainer = Trainer::new(decoder, task.lora, task.settings, examples)?;
    let mut trainer = trainer.recomputing(task.recompute);
    serve(|command| {
        if command != "step" {
            bail!("no such command: {command}");
        }
        let start = Instant::now();
        let step = trainer.step()?.context("all steps are made")?;
        Ok(Step {
            seconds: start.elapsed().as_secs_f64(),
            loss: step.loss,
            peak: memory("VmHWM")?,
        })
    })
}

fn generate(task: &GenerateTask) -> Result<()> {
    limit_threads(task.threads)?;
    let decoder = Decoder::load(&task.model, DeviceRequest::Cpu)?;
    serve(|command| {
        let number = command.strip_prefix("run ");
        let number = number.and_then(|n| n.parse::<usize>().ok());
        let prompt = number.and_then(|n| task.prompts.get(n));
        let prompt = prompt.with_context(|| format!("no such command: {command}"))?;
        continued(&decoder, prompt, task.tokens)
    })
}

/// The likeliest continuation of a prompt, `tokens` long unless the model ends it before.
pub fn continued(decoder: &Decoder, prompt: &[u32], tokens: usize) -> Result<Continued> {
    let options = Generation {
        max_tokens: tokens,
        ..Generation::default()
    };
    let prompt = Prompt {
        tokens: prompt,
        options: &options,
        adapter: None,
    };
    let start = Instant::now();
    let mut first = None;
    let mut made = decoder.generate(&[prompt], &mut |_| {
        first.get_or_insert_with(|| start.elapsed());
        ControlFlow::Continue(())
    })?;
    let whole = start.elapsed();
    let (first, made) = first.zip(made.pop()).context("nothing was generated")?;
    Ok(Continued {
        first: first.as_secs_f64(),
        rest: (whole - first).as_secs_f64(),
        tokens: made.tokens,
        peak: memory("VmHWM")?,
    })
}

/// Says what this is, then answers each command by a line of JSON.
pub fn serve<A: Serialize>(mut answer: impl FnMut(&str) -> Result<A>) -> Result<()> {
    let peer = concat!("Loci ", env!("CARGO_PKG_VERSION"));
    say(&json!({"peer": peer, "resident": memory("VmRSS")?}))?;
    for line in io::stdin().lock().lines() {
        say(&answer(line?.trim())?)?;
    }
    Ok(())
}

fn say(answer: &impl Serialize) -> Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(answer)?)?;
    Ok(out.flush()?)
}

/// Bytes of this process in memory: `VmRSS` now, `VmHWM` at most so far. Files that it maps count where they were read.
pub fn memory(field: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")
        .context("memory is told by Linux only, in /proc/self/status")?;
    let kibibytes = status.lines().find_map(|line| {
        let rest = line.strip_prefix(field)?.strip_prefix(':')?;
        rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
    });
    let kibibytes = kibibytes.with_context(|| format!("/proc/self/status has no {field}"))?;
    Ok(1024 * kibibytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_that_of_this_process_and_never_above_its_peak() {
        let held = std::hint::black_box(vec![1u8; 64 << 20]);
        let with = memory("VmRSS").unwrap();
        assert!(with >= 64 << 20, "{with}");
        drop(std::hint::black_box(held));
        // Linux counts by processor and adds up now and then.
        let peak = memory("VmHWM").unwrap();
        assert!(peak + (4 << 20) >= with, "{peak} {with}");
        let error = memory("VmNone").unwrap_err().to_string();
        assert!(error.contains("VmNone"), "{error}");
    }

    #[test]
    fn tasks_are_read_as_they_are_written_and_say_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("task.json");
        let task = GenerateTask {
            model: PathBuf::from("model.gguf"),
            threads: 2,
            context: 8,
            tokens: 3,
            prompts: vec![vec![1, 2], vec![3]],
        };
        Task::Generate(task).write(&path).unwrap();
        let written: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written["generate"]["prompts"], json!([[1, 2], [3]]));
        let Task::Generate(read) = Task::read(&path).unwrap() else {
            panic!("another task");
        };
        assert_eq!((read.tokens, read.context, read.threads), (3, 8, 2));
    }
}
