//! Documents: what is replaced.

use loci_store::Version;
use serde_json::{Value, json};

use super::*;

both!(
    of_writers_that_have_read_the_same_one_wins,
    among_many_writers_no_write_is_lost,
    what_a_document_names_is_kept_as_long_as_it_does,
    a_document_that_cannot_be_read_stops_the_collection_and_is_named,
);

const HOUR: Duration = Duration::from_secs(3600);

async fn read(store: &Store, name: &str) -> Option<(Value, Version)> {
    store.document(name).await.unwrap()
}

async fn of_writers_that_have_read_the_same_one_wins(bed: Bed) {
    let store = &bed.store;
    // As another process would.
    let other = bed.reopen().await;
    let name = "agents/support.v2";
    assert!(read(store, name).await.is_none());
    let first = store
        .put_document(name, &[], &json!(1), None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        other
            .put_document(name, &[], &json!(2), None)
            .await
            .unwrap(),
        None
    );
    let (body, version) = read(&other, name).await.unwrap();
    assert_eq!((body, &version), (json!(1), &first));
    let second = other
        .put_document(name, &[], &json!(3), Some(&version))
        .await
        .unwrap()
        .unwrap();
    assert_ne!(first, second);
    assert_eq!(
        store
            .put_document(name, &[], &json!(4), Some(&first))
            .await
            .unwrap(),
        None
    );
    assert!(!store.delete_document(name, &first).await.unwrap());
    assert_eq!(read(store, name).await, Some((json!(3), second.clone())));
    assert_eq!(store.documents().await.unwrap(), [name]);
    assert_eq!(store.documents_below("agents").await.unwrap(), [name]);
    for other in ["agent", "agents/support", "elsewhere"] {
        assert!(store.documents_below(other).await.unwrap().is_empty());
    }

    assert!(store.delete_document(name, &second).await.unwrap());
    assert!(!store.delete_document(name, &second).await.unwrap());
    assert_eq!(
        other
            .put_document(name, &[], &json!(5), Some(&second))
            .await
            .unwrap(),
        None
    );
    assert!(store.documents().await.unwrap().is_empty());
}

async fn among_many_writers_no_write_is_lost(bed: Bed) {
    let store = &bed.store;
    store.put_document("a/count", &[], &0, None).await.unwrap();
    let add = |store: Store| async move {
        for _ in 0..10 {
            loop {
                let (n, version) = store.document::<u32>("a/count").await.unwrap().unwrap();
                let next = n + 1;
                let put = store.put_document("a/count", &[], &next, Some(&version));
                if put.await.unwrap().is_some() {
                    break;
                }
            }
        }
    };
    let mut writers = Vec::new();
    for _ in 0..4 {
        let own = bed.reopen().await;
        writers.push(tokio::spawn(add(own)));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    assert_eq!(
        store.document::<u32>("a/count").await.unwrap().unwrap().0,
        40
    );
}

async fn what_a_document_names_is_kept_as_long_as_it_does(bed: Bed) {
    let store = &bed.store;
    let blob = store.put("kept".into()).await.unwrap();
    let manifest = store.put_manifest("m", &[blob], &0).await.unwrap();
    let gone = Digest::of("lost long ago");
    let refs = [manifest, gone];
    let version = store
        .put_document("a/b", &refs, &json!({}), None)
        .await
        .unwrap()
        .unwrap();
    let old = |area: &str, digest: &Digest| set_age(&bed.file(area, digest), 2 * HOUR);
    old("blobs", &blob);
    old("manifests", &manifest);
    let report = store.gc(&[], HOUR).await.unwrap();
    assert_eq!(
        (report.kept, report.swept, report.missing),
        (2, 0, vec![gone])
    );

    assert!(store.delete_document("a/b", &version).await.unwrap());
    let report = store.gc(&[], HOUR).await.unwrap();
    assert_eq!((report.kept, report.swept), (0, 2));
}

async fn a_document_that_cannot_be_read_stops_the_collection_and_is_named(bed: Bed) {
    let store = &bed.store;
    let blob = store.put("kept".into()).await.unwrap();
    set_age(&bed.file("blobs", &blob), 2 * HOUR);
    store
        .put_document("a/b", &[blob], &json!({}), None)
        .await
        .unwrap();
    fs::write(bed.root.join("documents/a/b.json"), "{").unwrap();
    let error = store.gc(&[], HOUR).await.unwrap_err().to_string();
    assert!(error.contains("documents/a/b.json"), "{error}");
    assert!(store.contains(&blob).await.unwrap());
}
