//! Steps that wait for a worker.

use std::collections::BTreeSet;
use std::sync::Arc;

use loci_plan::{Workers, plan};

use super::*;

/// What Reconciling says from second to second until the first release serves, with workers of these classes.
fn told(classes: &[&str]) -> BTreeSet<(String, String)> {
    let mut resource = pipeline(json!({"interval": "1h"}));
    resource.spec.workers.class = Some("gpu-l4".to_owned());
    let mut shell = Shell::new(resource, start(), 7);
    perfect(&mut shell, 0);
    shell.world.workers = Some(Workers {
        classes: Arc::new(classes.iter().map(|c| (*c).to_owned()).collect()),
        fetch: Some("fetch-agents".to_owned()),
    });
    let mut told = BTreeSet::new();
    while served(&shell) == 0 {
        shell.sleep(Duration::from_secs(1));
        let status = plan(shell.now, &shell.world).status;
        let all = status.conditions.into_iter();
        told.extend(
            all.filter(|c| c.type_ == "Reconciling")
                .map(|c| (c.reason, c.message)),
        );
    }
    told
}

#[test]
fn a_class_without_a_worker_is_named_while_a_step_of_the_generation_waits_for_it() {
    let waits = |classes: &[&str], class: &str| {
        let about = format!("no worker of class {class} ");
        let all = told(classes);
        all.iter()
            .any(|(reason, message)| reason == "NoWorker" && message.contains(&about))
    };
    assert!(waits(&[], "fetch-agents") && waits(&[], "gpu-l4"));
    assert!(!waits(&["fetch-agents"], "fetch-agents"));
    assert!(waits(&["fetch-agents", "cpu"], "gpu-l4"));
    assert!(!waits(&["fetch-agents", "gpu-l4"], "gpu-l4"));
    assert!(!told(&["fetch-agents", "gpu-l4"]).is_empty());
}
