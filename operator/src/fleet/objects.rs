//! What a pipeline's serving consists of on the cluster.

use std::time::Duration;

use kube::{Resource, ResourceExt};
use loci_crds::MemoryPipeline;
use serde_json::{Value, json};
use url::Url;

use super::network::{self, Network};
use super::wanted::config_map;
use crate::cluster::PIPELINE;
use crate::restricted::{self, Program};

/// Where queries are answered.
pub const PORT: u16 = 7700;
/// Where a replica says what it serves.
pub const STATUS_PORT: u16 = 7701;
/// The label value that tells replicas from other pods.
pub const COMPONENT: &str = "recall";
/// That of pods of a vLLM with `loci adapters` beside it.
pub const AGENT: &str = "vllm";

/// How replicas are made.
#[derive(Clone, Debug)]
pub struct Template {
    /// What they run.
    pub program: Program,
    /// How many to begin with, where the pipeline does not say how many there are to be; afterwards that is an
    /// autoscaler's affair, or a person's.
    pub replicas: u32,
    /// `resources` of the container.
    pub resources: Value,
    /// A Secret in the pipeline's namespace with bearer tokens under the key `tokens`. Without, everybody whom the
    /// network lets through may ask.
    pub token_secret: Option<String>,
    /// The hub that hf:// models come from.
    pub hub: Option<Url>,
    /// Who may reach them. Without it no policy is made.
    pub network: Option<Network>,
    /// How long they may take to load a release, before it is held.
    pub deadline: Duration,
}

/// The kinds of what serves a pipeline, in the order of their creation.
pub const SERVING: [&str; 7] = [
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "Service",
    "PodDisruptionBudget",
    "NetworkPolicy",
    "Deployment",
];

/// A kind's place among them.
pub fn place(kind: &str) -> u8 {
    let found = (0_u8..).zip(SERVING).find(|(_, served)| *served == kind);
    found.map_or(u8::MAX, |(place, _)| place)
}

/// The place of an object's kind.
pub fn place_of(object: &Value) -> u8 {
    place(object["kind"].as_str().unwrap_or_default())
}

/// The name of all that serves a pipeline.
pub fn serving_name(pipeline: &str) -> String {
    format!("{pipeline}-recall")
}

/// All objects, at most one of each [served kind](SERVING).
pub fn objects(pipeline: &MemoryPipeline, template: &Template) -> Vec<Value> {
    let name = pipeline.name_any();
    let full = serving_name(&name);
    let labels = json!({
        "app.kubernetes.io/name": "loci",
        "app.kubernetes.io/component": COMPONENT,
        "app.kubernetes.io/managed-by": crate::MANAGER,
        PIPELINE: name,
    });
    let selector = json!({"app.kubernetes.io/component": COMPONENT, PIPELINE: name});
    let metadata = json!({
        "name": full,
        "namespace": pipeline.namespace(),
        "labels": labels,
        "ownerReferences": pipeline.controller_owner_ref(&()).into_iter().collect::<Vec<_>>(),
    });
    let object = |version: &str, kind: &str, mut rest: Value| {
        rest["apiVersion"] = version.into();
        rest["kind"] = kind.into();
        rest["metadata"] = metadata.clone();
        rest
    };
    let rules = json!([{
        "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [config_map(&name)],
        "verbs": ["list", "watch"],
    }]);
    let bound = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": full},
        "subjects": [{"kind": "ServiceAccount", "name": full, "namespace": pipeline.namespace()}],
    });
    let service = json!({
        "selector": selector,
        "ports": [{"name": "http", "port": PORT, "targetPort": "http", "protocol": "TCP"}],
    });
    let budget = json!({"selector": {"matchLabels": selector}, "maxUnavailable": 1});
    let mut deployment = json!({
        "revisionHistoryLimit": 2,
        "selector": {"matchLabels": selector},
        // A replica goes when another is ready in its place.
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels}, "spec": pod(pipeline, template, &full)},
    });
    if let Some(replicas) = pipeline.spec.serving.replicas {
        deployment["replicas"] = replicas.into();
    }
    let policy = |n: &Network| json!({"spec": network::policy(&selector, n)});
    let policy = template.network.as_ref().map(policy);
    let mut all = vec![
        object("v1", "ServiceAccount", json!({})),
        object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": rules}),
        ),
        object("rbac.authorization.k8s.io/v1", "RoleBinding", bound),
        object("v1", "Service", json!({"spec": service})),
        object("policy/v1", "PodDisruptionBudget", json!({"spec": budget})),
    ];
    all.extend(policy.map(|p| object("networking.k8s.io/v1", "NetworkPolicy", p)));
    all.push(object("apps/v1", "Deployment", json!({"spec": deployment})));
    all
}

fn pod(pipeline: &MemoryPipeline, template: &Template, account: &str) -> Value {
    let name = pipeline.name_any();
    let mut args = vec![
        "recall".to_owned(),
        format!("--pipeline={name}"),
        format!("--listen=0.0.0.0:{PORT}"),
        format!("--status=0.0.0.0:{STATUS_PORT}"),
    ];
    let (mut volumes, mut mounts) = restricted::scratch();
    if let Some(secret) = &template.token_secret {
        args.push("--token-file=/etc/loci/tokens/tokens".to_owned());
        volumes.push(
            json!({"name": "tokens", "secret": {"secretName": secret, "defaultMode": 0o440}}),
        );
        mounts.push(json!({"name": "tokens", "mountPath": "/etc/loci/tokens", "readOnly": true}));
    } else {
        args.push("--anyone".to_owned());
    }
    let mut env = vec![
        json!({"name": "LOCI_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}}),
        json!({"name": "LOCI_STATE", "value": "/var/lib/loci"}),
    ];
    env.extend(template.program.env());
    if let Some(hub) = &template.hub {
        env.push(json!({"name": "HF_ENDPOINT", "value": hub.as_str()}));
    }
    let probe = |path: &str, period: u32| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": period});
    json!({
        "serviceAccountName": account,
        "imagePullSecrets": template.program.pulled_with(),
        "terminationGracePeriodSeconds": 45,
        "securityContext": restricted::pod(),
        "topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {PIPELINE: name, "app.kubernetes.io/component": COMPONENT}},
        }],
        "containers": [{
            "name": "recall",
            "image": template.program.image,
            "imagePullPolicy": template.program.pull_policy,
            "args": args,
            "env": env,
            "ports": [
                {"name": "http", "containerPort": PORT, "protocol": "TCP"},
                {"name": "status", "containerPort": STATUS_PORT, "protocol": "TCP"},
            ],
            "resources": template.resources,
            "readinessProbe": probe("/readyz", 2),
            "livenessProbe": probe("/healthz", 10),
            // Taken out of the endpoints first; then what is in flight ends.
            "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
            "securityContext": restricted::container(),
            "volumeMounts": mounts,
        }],
        "volumes": volumes,
    })
}
