//! What all pods that the operator makes have in common: the `restricted` Pod Security Standard, and room to write.

use serde_json::{Value, json};

/// `securityContext` of a pod.
pub fn pod() -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// `securityContext` of its container.
pub fn container() -> Value {
    json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Volumes for state and for temporary files, and where they are mounted.
pub fn scratch() -> (Vec<Value>, Vec<Value>) {
    let volumes = vec![
        json!({"name": "state", "emptyDir": {}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mounts = vec![
        json!({"name": "state", "mountPath": "/var/lib/loci"}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    (volumes, mounts)
}

/// The program that these pods run.
#[derive(Clone, Debug)]
pub struct Program {
    /// The image that holds `loci`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// Secrets of the pods' namespace that it is pulled with.
    pub pull_secrets: Vec<String>,
    /// What is logged.
    pub log: Option<String>,
}

impl Program {
    /// `imagePullSecrets` of a pod.
    pub fn pulled_with(&self) -> Vec<Value> {
        let name = |secret: &String| json!({"name": secret});
        self.pull_secrets.iter().map(name).collect()
    }

    /// What a container's environment says of it.
    pub fn env(&self) -> impl Iterator<Item = Value> {
        let log = self.log.iter();
        log.map(|log| json!({"name": "RUST_LOG", "value": log}))
    }
}
