use loci_push::{Condition, Refused};
use loci_recall::NewDocument;
use loci_worker::document::Media;
use serde_json::json;

use super::*;

fn pipeline() -> Pipeline {
    let source = |name: &str, memory: &str| json!({"name": name, "memory": memory, "push": {"maxPending": 2}});
    let resource = serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline",
        "metadata": {"name": "shop", "namespace": "agents"},
        "spec": {
            "embedder": {"model": "hf://org/model@main"},
            "sources": [
                source("notes", "factual"),
                {"name": "docs", "memory": "factual", "configMap": {"name": "docs"}},
            ],
        },
    }));
    Pipeline::from_resource(&resource.unwrap()).unwrap()
}

fn put(id: &str, media_type: &str, content: &str) -> DocumentChange {
    DocumentChange {
        id: id.to_owned(),
        put: Some(NewDocument {
            content: content.to_owned().into(),
            media_type: Some(media_type.to_owned()),
            uri: None,
            metadata: BTreeMap::new(),
        }),
        condition: Condition::Always,
    }
}

#[tokio::test]
async fn what_could_not_be_indexed_is_refused_and_not_stored() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_local(dir.path()).await.unwrap();
    let pipeline = pipeline();
    let logs = open_logs(&store, &pipeline).await.unwrap();
    let pushed = Pushed::new(store.clone(), Parsers::own().unwrap(), [(&pipeline, &logs)]);
    let sources = pushed.sources();
    assert_eq!(sources.len(), 1);
    let to = &sources[0];
    let changes = vec![
        put("a", "image/png", "x"),
        put("b", "text/plain", " \n"),
        put("c.jsonl", "application/x-ndjson", "{\"text\": 7}\n"),
        put("d", "text/plain", "good"),
        put("e.md", "", "# Good"),
        put("f", "text/plain", "one too many"),
        DocumentChange {
            put: None,
            ..put("absent", "", "")
        },
    ];
    let answers = pushed.write(to, changes).await.unwrap();
    assert!(
        matches!(&answers[0], Err(Refusal::MediaType(m)) if m.contains("as image/png")),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[1], Err(Refusal::Unreadable(m)) if m.contains("no text")),
        "{answers:?}"
    );
    assert!(
        matches!(&answers[2], Err(Refusal::Unreadable(m)) if m.contains("line 1")),
        "{answers:?}"
    );
    assert!(answers[3].as_ref().unwrap().changed() && answers[4].as_ref().unwrap().changed());
    let limit = 2;
    let backlog = Refused::Backlog { pending: 2, limit };
    assert_eq!(answers[5], Err(Refusal::Log(backlog)));
    assert!(!answers[6].as_ref().unwrap().changed());
    for (content, stored) in [("good", true), ("one too many", false)] {
        let digest = Digest::of(content);
        assert_eq!(store.contains(&digest).await.unwrap(), stored, "{content}");
    }
    let summary = pushed.summary(to).await.unwrap();
    assert_eq!((summary.documents, summary.pending), (2, 2));
    let standing = pushed.document(to, "d").await.unwrap();
    assert!(standing.version.is_some() && standing.release.is_none());
}

#[test]
fn examples_are_not_read_as_documents() {
    let example = b"{\"messages\": []}";
    let read = |memory| check::readable(memory, Media::Jsonl, "a.jsonl", example);
    assert!(read(MemoryClass::Factual).is_err());
    assert!(read(MemoryClass::Procedural).is_ok());
    let broken = check::readable(MemoryClass::Procedural, Media::Jsonl, "a", b"\xff");
    assert!(broken.unwrap_err().contains("byte 0"));
}
