//! The escalation story: some 200 tickets, answered by an invented protocol, teach a small model that protocol. This
//! measures how much, beside what the same model does with the protocol, with examples or with a search in its prompt; and
//! what the adapter makes it forget, with a learning rate that suits it and with one that does not.
//!
//! `examples/escalation/README.md` says how to run it.

mod arithmetic;
mod ask;
mod bench;
mod bm25;
mod data;
mod draws;
mod json;
mod kept;
mod options;
mod prompts;
mod report;
mod score;
mod stats;
mod table;
mod training;

use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use loci_models::{Decoder, DeviceRequest, limit_threads};

use bench::Bench;
use data::Story;
use kept::Kept;
use options::{Arm, Options};
use report::{Limits, Measured, Report};

fn main() -> Result<()> {
    let options = Options::parse();
    options.check()?;
    if let Some(threads) = options.threads {
        limit_threads(threads)?;
    }
    let mut story = Story::read(&options.data)?;
    if let Some(limit) = options.limit {
        story.cases.truncate(limit);
    }
    let decoder = Arc::new(Decoder::load(&options.model, DeviceRequest::Cpu)?);
    // Before any work: what does not fit the model is refused.
    options.lora().check(&decoder.projections())?;
    for arm in [Arm::Adapter, Arm::Aggressive] {
        options.training(arm, 0).check()?;
    }
    let kept = Kept::open(&options, &decoder.identity().weights, &story)?;
    let bench = Bench::new(&options, &story, &kept, decoder.clone());
    let mut measured = Measured {
        controls: bench.controls()?,
        ..Measured::default()
    };
    if options.wants(Arm::Adapter) || options.wants(Arm::Aggressive) {
        measured.guard = bench.guard()?;
        measured.runs = bench.runs()?;
    }
    let report = Report::of(&measured, &story, Limits::from(&options));
    if options.json {
        let json = json::json(&options, decoder.identity(), &story, &measured, &report);
        println!("{}", serde_json::to_string_pretty(&json)?);
    } else {
        for line in table::lines(&report) {
            println!("{line}");
        }
    }
    Ok(())
}
