//! Servers that break in the middle, and objects that change meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_worker::source::{BucketSpec, SourceKind, SourceSpec};

use super::{Bed, SHORT, changed, source};
use crate::proxy::{Fault, Proxy};
use crate::support::{Sink, documents, skipped};

/// Text of a megabyte, of one letter.
fn large(letter: char) -> String {
    letter.to_string().repeat(1 << 20)
}

async fn behind(bed: &Bed, fault: Fault, timeout: Duration) -> (Proxy, SourceSpec) {
    bed.put("docs/large.txt", large('a')).await;
    let proxy = Proxy::start(&bed.s3.endpoint(), "GET /artefacts/docs/large.txt", fault).await;
    let bucket = BucketSpec {
        endpoint: Some(proxy.endpoint().parse().unwrap()),
        timeout,
        ..bed.spec()
    };
    (proxy, source(bucket))
}

#[tokio::test]
async fn a_server_that_stalls_or_breaks_off_once_is_not_noticed() {
    let bed = Bed::new().await;
    for fault in [Fault::Stall { times: 1 }, Fault::Cut { times: 1 }] {
        let (proxy, source) = behind(&bed, fault, SHORT).await;
        let sink = Sink::default();
        let listing = sink.snapshot(&source, None).await.unwrap();
        assert_eq!(proxy.struck(), 1);
        assert_eq!(sink.text(&listing, "large.txt"), large('a'));
    }
}

#[tokio::test]
async fn a_server_that_always_stalls_is_given_up_and_what_was_read_is_kept() {
    let bed = Bed::new().await;
    let (proxy, stalled) = behind(&bed, Fault::Stall { times: usize::MAX }, SHORT).await;
    let begun = Instant::now();
    let sink = Sink::default();
    let error = sink.snapshot(&stalled, None).await.unwrap_err().to_string();
    assert!(
        error.contains("silent for 0.5 s") && error.contains("bucket.endpoint"),
        "{error}"
    );
    assert!(
        (2..=9).contains(&proxy.struck()),
        "tried again, and not forever: {}",
        proxy.struck()
    );
    assert!(begun.elapsed() < Duration::from_secs(20));

    let before = sink.snapshot(&source(bed.spec()), None).await.unwrap();
    bed.put("docs/large.txt", large('b')).await;
    bed.put("docs/small.txt", "small").await;
    let SourceKind::Bucket(of_proxy) = &stalled.kind else {
        panic!("bucket")
    };
    // Declared otherwise, and so all is read.
    let listing = sink
        .snapshot(&source(of_proxy.clone()), Some(&before))
        .await
        .unwrap();
    assert_eq!(documents(&listing), ["large.txt", "small.txt"]);
    assert_eq!(sink.text(&listing, "large.txt"), large('a'));
    let reason = skipped(&listing, "large.txt");
    assert!(reason.contains("last good content is kept"), "{reason}");
    assert_eq!(
        changed(&stalled, &listing).await,
        "1 new, 0 changed, 0 gone"
    );
}

#[tokio::test]
async fn an_object_that_changes_while_it_is_read_is_read_anew() {
    let bed = Bed::new().await;
    let (proxy, source) = behind(&bed, Fault::CutWhenTold, Duration::from_secs(20)).await;
    let sink = Arc::new(Sink::default());
    let reading = tokio::spawn({
        let sink = Arc::clone(&sink);
        async move { sink.snapshot(&source, None).await }
    });
    proxy.until_struck().await;
    bed.put("docs/large.txt", large('b')).await;
    proxy.go_on();
    let listing = reading.await.unwrap().unwrap();
    assert_eq!(sink.text(&listing, "large.txt"), large('b'));
}
