//! Continuations of prompts, against llama.cpp on the same weights.

mod figure;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, value_parser};
use loci_models::{Decoder, DeviceRequest, limit_threads};

use super::peer::Peer;
use super::side::{Continued, GenerateTask, Task, continued};
use super::{bar, corpus};
use crate::commands::Shared;
use crate::output::{self, Output};
use figure::{Against, Agreement, Figure};

const SCRIPT: &str = include_str!("../../../../tests/python/bench_generate.py");

/// What the script imports.
const PACKAGES: &str = "tests/python/bench-llama.txt";

/// Pieces of real text that prompts are cut from.
const PIECES: usize = 64;

/// How much less likely a peer's choice may be to us than our own, in nats. Beyond that it is other work. With weights
/// in f32 llama.cpp still rounds keys and values to 16 bits; with packed ones, activations to 8.
const UNPACKED: f64 = 0.25;
const PACKED: f64 = 1.0;

/// Time to the first token and tokens a second beside llama.cpp, in interleaved rounds
#[derive(Debug, Args)]
pub struct Generate {
    /// The model: a .gguf file
    #[arg(long)]
    model: PathBuf,
    /// A directory with Markdown or text files, to take real texts from
    #[arg(long)]
    documents: PathBuf,
    /// Tokens of the prompts
    #[arg(long, value_delimiter = ',', default_values = ["16", "128", "512"], value_parser = value_parser!(u16).range(1..))]
    prompts: Vec<u16>,
    /// Tokens of each continuation
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u16).range(2..))]
    tokens: u16,
    /// Rounds; in each, all take their turn, in an order that changes
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u16).range(1..=1000))]
    rounds: u16,
    /// Threads for everybody
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// A Python with the packages of tests/python/bench-llama.txt
    #[arg(long, default_value = "python3")]
    python: PathBuf,
}

/// A peer, and how far its choices may be from ours.
struct Rival {
    peer: Peer,
    name: String,
    bound: f64,
}

/// What was measured with one prompt: our continuations, and those of each rival.
struct Rounds {
    ours: Vec<Continued>,
    theirs: Vec<Vec<Continued>>,
}

impl Generate {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when a peer continues a prompt by what is not likely to us.
    pub fn run(self, shared: &Shared) -> Result<()> {
        if self.model.extension() != Some(OsStr::new("gguf")) {
            bail!("--model {}: give a .gguf file", self.model.display());
        }
        limit_threads(self.threads)?;
        let decoder = Decoder::load(&self.model, DeviceRequest::Cpu)?;
        let prompts = self.cut(&decoder)?;
        let dir = tempfile::tempdir()?;
        let task = self.task(dir.path(), &prompts)?;
        let mut own = Peer::own(&task)?;
        let mut rivals = self.rivals(dir.path(), &task)?;
        let mut figures = Vec::new();
        for (i, prompt) in prompts.iter().enumerate() {
            let rounds = self.measure(i, prompt.len(), &mut own, &mut rivals)?;
            figures.push(compared(&decoder, prompt, &rivals, &rounds)?);
        }
        match shared.output {
            Output::Json => output::json(&figures),
            Output::Table => {
                figure::show(&figures);
                Ok(())
            }
        }
    }

    /// A prompt of each length, from which the model goes on for as many tokens as are wanted.
    fn cut(&self, decoder: &Decoder) -> Result<Vec<Vec<u32>>> {
        let text = corpus::read(&self.documents, PIECES)?.join("\n\n");
        let all = decoder.tokenizer().encode_bare(&text)?;
        let wanted = usize::from(self.tokens);
        let of_length = |length: usize| -> Result<Vec<u32>> {
            for prompt in all.chunks_exact(length) {
                if continued(decoder, prompt, wanted)?.tokens.len() == wanted {
                    return Ok(prompt.to_vec());
                }
            }
            bail!(
                "the documents have no prompt of {length} tokens that the model continues by {wanted}; give shorter --prompts, fewer --tokens, or more documents"
            )
        };
        let lengths = self.prompts.iter().copied();
        lengths.map(|length| of_length(length.into())).collect()
    }

    /// Writes down what all sides are to do.
    fn task(&self, dir: &Path, prompts: &[Vec<u32>]) -> Result<PathBuf> {
        let tokens = usize::from(self.tokens);
        let longest = prompts.iter().map(Vec::len).max().unwrap_or(0);
        let task = GenerateTask {
            model: self.model.clone(),
            threads: self.threads,
            context: longest + tokens,
            tokens,
            prompts: prompts.to_vec(),
        };
        let path = dir.join("task.json");
        Task::Generate(task).write(&path)?;
        Ok(path)
    }

    /// llama.cpp on the file as it is, and on the same weights in f32, in which we compute.
    fn rivals(&self, dir: &Path, task: &Path) -> Result<Vec<Rival>> {
        let start =
            |args: &[&OsStr]| Peer::python(&self.python, SCRIPT, args, self.threads, PACKAGES);
        let (packed, unpacked) = (self.model.as_os_str(), dir.join("f32.gguf"));
        eprintln!("unpacking the weights for llama.cpp");
        // It is done when it says what it is.
        start(&[OsStr::new("convert"), packed, unpacked.as_os_str()])?;
        let of = [
            ("weights as in the file", packed, PACKED),
            ("weights in f32", unpacked.as_os_str(), UNPACKED),
        ];
        let started = of.into_iter().map(|(weights, file, bound)| {
            let peer = start(&[OsStr::new("run"), file, task.as_os_str()])?;
            let name = format!("{}: {weights}", peer.name);
            eprintln!("against {name} on {} threads", self.threads);
            Ok(Rival { peer, name, bound })
        });
        started.collect()
    }

    fn measure(
        &self,
        prompt: usize,
        length: usize,
        own: &mut Peer,
        rivals: &mut [Rival],
    ) -> Result<Rounds> {
        let what = format!("prompt of {length} tokens");
        let bar = bar(u64::from(self.rounds) + 1, "rounds").with_message(what);
        let command = format!("run {prompt}");
        let mut ours: Vec<Continued> = Vec::new();
        let mut theirs: Vec<Vec<Continued>> = vec![Vec::new(); rivals.len()];
        // The first does not count: in it memory is taken from the system.
        for round in 0..=usize::from(self.rounds) {
            // Nobody is always first, or always after the same.
            for turn in 0..=rivals.len() {
                match (turn + round) % (rivals.len() + 1) {
                    0 => ours.push(own.ask_alone(&command)?),
                    n => theirs[n - 1].push(rivals[n - 1].peer.ask_alone(&command)?),
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(Rounds { ours, theirs })
    }
}

/// The figures of a prompt, if all did the same work.
fn compared(
    decoder: &Decoder,
    prompt: &[u32],
    rivals: &[Rival],
    rounds: &Rounds,
) -> Result<Figure> {
    let mut against = Vec::new();
    for (rival, theirs) in rivals.iter().zip(&rounds.theirs) {
        let agreement = Agreement::of(decoder, prompt, &rounds.ours, theirs)?;
        agreement.check(&rival.name, prompt.len(), rival.bound)?;
        against.push(Against::new(&rival.name, agreement, &rounds.ours, theirs));
    }
    Ok(Figure::new(prompt.len(), &rounds.ours, against))
}
