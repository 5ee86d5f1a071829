//! What is measured, and with what settings.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::{Parser, ValueEnum, value_parser};
use loci_models::{LoraConfig, TrainingSettings};
use serde::{Deserialize, Serialize};

/// A way to have tickets answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Arm {
    /// The commonest answer, always
    Majority,
    /// The model as it is
    Base,
    /// The model with the whole runbook in the system message
    Protocol,
    /// The model after a few tickets that were answered
    Examples,
    /// The model with the runbook's most similar section before the ticket
    Retrieval,
    /// The model with an adapter that was trained on the examples
    Adapter,
    /// The same with a learning rate that is too high
    Aggressive,
}

impl Arm {
    /// As tables have it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Majority => "majority class",
            Self::Base => "base",
            Self::Protocol => "base + protocol",
            Self::Examples => "base + examples",
            Self::Retrieval => "base + retrieval",
            Self::Adapter => "adapter",
            Self::Aggressive => "aggressive",
        }
    }
}

/// Teaches a model an escalation protocol by an adapter, and measures what that gains and what it costs, beside what the
/// model does without
#[derive(Debug, Parser)]
#[command(name = "escalation")]
pub struct Options {
    /// The model: a .gguf file, or a directory
    #[arg(long)]
    pub model: PathBuf,
    /// The folder with the suite and the runbooks
    #[arg(long, default_value = "examples/escalation")]
    pub data: PathBuf,
    /// What is measured
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "majority,base,protocol,examples,retrieval,adapter,aggressive"
    )]
    pub arms: Vec<Arm>,
    /// Seeds: of each one adapter is trained, and one set of examples chosen
    #[arg(long, value_delimiter = ',', default_value = "1,2,3,4,5", value_parser = value_parser!(u64).range(..1_000_000))]
    pub seeds: Vec<u64>,
    /// Only so many cases of the suite, for a quick try
    #[arg(long)]
    pub limit: Option<usize>,
    /// How often each example is trained on
    #[arg(long, default_value_t = 6)]
    pub epochs: usize,
    /// Examples of a step
    #[arg(long, default_value_t = 8)]
    pub batch: usize,
    /// The learning rate at its height; it falls as a cosine
    #[arg(long, default_value_t = 5e-4)]
    pub learning_rate: f64,
    /// The share of steps in which it rises
    #[arg(long, default_value_t = 0.05)]
    pub warmup: f64,
    /// What the aggressive run multiplies the learning rate by: 10 at most
    #[arg(long, default_value_t = 10.0)]
    pub aggressive: f64,
    /// Rank of the adapter
    #[arg(long, default_value_t = 16)]
    pub rank: usize,
    /// What the adapter is scaled by, with its rank
    #[arg(long, default_value_t = 32.0)]
    pub alpha: f64,
    /// The share of inputs that is left out while training
    #[arg(long, default_value_t = 0.0)]
    pub dropout: f64,
    /// Linear layers that are adapted
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "q_proj,k_proj,v_proj,o_proj,gate_proj,up_proj,down_proj"
    )]
    pub targets: Vec<String>,
    /// Examples that are shown in the prompt
    #[arg(long, default_value_t = 5)]
    pub shots: usize,
    /// Sections of the runbook that are shown in the prompt
    #[arg(long, default_value_t = 1)]
    pub sections: usize,
    /// Tokens of an answer at most; a line has some 20
    #[arg(long, default_value_t = 48)]
    pub max_tokens: usize,
    /// Sums that the guard asks
    #[arg(long, default_value_t = 800, value_parser = value_parser!(u64).range(10..=5000))]
    pub arithmetic: u64,
    /// What an adapter must gain over the best control, with an interval above 0
    #[arg(long, default_value_t = 0.15)]
    pub min_gain: f64,
    /// What an adapter may lose of the guard
    #[arg(long, default_value_t = 0.03)]
    pub max_regression: f64,
    /// Threads; as many as the machine has, if not given
    #[arg(long)]
    pub threads: Option<usize>,
    /// A folder for the adapters, in PEFT's layout; one that `--keep` has the measurement of is not trained, nor written
    #[arg(long)]
    pub save: Option<PathBuf>,
    /// A folder that keeps each measurement when it is done: the same command goes on where it was broken off
    #[arg(long)]
    pub keep: Option<PathBuf>,
    /// Prints everything as JSON instead of the table: settings, answers, losses of each step
    #[arg(long)]
    pub json: bool,
}

impl Options {
    /// Refuses what means nothing here; the model refuses the rest.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.aggressive > 1.0 && self.aggressive <= 10.0,
            "--aggressive {}: expected more than 1 and at most 10: a run of which nobody would expect that it forgets",
            self.aggressive
        );
        for (flag, value) in [("--shots", self.shots), ("--sections", self.sections)] {
            ensure!(value > 0, "{flag} 0: expected 1 or more");
        }
        ensure!(self.limit != Some(0), "--limit 0: expected 1 or more cases");
        Ok(())
    }

    /// Whether it is measured.
    pub fn wants(&self, arm: Arm) -> bool {
        self.arms.contains(&arm)
    }

    /// The adapter's shape.
    pub fn lora(&self) -> LoraConfig {
        LoraConfig {
            rank: self.rank,
            alpha: self.alpha,
            dropout: self.dropout,
            targets: self.targets.clone(),
        }
    }

    /// How it is trained. An aggressive run differs by its learning rate alone.
    pub fn training(&self, arm: Arm, seed: u64) -> TrainingSettings {
        let factor = match arm {
            Arm::Aggressive => self.aggressive,
            _ => 1.0,
        };
        TrainingSettings {
            epochs: self.epochs,
            batch: self.batch,
            learning_rate: self.learning_rate * factor,
            warmup: self.warmup,
            seed,
            ..TrainingSettings::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn options(more: &[&str]) -> Result<Options, clap::Error> {
        let own = ["escalation", "--model", "m"];
        Options::try_parse_from(own.iter().chain(more))
    }

    #[test]
    fn defaults_measure_everything() {
        Options::command().debug_assert();
        let options = options(&[]).unwrap();
        options.check().unwrap();
        assert_eq!(options.arms, Arm::value_variants());
        assert_eq!(options.seeds, [1, 2, 3, 4, 5]);
        assert_eq!(options.targets.len(), 7);
        assert_eq!(options.arithmetic, 800);
    }

    #[test]
    fn an_aggressive_run_differs_by_the_learning_rate_alone() {
        let options = options(&["--arms", "adapter,base", "--aggressive", "8"]).unwrap();
        assert!(options.wants(Arm::Base) && !options.wants(Arm::Protocol));
        let (calm, wild) = (
            options.training(Arm::Adapter, 3),
            options.training(Arm::Aggressive, 3),
        );
        let back = TrainingSettings {
            learning_rate: calm.learning_rate,
            ..wild.clone()
        };
        assert_eq!((back, wild.learning_rate), (calm, 8.0 * 5e-4));
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (flag, value, part) in [
            ("--aggressive", "11", "at most 10"),
            ("--aggressive", "1", "more than 1"),
            ("--shots", "0", "--shots 0"),
            ("--sections", "0", "--sections 0"),
            ("--limit", "0", "--limit 0"),
        ] {
            let error = options(&[flag, value]).unwrap().check().unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(options(&["--arms", "none"]).is_err());
        assert!(options(&["--seeds", "1000000"]).is_err());
        assert!(options(&["--arithmetic", "6000"]).is_err());
    }
}
