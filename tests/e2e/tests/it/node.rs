//! The node from below: processes of pods, volumes of pods, and the control plane's own processes.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::cluster::{field, kubectl, state, until};

/// A pod by its namespace and name.
#[derive(Clone, Debug)]
pub struct Pod {
    pub namespace: String,
    pub name: String,
}

/// The pods of a component that are not on their way out.
pub fn pods(namespace: &str, component: &str) -> Vec<Pod> {
    let label = format!("-lapp.kubernetes.io/component={component}");
    let list = kubectl(&["-n", namespace, "get", "pods", &label, "-ojson"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let metadata = list["items"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|p| &p["metadata"]);
    let there = metadata.filter(|m| m["deletionTimestamp"].is_null());
    let pod = |m: &Value| Pod {
        namespace: namespace.to_owned(),
        name: m["name"].as_str().unwrap_or_default().to_owned(),
    };
    there.map(pod).collect()
}

/// The first process of a container, looked up before anything happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Process(Pid);

impl Process {
    /// False when it is gone.
    pub fn signal(self, signal: Signal) -> bool {
        kill_process(self.0, signal).is_ok()
    }

    /// Whether a signal was sent to it that it has not taken: it stands still.
    pub fn is_sent(self, signal: Signal) -> bool {
        let file = format!("/proc/{}/status", self.0.as_raw_nonzero());
        let status = std::fs::read_to_string(file).unwrap_or_default();
        let pending = status.lines().find_map(|l| l.strip_prefix("ShdPnd:"));
        let pending = pending.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        pending.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
    }
}

impl Pod {
    pub fn field(&self, path: &str) -> String {
        field(&format!("pod/{}", self.name), &self.namespace, path)
    }

    /// The process of its container, if it runs.
    pub fn process(&self) -> Option<Process> {
        let id = self.field("{.status.containerStatuses[0].containerID}");
        let id = id.strip_prefix("containerd://")?;
        let tasks = "containerd/state/io.containerd.runtime.v2.task/k8s.io";
        let file = state()?.join(tasks).join(id).join("init.pid");
        let pid = std::fs::read_to_string(file).ok()?;
        Pid::from_raw(pid.trim().parse().ok()?).map(Process)
    }

    /// Signals its process; false when it does not run.
    pub fn signal(&self, signal: Signal) -> bool {
        self.process().is_some_and(|process| process.signal(signal))
    }

    pub fn volumes(&self) -> PathBuf {
        let pods = state().unwrap().join("kubelet/pods");
        pods.join(self.field("{.metadata.uid}")).join("volumes")
    }

    /// An emptyDir of it, on the node.
    pub fn empty_dir(&self, volume: &str) -> PathBuf {
        self.volumes().join("kubernetes.io~empty-dir").join(volume)
    }
}

/// `kill -9` for all processes of a component; how many there were.
pub fn kill(namespace: &str, component: &str) -> usize {
    signal(&pods(namespace, component), Signal::KILL)
}

/// Signals the processes of pods; how many there were.
pub fn signal(pods: &[Pod], signal: Signal) -> usize {
    pods.iter().filter(|pod| pod.signal(signal)).count()
}

/// `kill -9` for NATS, whose store is gone when it comes back.
pub fn kill_nats_and_its_store(namespace: &str) {
    for pod in pods(namespace, "nats") {
        // Stopped first: it must not write while its files go, nor be started again before they are gone.
        pod.signal(Signal::STOP);
        let store = pod.empty_dir("data");
        for entry in std::fs::read_dir(&store).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => std::fs::remove_dir_all(path).unwrap(),
                false => std::fs::remove_file(path).unwrap(),
            }
        }
        pod.signal(Signal::KILL);
    }
}

/// `kill -9` for the API server, which is started again as it was.
pub fn restart_api_server() {
    let state = state().unwrap();
    let file = state.join("api.pid");
    let old = std::fs::read_to_string(&file).unwrap();
    let old = Pid::from_raw(old.trim().parse().unwrap()).unwrap();
    kill_process(old, Signal::KILL).unwrap();
    until("its port is free", || {
        TcpListener::bind("0.0.0.0:6443").is_ok()
    });
    let log = std::fs::File::options()
        .append(true)
        .open(state.join("api.log"))
        .unwrap();
    let mut again = Command::new("setsid")
        .args(["nice", "-n", "10", "bash", "api.sh"])
        .current_dir(&state)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    std::fs::write(file, format!("{}\n", again.id())).unwrap();
    std::thread::spawn(move || again.wait());
}
