use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{Store, StoreError, Usage};

use crate::{Bed, all_files, both, damage};

both!(
    the_same_content_is_stored_once_and_survives_reopening,
    many_writers_of_one_blob_agree,
    a_damaged_blob_is_named_and_storing_it_again_heals_it,
    a_truncated_blob_is_healed_without_having_been_read,
    materialised_files_are_read_only_links_or_verified_copies,
);

async fn the_same_content_is_stored_once_and_survives_reopening(bed: Bed) {
    let store = &bed.store;
    let large: Vec<u8> = (0..20_000_000_u32).map(|i| (i / 251) as u8).collect();
    let source = bed.dir.path().join("source");
    fs::write(&source, &large).unwrap();
    let digest = store.put_file(&source).await.unwrap();
    assert_eq!(digest, Digest::of(&large));
    let inode = fs::metadata(bed.file("blobs", &digest)).unwrap().ino();
    assert_eq!(store.put_file(&source).await.unwrap(), digest);
    assert_eq!(store.put(Bytes::from(large.clone())).await.unwrap(), digest);
    assert_eq!(
        fs::metadata(bed.file("blobs", &digest)).unwrap().ino(),
        inode,
        "written again"
    );
    assert_eq!(
        store.usage().await.unwrap(),
        Usage {
            objects: 1,
            bytes: 20_000_000
        }
    );

    let empty = store.put(Bytes::new()).await.unwrap();
    let store = bed.reopen().await;
    assert_eq!(store.get(&digest).await.unwrap(), large);
    assert_eq!(store.get(&empty).await.unwrap(), Bytes::new());
    let absent = Digest::of("absent");
    assert!(!store.contains(&absent).await.unwrap());
    let error = store.get(&absent).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::NotFound { digest, .. } if *digest == absent),
        "{error}"
    );
    assert!(
        store
            .put_file(bed.dir.path())
            .await
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
}

async fn many_writers_of_one_blob_agree(bed: Bed) {
    let content = Bytes::from(vec![7; 300_000]);
    let writers: Vec<_> = (0..16)
        .map(|_| {
            let (store, content) = (bed.store.clone(), content.clone());
            tokio::spawn(async move { store.put(content).await.unwrap() })
        })
        .collect();
    for writer in writers {
        assert_eq!(writer.await.unwrap(), Digest::of(&content));
    }
    assert_eq!(
        all_files(&bed.root.join("blobs")).len(),
        1,
        "no upload may be left"
    );
}

async fn a_damaged_blob_is_named_and_storing_it_again_heals_it(bed: Bed) {
    let store = &bed.store;
    let digest = store.put("the content".into()).await.unwrap();
    let path = bed.file("blobs", &digest);
    damage(&path, b"The content");

    let target = bed.dir.path().join("target");
    fs::write(&target, "old").unwrap();
    for error in [
        store.get(&digest).await.unwrap_err(),
        store.materialise(&digest, &target).await.unwrap_err(),
    ] {
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
        let message = error.to_string();
        for part in [
            &digest.to_string(),
            bed.place("blobs", &digest).as_str(),
            "run the pipeline again",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    assert_eq!(fs::read(&target).unwrap(), b"old");
    assert!(!store.contains(&digest).await.unwrap());

    store.put("the content".into()).await.unwrap();
    assert_eq!(store.get(&digest).await.unwrap(), "the content");
    assert!(store.contains(&digest).await.unwrap());
}

async fn a_truncated_blob_is_healed_without_having_been_read(bed: Bed) {
    let store = &bed.store;
    let digest = store.put("the content".into()).await.unwrap();
    damage(&bed.file("blobs", &digest), b"the co");
    store.put("the content".into()).await.unwrap();
    assert_eq!(store.get(&digest).await.unwrap(), "the content");

    let (source, large) = (bed.dir.path().join("large"), vec![1_u8; 9 << 20]);
    fs::write(&source, &large).unwrap();
    let digest = store.put_file(&source).await.unwrap();
    damage(&bed.file("blobs", &digest), b"");
    store.put_file(&source).await.unwrap();
    assert_eq!(store.get(&digest).await.unwrap(), large);
}

async fn materialised_files_are_read_only_links_or_verified_copies(bed: Bed) {
    let store = &bed.store;
    let digest = store.put("the content".into()).await.unwrap();
    let linked = bed.dir.path().join("deep/down/linked");
    store.materialise(&digest, &linked).await.unwrap();
    let (link, object) = (
        fs::metadata(&linked).unwrap(),
        fs::metadata(bed.file("blobs", &digest)).unwrap(),
    );
    // To the object, or to the one local copy of it.
    assert_eq!((link.nlink(), link.mode() & 0o777), (2, 0o444));
    assert_eq!(link.ino() == object.ino(), bed.server.is_none());

    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    assert_ne!(
        fs::metadata(elsewhere.path()).unwrap().dev(),
        object.dev(),
        "needs two file systems"
    );
    let copied = elsewhere.path().join("copied");
    store.materialise(&digest, &copied).await.unwrap();
    assert_eq!(fs::read(&copied).unwrap(), b"the content");
    assert_eq!(fs::metadata(&copied).unwrap().mode() & 0o777, 0o444);
    assert_eq!(all_files(elsewhere.path()), [copied]);

    let absent = store
        .materialise(&Digest::of("absent"), &bed.dir.path().join("x"))
        .await;
    assert!(matches!(absent, Err(StoreError::NotFound { .. })));
}

#[tokio::test]
async fn a_directory_that_is_no_store_or_of_another_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("thesis.tex"), "precious").unwrap();
    let error = Store::open_local(dir.path()).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert_eq!(all_files(dir.path()).len(), 1);

    let path = dir.path().join("new");
    let (one, other) = tokio::join!(Store::open_local(&path), Store::open_local(&path));
    one.and(other).unwrap();
    assert_eq!(
        fs::read_to_string(path.join("FORMAT")).unwrap(),
        "loci-store 1\n"
    );
    fs::write(path.join("FORMAT"), "loci-store 2\n").unwrap();
    let message = Store::open_local(&path).await.unwrap_err().to_string();
    for part in [
        "FORMAT",
        "loci-store 2",
        "loci-store 1",
        "another directory",
    ] {
        assert!(message.contains(part), "{message}");
    }
    let message = Store::open_local(Path::new("/proc/no/such"))
        .await
        .unwrap_err()
        .to_string();
    assert!(message.contains("/proc/no/such"), "{message}");
}
