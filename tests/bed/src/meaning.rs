//! Whether what a status says is so, by all other objects as they are at that moment.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::history::Key;
use crate::kstatus::{Kstatus, kstatus, malformed, truth};

/// All objects at one moment.
#[derive(Default)]
pub(crate) struct State<'a>(BTreeMap<Key, &'a Value>);

impl<'a> State<'a> {
    /// What comes next is not compared with what was.
    pub fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }

    /// Goes on to the next version of an object; what is wrong with that.
    pub fn take(&mut self, key: &Key, object: Option<&'a Value>) -> Vec<String> {
        let Some(object) = object else {
            self.0.remove(key);
            return Vec::new();
        };
        let same = |before: &&Value| before["metadata"]["uid"] == object["metadata"]["uid"];
        let before = self.0.insert(key.clone(), object).filter(same);
        let mut faults = malformed(before, object);
        if kstatus(object) != Kstatus::Terminating {
            faults.extend(match key.0.as_str() {
                "MemoryRun" => run(object),
                "MemoryRelease" => self.release(key, object),
                _ => self.pipeline(key, object),
            });
        }
        faults
    }

    /// The objects of a kind that belong to the pipeline `owner`.
    fn of<'s>(&'s self, kind: &'s str, owner: &'s Key) -> impl Iterator<Item = &'s Value> {
        let ours = move |(key, object): &(&Key, &&Value)| {
            key.0 == kind
                && key.1 == owner.1
                && object["spec"]["pipelineRef"]["name"] == owner.2.as_str()
        };
        self.0.iter().filter(ours).map(|(_, object)| *object)
    }

    fn release(&self, key: &Key, release: &Value) -> Vec<String> {
        let phase = phase(release);
        let expected = if phase == "Candidate" {
            Kstatus::InProgress
        } else {
            Kstatus::Current
        };
        let mut faults = unlike(release, expected);
        let serves = truth(release, "Serving") == Some("True");
        if observed(release) && serves != (phase == "Serving") {
            faults.push(format!("Serving is {serves}, and its phase {phase}"));
        }
        let owner = release["spec"]["pipelineRef"]["name"]
            .as_str()
            .unwrap_or_default();
        let owner = (String::new(), key.1.clone(), owner.to_owned());
        let serving = self
            .of("MemoryRelease", &owner)
            .filter(|r| self::phase(r) == "Serving");
        if serving.count() > 1 {
            faults.push("two releases say that they serve".to_owned());
        }
        faults
    }

    fn pipeline(&self, key: &Key, pipeline: &Value) -> Vec<String> {
        if !observed(pipeline) {
            return Vec::new();
        }
        let mut faults = Vec::new();
        for kind in ["Ready", "Reconciling", "Stalled"] {
            if truth(pipeline, kind).is_none() {
                faults.push(format!("{kind} is missing"));
            }
        }
        let served = pipeline["status"]["servingRelease"].as_str();
        if truth(pipeline, "Ready") == Some("True") && served.is_none() {
            faults.push("Ready, though nothing serves".to_owned());
        }
        match kstatus(pipeline) {
            Kstatus::Current => faults.extend(self.unfinished(key, pipeline)),
            Kstatus::Failed => faults.extend(self.unfounded(key, pipeline)),
            _ => {}
        }
        faults
    }

    /// What the generation asked for and is not there yet.
    fn unfinished(&self, key: &Key, pipeline: &Value) -> Option<String> {
        let generation = &pipeline["metadata"]["generation"];
        let asked = |run: &&Value| {
            let trigger = run["spec"]["trigger"].as_str().unwrap_or_default();
            ["Initial", "SpecChanged"].contains(&trigger)
                && run["spec"]["generation"] == *generation
        };
        let asked: Vec<&Value> = self.of("MemoryRun", key).filter(asked).collect();
        let named = |object: &Value| {
            object["metadata"]["name"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        if let Some(run) = asked.iter().find(|r| !ended(r)) {
            return Some(format!("Current, and {} is under way", named(run)));
        }
        let held = pipeline["status"]["heldOn"].is_string();
        let waits = |release: &&Value| {
            phase(release) == "Candidate"
                && asked
                    .iter()
                    .any(|run| release["spec"]["run"] == run["metadata"]["name"])
        };
        let waiting = self.of("MemoryRelease", key).find(waits).filter(|_| !held);
        waiting.map(|release| format!("Current, and {} is not served yet", named(release)))
    }

    /// Failed is only what no run can mend, or what a run has failed at.
    fn unfounded(&self, key: &Key, pipeline: &Value) -> Option<String> {
        let conditions = pipeline["status"]["conditions"]
            .as_array()
            .into_iter()
            .flatten();
        let mut stalled = conditions.filter(|c| c["type"] == "Stalled");
        let reason = stalled
            .next()
            .and_then(|c| c["reason"].as_str())
            .unwrap_or_default();
        if ["InvalidSpec", "HoldNotPossible"].contains(&reason) {
            return None;
        }
        let created = |run: &&Value| {
            let text = |key: &str| run["metadata"][key].as_str().unwrap_or_default().to_owned();
            (text("creationTimestamp"), text("name"))
        };
        let newest = self
            .of("MemoryRun", key)
            .filter(|r| ended(r))
            .max_by_key(created);
        let failed = newest.is_some_and(|r| phase(r) != "Succeeded");
        (!failed).then(|| format!("Failed by {reason}, and the newest run did not fail"))
    }
}

fn run(run: &Value) -> Vec<String> {
    unlike(
        run,
        match phase(run) {
            "Succeeded" => Kstatus::Current,
            "Failed" | "Cancelled" => Kstatus::Failed,
            _ => Kstatus::InProgress,
        },
    )
}

fn unlike(object: &Value, expected: Kstatus) -> Vec<String> {
    let found = kstatus(object);
    let differs = found != expected;
    let fault = || format!("{found:?}, and its phase is {}", phase(object));
    differs.then(fault).into_iter().collect()
}

fn phase(object: &Value) -> &str {
    let phase = object["status"]["phase"].as_str();
    phase.unwrap_or(if object["kind"] == "MemoryRelease" {
        "Candidate"
    } else {
        "Pending"
    })
}

fn ended(run: &Value) -> bool {
    ["Succeeded", "Failed", "Cancelled"].contains(&phase(run))
}

fn observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}
