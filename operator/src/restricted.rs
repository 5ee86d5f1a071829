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

/// `imagePullSecrets` of a pod.
pub fn pulled_with(secrets: &[String]) -> Vec<Value> {
    let name = |secret: &String| json!({"name": secret});
    secrets.iter().map(name).collect()
}
