//! A peer to measure against: a Python library in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::Value;

const SCRIPT: &str = include_str!("peers.py");

/// A running peer; ends when dropped.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts `kind` with the model in `directory`.
    ///
    /// # Errors
    /// When Python or what the peer needs is not there.
    pub fn start(
        python: &Path,
        kind: &str,
        directory: &Path,
        threads: usize,
        max_tokens: usize,
    ) -> Result<Self> {
        let mut child = Command::new(python)
            .args(["-W", "ignore", "-c", SCRIPT, kind])
            .arg(directory)
            .args([threads.to_string(), max_tokens.to_string()])
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("TOKENIZERS_PARALLELISM", "true")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("HF_HUB_OFFLINE", "1")
            .env("TQDM_DISABLE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}: give --python", python.display()))?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let mut peer = Self {
            name: String::new(),
            child,
            commands: commands.context("no pipe to the peer")?,
            answers: BufReader::new(answers.context("no pipe from the peer")?),
        };
        let hello = peer.answer().with_context(|| {
            format!(
                "{kind} does not start: {} needs the packages of tests/python/bench.txt",
                python.display()
            )
        })?;
        peer.name = hello["peer"].as_str().unwrap_or(kind).to_owned();
        Ok(peer)
    }

    /// Seconds for one embedding of the texts in the file, over `times`.
    pub fn run(&mut self, texts: &Path, times: usize) -> Result<f64> {
        self.ask(&format!("run {times} {}", texts.display()))
    }

    /// The vectors of the texts, row by row.
    pub fn vectors(&mut self, texts: &Path) -> Result<Vec<f32>> {
        self.ask(&format!("write 1 {}", texts.display()))?;
        let path = texts.with_extension("f32");
        let bytes =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let (floats, _) = bytes.as_chunks::<4>();
        Ok(floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    fn ask(&mut self, command: &str) -> Result<f64> {
        writeln!(self.commands, "{command}")?;
        let answer = self.answer()?;
        answer["seconds"]
            .as_f64()
            .with_context(|| format!("{} answered {answer}", self.name))
    }

    fn answer(&mut self) -> Result<Value> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the peer ended");
        }
        Ok(serde_json::from_str(&line)?)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
