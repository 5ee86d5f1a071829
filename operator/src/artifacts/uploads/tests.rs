use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use loci_bus::{Dispatcher, Event, LocalBus, Outcome, Priority, WorkItem};
use loci_plan::spec::{Location, Paths, Source};
use loci_shell::FETCH;
use loci_store::Store;
use loci_worker::service;
use loci_worker::source::{ConfigMapSpec, SourceKind, SourceSpec};
use loci_worker::step::{Fetch, FetchContext, FetchItem, SourceInput, SourceProvider, StepOutput};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::bind;

/// An operator's endpoint over a store of its own.
struct Site {
    artifacts: Artifacts,
    store: Store,
    http: Client,
    stop: CancellationToken,
    _dir: tempfile::TempDir,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Site {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_local(dir.path()).await.unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let url = url.parse().unwrap();
        let at = dir.path().into();
        let artifacts = Artifacts::new(store.clone(), &at, url).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(artifacts.clone().serve(listener, stop.clone()));
        Self {
            artifacts,
            store,
            http: Client::new(),
            stop,
            _dir: dir,
        }
    }

    /// Asks at the place of `namespace` with the keys of `upload`.
    async fn ask(
        &self,
        (method, path): (Method, &str),
        namespace: &str,
        upload: &Upload,
        body: String,
    ) -> (StatusCode, Value) {
        let url = self.artifacts.upload(namespace, None).url;
        let mut request = self.http.request(method, format!("{url}/{path}"));
        request = request.bearer_auth(&upload.key).body(body);
        if let Some(key) = &upload.snapshot_key {
            request = request.header(SNAPSHOT_KEY, key);
        }
        let answer = request.send().await.unwrap();
        let code = answer.status();
        (code, answer.json().await.unwrap_or_default())
    }

    async fn put(&self, namespace: &str, content: &str) -> PutAnswer {
        let upload = self.artifacts.upload(namespace, None);
        let put = (Method::PUT, "blobs");
        let (code, answer) = self.ask(put, namespace, &upload, content.to_owned()).await;
        assert_eq!(code, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    }
}

fn snapshot_of(content: &Digest) -> Snapshot {
    let entry = json!({
        "document": "a.md", "uri": "a.md", "version": "1", "media": "markdown", "bytes": 1,
        "digest": content, "metadata": {},
    });
    let listing = json!({"documents": [entry], "state": {}, "skipped": []});
    let source = json!({"memory": "factual", "listing": listing, "error": null});
    serde_json::from_value(json!({"sources": {"docs": source}})).unwrap()
}

fn keep(namespace: &str, content: &Digest, receipt: Option<&str>) -> KeepRequest {
    KeepRequest {
        key: SnapshotKey {
            pipeline: format!("{namespace}/support"),
            run: "support-1".to_owned(),
            previous: None,
        },
        previous_key: None,
        snapshot: snapshot_of(content),
        receipts: receipt
            .map(|r| (*content, r.to_owned()))
            .into_iter()
            .collect(),
    }
}

const KEEP: (Method, &str) = (Method::POST, "snapshots");

#[tokio::test]
async fn a_namespace_names_and_reads_nothing_but_its_own() {
    let site = Site::new().await;
    let (ours, theirs) = (
        site.put("agents", "ours").await,
        site.put("others", "theirs").await,
    );
    let agents = site.artifacts.upload("agents", None);
    let body = |request: &KeepRequest| serde_json::to_string(request).unwrap();
    // Another's content, with no receipt and with the receipt that only the other has of it.
    for receipt in [None, Some(&*ours.receipt), Some(&*theirs.receipt)] {
        let stolen = keep("agents", &theirs.digest, receipt);
        let (code, _) = site.ask(KEEP, "agents", &agents, body(&stolen)).await;
        assert_eq!(code, 403);
    }
    // Another's pipeline, and another's place.
    let foreign = keep("others", &ours.digest, Some(&ours.receipt));
    for namespace in ["agents", "others"] {
        let (code, _) = site.ask(KEEP, namespace, &agents, body(&foreign)).await;
        assert_eq!(code, 403);
    }
    let own = keep("agents", &ours.digest, Some(&ours.receipt));
    let (code, kept) = site.ask(KEEP, "agents", &agents, body(&own)).await;
    assert_eq!(code, 200, "{kept}");
    let kept: KeptSnapshot = serde_json::from_value(kept).unwrap();
    let path = format!("snapshots/{}", kept.digest);
    let get = || (Method::GET, path.as_str());
    let with = |upload: &Upload, key: Option<&str>| Upload {
        snapshot_key: key.map(str::to_owned),
        ..upload.clone()
    };
    let others = site.artifacts.upload("others", None);
    let refused = [
        ("agents", with(&agents, None)),
        ("agents", with(&others, Some(&kept.key))),
        ("others", with(&others, Some(&kept.key))),
        ("others", with(&agents, Some(&kept.key))),
    ];
    for (namespace, upload) in refused {
        let (code, _) = site.ask(get(), namespace, &upload, String::new()).await;
        assert_eq!(code, 403, "{namespace}");
    }
    let (code, read) = site
        .ask(
            get(),
            "agents",
            &with(&agents, Some(&kept.key)),
            String::new(),
        )
        .await;
    assert_eq!(code, 200);
    assert_eq!(
        serde_json::from_value::<Snapshot>(read).unwrap(),
        own.snapshot
    );
    // The next snapshot names content of this one without a receipt, if it opens it.
    for (key, expected) in [(None, 403), (Some(kept.key.clone()), 200)] {
        let mut next = keep("agents", &ours.digest, None);
        next.key.previous = Some(kept.digest);
        next.previous_key = key;
        let (code, _) = site.ask(KEEP, "agents", &agents, body(&next)).await;
        assert_eq!(code, expected);
    }
}

/// Opens every source as a ConfigMap.
struct Maps(&'static str);

#[async_trait]
impl SourceProvider for Maps {
    async fn open(&self, _: &str, input: &SourceInput) -> Result<SourceSpec, StepError> {
        let map = ConfigMapSpec {
            name: "docs".to_owned(),
            data: [("a.md".to_owned(), self.0.to_owned())].into(),
            binary_data: Default::default(),
            include: Vec::new(),
        };
        Ok(SourceSpec {
            name: input.source.name.clone(),
            kind: SourceKind::ConfigMap(map),
            limits: Limits::default(),
        })
    }
}

/// What a fetcher without a store answers, whose source holds `text`.
async fn fetched(text: &'static str, id: &str, item: FetchItem) -> StepOutput {
    let bus = LocalBus::new();
    let mut events = bus.events().await.unwrap();
    let item = WorkItem {
        id: id.to_owned(),
        pipeline: "agents/support".to_owned(),
        run: "support-1".to_owned(),
        step: "snapshot".to_owned(),
        attempt: 1,
        fence: 0,
        priority: Priority::P1,
        class: FETCH.to_owned(),
        payload: serde_json::to_value(item).unwrap(),
        term: 0,
        traceparent: None,
    };
    bus.publish(item).await.unwrap();
    let context = FetchContext {
        sources: Arc::new(Maps(text)),
        store: None,
        http: Client::new(),
    };
    let stop = CancellationToken::new();
    let serving = service::serve(&bus, FETCH, &context, 1, stop.clone());
    let outcome = async {
        loop {
            if let Some(Event::Finished { outcome, .. }) = events.next().await {
                stop.cancel();
                return outcome;
            }
        }
    };
    let both = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(serving, outcome).1
    });
    match both.await.expect("an outcome within 20 s") {
        Outcome::Done { output } => serde_json::from_value(output).unwrap(),
        outcome => panic!("{outcome:?}"),
    }
}

fn source() -> SourceInput {
    SourceInput {
        field: "spec.sources[0]".to_owned(),
        source: Source {
            name: "docs".to_owned(),
            memory: loci_crds::source::MemoryClass::Factual,
            metadata: Default::default(),
            location: Location::ConfigMap {
                name: "docs".to_owned(),
                paths: Paths::default(),
            },
        },
    }
}

#[tokio::test]
async fn a_fetcher_hands_over_what_it_reads_and_tells_later_whether_it_has_changed() {
    let site = Site::new().await;
    let item = |fetch: Fetch| FetchItem {
        upload: Some(site.artifacts.upload("agents", fetch.snapshot().as_ref())),
        fetch,
    };
    let taken = |previous, run: &str| Fetch::Snapshot {
        run: run.to_owned(),
        previous,
        sources: vec![source()],
    };
    let first = fetched("# One", "a", item(taken(None, "support-1"))).await;
    let StepOutput::Snapshot(first) = first else {
        panic!("{first:?}");
    };
    let kept = Shelf::snapshot(&site.store, &first.snapshot)
        .await
        .unwrap()
        .unwrap();
    let content = *kept.contents().next().unwrap();
    assert_eq!(site.store.get(&content).await.unwrap(), "# One");
    for (text, changed) in [("# One", false), ("# Two", true)] {
        let look = Fetch::Probe {
            source: source(),
            basis: first.snapshot,
        };
        let StepOutput::Probe(look) = fetched(text, "b", item(look)).await else {
            panic!("no look");
        };
        assert_eq!(look.changed, changed, "{text}");
    }
    // Done again it is looked up, and compared with the one before.
    let again = fetched("# Two", "a", item(taken(None, "support-1"))).await;
    assert_eq!(again, StepOutput::Snapshot(first.clone()));
    let next = fetched("# One", "c", item(taken(Some(first.snapshot), "support-2"))).await;
    let StepOutput::Snapshot(next) = next else {
        panic!("{next:?}");
    };
    let docs = &next.sources["docs"];
    assert_eq!((docs.documents, docs.before, docs.removed), (1, 1, 0));
}
