use loci_push::{Bounds, Change, Condition, Document, PushLog};
use loci_store::Store;
use loci_worker::document::Media;
use loci_worker::source::{Probe, PushSpec, SourceKind, SourceSpec, probe};
use tempfile::TempDir;

use super::support::{Sink, documents, skipped, spec};

/// An empty log, in a directory that goes with it.
async fn log() -> (TempDir, PushLog) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_local(dir.path()).await.unwrap();
    let bounds = Bounds {
        documents: 100,
        pending: 100,
    };
    let log = PushLog::open(store, "agents/support", "docs", bounds).await;
    (dir, log.unwrap())
}

async fn put(log: &PushLog, id: &str, media_type: &str, text: &str, uri: Option<&str>) {
    let document = Document {
        content: log.put_content(text.to_owned().into()).await.unwrap(),
        bytes: text.len() as u64,
        media_type: media_type.to_owned(),
        uri: uri.map(str::to_owned),
        metadata: [("team".to_owned(), "blue".to_owned())].into(),
    };
    write(log, id, Some(document)).await;
}

async fn write(log: &PushLog, id: &str, to: Option<Document>) {
    let condition = Condition::Always;
    let id = id.to_owned();
    let written = log.write(vec![Change { id, to, condition }]).await.unwrap();
    assert!(written[0].as_ref().unwrap().changed());
}

fn source(log: &PushLog) -> SourceSpec {
    spec(SourceKind::Push(PushSpec { log: log.clone() }))
}

#[tokio::test]
async fn what_was_pushed_is_listed_as_of_one_commit() {
    let (_dir, log) = log().await;
    let (source, sink) = (source(&log), Sink::default());
    let empty = sink.snapshot(&source, None).await.unwrap();
    assert!(empty.documents.is_empty());
    let probed = async |state| probe(&source, Some(state)).await.unwrap();
    assert_eq!(probed(&empty.state).await, Probe::Unchanged);

    put(
        &log,
        "b/c",
        "text/markdown",
        "# B",
        Some("https://b.example/"),
    )
    .await;
    put(&log, "a.md", "text/plain", "A", None).await;
    put(&log, "old", "application/x-forgotten", "?", None).await;
    assert!(matches!(probed(&empty.state).await, Probe::Changed(_)));
    let listing = sink.snapshot(&source, Some(&empty)).await.unwrap();
    assert_eq!(documents(&listing), ["a.md", "b/c"]);
    assert!(skipped(&listing, "old").contains("application/x-forgotten"));
    assert_eq!(sink.taken(), ["# B", "A"]);
    let (a, b) = (&listing.documents[0], &listing.documents[1]);
    assert_eq!(
        (a.uri.as_str(), b.uri.as_str()),
        ("push:docs/a.md", "https://b.example/")
    );
    assert_eq!(b.media, Media::Markdown);
    assert_eq!(b.metadata["team"], "blue");
    let version = log.read().await.unwrap().version("b/c").unwrap();
    assert_eq!(b.version, version.to_string());

    // There and back again is no change, and nothing is fetched twice.
    put(&log, "new", "text/plain", "N", None).await;
    write(&log, "new", None).await;
    assert_eq!(probed(&listing.state).await, Probe::Unchanged);
    write(&log, "a.md", None).await;
    assert!(matches!(probed(&listing.state).await, Probe::Changed(_)));
    let less = sink.snapshot(&source, Some(&listing)).await.unwrap();
    assert_eq!(documents(&less), ["b/c"]);
    assert!(sink.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_of_pushes_is_told_once() {
    let (_dir, log) = log().await;
    let mut watch = PushSpec { log: log.clone() }.watch();
    for i in 0..5 {
        put(&log, &format!("{i}"), "text/plain", "x", None).await;
    }
    assert!(watch.changed().await);
    let quiet = std::time::Duration::from_millis(500);
    let second = tokio::time::timeout(quiet, watch.changed()).await;
    assert!(second.is_err(), "told twice");
    put(&log, "5", "text/plain", "x", None).await;
    assert!(watch.changed().await);
}
