//! The cluster, by the programs that people use.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use loci_testbed::root;
use serde_json::{Value, json};

/// Where Loci is installed, and where the pipeline is.
pub const SYSTEM: &str = "loci-system";
pub const AGENTS: &str = "agents";
/// Another tenant's namespace.
pub const RIVALS: &str = "rivals";
/// The node's address: pods reach what listens here.
pub const NODE: &str = "10.88.0.1";

/// The longest that anything may take before a scenario gives up on it.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The state directory of the cluster; none where there is no cluster to test on.
pub fn state() -> Option<PathBuf> {
    match std::env::var_os("LOCI_TEST_CLUSTER") {
        Some(state) => Some(state.into()),
        None => {
            eprintln!("skipped: LOCI_TEST_CLUSTER names no cluster; `make e2e` makes one, as root");
            None
        }
    }
}

fn program(variable: &str) -> Command {
    let program = std::env::var_os(variable);
    let mut command =
        Command::new(program.unwrap_or_else(|| panic!("no {variable}: run `make e2e`")));
    command.env("KUBECONFIG", state().unwrap().join("admin.kubeconfig"));
    command
}

fn run(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn expect(command: Command, input: &str) -> String {
    let what = format!("{command:?}");
    let output = run(command, input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{what}\n{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

pub fn kubectl(args: &[&str]) -> String {
    let mut command = program("LOCI_TEST_KUBECTL");
    command.args(args);
    expect(command, "")
}

/// `kubectl loci`, without the link in PATH.
pub fn plugin(args: &[&str]) -> String {
    let mut command = program("LOCI");
    command.arg("kubectl").args(args);
    expect(command, "")
}

/// What `kubectl` says, whether it succeeds or not.
pub fn try_kubectl(args: &[&str]) -> Result<String, String> {
    let mut command = program("LOCI_TEST_KUBECTL");
    let output = run(
        {
            command.args(args);
            command
        },
        "",
    );
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

/// Waits until a pipeline is Ready, as people do.
pub fn wait_ready(namespace: &str, pipeline: &str) {
    let name = format!("memorypipeline/{pipeline}");
    let wait = ["-n", namespace, "wait", "--for=condition=Ready"];
    kubectl(&[&wait[..], &[&name, "--timeout=180s"]].concat());
}

/// `kubectl apply -f` with these objects as a file.
pub fn apply(objects: &[Value]) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
    let mut command = program("LOCI_TEST_KUBECTL");
    command.args(["apply", "-f", "-"]);
    expect(command, &list.to_string());
}

pub fn helm(args: &[&str]) -> String {
    let mut command = program("LOCI_TEST_HELM");
    let home = state().unwrap().join("helm");
    command
        .args(args)
        .current_dir(root())
        .env("HELM_CACHE_HOME", home.join("cache"))
        .env("HELM_CONFIG_HOME", home.join("config"))
        .env("HELM_DATA_HOME", home.join("data"));
    expect(command, "")
}

pub fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < PATIENCE, "waiting until {what}");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// One field of an object, by JSONPath; empty when there is none.
pub fn field(kind_name: &str, namespace: &str, path: &str) -> String {
    let path = format!("-ojsonpath={path}");
    try_kubectl(&["-n", namespace, "get", kind_name, &path]).unwrap_or_default()
}

/// Whose logs are looked at, and how much of them.
const LOGS: [(&str, &str, &str); 6] = [
    (SYSTEM, "operator", "--tail=60"),
    (SYSTEM, "worker", "--tail=30"),
    (SYSTEM, "nats", "--tail=20"),
    (AGENTS, "fetcher", "--tail=30"),
    (AGENTS, "recall", "--tail=20"),
    (RIVALS, "fetcher", "--tail=20"),
];

/// What a person would look at first.
pub fn diagnosis() -> String {
    let mut all = String::new();
    let mut ask = |args: &[&str], also_why_not: bool| {
        let mut command = program("LOCI_TEST_KUBECTL");
        command.args(args);
        let output = run(command, "");
        all.push_str(&format!("--- kubectl {}\n", args.join(" ")));
        all.push_str(&String::from_utf8_lossy(&output.stdout));
        if also_why_not {
            all.push_str(&String::from_utf8_lossy(&output.stderr));
        }
    };
    ask(&["get", "pods", "-A", "-owide"], true);
    let ours = "memorypipelines,memoryruns,memoryreleases";
    ask(&["get", ours, "-A"], true);
    let events = ["get", "events", "-A", "--sort-by=.lastTimestamp"];
    ask(&events, true);
    for (namespace, component, tail) in LOGS {
        let label = format!("-lapp.kubernetes.io/component={component}");
        let logs = ["-n", namespace, "logs", &label, "--prefix", tail];
        ask(&logs, true);
        // Most have no log from before a restart.
        ask(&[&logs[..], &["--previous"]].concat(), false);
    }
    all
}
