//! What a fetcher consists of on the cluster.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::OfNamespace;
use crate::restricted::{self, Program};

/// The name of all its objects.
pub const NAME: &str = "loci-fetcher";
/// The label value that tells fetchers from other pods.
pub const COMPONENT: &str = "fetcher";
/// Pipelines that a fetcher names as its owners. Any one of them keeps it; a namespace may hold thousands.
const OWNERS: usize = 50;
/// Where the Secrets of sources are.
pub(super) const SECRETS: &str = "/etc/loci/sources";

/// How fetchers are made.
#[derive(Clone, Debug)]
pub struct FetcherTemplate {
    /// What they run.
    pub program: Program,
    /// `resources` of the container.
    pub resources: Value,
    /// The Secret in each namespace that says how its fetcher reaches NATS.
    pub nats_secret: String,
    /// Files of that Secret, by the environment variables that name them: `url`, with user and password if need be,
    /// `loci.creds`, `ca.crt`.
    pub nats_files: BTreeMap<&'static str, &'static str>,
}

/// All objects, in the order of their creation.
pub(super) fn objects(
    namespace: &str,
    needs: &OfNamespace,
    template: &FetcherTemplate,
) -> Vec<Value> {
    let labels = json!({
        "app.kubernetes.io/name": "loci",
        "app.kubernetes.io/component": COMPONENT,
        "app.kubernetes.io/managed-by": crate::MANAGER,
    });
    let owners = needs.values().filter_map(|needs| needs.owner.as_ref());
    let metadata = json!({
        "name": NAME, "namespace": namespace, "labels": labels,
        "ownerReferences": owners.take(OWNERS).collect::<Vec<_>>(),
    });
    let object = |version: &str, kind: &str, mut rest: Value| {
        rest["apiVersion"] = version.into();
        rest["kind"] = kind.into();
        rest["metadata"] = metadata.clone();
        rest
    };
    let config_maps: Vec<&String> = {
        let all = needs.values().flat_map(|needs| &needs.config_maps);
        all.collect::<BTreeSet<_>>().into_iter().collect()
    };
    // Without names a rule would let in to all.
    let rules = match config_maps.is_empty() {
        true => json!([]),
        false => json!([{
            "apiGroups": [""], "resources": ["configmaps"], "resourceNames": config_maps, "verbs": ["get"],
        }]),
    };
    let bound = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}],
    });
    let selector =
        json!({"app.kubernetes.io/name": "loci", "app.kubernetes.io/component": COMPONENT});
    let deployment = json!({
        "replicas": 1,
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": labels},
            "spec": pod(namespace, needs, template, !config_maps.is_empty()),
        },
    });
    let rbac = "rbac.authorization.k8s.io/v1";
    vec![
        object(
            "v1",
            "ServiceAccount",
            json!({"automountServiceAccountToken": false}),
        ),
        object(rbac, "Role", json!({"rules": rules})),
        object(rbac, "RoleBinding", bound),
        object("apps/v1", "Deployment", json!({"spec": deployment})),
    ]
}

fn pod(
    namespace: &str,
    needs: &OfNamespace,
    template: &FetcherTemplate,
    reads_maps: bool,
) -> Value {
    let mut env = vec![json!({"name": "LOCI_STATE", "value": "/var/lib/loci"})];
    env.extend(template.program.env());
    let files = template.nats_files.iter();
    env.extend(
        files.map(|(name, file)| json!({"name": name, "value": format!("/etc/loci/nats/{file}")})),
    );
    let (mut volumes, mut mounts) = restricted::scratch();
    for (volume, mount) in secrets(needs) {
        volumes.push(volume);
        mounts.push(mount);
    }
    // Not in the environment: what is mounted changes with the Secret.
    volumes.push(json!({"name": "nats", "secret": {"secretName": template.nats_secret, "defaultMode": 0o440}}));
    mounts.push(json!({"name": "nats", "mountPath": "/etc/loci/nats", "readOnly": true}));
    json!({
        "serviceAccountName": NAME,
        "imagePullSecrets": template.program.pulled_with(),
        "automountServiceAccountToken": reads_maps,
        "securityContext": restricted::pod(),
        "containers": [{
            "name": "fetcher",
            "image": template.program.image,
            "imagePullPolicy": template.program.pull_policy,
            "args": ["fetcher", format!("--namespace={namespace}"), format!("--secrets={SECRETS}")],
            "env": env,
            "resources": template.resources,
            "securityContext": restricted::container(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}

/// A volume for each Secret that sources name. One that is not there yet appears when it is made; its directory is there
/// from the start, and tells the process that it is meant to see it.
fn secrets(needs: &OfNamespace) -> impl Iterator<Item = (Value, Value)> {
    let names: BTreeSet<&String> = needs.values().flat_map(|needs| &needs.secrets).collect();
    names.into_iter().enumerate().map(|(i, name)| {
        let volume = format!("source-{i}");
        let secret = json!({"secretName": name, "optional": true, "defaultMode": 0o440});
        let path = format!("{SECRETS}/{name}");
        (
            json!({"name": volume, "secret": secret}),
            json!({"name": volume, "mountPath": path, "readOnly": true}),
        )
    })
}

#[cfg(test)]
mod tests {
    use loci_crds::MemoryPipeline;
    use loci_plan::Pipeline;

    use super::super::Needs;
    use super::*;

    fn needs(name: &str, sources: Value) -> (String, Needs) {
        let resource: MemoryPipeline = serde_json::from_value(json!({
            "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
            "metadata": {"name": name, "namespace": "agents", "uid": format!("uid-{name}")},
            "spec": {"embedder": {"model": "hf://org/model@main"}, "sources": sources},
        }))
        .unwrap();
        let pipeline = Pipeline::from_resource(&resource).unwrap();
        (name.to_owned(), Needs::of(&resource, &pipeline))
    }

    fn template() -> FetcherTemplate {
        FetcherTemplate {
            program: Program {
                image: "loci".to_owned(),
                pull_policy: "Never".to_owned(),
                pull_secrets: vec!["registry".to_owned()],
                log: None,
            },
            resources: json!({}),
            nats_secret: "loci-fetcher-nats".to_owned(),
            nats_files: [("LOCI_NATS_URL_FILE", "url")].into(),
        }
    }

    #[test]
    fn a_fetcher_sees_what_its_pipelines_name_and_nothing_else() {
        let git = json!({"url": "https://git.test/a.git", "secretRef": {"name": "git-auth"}});
        let http = json!({"urls": ["https://a.test/"], "secretRef": {"name": "status"}});
        let bucket = json!({"url": "s3://acme", "secretRef": {"name": "runbooks"}});
        let all: OfNamespace = [
            needs(
                "one",
                json!([{"name": "a", "memory": "factual", "git": git}]),
            ),
            needs(
                "two",
                json!([
                    {"name": "a", "memory": "factual", "git": git},
                    {"name": "b", "memory": "factual", "http": http},
                    {"name": "c", "memory": "factual", "configMap": {"name": "docs"}},
                    {"name": "d", "memory": "factual", "bucket": bucket},
                ]),
            ),
        ]
        .into();
        let objects = objects("agents", &all, &template());
        for object in &objects {
            let owners = object["metadata"]["ownerReferences"].as_array().unwrap();
            let uids: Vec<_> = owners.iter().map(|o| o["uid"].as_str().unwrap()).collect();
            assert_eq!(uids, ["uid-one", "uid-two"], "{object}");
        }
        let role = objects.iter().find(|o| o["kind"] == "Role").unwrap();
        let expected = json!([{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["docs"], "verbs": ["get"]}]);
        assert_eq!(role["rules"], expected);
        let pod = &objects.last().unwrap()["spec"]["template"]["spec"];
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
        let volumes = pod["volumes"].as_array().unwrap();
        let secrets = volumes.iter().filter_map(|v| v["secret"].as_object());
        let (own, secrets): (Vec<_>, Vec<_>) =
            secrets.partition(|s| s["secretName"] == "loci-fetcher-nats");
        assert_eq!(own.len(), 1);
        let names: Vec<_> = secrets
            .iter()
            .map(|s| s["secretName"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["git-auth", "runbooks", "status"]);
        assert!(secrets.iter().all(|secret| secret["optional"] == true));
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let paths = mounts.iter().filter_map(|m| m["mountPath"].as_str());
        let of_sources: Vec<_> = paths.filter_map(|p| p.strip_prefix(SECRETS)).collect();
        assert_eq!(of_sources, ["/git-auth", "/runbooks", "/status"]);
    }

    #[test]
    fn a_fetcher_without_config_maps_may_ask_the_api_server_nothing() {
        let http = json!({"urls": ["https://a.test/"]});
        let all = [needs(
            "one",
            json!([{"name": "a", "memory": "factual", "http": http}]),
        )]
        .into();
        let objects = objects("agents", &all, &template());
        let role = objects.iter().find(|o| o["kind"] == "Role").unwrap();
        assert_eq!(role["rules"], json!([]));
        let pod = &objects.last().unwrap()["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], json!(false));
    }
}
