//! Who may reach replicas.

use serde_json::{Value, json};

/// Whom a network that obeys policies lets through to replicas.
#[derive(Clone, Debug)]
pub enum Network {
    /// Everybody, also where an earlier policy did not.
    Open,
    /// Queries from some, and the operator.
    Guarded {
        /// The operator's namespace: it alone is told what a replica has.
        operator: String,
        /// Who may ask queries, as peers of a NetworkPolicy; everybody when empty.
        queriers: Vec<Value>,
    },
}

/// The `spec` of the NetworkPolicy of the pods with these labels.
pub(super) fn policy(labels: &Value, network: &Network) -> Value {
    let ingress = match network {
        Network::Open => json!([{}]),
        Network::Guarded { operator, queriers } => {
            json!([queries(queriers), status(operator)])
        }
    };
    json!({"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"], "ingress": ingress})
}

fn queries(queriers: &[Value]) -> Value {
    let ports = json!([{"port": "http", "protocol": "TCP"}]);
    match queriers {
        [] => json!({"ports": ports}),
        some => json!({"ports": ports, "from": some}),
    }
}

fn status(operator: &str) -> Value {
    let from = json!({
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": operator}},
        "podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "loci", "app.kubernetes.io/component": "operator",
        }},
    });
    json!({"ports": [{"port": "status", "protocol": "TCP"}], "from": [from]})
}
