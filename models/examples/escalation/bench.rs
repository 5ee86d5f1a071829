//! Everything that needs the model: asking and training.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use loci_models::{
    Adapter, Decoder, Example, Generation, ModelError, TrainingSettings, TrainingStep,
};
use serde::{Deserialize, Serialize};

use crate::arithmetic::{self, Item};
use crate::bm25::Bm25;
use crate::data::{Case, Chat, Story};
use crate::draws::Draws;
use crate::kept::Kept;
use crate::options::{Arm, Options};
use crate::score::{Score, majority, score};
use crate::stats::mean;
use crate::training::{Trained, losses, train};
use crate::{ask, prompts};

/// The suite, asked once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Asked {
    /// What was answered, by case; nothing for the majority class, which answers nothing.
    pub answers: Vec<String>,
    /// What that is worth.
    pub scores: Vec<Score>,
    /// Tokens of all prompts.
    pub prompt_tokens: usize,
    /// How long it took.
    pub seconds: f64,
}

/// The suite, asked without an adapter: once, or once for each seed where one matters.
#[derive(Clone, Debug)]
pub struct Control {
    /// Which.
    pub arm: Arm,
    /// Each time.
    pub trials: Vec<Asked>,
}

/// One adapter, trained and asked.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// Which kind.
    pub arm: Arm,
    /// Of which seed.
    pub seed: u64,
    /// The learning rate at its height.
    pub learning_rate: f64,
    /// Its digest.
    pub adapter: String,
    /// Each step of its training.
    pub curve: Vec<TrainingStep>,
    /// How long the training took.
    pub seconds: f64,
    /// Tokens that were trained on in a second.
    pub tokens_per_second: f64,
    /// The suite.
    pub asked: Asked,
    /// The guard, by item.
    pub right: Vec<bool>,
    /// Why there is nothing to judge, if the training diverged.
    pub stopped: Option<String>,
}

/// A model, the data, and what is to be done with them.
pub struct Bench<'a> {
    options: &'a Options,
    story: &'a Story,
    kept: &'a Kept,
    decoder: Arc<Decoder>,
    generation: Generation,
    items: Vec<Item>,
}

impl<'a> Bench<'a> {
    pub fn new(
        options: &'a Options,
        story: &'a Story,
        kept: &'a Kept,
        decoder: Arc<Decoder>,
    ) -> Self {
        Self {
            generation: Generation {
                max_tokens: options.max_tokens,
                ..Generation::default()
            },
            items: arithmetic::items(options.arithmetic as usize, 0),
            options,
            story,
            kept,
            decoder,
        }
    }

    /// All controls that are wanted.
    pub fn controls(&self) -> Result<Vec<Control>> {
        let mut controls = Vec::new();
        for &arm in &self.options.arms {
            let trials = match arm {
                Arm::Majority => vec![self.majority()],
                Arm::Base => vec![self.control(arm.label(), prompts::plain)?],
                Arm::Protocol => vec![self.with_protocol()?],
                Arm::Examples => {
                    let seeds = self.options.seeds.iter();
                    let each = seeds.map(|seed| self.with_examples(*seed));
                    each.collect::<Result<Vec<_>>>()?
                }
                Arm::Retrieval => vec![self.with_retrieval()?],
                Arm::Adapter | Arm::Aggressive => continue,
            };
            controls.push(Control { arm, trials });
        }
        Ok(controls)
    }

    fn majority(&self) -> Asked {
        let cases = self.story.cases.iter();
        let expected: Vec<&str> = cases.map(|case| case.expected.as_str()).collect();
        Asked {
            scores: majority(&expected),
            ..Asked::default()
        }
    }

    fn with_protocol(&self) -> Result<Asked> {
        let protocol = &self.story.protocol;
        self.control(Arm::Protocol.label(), |case| {
            prompts::with_protocol(case, protocol)
        })
    }

    fn with_retrieval(&self) -> Result<Asked> {
        let sections = &self.story.sections;
        let texts: Vec<String> = sections
            .iter()
            .map(|section| format!("{}\n{}", section.heading, section.text))
            .collect();
        let search = Bm25::new(texts.iter().map(String::as_str));
        self.control(Arm::Retrieval.label(), |case| {
            let best = search.best(&case.prompt, self.options.sections);
            let found: Vec<_> = best.into_iter().map(|place| &sections[place]).collect();
            prompts::with_sections(case, &found)
        })
    }

    fn with_examples(&self, seed: u64) -> Result<Asked> {
        let mut draws = Draws::new(seed);
        let shown = prompts::chosen(&self.story.examples, self.options.shots, &mut draws);
        let name = format!("{} {seed}", Arm::Examples.label());
        self.control(&name, |case| prompts::with_examples(case, &shown))
    }

    /// Which sums the model does without an adapter.
    pub fn guard(&self) -> Result<Vec<bool>> {
        self.kept.or("guard", || self.right("base", None))
    }

    /// All adapters that are wanted.
    pub fn runs(&self) -> Result<Vec<Run>> {
        let examples = self.examples()?;
        let mut runs = Vec::new();
        for arm in [Arm::Adapter, Arm::Aggressive] {
            if !self.options.wants(arm) {
                continue;
            }
            for &seed in &self.options.seeds {
                runs.push(self.run(arm, seed, &examples)?);
            }
        }
        Ok(runs)
    }

    fn examples(&self) -> Result<Vec<Example>> {
        let chats = self.story.examples.iter().enumerate();
        let examples = chats.map(|(place, chat)| {
            Example::chat(&self.decoder, chat).with_context(|| format!("example {}", place + 1))
        });
        examples.collect()
    }

    fn run(&self, arm: Arm, seed: u64, examples: &[Example]) -> Result<Run> {
        let name = format!("{} {seed}", arm.label());
        self.kept
            .or(&name, || self.measure(arm, seed, &name, examples))
    }

    fn measure(&self, arm: Arm, seed: u64, name: &str, examples: &[Example]) -> Result<Run> {
        let settings = self.options.training(arm, seed);
        let mut run = Run {
            arm,
            seed,
            learning_rate: settings.learning_rate,
            adapter: String::new(),
            curve: Vec::new(),
            seconds: 0.0,
            tokens_per_second: 0.0,
            asked: Asked::default(),
            right: Vec::new(),
            stopped: None,
        };
        match self.fill(&mut run, name, settings, examples) {
            Err(error) if is_divergence(&error) => {
                eprintln!("{name}: {error}");
                run.stopped = Some(error.to_string());
            }
            filled => filled?,
        }
        Ok(run)
    }

    /// Trains, and asks.
    fn fill(
        &self,
        run: &mut Run,
        name: &str,
        settings: TrainingSettings,
        examples: &[Example],
    ) -> Result<()> {
        let bar = bar(0, format!("{name}: training"));
        let (decoder, lora) = (self.decoder.clone(), self.options.lora());
        let trained = train(decoder, lora, settings, examples.to_vec(), &bar)?;
        tell(&bar, &format!("{name}: {}", told(&trained)));
        if let Some(dir) = &self.options.save {
            let dir = dir.join(name.replace(' ', "-"));
            trained.adapter.write(&dir)?;
        }
        run.adapter = trained.adapter.digest().to_string();
        run.tokens_per_second = trained.tokens_per_second();
        (run.seconds, run.curve) = (trained.seconds, trained.curve);
        let adapter = Some(&trained.adapter);
        run.asked = self.ask(name, adapter, prompts::plain)?;
        run.right = self.right(name, adapter)?;
        Ok(())
    }

    fn control(&self, name: &str, chat: impl Fn(&Case) -> Chat) -> Result<Asked> {
        self.kept.or(name, || self.ask(name, None, chat))
    }

    /// Puts the whole suite.
    fn ask(
        &self,
        name: &str,
        adapter: Option<&Adapter>,
        chat: impl Fn(&Case) -> Chat,
    ) -> Result<Asked> {
        let cases = &self.story.cases;
        let prompts = cases
            .iter()
            .map(|case| self.decoder.chat_tokens(&chat(case), true))
            .collect::<Result<Vec<_>, _>>()?;
        let bar = bar(cases.len() as u64, format!("{name}: suite"));
        let start = Instant::now();
        let answers = ask::answers(&self.decoder, adapter, &prompts, &self.generation, &bar)?;
        let seconds = start.elapsed().as_secs_f64();
        let pairs = answers.iter().zip(cases);
        let scores: Vec<Score> = pairs.map(|(a, case)| score(a, &case.expected)).collect();
        let exact: Vec<f64> = scores
            .iter()
            .map(|s| f64::from(u8::from(s.exact)))
            .collect();
        let exact = mean(&exact);
        tell(
            &bar,
            &format!("{name}: exact {exact:.3}, in {seconds:.0} s"),
        );
        Ok(Asked {
            answers,
            scores,
            prompt_tokens: prompts.iter().map(Vec::len).sum(),
            seconds,
        })
    }

    fn right(&self, name: &str, adapter: Option<&Adapter>) -> Result<Vec<bool>> {
        let bar = bar(self.items.len() as u64, format!("{name}: arithmetic"));
        let right = arithmetic::right(&self.decoder, adapter, &self.items, &bar)?;
        let count = right.iter().filter(|right| **right).count();
        tell(
            &bar,
            &format!("{name}: {count} of {} sums right", right.len()),
        );
        Ok(right)
    }
}

/// Whether an adapter became one that computes no numbers: a finding, not a failure.
fn is_divergence(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<ModelError>();
    matches!(
        error,
        Some(ModelError::Training { .. } | ModelError::Compute(_))
    )
}

/// A training in a line.
fn told(trained: &Trained) -> String {
    let losses: Vec<String> = losses(&trained.curve)
        .iter()
        .map(|loss| format!("{loss:.3}"))
        .collect();
    format!(
        "{} steps in {:.0} s, {:.0} tokens/s, loss by epoch {}",
        trained.curve.len(),
        trained.seconds,
        trained.tokens_per_second(),
        losses.join(" ")
    )
}

/// A bar on stderr.
fn bar(total: u64, what: String) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {eta} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style);
    bar.set_prefix(what);
    bar
}

/// Ends a bar by a line that stays, on a terminal or not.
fn tell(bar: &ProgressBar, line: &str) {
    bar.finish_and_clear();
    eprintln!("{line}");
}
