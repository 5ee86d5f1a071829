//! A secret that a source needs, and everywhere that it must not come to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use serde_json::{Value, json};

use crate::cluster::{AGENTS, NODE, SYSTEM, kubectl, state, try_kubectl, wait_ready};
use crate::load::ask;
use crate::node::{Pod, pods};
use crate::story::{Story, blocking, pipeline};

/// Such as is nowhere else, in the forms that it could be found in.
const SECRET: &str = "pl4nted-9f1c6d0e7b-s3cret";

/// What it opens.
const PAGE: &str = "A parcel is sent back by the back door.";

/// Gives a page to who knows the secret.
async fn serve() -> String {
    let page = async |headers: HeaderMap| {
        let sent = headers.get("authorization").and_then(|v| v.to_str().ok());
        match sent == Some(&format!("Bearer {SECRET}")) {
            true => Ok(PAGE),
            false => Err(StatusCode::UNAUTHORIZED),
        }
    };
    let router = Router::new().route("/returns.txt", get(page));
    let listener = tokio::net::TcpListener::bind((NODE, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    format!("http://{address}/returns.txt")
}

pub async fn a_planted_secret_is_found_nowhere(story: Arc<Story>) {
    let page = serve().await;
    let metadata = json!({"name": "door", "namespace": AGENTS});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"token": SECRET}});
    let source = json!({
        "name": "door", "memory": "factual",
        "http": {"urls": [page], "allowPrivate": true, "secretRef": {"name": "door"}},
    });
    let mut objects = pipeline(AGENTS, "private", source);
    objects[1]["spec"]["suites"] = json!([]);
    objects[1]["spec"]["gates"] = json!([]);
    objects[0] = secret;
    blocking(|| {
        // Server-side: what is applied is in no annotation.
        let file = tempfile::NamedTempFile::new().unwrap();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        std::fs::write(file.path(), list.to_string()).unwrap();
        kubectl(&[
            "apply",
            "--server-side",
            "-f",
            file.path().to_str().unwrap(),
        ]);
        wait_ready(AGENTS, "private");
    });
    let (url, mut answer) = (story.url(AGENTS, "private"), Value::Null);
    // The Service reaches its pods a moment after they are ready.
    story
        .until("it answers", async || {
            answer = ask(&story.asking, &url).await.unwrap_or_default();
            !answer.is_null()
        })
        .await;
    let citation = &answer["passages"][0]["citation"];
    assert_eq!(citation["source"], "door", "{answer}");

    // A wrong one is told of without being told.
    let wrong = json!({"stringData": {"token": format!("{SECRET}-wrong")}}).to_string();
    blocking(|| {
        kubectl(&["-n", AGENTS, "patch", "secret", "door", "--patch", &wrong]);
        kubectl(&[
            "-n",
            AGENTS,
            "annotate",
            "memorypipeline/private",
            "loci.dev/refresh=wrong",
        ]);
    });
    story
        .until("the run by the wrong secret has ended", async || {
            let (runs, _) = story.made(AGENTS).await;
            let asked = |r: &&serde_json::Value| {
                r["spec"]["request"]
                    .as_str()
                    .is_some_and(|r| r.contains("wrong"))
            };
            runs.iter()
                .filter(|r| r["spec"]["pipelineRef"]["name"] == "private")
                .find(asked)
                .is_some_and(|r| {
                    ["Succeeded", "Failed"]
                        .contains(&r["status"]["phase"].as_str().unwrap_or_default())
                })
        })
        .await;
    // Each search finds what surely is there.
    let mut known = [page.as_str(), "Server is ready", PAGE].map(Known::new);
    let found = blocking(|| {
        let [declared, said, fetched] = &mut known;
        [resources(declared), logs(said), files(fetched)].concat()
    });
    assert!(found.is_empty(), "{found:#?}");
    for Known { text, times } in known {
        assert!(times > 0, "{text} is not found either");
    }
    blocking(|| {
        kubectl(&[
            "-n",
            AGENTS,
            "delete",
            "memorypipeline/private",
            "secret/door",
            "--wait",
        ])
    });
}

fn forms() -> [Vec<u8>; 3] {
    // As in a Secret's data, up to the padding.
    let base64 = "cGw0bnRlZC05ZjFjNmQwZTdiLXMzY3Jl";
    let hex: String = SECRET.bytes().map(|b| format!("{b:02x}")).collect();
    [SECRET.into(), base64.into(), hex.into()]
}

/// What a search has to come across, or it does not search.
struct Known<'a> {
    text: &'a str,
    times: usize,
}

impl<'a> Known<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, times: 0 }
    }

    /// Whether the secret is in there; counts what is known.
    fn besides(&mut self, bytes: &[u8]) -> bool {
        let has = |form: &[u8]| bytes.windows(form.len()).any(|window| window == form);
        self.times += usize::from(has(self.text.as_bytes()));
        forms().iter().any(|form| has(form))
    }
}

/// Resources of every kind, but for the Secret itself.
fn resources(known: &mut Known) -> Vec<String> {
    let kinds = kubectl(&["api-resources", "--verbs=list", "-oname"]);
    let mut found = Vec::new();
    for kind in kinds.lines() {
        let all = kubectl(&["get", kind, "-A", "-oyaml", "--show-managed-fields"]);
        let documents = all.split("\n- apiVersion:");
        let others = documents.filter(|d| !(kind == "secrets" && d.contains("name: door\n")));
        found.extend(
            others
                .filter(|d| known.besides(d.as_bytes()))
                .map(|d| format!("{kind}: {d}")),
        );
    }
    found
}

/// The log of a pod's containers; none where there is nothing that could have one.
fn log(namespace: &str, pod: &str, previous: &str) -> Option<String> {
    let log = ["-n", namespace, "logs", pod, "--all-containers", previous];
    match try_kubectl(&log) {
        Ok(log) => Some(log),
        // It went meanwhile, has not begun, or was never started again.
        Err(why) if why.contains("not found") || why.contains("waiting to start") => None,
        Err(why) => panic!("the log of {namespace}/{pod}: {why}"),
    }
}

/// Logs of all containers, the ones before a restart too, and of the cluster's own programs.
fn logs(known: &mut Known) -> Vec<String> {
    let mut found = Vec::new();
    for line in kubectl(&["get", "pods", "-A", "--no-headers"]).lines() {
        let mut words = line.split_whitespace();
        let (Some(namespace), Some(pod)) = (words.next(), words.next()) else {
            continue;
        };
        for previous in ["--previous=false", "--previous=true"] {
            let log = log(namespace, pod, previous);
            if log.is_some_and(|log| known.besides(log.as_bytes())) {
                found.push(format!("the log of {namespace}/{pod}"));
            }
        }
    }
    let entries = std::fs::read_dir(state().unwrap()).unwrap();
    let logs = entries
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "log"));
    found.extend(
        logs.filter(|log| known.besides(&std::fs::read(log).unwrap()))
            .map(|log| log.display().to_string()),
    );
    found
}

/// Files of NATS, of the store, and of every other volume but those that Secrets are mounted from.
fn files(known: &mut Known) -> Vec<String> {
    let mut roots = vec![state().unwrap().join("volumes")];
    let everywhere = |(namespace, component)| pods(namespace, component);
    let of = [
        (SYSTEM, "nats"),
        (SYSTEM, "operator"),
        (SYSTEM, "worker"),
        (AGENTS, "recall"),
        (AGENTS, "fetcher"),
    ];
    let all: Vec<Pod> = of.into_iter().flat_map(everywhere).collect();
    assert!(all.len() >= 5, "{all:?}");
    roots.extend(all.iter().map(Pod::volumes));
    let mut found = Vec::new();
    let mut read = 0;
    for root in roots {
        search(&root, known, &mut read, &mut found);
    }
    println!("    {read} files searched");
    assert!(read > 20, "the volumes were found");
    found
}

fn search(dir: &Path, known: &mut Known, read: &mut usize, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path: PathBuf = entry.path();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && !path.ends_with("kubernetes.io~secret") {
            search(&path, known, read, found);
        } else if kind.is_file() {
            // A file may go meanwhile.
            let bytes = std::fs::read(&path).unwrap_or_default();
            *read += 1;
            if known.besides(&bytes) {
                found.push(path.display().to_string());
            }
        }
    }
}
