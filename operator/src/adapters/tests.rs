//! Adapters out of a real artefact endpoint into a vLLM that is none: `fake`. `real` has one.

use std::fs;
use std::sync::atomic::Ordering;

use loci_worker::step::ADAPTER;
use reqwest::Client as Http;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::DropGuard;

use super::fake::{Shared, router};
use super::made::{WEIGHTS, files, manifest, name, release};
use super::*;
use crate::artifacts::Artifacts;
use crate::fleet::Report;

/// An operator's endpoint over a store, a vLLM, and an agent beside it.
struct Bed {
    engine: Shared,
    vllm: Url,
    store: Store,
    artifacts: Artifacts,
    goals: watch::Sender<Goal>,
    shown: Shown,
    agent: JoinHandle<()>,
    drain: Duration,
    dir: tempfile::TempDir,
    operator: Option<DropGuard>,
    _vllm: DropGuard,
}

impl Bed {
    async fn new(drain: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("operator");
        let store = Store::open_local(&place).await.unwrap();
        let (listener, url) = listen().await;
        let at = place.as_path().into();
        let artifacts = Artifacts::new(store.clone(), &at, url).await.unwrap();
        let operator = CancellationToken::new();
        tokio::spawn(artifacts.clone().serve(listener, operator.clone()));
        let engine = Shared::default();
        let (listener, vllm) = listen().await;
        let stop = CancellationToken::new();
        let served = axum::serve(listener, router(&engine))
            .with_graceful_shutdown(stop.clone().cancelled_owned());
        tokio::spawn(async move { served.await });
        let mut bed = Self {
            engine,
            vllm,
            store,
            artifacts,
            goals: watch::channel(Goal::default()).0,
            shown: Shown::default(),
            agent: tokio::spawn(async {}),
            drain,
            dir,
            operator: Some(operator.drop_guard()),
            _vllm: stop.drop_guard(),
        };
        bed.restart(Goal::default()).await;
        bed
    }

    /// Starts the agent anew.
    async fn restart(&mut self, goal: Goal) {
        self.agent.abort();
        let (goals, watched) = watch::channel(goal);
        self.goals = goals;
        self.shown = Shown::default();
        let terms = AdapterTerms {
            max_rank: Some(16),
            tolerance: 0.01,
            drain: self.drain,
        };
        let vllm = Vllm::new(self.vllm.clone()).unwrap();
        let state = self.dir.path().join("agent");
        let agent = Agent::new(vllm, state, terms, self.shown.clone(), watched).await;
        let mut agent = agent.unwrap();
        agent.look = Duration::from_millis(20);
        self.agent = tokio::spawn(agent.run());
    }

    /// Puts an adapter into the store: by its files `weights`, and recorded of it `recorded`.
    async fn put(&self, weights: &str, recorded: &str) -> WantedAdapter {
        let mut adapter = manifest(weights);
        adapter.probes = manifest(recorded).probes;
        for (_, text) in files(weights) {
            self.store.put(text.into()).await.unwrap();
        }
        let digests: Vec<Digest> = adapter.tree.values().map(|file| file.digest).collect();
        let put = self.store.put_manifest(ADAPTER, &digests, &adapter).await;
        let manifest = put.unwrap();
        let (url, key) = self.artifacts.of_adapter(&manifest);
        WantedAdapter {
            manifest,
            adapter: adapter.content,
            url,
            key,
        }
    }

    fn want(&self, desired: Option<&str>, releases: &[(&str, &WantedAdapter)]) {
        let named = |(name, adapter): &(&str, &WantedAdapter)| {
            ((*name).to_owned(), release((*adapter).clone()))
        };
        self.goals.send_replace(Goal {
            desired: desired.map(str::to_owned),
            releases: releases.iter().map(named).collect(),
        });
    }

    /// What the status port says, once it is as it should be.
    async fn until(&self, what: &str, fits: impl Fn(&Report) -> bool) -> Report {
        let shown = async {
            loop {
                let report = self.shown.report();
                if fits(&report) {
                    return report;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let shown = tokio::time::timeout(Duration::from_secs(60), shown).await;
        shown.unwrap_or_else(|_| panic!("{what} does not come: {:?}", self.shown.report()))
    }

    async fn serves(&self, release: &str) {
        self.until(release, |r| r.serving.as_deref() == Some(release))
            .await;
    }

    fn loaded(&self) -> Vec<String> {
        self.engine.loaded.lock().unwrap().keys().cloned().collect()
    }

    fn loads(&self) -> usize {
        self.engine.loads.load(Ordering::SeqCst)
    }

    /// How many adapters are unpacked.
    fn unpacked(&self) -> usize {
        let adapters = self.dir.path().join("agent/adapters");
        fs::read_dir(adapters).unwrap().count()
    }
}

/// Waits until it is so.
async fn eventually(what: &str, so: impl Fn() -> bool) {
    let mut left = 12_000;
    while !so() {
        left -= 1;
        assert!(left > 0, "{what} does not come");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn listen() -> (TcpListener, Url) {
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_loaded_by_name_and_digest_and_unloaded_after_their_chats() {
    let bed = Bed::new(Duration::from_millis(300)).await;
    let (one, two) = (bed.put("-0.5", "-0.5").await, bed.put("-0.7", "-0.7").await);
    bed.want(Some("r-1"), &[("r-1", &one)]);
    bed.serves("r-1").await;
    assert_eq!(bed.loaded(), [name("-0.5")]);
    bed.want(Some("r-1"), &[("r-1", &one), ("r-2", &two)]);
    bed.until("r-2", |r| r.prepared.contains("r-2")).await;
    assert_eq!(bed.loaded().len(), 2);
    bed.want(Some("r-2"), &[("r-1", &one), ("r-2", &two)]);
    bed.serves("r-2").await;
    let since = Instant::now();
    bed.want(Some("r-2"), &[("r-2", &two)]);
    let alone = || bed.loaded().len() == 1 && bed.unpacked() == 1;
    eventually("its end", alone).await;
    assert!(since.elapsed() >= Duration::from_millis(300));
    assert_eq!(bed.loaded(), [name("-0.7")]);
    assert_eq!(bed.loads(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_that_is_not_what_it_should_be_does_not_stay() {
    let bed = Bed::new(Duration::from_secs(600)).await;
    let good = bed.put("-0.5", "-0.5").await;
    // It says something else than what was recorded.
    let other = bed.put("-0.7", "-0.6").await;
    bed.want(Some("good"), &[("good", &good), ("other", &other)]);
    let report = bed
        .until("other", |r| r.failures.contains_key("other"))
        .await;
    let why = &report.failures["other"];
    assert!(
        why.starts_with(&name("-0.7")) && why.contains("0.1000 nats"),
        "{why}"
    );
    bed.serves("good").await;
    assert_eq!(bed.loaded(), [name("-0.5")]);

    // It is not the one that the release names: it is never loaded.
    let loads = bed.loads();
    let mut wrong = bed.put("-0.8", "-0.8").await;
    wrong.adapter = good.adapter;
    bed.want(None, &[("wrong", &wrong)]);
    let report = bed
        .until("wrong", |r| r.failures.contains_key("wrong"))
        .await;
    assert!(report.failures["wrong"].contains("the release names"));
    // Its key is another's, and its manifest none.
    let mut locked = bed.put("-0.9", "-0.9").await;
    locked.key.clone_from(&good.key);
    let mut absent = bed.put("-1.0", "-1.0").await;
    (absent.url, absent.key) = (good.url.clone(), good.key.clone());
    bed.want(None, &[("locked", &locked), ("absent", &absent)]);
    let report = bed.until("both", |r| r.failures.len() == 2).await;
    assert!(report.failures["locked"].contains("403"), "{report:?}");
    assert!(
        report.failures["absent"].contains("something else"),
        "{report:?}"
    );
    assert_eq!(bed.loads(), loads);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_vllm_loses_is_loaded_again() {
    let bed = Bed::new(Duration::from_secs(600)).await;
    let one = bed.put("-0.5", "-0.5").await;
    bed.want(Some("r-1"), &[("r-1", &one)]);
    bed.serves("r-1").await;
    bed.engine.away.store(true, Ordering::SeqCst);
    let report = bed.until("absence", |r| r.serving.is_none()).await;
    assert_eq!(report, Report::default(), "nothing has failed");
    bed.engine.loaded.lock().unwrap().clear();
    bed.engine.away.store(false, Ordering::SeqCst);
    bed.serves("r-1").await;
    assert_eq!((bed.loaded().len(), bed.loads()), (1, 2));
    // Somebody has loaded another one by this name.
    let path = bed.dir.path().join("theirs");
    fs::create_dir(&path).unwrap();
    fs::write(path.join(WEIGHTS), "-2").unwrap();
    let theirs = path.display().to_string();
    let replaced = bed
        .engine
        .loaded
        .lock()
        .unwrap()
        .insert(name("-0.5"), theirs);
    let back = || bed.engine.loaded.lock().unwrap().get(&name("-0.5")) == replaced.as_ref();
    eventually("ours", back).await;
    bed.serves("r-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_starts_anew_takes_over_what_is_loaded() {
    let mut bed = Bed::new(Duration::from_millis(50)).await;
    let (one, two) = (bed.put("-0.5", "-0.5").await, bed.put("-0.7", "-0.7").await);
    bed.want(Some("r-1"), &[("r-1", &one), ("r-2", &two)]);
    bed.serves("r-1").await;
    bed.until("r-2", |r| r.prepared.contains("r-2")).await;
    // The operator is away, and so is the API server at first.
    bed.operator.take();
    bed.restart(Goal::default()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((bed.loaded().len(), bed.unpacked()), (2, 2));
    bed.want(Some("r-1"), &[("r-1", &one)]);
    bed.serves("r-1").await;
    eventually("its end", || bed.loaded().len() == 1).await;
    assert_eq!((bed.loaded(), bed.loads()), (vec![name("-0.5")], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_port_says_whether_chats_may_come() {
    let bed = Bed::new(Duration::from_secs(600)).await;
    let (listener, url) = listen().await;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(status::serve(listener, bed.shown.clone(), stop));
    let http = Http::new();
    let get = async |path: &str| {
        let answer = http.get(url.join(path).unwrap()).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    assert_eq!(get("/healthz").await.0, 200);
    assert_eq!(get("/readyz").await.0, 503);
    let (good, bad) = (bed.put("-0.5", "-0.5").await, bed.put("-0.7", "-0.6").await);
    bed.want(Some("bad"), &[("bad", &bad)]);
    bed.until("bad", |r| r.failures.contains_key("bad")).await;
    let (code, told) = get("/readyz").await;
    assert!(code == 503 && told.contains("nats a token"), "{told}");
    bed.want(Some("good"), &[("good", &good)]);
    bed.serves("good").await;
    assert_eq!(get("/readyz").await.0, 200);
    let report: Report = serde_json::from_str(&get("/status").await.1).unwrap();
    assert_eq!(report.serving.as_deref(), Some("good"));
}

#[tokio::test(flavor = "multi_thread")]
async fn adapters_are_given_out_to_who_has_their_key() {
    let bed = Bed::new(Duration::from_secs(600)).await;
    let (one, two) = (bed.put("-0.5", "-0.5").await, bed.put("-0.7", "-0.7").await);
    let file = |value: &str| Digest::of(value);
    for (url, key, code) in [
        (one.url.clone(), &one.key, 200),
        (format!("{}/files/{}", one.url, file("-0.5")), &one.key, 200),
        (format!("{}/files/{}", one.url, file("-0.7")), &one.key, 404),
        (two.url.clone(), &one.key, 403),
        (format!("{}/files/{}", two.url, file("-0.7")), &one.key, 403),
    ] {
        let answer = Http::new().get(&url).bearer_auth(key).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), code, "{url}");
    }
    let fresh = bed.put("-0.9", "-0.9").await;
    let as_revision = fresh.url.replace("/adapters/", "/revisions/");
    let answer = Http::new().get(as_revision).bearer_auth(&fresh.key);
    assert_eq!(answer.send().await.unwrap().status(), 404);
}
