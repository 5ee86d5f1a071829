//! What the API server wrote down of all of it: the rights that were used, and every status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use crate::cluster::{kubectl, state};
use crate::story::{Story, blocking};

/// Rights that are granted though the story never uses them: whose, of what, and why.
const GRANTED_UNUSED: [(&str, &str, &str); 4] = [
    // Where OwnerReferencesPermissionEnforcement is on, who writes an owner reference that blocks deletion needs it.
    ("operator", "loci.dev/memorypipelines/finalizers", "update"),
    // Read again after a conflict with somebody else's write, or when a crash left the object made.
    ("operator", "loci.dev/memoryruns", "get"),
    ("operator", "loci.dev/memoryreleases", "get"),
    // Asked when a watched namespace cannot be listed: is it gone?
    ("operator", "/namespaces", "get"),
];

/// A verb on a resource, perhaps of one name only.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    /// `group/resource` or `group/resource/subresource`.
    resource: String,
    verb: String,
    name: Option<String>,
}

/// Rights by role: what stands after the last dash of a service account's name.
type Rights = BTreeMap<String, BTreeSet<Right>>;

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

fn items(kinds: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(&kubectl(&["get", kinds, "-A", "-ojson"])).unwrap();
    list["items"].as_array().unwrap().clone()
}

/// User names of Loci's service accounts, and their roles.
fn accounts() -> BTreeMap<String, String> {
    let all = items("serviceaccounts");
    let ours = all
        .iter()
        .filter(|a| a["metadata"]["labels"]["app.kubernetes.io/name"] == "loci");
    ours.map(|account| {
        let (namespace, name) = (
            text(&account["metadata"]["namespace"]),
            text(&account["metadata"]["name"]),
        );
        let role = name.rsplit('-').next().unwrap_or_default().to_owned();
        (format!("system:serviceaccount:{namespace}:{name}"), role)
    })
    .collect()
}

fn granted(accounts: &BTreeMap<String, String>) -> Rights {
    let roles = items("roles,clusterroles");
    let mut granted = Rights::new();
    for binding in items("rolebindings,clusterrolebindings") {
        let namespace = text(&binding["metadata"]["namespace"]);
        let of = |role: &&Value| {
            let reference = &binding["roleRef"];
            role["kind"] == reference["kind"]
                && role["metadata"]["name"] == reference["name"]
                && (role["kind"] == "ClusterRole"
                    || role["metadata"]["namespace"] == namespace.as_str())
        };
        for subject in binding["subjects"].as_array().into_iter().flatten() {
            let user = format!(
                "system:serviceaccount:{}:{}",
                text(&subject["namespace"]),
                text(&subject["name"])
            );
            let Some(whose) = accounts.get(&user) else {
                continue;
            };
            let rules = roles
                .iter()
                .filter(of)
                .flat_map(|r| r["rules"].as_array().into_iter().flatten());
            granted
                .entry(whose.clone())
                .or_default()
                .extend(rules.flat_map(rights));
        }
    }
    granted
}

fn rights(rule: &Value) -> Vec<Right> {
    let mut rights = Vec::new();
    let names = texts(&rule["resourceNames"]);
    let names = if names.is_empty() {
        vec![None]
    } else {
        names.into_iter().map(Some).collect()
    };
    for group in texts(&rule["apiGroups"]) {
        for resource in texts(&rule["resources"]) {
            for verb in texts(&rule["verbs"]) {
                for name in &names {
                    let resource = format!("{group}/{resource}");
                    rights.push(Right {
                        resource,
                        verb: verb.clone(),
                        name: name.clone(),
                    });
                }
            }
        }
    }
    rights
}

/// All that service accounts asked for so far.
fn events() -> Vec<Value> {
    let log = std::fs::read_to_string(state().unwrap().join("audit.log")).unwrap();
    // What follows the last line's end is being written.
    let whole = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
    whole
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn at(event: &Value) -> Timestamp {
    text(&event["requestReceivedTimestamp"]).parse().unwrap()
}

/// What a pod wrote after a time, and was let write.
pub fn written_by(pod: &str, after: Timestamp) -> Vec<String> {
    let by = |e: &&Value| {
        let names = &e["user"]["extra"]["authentication.kubernetes.io/pod-name"];
        texts(names).iter().any(|name| name == pod) && at(e) > after
    };
    let writes = ["create", "update", "patch", "delete"];
    let wrote = |e: &&Value| {
        let done = e["responseStatus"]["code"]
            .as_i64()
            .is_some_and(|code| code < 300);
        done && writes.contains(&text(&e["verb"]).as_str())
    };
    let told = |e: &Value| format!("{} {}", e["verb"], e["objectRef"]);
    events().iter().filter(by).filter(wrote).map(told).collect()
}

/// What service accounts did, and what they were refused.
fn used(
    accounts: &BTreeMap<String, String>,
    without_rights: &[(Timestamp, Timestamp)],
) -> (Rights, BTreeSet<String>) {
    let (mut used, mut refused) = (Rights::new(), BTreeSet::new());
    for event in events() {
        let Some(whose) = accounts.get(&text(&event["user"]["username"])) else {
            continue;
        };
        let object = &event["objectRef"];
        let mut resource = format!(
            "{}/{}",
            text(&object["apiGroup"]),
            text(&object["resource"])
        );
        if object["subresource"].is_string() {
            resource = format!("{resource}/{}", text(&object["subresource"]));
        }
        let (verb, code) = (
            text(&event["verb"]),
            event["responseStatus"]["code"].as_i64(),
        );
        let name = object["name"].as_str().map(str::to_owned);
        if code == Some(403) {
            let at = at(&event);
            if !without_rights
                .iter()
                .any(|(from, to)| (*from..=*to).contains(&at))
            {
                refused.insert(format!(
                    "{whose}: {verb} {resource} {name:?}: {}",
                    event["responseStatus"]["message"]
                ));
            }
            continue;
        }
        let rights = used.entry(whose.clone()).or_default();
        // Applying what is not there creates it, and is allowed to who may create.
        if verb == "patch" && code == Some(201) {
            rights.insert(Right {
                resource: resource.clone(),
                verb: "create".to_owned(),
                name: None,
            });
        }
        rights.insert(Right {
            resource,
            verb,
            name,
        });
    }
    (used, refused)
}

pub async fn rights_are_those_that_are_used(story: Arc<Story>) {
    let windows = story.without_rights.lock().unwrap().clone();
    let (granted, (used, refused)) = blocking(|| {
        let accounts = accounts();
        (granted(&accounts), used(&accounts, &windows))
    });
    let mut unused = BTreeSet::new();
    for (whose, rights) in &granted {
        let used = used.get(whose);
        let is_used = |right: &&Right| {
            let mut used = used.into_iter().flatten();
            used.any(|u| {
                u.resource == right.resource
                    && u.verb == right.verb
                    && (right.name.is_none() || u.name == right.name)
            })
        };
        let unneeded = rights.iter().filter(|right| !is_used(right));
        unused.extend(unneeded.map(|r| (whose.as_str(), r.resource.as_str(), r.verb.as_str())));
        println!(
            "    {whose}: {} rights granted, {} used",
            rights.len(),
            rights.iter().filter(is_used).count()
        );
    }
    let excused: BTreeSet<_> = GRANTED_UNUSED.into();
    let useless: Vec<_> = unused.difference(&excused).collect();
    assert!(useless.is_empty(), "granted and never used: {useless:#?}");
    assert!(refused.is_empty(), "refused: {refused:#?}");
    let roles: Vec<&str> = granted.keys().map(String::as_str).collect();
    // A worker never asks the API server.
    assert_eq!(roles, ["fetcher", "operator", "recall"]);
}

pub async fn statuses_agree(story: Arc<Story>) {
    let faults = story.history.faults().await.unwrap();
    println!(
        "    {} versions of pipelines, runs and releases",
        story.history.len()
    );
    assert!(
        story.history.len() > 20 && faults.is_empty(),
        "{} faults: {faults:#?}",
        faults.len()
    );
}
