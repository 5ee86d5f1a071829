//! What tools that wait for objects make of a status: kstatus (sigs.k8s.io/cli-utils), by the rules of its README.

use std::collections::BTreeSet;

use serde_json::Value;

/// How far the world is with an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kstatus {
    /// Not yet as the object says.
    InProgress,
    /// It will not come to it by itself.
    Failed,
    /// As the object says.
    Current,
    /// Being deleted.
    Terminating,
}

/// What `object` says of itself to who knows no more than the conventions.
pub fn kstatus(object: &Value) -> Kstatus {
    let (metadata, status) = (&object["metadata"], &object["status"]);
    if metadata["deletionTimestamp"].is_string() {
        return Kstatus::Terminating;
    }
    let observed = status["observedGeneration"].as_i64();
    if observed.is_some_and(|g| {
        metadata["generation"]
            .as_i64()
            .is_some_and(|wanted| g != wanted)
    }) {
        return Kstatus::InProgress;
    }
    for condition in conditions(object) {
        match (text(condition, "type"), text(condition, "status")) {
            ("Reconciling", "True") => return Kstatus::InProgress,
            ("Stalled", "True") => return Kstatus::Failed,
            _ => {}
        }
    }
    match truth(object, "Ready") {
        None | Some("True") => Kstatus::Current,
        Some(_) => Kstatus::InProgress,
    }
}

/// The status of a condition, if there is one of this type.
pub fn truth<'a>(object: &'a Value, kind: &str) -> Option<&'a str> {
    let found = conditions(object).find(|c| text(c, "type") == kind)?;
    found["status"].as_str()
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    object["status"]["conditions"]
        .as_array()
        .into_iter()
        .flatten()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

/// What the conventions forbid of the conditions of `object`, and of what became of them since `before`.
pub fn malformed(before: Option<&Value>, object: &Value) -> Vec<String> {
    let generation = object["metadata"]["generation"]
        .as_i64()
        .unwrap_or(i64::MAX);
    let mut faults = Vec::new();
    let mut kinds = BTreeSet::new();
    for condition in conditions(object) {
        let kind = text(condition, "type");
        if !kinds.insert(kind) {
            faults.push(format!("{kind} is there twice"));
        }
        if !["True", "False", "Unknown"].contains(&text(condition, "status")) {
            faults.push(format!("{kind} is {}", condition["status"]));
        }
        if !camel_case(text(condition, "reason")) {
            faults.push(format!("{kind} has the reason {}", condition["reason"]));
        }
        if condition["observedGeneration"].as_i64().unwrap_or(0) > generation {
            faults.push(format!(
                "{kind} observed a generation that is not there yet"
            ));
        }
        faults.extend(before.and_then(|before| transition(before, condition)));
    }
    if truth(object, "Reconciling") == Some("True") && truth(object, "Stalled") == Some("True") {
        faults.push("both Reconciling and Stalled".to_owned());
    }
    let observed = |o: &Value| o["status"]["observedGeneration"].as_i64().unwrap_or(-1);
    if observed(object) > generation || before.is_some_and(|b| observed(b) > observed(object)) {
        faults.push(format!("observedGeneration is {}", observed(object)));
    }
    faults
}

/// The time of a transition changes with the status and with nothing else.
fn transition(before: &Value, condition: &Value) -> Option<String> {
    let kind = text(condition, "type");
    let old = conditions(before).find(|c| text(c, "type") == kind)?;
    let (was, is) = (
        text(old, "lastTransitionTime"),
        text(condition, "lastTransitionTime"),
    );
    let same = old["status"] == condition["status"];
    let wrong = if same { was != is } else { is < was };
    wrong.then(|| {
        format!(
            "{kind}, {} since {was}, is {} since {is}",
            old["status"], condition["status"]
        )
    })
}

fn camel_case(reason: &str) -> bool {
    reason.starts_with(|c: char| c.is_ascii_uppercase())
        && reason.chars().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(observed: i64, conditions: &[(&str, &str)]) -> Value {
        let condition = |(kind, status): &(&str, &str)| {
            json!({
                "type": kind, "status": status, "reason": "Why", "message": "", "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        };
        let conditions: Vec<Value> = conditions.iter().map(condition).collect();
        json!({"metadata": {"generation": 2}, "status": {"observedGeneration": observed, "conditions": conditions}})
    }

    #[test]
    fn an_object_is_current_when_its_generation_was_seen_and_nothing_is_unusual() {
        use Kstatus::*;
        for (observed, conditions, expected) in [
            (-1, &[][..], InProgress),
            (1, &[("Ready", "True")], InProgress),
            (2, &[], Current),
            (2, &[("Ready", "True")], Current),
            (2, &[("Ready", "False")], InProgress),
            (2, &[("Ready", "Unknown")], InProgress),
            (2, &[("Ready", "True"), ("Reconciling", "True")], InProgress),
            (
                2,
                &[
                    ("Ready", "False"),
                    ("Reconciling", "False"),
                    ("Stalled", "True"),
                ],
                Failed,
            ),
            (
                2,
                &[
                    ("Other", "False"),
                    ("Stalled", "False"),
                    ("Reconciling", "False"),
                ],
                Current,
            ),
        ] {
            assert_eq!(
                kstatus(&object(observed, conditions)),
                expected,
                "{observed} {conditions:?}"
            );
        }
        assert_eq!(kstatus(&json!({"metadata": {}})), Current);
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        assert_eq!(kstatus(&going), Terminating);
    }

    #[test]
    fn what_conditions_must_not_be() {
        let good = object(2, &[("Ready", "True"), ("Stalled", "False")]);
        assert!(malformed(Some(&good), &good).is_empty());
        let faults = |change: &dyn Fn(&mut Value)| {
            let mut bad = good.clone();
            change(&mut bad);
            malformed(Some(&good), &bad).len()
        };
        assert_eq!(
            faults(&|o| o["status"]["conditions"][1]["type"] = "Ready".into()),
            1
        );
        assert_eq!(
            faults(&|o| o["status"]["conditions"][0]["reason"] = "not a word".into()),
            1
        );
        assert_eq!(
            faults(&|o| o["status"]["conditions"][0]["observedGeneration"] = 3.into()),
            1
        );
        assert_eq!(faults(&|o| o["status"]["observedGeneration"] = 3.into()), 1);
        assert_eq!(faults(&|o| o["status"]["observedGeneration"] = 1.into()), 1);
        let later = "2026-01-01T00:00:01Z";
        assert_eq!(
            faults(&|o| o["status"]["conditions"][0]["lastTransitionTime"] = later.into()),
            1
        );
        let both = object(2, &[("Reconciling", "True"), ("Stalled", "True")]);
        assert_eq!(malformed(None, &both).len(), 1);
    }
}
