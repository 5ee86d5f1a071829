//! Manifests, records and trees.

use std::collections::HashSet;
use std::fs;

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{FileEntry, StoreError, Tree};
use serde_json::{Value, json};

use crate::{Bed, both, damage};

both!(
    a_manifest_is_read_as_what_it_is,
    the_first_record_wins,
    a_record_whose_output_lost_a_part_is_absent_and_can_be_made_anew,
    a_tree_comes_back_as_it_was,
    a_tree_with_a_damaged_blob_a_link_or_a_path_outside_is_refused,
);

async fn a_manifest_is_read_as_what_it_is(bed: Bed) {
    let store = &bed.store;
    let blob = store.put("blob".into()).await.unwrap();
    let inner = store.put_manifest("part", &[blob], &1).await.unwrap();
    let outer = store
        .put_manifest("whole", &[inner, blob], &json!({"title": "x"}))
        .await
        .unwrap();
    assert_eq!(
        store
            .put_manifest("whole", &[inner, blob], &json!({"title": "x"}))
            .await
            .unwrap(),
        outer
    );
    assert_eq!(
        store.get_manifest::<Value>("whole", &outer).await.unwrap(),
        json!({"title": "x"})
    );
    let on_disk: Value =
        serde_json::from_slice(&fs::read(bed.file("manifests", &outer)).unwrap()).unwrap();
    assert_eq!(
        on_disk,
        json!({"kind": "whole", "refs": [inner, blob], "body": {"title": "x"}})
    );

    let error = store
        .get_manifest::<Value>("part", &outer)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\"whole\"") && error.contains("\"part\""),
        "{error}"
    );
    let error = store
        .get_manifest::<Vec<u8>>("whole", &outer)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Manifest { .. }), "{error}");
    let error = store
        .put_manifest("whole", &[Digest::of("absent")], &0)
        .await
        .unwrap_err();
    assert!(
        matches!(error, StoreError::MissingReference { .. }),
        "{error}"
    );
    damage(&bed.file("manifests", &outer), b"{}");
    let error = store
        .get_manifest::<Value>("whole", &outer)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

async fn the_first_record_wins(bed: Bed) {
    let store = &bed.store;
    let key = Digest::of("key");
    assert_eq!(store.lookup(&key).await.unwrap(), None);
    assert!(store.record(&key, &Digest::of("absent")).await.is_err());
    let mut writers = Vec::new();
    for i in 0..12_u8 {
        let output = store.put(Bytes::from(vec![i])).await.unwrap();
        let store = store.clone();
        writers.push(tokio::spawn(async move {
            store.record(&key, &output).await.unwrap()
        }));
    }
    let mut winners = HashSet::new();
    for writer in writers {
        winners.insert(writer.await.unwrap());
    }
    assert_eq!(winners.len(), 1);
    assert_eq!(
        store.lookup(&key).await.unwrap(),
        winners.into_iter().next()
    );
}

async fn a_record_whose_output_lost_a_part_is_absent_and_can_be_made_anew(bed: Bed) {
    let store = &bed.store;
    let key = Digest::of("key");
    let part = store.put("part".into()).await.unwrap();
    let inner = store.put_manifest("inner", &[part], &0).await.unwrap();
    let output = store.put_manifest("outer", &[inner], &0).await.unwrap();
    store.record(&key, &output).await.unwrap();

    fs::remove_file(bed.file("blobs", &part)).unwrap();
    assert_eq!(store.lookup(&key).await.unwrap(), None, "a part is gone");
    store.put("part".into()).await.unwrap();
    assert_eq!(store.lookup(&key).await.unwrap(), Some(output));

    damage(&bed.file("blobs", &part), b"tarp");
    assert_eq!(
        store.lookup(&key).await.unwrap(),
        Some(output),
        "nobody read it yet"
    );
    store.get(&part).await.unwrap_err();
    assert_eq!(store.lookup(&key).await.unwrap(), None, "a part is damaged");

    let other = store.put("another output".into()).await.unwrap();
    assert_eq!(
        store.record(&key, &other).await.unwrap(),
        other,
        "the first output is of no use"
    );
    assert_eq!(store.lookup(&key).await.unwrap(), Some(other));

    damage(&bed.file("records", &key), b"{\"key\":");
    assert_eq!(store.lookup(&key).await.unwrap(), None);
    assert_eq!(store.record(&key, &output).await.unwrap(), output);
}

async fn a_tree_comes_back_as_it_was(bed: Bed) {
    let store = &bed.store;
    let source = bed.dir.path().join("source");
    fs::create_dir_all(source.join("text/segments")).unwrap();
    fs::write(source.join("revision.json"), "{}").unwrap();
    fs::write(source.join("text/segments/0.idx"), vec![1; 70_000]).unwrap();
    let tree = store.put_tree(&source, &Tree::new()).await.unwrap();
    assert_eq!(
        tree.keys().collect::<Vec<_>>(),
        ["revision.json", "text/segments/0.idx"]
    );
    assert_eq!(
        tree["revision.json"],
        FileEntry {
            digest: Digest::of("{}"),
            size: 2
        }
    );

    let target = bed.dir.path().join("revisions/1");
    store.materialise_tree(&tree, &target).await.unwrap();
    store.materialise_tree(&tree, &target).await.unwrap();
    assert_eq!(
        fs::read(target.join("text/segments/0.idx")).unwrap(),
        vec![1; 70_000]
    );
    assert_eq!(store.put_tree(&target, &Tree::new()).await.unwrap(), tree);
    assert_eq!(
        fs::read_dir(bed.dir.path().join("revisions"))
            .unwrap()
            .count(),
        1
    );

    // Large files that are known are not read again; small ones are, whatever their size says.
    fs::write(source.join("text/segments/0.idx"), vec![2; 70_000]).unwrap();
    fs::write(source.join("revision.json"), "[]").unwrap();
    let again = store.put_tree(&source, &tree).await.unwrap();
    assert_eq!(again["text/segments/0.idx"], tree["text/segments/0.idx"]);
    assert_eq!(again["revision.json"].digest, Digest::of("[]"));
    // Unless the store lost them.
    fs::remove_file(bed.file("blobs", &tree["text/segments/0.idx"].digest)).unwrap();
    let again = store.put_tree(&source, &tree).await.unwrap();
    assert_eq!(
        again["text/segments/0.idx"].digest,
        Digest::of(vec![2; 70_000])
    );
}

async fn a_tree_with_a_damaged_blob_a_link_or_a_path_outside_is_refused(bed: Bed) {
    let store = &bed.store;
    let (source, target) = (
        bed.dir.path().join("source"),
        bed.dir.path().join("targets/t"),
    );
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("a"), "a").unwrap();
    fs::write(source.join("b"), "b").unwrap();
    let tree = store.put_tree(&source, &Tree::new()).await.unwrap();
    damage(&bed.file("blobs", &tree["b"].digest), b"c");
    let error = store.materialise_tree(&tree, &target).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(
        fs::read_dir(bed.dir.path().join("targets"))
            .unwrap()
            .count(),
        0,
        "all or nothing"
    );

    let outside: Tree = [("../b".to_owned(), tree["a"])].into();
    let error = store
        .materialise_tree(&outside, &target)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("\"../b\""), "{error}");
    assert!(!bed.dir.path().join("targets/b").exists());

    std::os::unix::fs::symlink("/etc/passwd", source.join("link")).unwrap();
    let error = store
        .put_tree(&source, &Tree::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("link is not a regular file"), "{error}");
}
