//! What only a bucket can show: conditions, pages, refusals, silence.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use loci_store::{RemoteOptions, Store, StoreError};
use loci_testbed::s3;

use crate::{Bed, all_files, options, set_age};

const HOUR: Duration = Duration::from_secs(3600);

async fn refused(url: &str, options: RemoteOptions) -> String {
    let refused = Store::open(&url.parse().unwrap(), options).await;
    let error = refused.unwrap_err();
    assert!(matches!(error, StoreError::Remote { .. }), "{error}");
    error.to_string()
}

fn of(bed: &Bed) -> RemoteOptions {
    options(bed.server.as_deref(), bed.dir.path())
}

#[tokio::test]
async fn wrong_credentials_and_a_missing_bucket_are_named_with_the_way_out() {
    let bed = Bed::bucket().await;
    let url = bed.url.to_string();
    let mut wrong = of(&bed);
    wrong
        .settings
        .insert("AWS_SECRET_ACCESS_KEY".into(), "not it".into());
    let message = refused(&url, wrong).await;
    for part in [
        url.as_str(),
        "access is denied (SignatureDoesNotMatch)",
        "AWS_SECRET_ACCESS_KEY",
        &bed.server.as_ref().unwrap().endpoint(),
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(
        !message.contains("not it") && !message.contains('<'),
        "{message}"
    );

    let mut nobody = of(&bed);
    nobody
        .settings
        .insert("AWS_ACCESS_KEY_ID".into(), "nobody".into());
    let message = refused(&url, nobody).await;
    assert!(message.contains("access is denied ("), "{message}");

    let message = refused("s3://no-such-bucket/loci", of(&bed)).await;
    for part in [
        "s3://no-such-bucket/loci",
        "there is no bucket \"no-such-bucket\"",
        "create it",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_or_gone_is_named_in_bounded_time() {
    // It accepts, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let settings = |endpoint: &str| {
        [
            ("AWS_ENDPOINT_URL", endpoint),
            ("AWS_ACCESS_KEY_ID", "a"),
            ("AWS_SECRET_ACCESS_KEY", "b"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .into()
    };
    let options = |settings: BTreeMap<String, String>| RemoteOptions {
        cache: "/nonexistent".into(),
        silence: Duration::from_millis(500),
        settings,
    };
    let begun = Instant::now();
    let message = refused("s3://acme/loci", options(settings(&endpoint))).await;
    for part in [
        "s3://acme/loci",
        endpoint.as_str(),
        "silent for 0.5 s",
        "AWS_ENDPOINT_URL",
    ] {
        assert!(message.contains(part), "{message}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
    drop(silent);

    let message = refused("s3://acme/loci", options(settings(&endpoint))).await;
    assert!(
        message.contains("no connection") && message.contains(&endpoint),
        "{message}"
    );
    assert!(
        begun.elapsed() < Duration::from_secs(10),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_comes_back_soon_is_not_noticed() {
    let bed = Bed::bucket().await;
    let server = bed.server.clone().unwrap();
    let digest = bed.store.put("before".into()).await.unwrap();
    server.kill();
    let reading = tokio::spawn({
        let store = bed.store.clone();
        async move { (store.get(&digest).await, store.put("after".into()).await) }
    });
    tokio::time::sleep(Duration::from_millis(700)).await;
    tokio::task::spawn_blocking(move || server.start_again())
        .await
        .unwrap();
    let (read, written) = reading.await.unwrap();
    assert_eq!(read.unwrap(), "before");
    assert_eq!(bed.store.get(&written.unwrap()).await.unwrap(), "after");
}

#[tokio::test]
async fn a_prefix_that_holds_something_else_or_another_format_is_refused() {
    let bed = Bed::bucket().await;
    let foreign = bed.root.parent().unwrap().join("thesis");
    fs::create_dir_all(&foreign).unwrap();
    fs::write(foreign.join("thesis.tex"), "precious").unwrap();
    let url = format!("s3://{}/team/thesis", s3::BUCKET).parse().unwrap();
    let error = Store::open(&url, of(&bed)).await.unwrap_err();
    assert!(matches!(error, StoreError::NotAStore { .. }), "{error}");
    assert!(
        error
            .to_string()
            .contains("s3://artefacts/team/thesis holds no store"),
        "{error}"
    );
    assert_eq!(all_files(&foreign).len(), 1);

    fs::write(bed.root.join("FORMAT"), "loci-store 2\n").unwrap();
    let error = Store::open(&bed.url, of(&bed))
        .await
        .unwrap_err()
        .to_string();
    for part in ["team/loci/FORMAT", "loci-store 2", "loci-store 1"] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn listings_go_on_beyond_one_page() {
    let bed = Bed::bucket().await;
    let (number, store) = (1_100, &bed.store);
    for group in 0..11_u32 {
        let some = (0..100).map(|i| store.put(format!("blob {}", group * 100 + i).into()));
        futures::future::try_join_all(some).await.unwrap();
    }
    assert_eq!(store.usage().await.unwrap().objects, number);
    for file in all_files(&bed.root.join("blobs")) {
        set_age(&file, 2 * HOUR);
    }
    let report = store.gc(&[], HOUR).await.unwrap();
    assert_eq!((report.swept, report.kept), (number, 0));
    assert_eq!(store.usage().await.unwrap().objects, 0);
}

#[tokio::test]
async fn a_mark_of_use_costs_no_copy_and_goes_with_its_object() {
    let bed = Bed::bucket().await;
    let digest = bed.store.put("blob".into()).await.unwrap();
    let (file, mark) = (bed.file("blobs", &digest), bed.file("used/blobs", &digest));
    assert!(bed.store.contains(&digest).await.unwrap());
    assert!(!mark.exists(), "it is fresh");
    set_age(&file, 2 * HOUR);
    let stored = fs::metadata(&file).unwrap().modified().unwrap();
    // As another process does.
    assert!(bed.reopen().await.contains(&digest).await.unwrap());
    assert_eq!(fs::metadata(&mark).unwrap().len(), 0);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), stored);
    assert_eq!(bed.store.gc(&[], HOUR).await.unwrap().kept, 1);
    set_age(&mark, 2 * HOUR);
    assert_eq!(bed.store.gc(&[], HOUR).await.unwrap().swept, 1);
    assert!(!file.exists() && !mark.exists() && !bed.root.join("sweep").exists());
}
