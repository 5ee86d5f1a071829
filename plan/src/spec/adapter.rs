//! Adapters as typed values.

use std::collections::BTreeSet;
use std::time::Duration;

use loci_crds::MemoryPipelineSpec;
use loci_crds::adapter::{
    AdapterSpec, ConcurrencyPolicy, Context, Guard, LearningRateSchedule, LoraSpec,
    TrainingSchedule, TrainingSpec, TrainingWindow,
};
use loci_crds::source::{MemoryClass, SourceSpec};
use loci_crds::values::Decimal;
use serde::Serialize;

use super::fields::Fields;
use super::{Pipeline, Source, digest};
use crate::schedule::{Schedule, Window};

/// The most bytes of a base model's reference: a release names that of each of its adapters.
const BASE: usize = 200;
/// The most examples that a dataset can have.
const EXAMPLES: usize = 200_000;

/// An adapter that is trained.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// Its name.
    pub name: String,
    /// The base model's reference: `hf://org/name@revision` or `file://` and a directory.
    pub base: String,
    /// The sources that it is trained on, by name.
    pub sources: Vec<String>,
    /// When it is trained.
    pub schedule: Option<Schedule>,
    /// The schedule's cron fields and zone, for people.
    pub cron: Option<String>,
    /// What becomes of a run that is at work when the next is due.
    pub concurrency: ConcurrencyPolicy,
    /// It is trained when so many examples are new.
    pub trigger: Option<u64>,
    /// When Train may be at work; always when empty.
    pub windows: Vec<Window>,
    /// No new runs.
    pub suspend: bool,
    /// The fewest examples that are worth a training.
    pub min_examples: u64,
    /// The fewest of them that must be new.
    pub min_new_examples: u64,
    /// How many of a hundred examples are held out.
    pub held_out: u8,
    /// Whether it is trained with what the index finds before each question.
    pub context: Context,
    /// What keeps it from forgetting where no gate does.
    pub guard: Guard,
    /// Its shape.
    pub lora: Lora,
    /// How it is trained.
    pub training: Training,
}

/// The shape of an adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lora {
    /// The rank of what is added to each linear layer.
    pub rank: u32,
    /// With the rank, what the addition is scaled by.
    pub alpha: u32,
    /// The share of an adapter's inputs that each step leaves out, below 1.
    pub dropout: f64,
    /// The linear layers that are adapted, by the ends of their names.
    pub target_modules: Vec<String>,
}

/// How an adapter is trained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Training {
    /// How often each example is seen.
    pub epochs: u32,
    /// Examples of a step.
    pub batch: u32,
    /// The learning rate at its height, above 0 and at most 1.
    pub learning_rate: f64,
    /// What becomes of it.
    pub schedule: LearningRateSchedule,
    /// The share of steps in which it rises to its height.
    pub warmup: f64,
    /// What AdamW takes off the weights in each step, as a share of the learning rate, at most 1.
    pub weight_decay: f64,
    /// The most tokens of an example.
    pub max_tokens: u32,
    /// Decides what is drawn.
    pub seed: u64,
    /// Whether layers are computed again on the way back. It learns the same.
    #[serde(skip)]
    pub recompute: bool,
    /// Whether it begins with the adapter that serves.
    pub warm_start: bool,
}

impl Adapter {
    /// The digest of what it is trained by, whatever the sources hold and wherever they are.
    pub fn settings(&self) -> String {
        let of = (&self.base, self.held_out, &self.lora, &self.training);
        match self.context {
            Context::None => digest(&("loci/adapter/v1", of)),
            Context::Retrieved => digest(&("loci/adapter/v1", of, self.context)),
        }
    }
}

impl Pipeline {
    /// The adapter of this name.
    pub fn adapter(&self, name: &str) -> Option<&Adapter> {
        self.adapters.iter().find(|a| a.name == name)
    }

    /// The sources that an adapter is trained on, or that are indexed.
    pub fn read_by(&self, adapter: Option<&str>) -> impl Iterator<Item = &Source> {
        let adapter = adapter.map(|name| self.adapter(name));
        let reads = move |source: &&Source| match adapter {
            None => source.memory != MemoryClass::Procedural,
            Some(adapter) => adapter.is_some_and(|a| a.sources.contains(&source.name)),
        };
        self.sources.iter().filter(reads)
    }

    /// The digest of all that an adapter depends on: its settings and its sources.
    pub fn adapter_inputs(&self, adapter: &Adapter) -> String {
        let sources: Vec<_> = self.read_by(Some(&adapter.name)).collect();
        digest(&("loci/tune/v1", adapter.settings(), sources))
    }
}

impl Fields {
    pub(super) fn adapters(&mut self, spec: &MemoryPipelineSpec, identity: &str) -> Vec<Adapter> {
        let names = spec.adapters.iter().map(|a| a.name.as_str());
        self.unique("spec.adapters", names);
        let all = spec.adapters.iter().enumerate();
        let adapters = all.map(|(i, a)| self.adapter(&format!("spec.adapters[{i}]"), a, identity));
        let adapters: Vec<_> = adapters.collect();
        for (i, adapter) in spec.adapters.iter().enumerate() {
            self.trained_on(&format!("spec.adapters[{i}].sources"), adapter, spec);
        }
        self.put_to_use(spec);
        let bases = spec.adapters.iter().map(|a| &a.base).enumerate();
        for (i, base) in bases.filter(|(_, base)| **base != spec.adapters[0].base) {
            let reason = format!(
                "\"{base}\" is not the base of the first: all adapters of a pipeline have the same, since a release answers chats with one model"
            );
            self.error(format!("spec.adapters[{i}].base"), reason);
        }
        self.judged(&spec.suites, &spec.adapters);
        adapters
    }

    fn adapter(&mut self, field: &str, spec: &AdapterSpec, identity: &str) -> Adapter {
        let at = |leaf: &str| format!("{field}.{leaf}");
        if spec.name == "base" {
            let reason = "`base` is the base model without an adapter: use another name";
            self.error(at("name"), reason);
        }
        if spec.base.len() > BASE {
            let reason = format!("a reference of more than {BASE} bytes: use a shorter one");
            self.error(at("base"), reason);
        }
        let trigger = spec.trigger.as_ref().map(|t| t.new_examples);
        let schedule = spec.schedule.as_ref();
        let identity = format!("{identity}/{}", spec.name);
        let windows = spec.windows.iter().enumerate();
        Adapter {
            name: spec.name.clone(),
            base: self.model(&at("base"), &spec.base),
            sources: spec.sources.clone(),
            schedule: schedule.and_then(|s| self.training_schedule(&at("schedule"), s, &identity)),
            cron: schedule.map(written),
            concurrency: schedule
                .and_then(|s| s.concurrency_policy)
                .unwrap_or_default(),
            trigger: trigger
                .map(|n| self.count(&at("trigger.newExamples"), Some(n), 1..=EXAMPLES, 1) as u64),
            windows: windows
                .filter_map(|(i, w)| self.window(&at(&format!("windows[{i}]")), w))
                .collect(),
            suspend: spec.suspend,
            min_examples: self.count(&at("minExamples"), spec.min_examples, 1..=EXAMPLES, 32)
                as u64,
            min_new_examples: self.count(
                &at("minNewExamples"),
                spec.min_new_examples,
                0..=EXAMPLES,
                1,
            ) as u64,
            held_out: self.held_out(&at("heldOut"), spec),
            context: spec.context,
            guard: spec.guard,
            lora: self.lora(&at("lora"), &spec.lora),
            training: self.training(&at("training"), &spec.training),
        }
    }

    /// Sources that are not there, and those of another class than procedural.
    fn trained_on(&mut self, field: &str, adapter: &AdapterSpec, spec: &MemoryPipelineSpec) {
        self.unique(field, adapter.sources.iter().map(String::as_str));
        if adapter.sources.is_empty() {
            self.error(field, "give at least one procedural source");
        }
        for (i, name) in adapter.sources.iter().enumerate() {
            let field = format!("{field}[{i}]");
            match spec.sources.iter().find(|s| s.name == *name) {
                None => self.error(
                    field,
                    format!("\"{name}\" is not in spec.sources: add it there, or name one that is"),
                ),
                Some(source) if source.memory != MemoryClass::Procedural => {
                    let reason = format!(
                        "\"{name}\" is {}: an adapter is trained on procedural sources only, since what changes or must be cited is looked up; leave it to the index",
                        source.memory.as_str()
                    );
                    self.error(field, reason);
                }
                Some(_) => {}
            }
        }
    }

    /// Each source is indexed or trained on, and one at least is indexed.
    fn put_to_use(&mut self, spec: &MemoryPipelineSpec) {
        let trained = spec.adapters.iter().flat_map(|a| &a.sources);
        let trained: BTreeSet<_> = trained.collect();
        for (i, source) in spec.sources.iter().enumerate() {
            if source.memory == MemoryClass::Procedural && !trained.contains(&source.name) {
                let reason = "a procedural source is what adapters are trained on, and none names it: name it in one's sources, or remove it";
                self.error(format!("spec.sources[{i}]"), reason);
            }
        }
        let procedural = |s: &SourceSpec| s.memory == MemoryClass::Procedural;
        if !spec.sources.is_empty() && spec.sources.iter().all(procedural) {
            let reason = "a release has an index: declare a source that is looked up, of class factual, episodic or profile";
            self.error("spec.sources", reason);
        }
    }

    fn training_schedule(
        &mut self,
        field: &str,
        spec: &TrainingSchedule,
        identity: &str,
    ) -> Option<Schedule> {
        let jitter = self.duration(
            &format!("{field}.jitter"),
            spec.jitter.as_ref(),
            Duration::ZERO,
        );
        let deadline = self.optional_duration(
            &format!("{field}.startingDeadline"),
            spec.starting_deadline.as_ref(),
        );
        let calendar = self.calendar(field, &spec.cron, spec.time_zone.as_deref())?;
        Some(Schedule::by(calendar, deadline).jittered(jitter, identity))
    }

    fn window(&mut self, field: &str, spec: &TrainingWindow) -> Option<Window> {
        let calendar = self.calendar(field, &spec.cron, spec.time_zone.as_deref());
        let duration = self.optional_duration(&format!("{field}.duration"), Some(&spec.duration));
        Some(Window::new(calendar?, duration?))
    }

    fn held_out(&mut self, field: &str, spec: &AdapterSpec) -> u8 {
        let share = self.share(field, spec.held_out.as_ref(), 0.10);
        if share > 0.5 {
            self.error(
                field,
                "at most half of the examples is held out: write 0% to 50%",
            );
        }
        (share * 100.0).round() as u8
    }

    fn lora(&mut self, field: &str, spec: &LoraSpec) -> Lora {
        let at = |leaf: &str| format!("{field}.{leaf}");
        let dropout = self.fraction(at("dropout"), spec.dropout.as_ref());
        if dropout.is_some_and(|d| d >= 1.0) {
            self.error(at("dropout"), "a dropout of 1 leaves nothing: use less");
        }
        let modules = &spec.target_modules;
        self.unique(&at("targetModules"), modules.iter().map(String::as_str));
        let usual = || ["q_proj", "v_proj"].map(str::to_owned).to_vec();
        Lora {
            rank: self.count(&at("rank"), spec.rank, 1..=256, 8) as u32,
            alpha: self.count(&at("alpha"), spec.alpha, 1..=1024, 16) as u32,
            dropout: dropout.unwrap_or_default(),
            target_modules: if modules.is_empty() {
                usual()
            } else {
                modules.clone()
            },
        }
    }

    fn training(&mut self, field: &str, spec: &TrainingSpec) -> Training {
        let at = |leaf: &str| format!("{field}.{leaf}");
        let rate = self.decimal(at("learningRate"), spec.learning_rate.as_ref(), 2e-4);
        if rate <= 0.0 {
            self.error(at("learningRate"), "0 learns nothing: write it as \"2e-4\"");
        }
        let warmup = self.share(&at("warmup"), spec.warmup.as_ref(), 0.03);
        if warmup >= 1.0 {
            let reason =
                "100% would have the learning rate rise and never reach its height: use less";
            self.error(at("warmup"), reason);
        }
        Training {
            epochs: self.count(&at("epochs"), spec.epochs, 1..=100, 3) as u32,
            batch: self.count(&at("batch"), spec.batch, 1..=1024, 8) as u32,
            learning_rate: rate,
            schedule: spec.schedule.unwrap_or_default(),
            warmup,
            weight_decay: self.decimal(at("weightDecay"), spec.weight_decay.as_ref(), 0.01),
            max_tokens: self.count(&at("maxTokens"), spec.max_tokens, 16..=131_072, 2048) as u32,
            seed: self.seed(at("seed"), spec.seed),
            recompute: spec.recompute,
            warm_start: spec.warm_start,
        }
    }

    /// A decimal of at most 1.
    fn decimal(&mut self, field: String, value: Option<&Decimal>, default: f64) -> f64 {
        let Some(value) = value else { return default };
        let number = self.take(field.clone(), value.to_f64());
        let number = number.unwrap_or(default);
        if number > 1.0 {
            self.error(field, format!("{value} is more than 1"));
        }
        number
    }

    fn seed(&mut self, field: String, value: Option<i64>) -> u64 {
        let seed = value.unwrap_or_default();
        u64::try_from(seed).unwrap_or_else(|_| {
            self.error(field, format!("{seed} is negative: use 0 or more"));
            0
        })
    }
}

/// A schedule in one line.
fn written(spec: &TrainingSchedule) -> String {
    match &spec.time_zone {
        Some(zone) => format!("{} {zone}", spec.cron),
        None => spec.cron.clone(),
    }
}
