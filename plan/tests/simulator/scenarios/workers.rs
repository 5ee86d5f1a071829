//! Steps that wait for a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use loci_plan::{Classes, Workers, plan};

use super::*;

/// What Reconciling says from second to second until the first release serves, with workers of these classes.
fn told(classes: &[&str]) -> BTreeSet<(String, String)> {
    told_beside(classes, &[])
}

/// The same beside workers of some classes that take no steps, each with its reason.
fn told_beside(classes: &[&str], idle: &[(&str, &str)]) -> BTreeSet<(String, String)> {
    let mut resource = pipeline(json!({"interval": "1h"}));
    resource.spec.workers.class = Some("gpu-l4".to_owned());
    let mut shell = Shell::new(resource, start(), 7);
    perfect(&mut shell, 0);
    shell.world.workers = Some(Workers {
        classes: Arc::new(Classes {
            at_work: classes.iter().map(|c| (*c).to_owned()).collect(),
            idle: idle
                .iter()
                .map(|(c, why)| ((*c).to_owned(), (*why).to_owned()))
                .collect::<BTreeMap<_, _>>(),
        }),
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

#[test]
fn workers_that_take_no_steps_say_why_where_the_run_waits() {
    let idle = [(
        "gpu-l4",
        "NVIDIA T4 has 15.0 GiB of memory and the class asks for 20.0 GiB",
    )];
    let says = |all: BTreeSet<(String, String)>| {
        let mut all = all.into_iter();
        all.any(|(reason, message)| reason == "NoWorker" && message.contains("asks for 20.0 GiB"))
    };
    assert!(says(told_beside(&["fetch-agents"], &idle)));
    // Another worker of the class does the work meanwhile.
    assert!(!says(told_beside(&["fetch-agents", "gpu-l4"], &idle)));
}
