//! What happens to adapters, and what has become of them in the end.

use loci_crds::adapter::{AdapterSpec, ConcurrencyPolicy, TrainingTrigger, TrainingWindow};
use loci_crds::budget::BudgetSpec;
use loci_crds::release::Outcome;
use loci_crds::run::RunPhase;
use loci_crds::values::GoDuration;
use serde_json::json;

use crate::lookups::{adapter, named, newest_of, phase, snapshot_of, tip};
use crate::shell::Shell;

/// Something happens to an adapter, now and then.
pub fn happen(shell: &mut Shell) {
    let count = shell.resource.spec.adapters.len() as u64;
    let which = shell.draws.below(count) as usize;
    let name = shell.resource.spec.adapters[which].name.clone();
    let drawn = shell.draws.below(24);
    let more = shell.draws.below(3) as i32;
    let now = shell.now;
    let mut edit = |change: &dyn Fn(&mut AdapterSpec)| {
        shell.edit(|r| change(&mut r.spec.adapters[which]));
    };
    match drawn {
        0 | 1 => {
            let token = format!("{name}-{now}");
            shell.world.intents.tune.insert(name, token);
        }
        2 | 3 => edit(&|a| a.suspend = !a.suspend),
        4 => edit(&|a| a.lora.rank = Some(8 << more)),
        5 => edit(&|a| a.min_new_examples = Some(10 * more)),
        6 => edit(&|a| a.trigger = (more > 0).then_some(TrainingTrigger { new_examples: more })),
        7 => edit(&|a| a.windows = windows(more)),
        8 => edit(&|a| {
            if let Some(schedule) = &mut a.schedule {
                schedule.cron = ["30 2 * * 0", "0 1 * * *", "*/30 2 * * 3"][more as usize].into();
            }
        }),
        9 => edit(&|a| {
            if let Some(schedule) = &mut a.schedule {
                let policies = [ConcurrencyPolicy::Replace, ConcurrencyPolicy::Forbid];
                schedule.concurrency_policy = policies.get(more as usize).copied();
            }
        }),
        10 => declare_or_not(shell),
        11 => shell.edit(|r| r.spec.budget = budget(more)),
        _ => {}
    }
}

/// None, or the nights of two time zones.
fn windows(nights: i32) -> Vec<TrainingWindow> {
    let zones = ["Europe/Berlin", "America/New_York"];
    let night = |zone: &&str| TrainingWindow {
        cron: "0 22 * * *".into(),
        time_zone: Some((*zone).to_owned()),
        duration: GoDuration("9h".into()),
    };
    zones.iter().take(nights as usize).map(night).collect()
}

/// None, one that hardly any training fits in, or one for some.
fn budget(more: i32) -> Option<BudgetSpec> {
    let budget = |(run, month): &(&str, &str)| {
        serde_json::from_value(json!({
            "currency": "USD", "perRun": run, "perMonth": month,
            "prices": [{"class": "cpu", "deviceHour": "1"}],
        }))
        .unwrap()
    };
    let some = [("0.50", "1"), ("8", "20.5")];
    more.checked_sub(1)
        .and_then(|i| some.get(i as usize))
        .map(budget)
}

/// Takes the first adapter out, or declares it again. The other is trained on all its sources, too.
fn declare_or_not(shell: &mut Shell) {
    let first = crate::adapted(json!({"interval": "1h"})).spec.adapters[0].clone();
    shell.edit(|r| {
        let adapters = &mut r.spec.adapters;
        match adapters.iter().position(|a| a.name == first.name) {
            Some(place) => _ = adapters.remove(place),
            None => adapters.push(first),
        }
    });
}

/// From now on an adapter is trained whenever an example is new, and only then.
pub fn calm(adapter: &mut AdapterSpec) {
    adapter.schedule = None;
    adapter.trigger = Some(TrainingTrigger { new_examples: 1 });
    adapter.min_new_examples = None;
    adapter.windows.clear();
    adapter.suspend = false;
}

/// The newest examples of each adapter were trained on, and what came of it serves unless its gates are against it.
pub fn rested(shell: &Shell) {
    let world = &shell.world;
    let desired = named(world, world.serving.desired.as_deref()).unwrap();
    for declared in &world.pipeline.adapters {
        let name = declared.name.as_str();
        let run = newest_of(world, name).unwrap_or_else(|| panic!("{name} was never trained"));
        assert_eq!(phase(run), RunPhase::Succeeded, "{name}: {:?}", run.status);
        let read = &shell.outside.store[&snapshot_of(run).unwrap()];
        for source in world.pipeline.read_by(Some(name)) {
            let state = &shell.outside.sources[&source.name];
            assert_eq!(
                read[&source.name],
                (state.version, state.documents),
                "{name} was not trained on {}",
                source.name
            );
        }
        let tip = tip(world, Some(name)).unwrap_or_else(|| panic!("{name} was never released"));
        if adapter(desired, name) != adapter(tip, name) {
            let verdict = tip.status.as_ref().unwrap().verdict.as_ref().unwrap();
            assert_ne!(
                verdict.outcome,
                Outcome::Passed,
                "{:?} passed and its adapter does not serve",
                tip.metadata.name
            );
        }
    }
    for served in &desired.spec.adapters {
        let declared = world.pipeline.adapter(&served.name).is_some();
        let judged = world.releases.iter().any(|r| {
            let verdict = r.status.as_ref().unwrap().verdict.as_ref().unwrap();
            r.spec.number > desired.spec.number && verdict.outcome != Outcome::Passed
        });
        assert!(
            declared || judged,
            "{} serves and is not declared",
            served.name
        );
    }
}
