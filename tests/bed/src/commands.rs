//! The command lines of a control plane, and the files that they name.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use serde_json::{Value, json};

use crate::keys::{ADMIN, CA, SERVER, TOKENS};

pub(crate) const KUBECONFIG: &str = "kubeconfig";
pub(crate) const AUDIT_LOG: &str = "audit.jsonl";
const AUDIT_POLICY: &str = "audit-policy.json";

/// Loopback ports that were free a moment ago.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) api: u16,
    store: u16,
    peers: u16,
}

impl Ports {
    pub(crate) fn free() -> io::Result<Self> {
        let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
        let held = [bind()?, bind()?, bind()?];
        let port = |n: usize| Ok::<_, io::Error>(held[n].local_addr()?.port());
        Ok(Self {
            api: port(0)?,
            store: port(1)?,
            peers: port(2)?,
        })
    }
}

/// Writes the audit policy and the administrator's kubeconfig.
pub(crate) fn write_files(dir: &Path, ports: Ports) -> io::Result<()> {
    std::fs::write(dir.join(AUDIT_POLICY), audit_policy().to_string())?;
    std::fs::write(dir.join(KUBECONFIG), kubeconfig(dir, ports).to_string())
}

/// Who did what, and by which role; not what the API server asks itself.
fn audit_policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
        "rules": [{"level": "None", "users": ["system:apiserver"]}, {"level": "Metadata"}]
    })
}

fn kubeconfig(dir: &Path, ports: Ports) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "admin",
        "contexts": [{"name": "admin", "context": {"cluster": "test", "user": "admin"}}],
        "clusters": [{"name": "test", "cluster": {
            "server": format!("https://127.0.0.1:{}", ports.api), "certificate-authority": dir.join(CA)}}],
        "users": [{"name": "admin", "user": {
            "client-certificate": dir.join(ADMIN.0), "client-key": dir.join(ADMIN.1)}}]
    })
}

/// Heartbeats are short because a store of one member waits out an election before it serves.
pub(crate) fn store(ports: Ports) -> Vec<String> {
    let (clients, peers) = (url(ports.store), url(ports.peers));
    vec![
        "--data-dir=etcd".into(),
        "--unsafe-no-fsync=true".into(),
        "--log-level=warn".into(),
        "--heartbeat-interval=20".into(),
        "--election-timeout=200".into(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        format!("--listen-peer-urls={peers}"),
        format!("--initial-advertise-peer-urls={peers}"),
        format!("--initial-cluster=default={peers}"),
    ]
}

pub(crate) fn api_server(ports: Ports) -> Vec<String> {
    vec![
        format!("--etcd-servers={}", url(ports.store)),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        format!("--secure-port={}", ports.api),
        // A loopback address cannot be an endpoint.
        "--endpoint-reconciler-type=none".into(),
        "--service-cluster-ip-range=10.96.0.0/12".into(),
        "--allow-privileged=true".into(),
        "--authorization-mode=RBAC".into(),
        format!("--client-ca-file={CA}"),
        format!("--tls-cert-file={}", SERVER.0),
        format!("--tls-private-key-file={}", SERVER.1),
        "--service-account-issuer=https://kubernetes.default.svc".into(),
        format!("--service-account-key-file={}", TOKENS.0),
        format!("--service-account-signing-key-file={}", TOKENS.1),
        format!("--audit-policy-file={AUDIT_POLICY}"),
        format!("--audit-log-path={AUDIT_LOG}"),
    ]
}

pub(crate) fn controllers() -> Vec<String> {
    vec![
        format!("--kubeconfig={KUBECONFIG}"),
        "--leader-elect=false".into(),
        "--secure-port=0".into(),
        format!("--service-account-private-key-file={}", TOKENS.1),
        format!("--root-ca-file={CA}"),
    ]
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}
