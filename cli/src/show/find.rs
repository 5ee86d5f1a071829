//! What a person means by a name, a number, or by nothing.

use anyhow::{Context, Result, bail};
use kube::ResourceExt;
use loci_crds::release::ReleasePhase;
use loci_crds::run::RunPhase;
use loci_crds::{MemoryPipeline, MemoryRelease, MemoryRun};

/// The run of this name. `program` is how a person lists them.
pub fn find_run<'a>(
    runs: &'a [MemoryRun],
    wanted: &str,
    (pipeline, program): (&str, &str),
) -> Result<&'a MemoryRun> {
    let found = runs.iter().find(|r| r.name_any() == wanted);
    found.with_context(|| format!("{pipeline} has no run {wanted}: `{program} runs` lists them"))
}

/// The release of this number or name.
pub fn find_release<'a>(
    releases: &'a [MemoryRelease],
    wanted: &str,
    (pipeline, program): (&str, &str),
) -> Result<&'a MemoryRelease> {
    let is = |r: &&MemoryRelease| r.name_any() == wanted || r.spec.number.to_string() == wanted;
    let found = releases.iter().find(is);
    found.with_context(|| {
        format!("{pipeline} has no release {wanted}: `{program} releases` lists them")
    })
}

/// The release that a rollback goes to: of this number, or the one that served before.
pub fn rollback_target<'a>(
    releases: &'a [MemoryRelease],
    number: Option<i64>,
    (pipeline, program): (&str, &str),
) -> Result<&'a MemoryRelease> {
    let phase = |r: &MemoryRelease| r.status.as_ref().map(|s| s.phase).unwrap_or_default();
    let serving = releases.iter().find(|r| phase(r) == ReleasePhase::Serving);
    let before = || loci_plan::rollback_target(releases, &serving?.name_any());
    let number = number.or_else(before).with_context(|| {
        format!("no release of {pipeline} served before the one that serves now")
    })?;
    let target = find_release(releases, &number.to_string(), (pipeline, program))?;
    match phase(target) {
        ReleasePhase::Serving | ReleasePhase::Retired | ReleasePhase::Withdrawn => Ok(target),
        _ => bail!(
            "{} never served, so there is nothing to go back to: `{program} releases` shows which did",
            target.name_any()
        ),
    }
}

/// The held run that is to be approved: of this name, or the only one.
pub fn held_run<'a>(
    runs: &'a [MemoryRun],
    wanted: Option<&str>,
    (pipeline, program): (&str, &str),
) -> Result<&'a MemoryRun> {
    let held = |r: &MemoryRun| r.status.as_ref().is_some_and(|s| s.phase == RunPhase::Held);
    if let Some(wanted) = wanted {
        let run = find_run(runs, wanted, (pipeline, program))?;
        if !held(run) {
            bail!("{wanted} is not held: there is nothing to approve");
        }
        return Ok(run);
    }
    let all: Vec<&MemoryRun> = runs.iter().filter(|r| held(r)).collect();
    match all[..] {
        [run] => Ok(run),
        [] => bail!("no run of {pipeline} is held"),
        _ => bail!("say which: {}", names(all.iter().map(|r| r.name_any()))),
    }
}

/// The adapter of this name, or the only one.
pub fn adapter<'a>(
    of: &'a MemoryPipeline,
    wanted: Option<&str>,
    pipeline: &str,
) -> Result<&'a str> {
    let adapters = of.spec.adapters.iter().map(|a| a.name.as_str());
    let all: Vec<&str> = adapters.collect();
    let known = all.join(", ");
    match (wanted, &all[..]) {
        (_, []) => bail!("{pipeline} has no adapters: declare one in spec.adapters"),
        (Some(wanted), all) => {
            let found = all.iter().find(|name| **name == wanted);
            found
                .copied()
                .with_context(|| format!("{pipeline} has no adapter {wanted}: it has {known}"))
        }
        (None, [only]) => Ok(*only),
        (None, _) => bail!("say which adapter: {known}"),
    }
}

/// Names for a sentence.
pub fn names(all: impl Iterator<Item = String>) -> String {
    all.collect::<Vec<_>>().join(", ")
}
