//! Revisions, servers and requests for the tests.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use loci_digest::Digest;
use loci_index::{
    Delta, Document, DocumentKey, Fusion, Identity, IndexedDocument, Passage, assemble,
};
use loci_models::{DeviceRequest, Encoder, Role};
use loci_recall::{Auth, LoadRequest, Recall, RecallError, RecallOptions, serve};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const PIPELINE: &str = "agents/support";

/// Topic, and what its document says.
pub const TEXTS: [(&str, &str); 6] = [
    (
        "refunds",
        "Refunds are paid to the original card within five working days.",
    ),
    (
        "shipping",
        "Parcels leave the warehouse every weekday at noon.",
    ),
    (
        "passwords",
        "A forgotten password is reset from the link on the sign-in page.",
    ),
    (
        "penguins",
        "Penguins are birds of the southern seas that cannot fly.",
    ),
    (
        "bread",
        "Knead the dough for ten minutes and let it rise overnight.",
    ),
    (
        "volcanoes",
        "Basalt lava flows faster than a person can walk.",
    ),
];

pub fn encoder() -> Arc<Encoder> {
    static ENCODER: OnceLock<Arc<Encoder>> = OnceLock::new();
    let load = || {
        let dir = std::env::var_os("LOCI_TEST_MODEL").expect(
            "LOCI_TEST_MODEL is not set: it names a directory of all-MiniLM-L6-v2; run `make test`",
        );
        Arc::new(
            Encoder::load(Path::new(&dir), DeviceRequest::Cpu)
                .expect("the model of LOCI_TEST_MODEL loads"),
        )
    };
    ENCODER.get_or_init(load).clone()
}

pub fn identity() -> Identity {
    Identity {
        embedder: encoder().identity().digest(),
        chunker: Digest::of("a test's chunker"),
        dimensions: encoder().dimensions(),
        rerank: None,
    }
}

fn document(topic: &str, text: &str, release: &str) -> Document {
    let passage = Passage {
        ordinal: 0,
        text: format!("{text} ({release})"),
        span: 3..3 + text.len() as u64,
        headings: vec![topic.to_owned()],
    };
    Document {
        key: DocumentKey::new("handbook", format!("{topic}.md")),
        uri: format!("https://handbook.example/{topic}"),
        version: release.to_owned(),
        memory: "factual".to_owned(),
        title: Some("Handbook".to_owned()),
        metadata: [("topic".to_owned(), vec![topic.into()])].into(),
        passages: vec![passage],
    }
}

/// Writes a revision whose every document carries the release's name, in its text and as its
/// version. `vectors` may falsify the vectors.
pub fn write_revision(dir: &Path, release: &str, vectors: impl Fn(Vec<f32>) -> Vec<f32>) {
    write_texts(dir, release, &TEXTS, vectors);
}

/// The same of other topics and texts.
pub fn write_texts(
    dir: &Path,
    release: &str,
    texts: &[(&str, &str)],
    vectors: impl Fn(Vec<f32>) -> Vec<f32>,
) {
    let indexed = |(topic, text): &(&str, &str)| {
        let document = document(topic, text, release);
        let text = document.passages[0].embedding_text(document.title.as_deref());
        let embedded = encoder()
            .embed(&[&text], Role::Passage, &mut |_| ControlFlow::Continue(()))
            .unwrap();
        IndexedDocument {
            document,
            vectors: vectors(embedded.vectors),
        }
    };
    let delta = Delta {
        remove: vec![],
        upsert: texts.iter().map(indexed).collect(),
    };
    let fusion = Fusion::default();
    assemble(None, delta, &identity(), fusion, dir, &mut |_| {
        ControlFlow::Continue(())
    })
    .unwrap();
}

/// Makes a directory with the same files.
pub fn link(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::hard_link(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

pub fn load_request(release: &str, directory: PathBuf) -> LoadRequest {
    LoadRequest {
        pipeline: PIPELINE.to_owned(),
        release: release.to_owned(),
        directory,
        encoder: encoder(),
        cross_encoder: None,
        decoder: None,
        adapters: BTreeMap::new(),
        service: None,
        latency_budget: None,
    }
}

pub struct Server {
    pub recall: Recall,
    pub address: SocketAddr,
    pub client: Client,
    pub shutdown: CancellationToken,
    pub serving: JoinHandle<Result<(), RecallError>>,
    pub dir: TempDir,
}

pub fn options() -> RecallOptions {
    RecallOptions {
        expect: vec![PIPELINE.to_owned()],
        drain_timeout: Duration::from_secs(60),
        ..RecallOptions::default()
    }
}

impl Server {
    /// A server without a release.
    pub async fn empty(options: RecallOptions, auth: Auth) -> Self {
        let recall = Recall::new(options).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = tokio::spawn(serve(listener, recall.clone(), auth, shutdown.clone()));
        let client = Client::builder()
            .timeout(Duration::from_secs(120))
            .build()
            .unwrap();
        Self {
            recall,
            address,
            client,
            shutdown,
            serving,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A server that serves release `one`.
    pub async fn start(options: RecallOptions) -> Self {
        let server = Self::empty(options, Auth::Off).await;
        server.release("one").await;
        server
    }

    /// Builds a release and switches to it.
    pub async fn release(&self, release: &str) {
        let directory = self.dir.path().join(release);
        write_revision(&directory, release, |vectors| vectors);
        let prepared = self
            .recall
            .prepare(load_request(release, directory))
            .await
            .unwrap();
        self.recall.switch(prepared);
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub async fn get(&self, path: &str) -> Response {
        self.client.get(self.url(path)).send().await.unwrap()
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        self.client
            .post(self.url(path))
            .json(body)
            .send()
            .await
            .unwrap()
    }

    /// Asks and expects an answer.
    pub async fn ask(&self, body: Value) -> Value {
        let response = self.post("/v1/retrieve", &body).await;
        let release = response
            .headers()
            .get("loci-release")
            .map(|release| release.to_str().unwrap().to_owned());
        let status = response.status();
        let answer: Value = response.json().await.unwrap();
        assert_eq!(status, StatusCode::OK, "{answer}");
        assert_eq!(answer["release"].as_str(), release.as_deref());
        answer
    }

    /// The value of a metric, by its name and labels as they are written; 0 when absent.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").await.text().await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }

    /// Starts `count` slow queries and waits until they are being answered.
    pub async fn occupy(&self, count: usize) -> Vec<JoinHandle<Result<Response, reqwest::Error>>> {
        let query = "How are refunds paid to the original card? ".repeat(100);
        let request = self
            .client
            .post(self.url("/v1/retrieve"))
            .json(&json!({"query": query}));
        let start = |_| tokio::spawn(request.try_clone().unwrap().send());
        let queries = (0..count).map(start).collect();
        // The request for metrics is in flight itself.
        while self.metric("loci_http_requests_in_flight").await < count as f64 / 2.0 {}
        queries
    }
}
