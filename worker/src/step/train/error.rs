use loci_digest::Digest;
use loci_models::ModelError;

/// Why no adapter can be trained. Another attempt would fare no better.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The settings mean nothing, or the base model does not have what they name.
    #[error("{}{}", field(.0), .0)]
    Refused(ModelError),
    /// The rank is larger than what can be made use of.
    #[error("rank {rank} is more than {limit}, {why}: lower lora.rank")]
    Rank {
        /// The rank that is asked for.
        rank: usize,
        /// The largest.
        limit: usize,
        /// Whose limit that is.
        why: &'static str,
    },
    /// The adapter that a training is to start from is of another shape.
    #[error(
        "the adapter {adapter} that the training is to start from has {has}, and {asked} is asked for: ask for the same in lora, or start from the base (training.warmStart: false)"
    )]
    WarmStart {
        /// Its manifest.
        adapter: Digest,
        /// Its shape.
        has: String,
        /// The shape that is asked for.
        asked: String,
    },
    /// The model can read none of the examples.
    #[error("none of {count} examples can be trained on by this model; the first, {first}")]
    NoExamples {
        /// How many there are.
        count: usize,
        /// The first, with the reason.
        first: String,
    },
    /// The training leads nowhere.
    #[error(
        "the training diverged in step {step} of {steps}, at learning rate {learning_rate}: {reason}"
    )]
    Diverged {
        /// The step, the first being 1.
        step: usize,
        /// Of how many.
        steps: usize,
        /// The learning rate of that step.
        learning_rate: f64,
        /// What showed it, and the way out.
        reason: String,
    },
    /// The run may use the device no longer.
    #[error(
        "the run has used {used:.0} s on the device of the {limit} s that its budget allows, and is stopped after step {step} of {steps}: raise budget.perRun or perMonth, or train on less"
    )]
    Budget {
        /// Seconds that it has used.
        used: f64,
        /// Seconds that it may use.
        limit: u64,
        /// Steps that were made.
        step: usize,
        /// Of how many.
        steps: usize,
    },
}

/// The field of an adapter that a refusal of the model's is about, where the model does not know its name.
fn field(refused: &ModelError) -> &'static str {
    match refused {
        ModelError::Target { .. } => "lora.targetModules: ",
        _ => "",
    }
}

impl TrainError {
    /// One CamelCase word for conditions.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(ModelError::Target { .. }) => "MissingModules",
            Self::Refused(ModelError::OtherBase { .. }) => "OtherBase",
            Self::Refused(_) => "InvalidSettings",
            Self::Rank { .. } => "RankTooLarge",
            Self::WarmStart { .. } => "OtherShape",
            Self::NoExamples { .. } => "NoExamples",
            Self::Diverged { .. } => "Diverged",
            Self::Budget { .. } => "BudgetExceeded",
        }
    }
}
