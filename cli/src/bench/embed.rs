//! Embedding, against sentence-transformers and ONNX Runtime on the same weights and texts.

use std::ffi::OsStr;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Args;
use loci_models::{DeviceRequest, Encoder, Role};
use serde::{Deserialize, Serialize};

use super::peer::{self, Peer};
use super::{PACKAGES, bar, corpus, stats};
use crate::commands::Shared;
use crate::output::{self, Output, count};

const SCRIPT: &str = include_str!("peers.py");

/// Below this cosine two vectors are not of the same text by the same model.
const AGREEMENT: f64 = 0.9999;

/// Embedding speed beside sentence-transformers and ONNX Runtime, in interleaved rounds
#[derive(Debug, Args)]
pub struct Embed {
    /// The directory of the model
    #[arg(long)]
    model: PathBuf,
    /// A directory with Markdown or text files, to take real texts from
    #[arg(long)]
    documents: PathBuf,
    /// How many real texts
    #[arg(long, default_value_t = 2000)]
    texts: usize,
    /// Rounds; in each, all take their turn, in an order that changes
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Rounds of the real texts, which take long
    #[arg(long, default_value_t = 3)]
    text_rounds: usize,
    /// Threads for everybody
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A Python with the packages of tests/python/bench.txt
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// Texts to embed, and how often in a turn.
struct Workload {
    name: String,
    texts: Vec<String>,
    times: usize,
    rounds: usize,
    /// Whether the texts are of different lengths, so that it matters how they are batched.
    mixed: bool,
    tokens: usize,
    file: PathBuf,
}

/// Who is measured, each in a process of its own; the last one with texts of different lengths only.
const PEERS: [&str; 3] = [
    "sentence-transformers",
    "onnxruntime",
    "onnxruntime-unsorted",
];

/// What a peer answers.
#[derive(Deserialize)]
struct Took {
    /// Of one embedding of the texts.
    seconds: f64,
}

/// One workload's figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figure {
    workload: String,
    tokens: usize,
    /// Medians: milliseconds of one embedding of the workload.
    loci_ms: f64,
    tokens_per_second: f64,
    peers: Vec<Against>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Against {
    peer: String,
    ms: f64,
    /// How many times faster Loci is, the median over the rounds.
    ratio: f64,
    /// In its worst round.
    least: f64,
    /// The smallest cosine between its vectors and ours.
    cosine: f64,
}

impl Embed {
    /// Measures and prints.
    pub fn run(self, shared: &Shared) -> Result<()> {
        loci_models::limit_threads(self.threads)?;
        let encoder = Encoder::load(&self.model, DeviceRequest::Cpu)?;
        let dir = tempfile::tempdir()?;
        let workloads = self.workloads(&encoder, dir.path())?;
        let limit = encoder.tokenizer().max_tokens();
        let mut peers = Vec::new();
        for kind in PEERS {
            let peer = self.start(kind, limit)?;
            eprintln!("against {} on {} threads", peer.name, self.threads);
            peers.push(peer);
        }
        let mut figures = Vec::new();
        for workload in &workloads {
            let some = PEERS.len() - usize::from(!workload.mixed);
            figures.push(measure(&encoder, workload, &mut peers[..some])?);
        }
        match shared.output {
            Output::Json => output::json(&figures),
            Output::Table => {
                show(&figures);
                Ok(())
            }
        }
    }

    fn start(&self, kind: &str, limit: usize) -> Result<Peer> {
        let (threads, limit) = (self.threads.to_string(), limit.to_string());
        let args = [
            OsStr::new(kind),
            self.model.as_os_str(),
            OsStr::new(&threads),
            OsStr::new(&limit),
        ];
        Peer::python(&self.python, SCRIPT, &args, self.threads, PACKAGES)
    }

    fn workloads(&self, encoder: &Encoder, dir: &Path) -> Result<Vec<Workload>> {
        let texts = corpus::read(&self.documents, self.texts.max(64))?;
        let all = texts.join(" ");
        let sized = |tokens, n| exact(encoder, &all, tokens, n);
        let real = texts.into_iter().take(self.texts).collect::<Vec<_>>();
        let workload = |name: &str, texts: Vec<String>, times, rounds, mixed| {
            let file = dir.join(format!("{name}.json"));
            fs::write(&file, serde_json::to_vec(&texts)?)?;
            let tokens = embed(encoder, &texts)?.tokens;
            anyhow::Ok(Workload {
                name: name.to_owned(),
                texts,
                times,
                rounds,
                mixed,
                tokens,
                file,
            })
        };
        let name = format!("{} real texts", count(real.len() as u64));
        Ok(vec![
            workload(
                "32 texts of 128 tokens",
                sized(128, 32)?,
                1,
                self.rounds,
                false,
            )?,
            workload(&name, real, 1, self.text_rounds, true)?,
            workload(
                "1 query of 10 tokens",
                sized(10, 1)?,
                100,
                self.rounds,
                false,
            )?,
        ])
    }
}

/// Everybody's times in turns, once their vectors agree.
fn measure(encoder: &Encoder, work: &Workload, peers: &mut [Peer]) -> Result<Figure> {
    let ours = embed(encoder, &work.texts)?;
    let mut cosines = Vec::new();
    for peer in peers.iter_mut() {
        let cosine = agreement(&ours.vectors, &vectors(peer, &work.file)?, ours.dimensions);
        if !cosine.is_finite() || cosine < AGREEMENT {
            bail!(
                "{} does other work: its vectors of {} have a cosine of {cosine:.6} with ours",
                peer.name,
                work.name
            );
        }
        cosines.push(cosine);
    }
    let bar = bar(work.rounds as u64, "rounds").with_message(work.name.clone());
    let mut loci = Vec::new();
    let mut theirs = vec![Vec::new(); peers.len()];
    for round in 0..work.rounds {
        // Nobody is always first, or always after the same.
        for turn in 0..=peers.len() {
            match (turn + round) % (peers.len() + 1) {
                0 => loci.push(timed(encoder, work)?),
                n => theirs[n - 1].push(took(&mut peers[n - 1], work)?),
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let against = peers.iter().zip(theirs).zip(cosines);
    let against = against.map(|((peer, seconds), cosine)| {
        let ratios: Vec<f64> = seconds.iter().zip(&loci).map(|(t, l)| t / l).collect();
        Against {
            peer: peer.name.clone(),
            ms: 1e3 * stats::median(seconds),
            ratio: stats::median(ratios.iter().copied()),
            least: stats::least(ratios),
            cosine,
        }
    });
    let peers = against.collect();
    let seconds = stats::median(loci);
    Ok(Figure {
        workload: work.name.clone(),
        tokens: work.tokens,
        loci_ms: 1e3 * seconds,
        tokens_per_second: work.tokens as f64 / seconds,
        peers,
    })
}

fn embed(encoder: &Encoder, texts: &[String]) -> Result<loci_models::Embeddings> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(encoder.embed(&texts, Role::Passage, &mut |_| ControlFlow::Continue(()))?)
}

fn timed(encoder: &Encoder, work: &Workload) -> Result<f64> {
    peer::rest();
    let start = Instant::now();
    for _ in 0..work.times {
        embed(encoder, &work.texts)?;
    }
    Ok(start.elapsed().as_secs_f64() / work.times as f64)
}

/// Seconds for one embedding of the workload by a peer.
fn took(peer: &mut Peer, work: &Workload) -> Result<f64> {
    let command = format!("run {} {}", work.times, work.file.display());
    Ok(peer.ask_alone::<Took>(&command)?.seconds)
}

/// The vectors of the texts in a file by a peer, row by row.
fn vectors(peer: &mut Peer, texts: &Path) -> Result<Vec<f32>> {
    peer.ask::<Took>(&format!("write 1 {}", texts.display()))?;
    let path = texts.with_extension("f32");
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let (floats, _) = bytes.as_chunks::<4>();
    Ok(floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// `n` stretches of `text` with exactly `tokens` tokens each, special tokens included.
fn exact(encoder: &Encoder, text: &str, tokens: usize, n: usize) -> Result<Vec<String>> {
    let tokenizer = encoder.tokenizer();
    let inner = tokens - tokenizer.special_tokens();
    let mut found = Vec::new();
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    while found.len() < n && at < words.len() {
        let rest = words[at..words.len().min(at + inner)].join(" ");
        let end = tokenizer.offsets(&rest).get(inner - 1).map(|r| r.end);
        let cut = end.map(|end| &rest[..end]);
        if let Some(cut) = cut.filter(|cut| tokenizer.count(cut) == inner) {
            at += cut.split_whitespace().count();
            found.push(cut.to_owned());
        } else {
            at += 1;
        }
    }
    (found.len() == n)
        .then_some(found)
        .with_context(|| format!("the documents hold too little text of {tokens} tokens"))
}

/// The smallest cosine between rows.
fn agreement(ours: &[f32], theirs: &[f32], dimensions: usize) -> f64 {
    if ours.len() != theirs.len() {
        return f64::NAN;
    }
    let rows = ours
        .chunks_exact(dimensions)
        .zip(theirs.chunks_exact(dimensions));
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    stats::least(rows.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()))
}

fn show(figures: &[Figure]) {
    let mut table = output::table(&[
        "work",
        "tokens",
        "loci",
        "tokens/s",
        "peer",
        "its time",
        "times faster",
        "at least",
        "cosine",
    ]);
    for figure in figures {
        for (i, peer) in figure.peers.iter().enumerate() {
            let first = |text: String| if i == 0 { text } else { String::new() };
            table.add_row([
                first(figure.workload.clone()),
                first(count(figure.tokens as u64)),
                first(format!("{:.1} ms", figure.loci_ms)),
                first(count(figure.tokens_per_second as u64)),
                peer.peer.clone(),
                format!("{:.1} ms", peer.ms),
                format!("{:.2}", peer.ratio),
                format!("{:.2}", peer.least),
                format!("{:.6}", peer.cosine),
            ]);
        }
    }
    output::print(&table, "nothing was measured");
}
