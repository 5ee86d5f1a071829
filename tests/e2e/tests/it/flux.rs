//! Flux's own controllers, as processes on the node, and what they say.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use loci_testbed::root;
use serde_json::Value;

use crate::cluster::{apply, field, kubectl, state};
use crate::story::namespace;

/// Where Flux's resources are.
pub const FLUX: &str = "flux-system";
/// The Kustomization of `examples/gitops/flux`.
const KUSTOMIZATION: &str = "kustomization/memory";

/// Running controllers. They end with this value.
pub struct Flux(Vec<Child>);

impl Drop for Flux {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Flux {
    /// Installs the definitions, and starts source-controller and kustomize-controller.
    pub fn start() -> Self {
        let programs = std::env::var_os("LOCI_TEST_FLUX")
            .expect("LOCI_TEST_FLUX names no directory with Flux's controllers: run `make e2e`");
        let programs = PathBuf::from(programs);
        let names = ["source-controller", "kustomize-controller"];
        for name in names {
            let definitions = programs.join(format!("{name}.crds"));
            kubectl(&[
                "apply",
                "--server-side",
                "-f",
                definitions.to_str().unwrap(),
            ]);
        }
        kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=60s",
        ]);
        apply(&[namespace(FLUX)]);
        let dir = state().unwrap().join("flux");
        std::fs::create_dir_all(&dir).unwrap();
        let storage = format!("--storage-path={}", dir.display());
        let artifacts = "127.0.0.1:9790";
        let (listen, advertise) = (
            format!("--storage-addr={artifacts}"),
            format!("--storage-adv-addr={artifacts}"),
        );
        let more: [&[&str]; 2] = [
            &[&storage, &listen, &advertise],
            &["--requeue-dependency=1s"],
        ];
        let ports = (9791..).step_by(2);
        let each = names.iter().zip(more).zip(ports);
        Self(
            each.map(|((name, more), port)| spawn(&programs, name, more, port))
                .collect(),
        )
    }
}

fn spawn(programs: &Path, name: &str, more: &[&str], port: u16) -> Child {
    let state = state().unwrap();
    let log = std::fs::File::create(state.join(format!("{name}.log"))).unwrap();
    Command::new(programs.join(name))
        .args(more)
        .arg(format!("--metrics-addr=127.0.0.1:{port}"))
        .arg(format!("--health-addr=127.0.0.1:{}", port + 1))
        .env("KUBECONFIG", state.join("admin.kubeconfig"))
        .env("RUNTIME_NAMESPACE", FLUX)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}

/// Applies `examples/gitops/flux` for the repository at `url`, with less patience than in production.
pub fn follow(url: &str) {
    let file = root().join("examples/gitops/flux/memory.yaml");
    let mut text = std::fs::read_to_string(file).unwrap();
    for (from, to) in [
        ("https://git.example.com/agents/memory.git", url),
        ("\n  interval: 1m\n", "\n  interval: 1s\n"),
        ("retryInterval: 1m", "retryInterval: 2s"),
        ("timeout: 30m", "timeout: 2m"),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    kubectl(&["apply", "-f", file.path().to_str().unwrap()]);
}

/// What the Kustomization says of a commit.
#[derive(Debug, PartialEq)]
pub enum Said {
    /// Nothing final yet.
    Nothing,
    Ready,
    /// The reason and the message.
    Failed(String, String),
}

/// What Flux says of this commit.
pub fn said_of(commit: &str) -> Said {
    let text = field(KUSTOMIZATION, FLUX, "{.status}");
    let status: Value = serde_json::from_str(&text).unwrap_or_default();
    let of = |key: &str| status[key].as_str().is_some_and(|r| r.contains(commit));
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let mut ready = conditions.filter(|c| c["type"] == "Ready");
    let Some(ready) = ready.next().filter(|_| of("lastAttemptedRevision")) else {
        return Said::Nothing;
    };
    let part = |key: &str| ready[key].as_str().unwrap_or_default().to_owned();
    match &*part("status") {
        "True" if of("lastAppliedRevision") => Said::Ready,
        "False" => Said::Failed(part("reason"), part("message")),
        _ => Said::Nothing,
    }
}
