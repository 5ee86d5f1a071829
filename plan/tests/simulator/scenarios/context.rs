//! Adapters that are trained with what the index finds.

use loci_crds::adapter::Context;

use super::tuning::*;
use super::*;

#[test]
fn another_index_makes_no_example_new_but_who_asks_is_trained_with_it() {
    let mut shell = tuned(json!({"interval": "1h"}));
    // What the outside is asked to collect, it sees to: passages come from a revision that is kept.
    edit(&mut shell, |a| a.context = Context::Retrieved);
    ask(&mut shell, "please");
    let release = serving_now(&shell);
    assert_eq!(release.spec.adapter.as_deref(), Some("escalation"));
    change(&mut shell, 0);
    shell.sleep(2 * HOUR);
    assert_eq!(served(&shell), 3);
    let hourly = json!({"cron": "0 * * * *", "timeZone": "UTC"});
    edit(&mut shell, |a| {
        a.schedule = Some(serde_json::from_value(hourly).unwrap());
    });
    shell.sleep(2 * HOUR);
    assert_eq!(reason(newest_tuning(&shell)), "NotEnoughSignal");
}
