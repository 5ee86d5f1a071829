//! Everything as JSON, for whoever wants to look into it.

use loci_models::DecoderIdentity;
use serde_json::{Value, json};

use crate::bench::{Asked, Run};
use crate::data::Story;
use crate::options::{Arm, Options};
use crate::report::{Measured, Report};
use crate::training::losses;

/// The settings, the report, and all that it was made of.
pub fn json(
    options: &Options,
    model: &DecoderIdentity,
    story: &Story,
    measured: &Measured,
    report: &Report,
) -> Value {
    let controls = measured.controls.iter().map(|control| {
        let trials: Vec<Value> = control.trials.iter().map(asked).collect();
        json!({"arm": control.arm, "trials": trials})
    });
    let cases = story
        .cases
        .iter()
        .map(|case| json!({"id": case.id, "expected": case.expected}));
    let seed = options.seeds.first().copied().unwrap_or_default();
    json!({
        "model": model,
        "lora": options.lora(),
        "training": options.training(Arm::Adapter, seed),
        "seeds": options.seeds,
        "aggressive": options.aggressive,
        "shots": options.shots,
        "sections": options.sections,
        "maxTokens": options.max_tokens,
        "minGain": options.min_gain,
        "maxRegression": options.max_regression,
        "examples": story.examples.len(),
        "cases": cases.collect::<Vec<_>>(),
        "report": report,
        "controls": controls.collect::<Vec<_>>(),
        "guard": digits(&measured.guard),
        "runs": measured.runs.iter().map(run).collect::<Vec<_>>(),
    })
}

fn asked(asked: &Asked) -> Value {
    json!({
        "answers": asked.answers,
        "promptTokens": asked.prompt_tokens,
        "seconds": asked.seconds,
    })
}

fn run(run: &Run) -> Value {
    json!({
        "arm": run.arm,
        "seed": run.seed,
        "learningRate": run.learning_rate,
        "adapter": run.adapter,
        "seconds": run.seconds,
        "tokensPerSecond": run.tokens_per_second,
        "epochLosses": losses(&run.curve),
        "curve": run.curve,
        "suite": asked(&run.asked),
        "guard": digits(&run.right),
        "stopped": run.stopped,
    })
}

/// By item, 1 for right and 0 for wrong.
fn digits(right: &[bool]) -> String {
    right
        .iter()
        .map(|right| if *right { '1' } else { '0' })
        .collect()
}
