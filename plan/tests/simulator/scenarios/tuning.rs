//! What scenarios with adapters begin with.

use loci_crds::MemoryRelease;
use loci_crds::adapter::AdapterSpec;
use serde_json::Value;

use super::*;
use crate::adapted;
use crate::lookups::newest_of;

/// A pipeline whose first index serves and whose adapters are trained when somebody asks; nothing loses a question.
pub fn tuned(refresh: Value) -> Shell {
    let mut resource = adapted(refresh);
    for adapter in &mut resource.spec.adapters {
        (adapter.schedule, adapter.trigger) = (None, None);
    }
    let mut shell = Shell::new(resource, start(), 7);
    perfect(&mut shell, 0);
    examples(&mut shell, 0);
    shell.sleep(HOUR / 2);
    assert_eq!(served(&shell), 1);
    shell
}

/// What is trained on the runbooks as they are now, or as they will be, loses `lost` questions.
pub fn examples(shell: &mut Shell, lost: u64) {
    let from = shell.outside.sources["runbooks"].version;
    let versions = (from..from + 20).map(|v| (("runbooks".to_owned(), v), lost));
    shell.outside.quality.extend(versions);
}

pub fn edit(shell: &mut Shell, change: impl FnOnce(&mut AdapterSpec)) {
    shell.edit(|r| change(&mut r.spec.adapters[0]));
}

/// Somebody asks for the first adapter.
pub fn tune(shell: &mut Shell, token: &str) {
    let tune = &mut shell.world.intents.tune;
    tune.insert("escalation".to_owned(), token.to_owned());
}

/// Somebody asks for the first adapter, and it is trained.
pub fn ask(shell: &mut Shell, token: &str) {
    tune(shell, token);
    shell.sleep(3 * HOUR);
}

pub fn serving_now(shell: &Shell) -> &MemoryRelease {
    named(&shell.world, shell.world.serving.current.as_deref()).unwrap()
}

pub fn newest_tuning(shell: &Shell) -> &MemoryRun {
    newest_of(&shell.world, "escalation").unwrap()
}
