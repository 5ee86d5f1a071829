use loci_crds::values::Money;

use super::*;
use crate::budget::Amount;

fn amount(text: &str) -> Amount {
    Amount::of(&Money(text.to_owned())).unwrap()
}

/// A pipeline with an adapter and a budget.
fn paid(budget: Value, change: impl FnOnce(&mut Value)) -> Result<Pipeline, Vec<String>> {
    let resource = resource(|s| {
        with_adapter(s);
        s["budget"] =
            json!({"currency": "USD", "prices": [{"class": "cpu", "deviceHour": "0.35"}]});
        let given = s["budget"].as_object_mut().unwrap();
        given.extend(budget.as_object().unwrap().clone());
        change(s);
    });
    let told = |errors: Vec<FieldError>| errors.iter().map(ToString::to_string).collect();
    Pipeline::from_resource(&resource).map_err(told)
}

#[test]
fn the_smaller_limit_is_the_cap_and_what_is_not_known_may_cost_all_of_it() {
    let budget = |limits: Value| paid(limits, |_| {}).unwrap().budget.unwrap();
    let both = budget(json!({"perRun": "50", "perMonth": "300"}));
    assert_eq!(both.price("cpu"), Some(amount("0.35")));
    assert_eq!(both.price("gpu"), None);
    assert_eq!(both.cap(), Some((amount("50"), "budget.perRun")));
    assert_eq!(both.need(None), amount("50"));
    assert_eq!(both.need(Some(amount("7"))), amount("7"));
    // Who asks by hand has it trained up to the limit.
    assert_eq!(both.need(Some(amount("70"))), amount("50"));
    let month = budget(json!({"perRun": "50", "perMonth": "20"}));
    assert_eq!(month.cap(), Some((amount("20"), "budget.perMonth")));
    assert_eq!(month.need(None), amount("20"));
    // Nothing says what a run may cost: as long as anything is left it may begin.
    let month = budget(json!({"perMonth": "20"}));
    assert_eq!(month.need(None), Amount::LEAST);
    let none = budget(json!({}));
    assert_eq!((none.cap(), none.need(None)), (None, Amount::LEAST));
}

#[test]
fn what_budgets_cannot_be_is_named_with_its_reason() {
    let cases: [Wrong; 6] = [
        (
            |s| s["budget"]["currency"] = json!("euro"),
            "spec.budget.currency",
            "no currency",
        ),
        (
            |s| s["budget"]["perRun"] = json!("-5"),
            "spec.budget.perRun",
            "an amount",
        ),
        (
            |s| s["budget"]["perMonth"] = json!("1e3"),
            "spec.budget.perMonth",
            "an amount",
        ),
        (
            |s| s["budget"]["prices"][0]["deviceHour"] = json!("cheap"),
            "spec.budget.prices[0].deviceHour",
            "an amount",
        ),
        (
            |s| s["workers"] = json!({"class": "gpu"}),
            "spec.budget.prices",
            "no price for gpu",
        ),
        (
            |s| {
                let twice = s["budget"]["prices"][0].clone();
                s["budget"]["prices"].as_array_mut().unwrap().push(twice);
            },
            "spec.budget.prices[1]",
            "twice",
        ),
    ];
    for (change, field, part) in cases {
        let errors = paid(json!({}), change).unwrap_err();
        let named = |e: &String| e.starts_with(&format!("{field}: ")) && e.contains(part);
        assert!(
            errors.len() == 1 && named(&errors[0]),
            "{field}: {errors:?}"
        );
    }
    let without = refused(|s| {
        s["budget"] = json!({"currency": "USD", "prices": [{"class": "cpu", "deviceHour": "1"}]});
    });
    assert!(
        without.len() == 1 && without[0].contains("the pipeline has none"),
        "{without:?}"
    );
}

#[test]
fn a_budget_sets_off_nothing() {
    let old = paid(json!({"perRun": "1"}), |_| {}).unwrap();
    let new = paid(json!({"perRun": "2"}), |_| {}).unwrap();
    let adapter = |p: &Pipeline| p.adapter_inputs(p.adapter("escalation").unwrap());
    assert_eq!(adapter(&old), adapter(&new));
    assert_eq!(old.build_inputs(), new.build_inputs());
    let set_off: Vec<_> = impact(&old, &new).into_iter().collect();
    assert_eq!(set_off, [(Impact::None, "spec.budget")]);
}
