//! Adapters: what is fine-tuned, on what, and when.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::budget::Pace;
use crate::values::{Decimal, Fraction, GoDuration, Percent};

/// A LoRA adapter of a base model, trained on what procedural sources hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdapterSpec {
    /// The adapter's name, unique in the pipeline; clients ask for it by this name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "escalation"))]
    #[x_kube(validation = Rule::new("self != 'base'").message("`base` is the base model without an adapter: use another name"))]
    pub name: String,
    /// The model that is adapted: `hf://org/name@revision`, or `file://` and a directory for `loci up` (a relative path starts at the manifest's own directory).
    #[schemars(length(min = 1, max = 200), regex(pattern = r"^(hf://[^/@]+/[^/@]+@[^@]+|file://.+)$"), extend("example" = "hf://HuggingFaceTB/SmolLM2-135M-Instruct@main"))]
    pub base: String,
    /// The procedural sources that it is trained on, by name.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    pub sources: Vec<String>,
    /// When it is trained. Without schedule and trigger, only when somebody asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<TrainingSchedule>,
    /// What has it trained, beside or instead of a schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TrainingTrigger>,
    /// When Train may be at work; always when empty. At the end of a window it stops, and goes on from there in the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub windows: Vec<TrainingWindow>,
    /// Stop starting runs for this adapter; what is served goes on being served.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
    /// The fewest examples that are worth a training; 32 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200_000))]
    pub min_examples: Option<i32>,
    /// The fewest of them that must be new since the last training by the same settings; 1 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 200_000))]
    pub min_new_examples: Option<i32>,
    /// The share of examples that is never trained on, at most half; 10% when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self.matches('^([0-9]|[1-4][0-9]|50)%$')").message("at most half of the examples is held out: write 0% to 50%"))]
    pub held_out: Option<Percent>,
    /// Whether examples are trained on with the passages that the index finds for them, as serving sends them; none when absent.
    #[serde(default, skip_serializing_if = "Context::is_none")]
    pub context: Context,
    /// What keeps it from forgetting where no gate does (maxRegression without minGain, on a behavior suite that judges it); builtin when absent.
    #[serde(default, skip_serializing_if = "Guard::is_builtin")]
    pub guard: Guard,
    /// The shape of the adapter.
    #[serde(default)]
    pub lora: LoraSpec,
    /// How it is trained.
    #[serde(default)]
    pub training: TrainingSpec,
}

/// When an adapter is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingSchedule {
    /// Five cron fields (minute, hour, day, month, weekday).
    #[schemars(length(min = 9, max = 256), extend("example" = "0 3 * * 0"))]
    pub cron: String,
    /// The IANA time zone of `cron`; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Each training is put off by up to this much, always by the same share for one adapter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<GoDuration>,
    /// How late a training may still start after its cron time; missed ones are skipped. Without it, the latest missed one is made up for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub starting_deadline: Option<GoDuration>,
    /// What becomes of a run that is still at work when the next is due; Forbid when absent. Two trainings of one adapter at once are of no use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency_policy: Option<ConcurrencyPolicy>,
}

/// What becomes of a run that is still at work when the next is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConcurrencyPolicy {
    /// It goes on; the next is made up for when it has ended, unless its deadline has passed.
    #[default]
    Forbid,
    /// It gives way to the next.
    Replace,
}

/// What has an adapter trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingTrigger {
    /// Trains when so many examples are new. The sources are looked at as often as those of the index.
    #[schemars(range(min = 1, max = 200_000))]
    pub new_examples: i32,
}

/// A time in which an adapter may be trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingWindow {
    /// When it opens: five cron fields.
    #[schemars(length(min = 9, max = 256), extend("example" = "0 22 * * 1-5"))]
    pub cron: String,
    /// The IANA time zone of `cron`; UTC when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// How long it stays open.
    pub duration: GoDuration,
}

/// Whether the model is shown what retrieval finds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Context {
    /// It sees the conversation alone.
    #[default]
    None,
    /// It sees the passages that are found for the last question, too.
    Retrieved,
}

impl Context {
    /// Whether it sees the conversation alone.
    pub fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// What keeps an adapter from forgetting where no gate does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Guard {
    /// The suites that come with Loci, ability and arithmetic: the accuracy of neither may fall by more than 0.05.
    #[default]
    Builtin,
    /// Nothing: what its gates ask for decides alone, whatever else the model forgets.
    None,
}

impl Guard {
    /// Whether the suites that come with Loci stand in.
    pub fn is_builtin(&self) -> bool {
        *self == Self::Builtin
    }
}

/// The shape of an adapter, in the terms of PEFT.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoraSpec {
    /// The rank of what is added to each linear layer; 8 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub rank: Option<i32>,
    /// With the rank, what the addition is scaled by (alpha / rank); 16 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub alpha: Option<i32>,
    /// The share of an adapter's inputs that each step of a training leaves out; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Fraction>,
    /// The linear layers that are adapted, by the ends of their names; q_proj and v_proj when absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 63)))]
    pub target_modules: Vec<String>,
}

/// How an adapter is trained: AdamW on the assistant's turns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrainingSpec {
    /// How often each example is seen; 3 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub epochs: Option<i32>,
    /// Examples of a step; 8 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1024))]
    pub batch: Option<i32>,
    /// The learning rate at its height; 2e-4 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<Decimal>,
    /// What becomes of the learning rate after the warm-up; cosine when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<LearningRateSchedule>,
    /// The share of steps in which the learning rate rises to its height; 3% when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self != '100%'").message("100% would have the learning rate rise and never reach its height: use less"))]
    pub warmup: Option<Percent>,
    /// What AdamW takes off the weights in each step, as a share of the learning rate; 0.01 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<Decimal>,
    /// The most tokens of an example; longer ones are left out and reported. 2048 when absent, and never more than the model takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 16, max = 131_072))]
    pub max_tokens: Option<i32>,
    /// Decides the first weights, the order of examples and what dropout leaves out; 0 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seed: Option<i64>,
    /// Compute each layer again on the way back instead of keeping what it computed (gradient checkpointing): a third more work, for less memory. The adapter is the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recompute: bool,
    /// Begin with the adapter that serves instead of with none. Its lineage follows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warm_start: bool,
}

/// What becomes of the learning rate after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LearningRateSchedule {
    /// It falls as half a cosine.
    #[default]
    Cosine,
    /// It falls in a line.
    Linear,
    /// It stays.
    Constant,
}

/// One adapter of a pipeline.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterStatus {
    /// The adapter's name.
    pub name: String,
    /// The digest of the one that serves; absent while none does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<String>,
    /// The schedule that lastScheduleTime speaks of. When it changes, only times after the change count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// The last time that was due and that a run stands for; at first, when the schedule was first seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_schedule_time: Option<Time>,
    /// The next time that is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_time: Option<Time>,
    /// The newest run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<String>,
    /// How many examples the newest run that collected found to be new since the last training.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_examples: Option<i64>,
    /// How long an example took in the newest training: estimates go by it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<Pace>,
    /// What is under way or in the way, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}
