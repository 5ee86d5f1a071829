//! Buckets of a real S3 server; and what is refused before any server is asked.

mod broken;

use std::sync::Arc;
use std::time::{Duration, Instant};

use loci_testbed::s3::{BUCKET, S3};
use loci_worker::document::Media;
use loci_worker::source::{
    BucketProvider, BucketSpec, Listing, Probe, S3Credentials, Secret, SourceKind, SourceSpec,
    probe,
};
use object_store::aws::{AmazonS3, AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::HttpRequestBody;
use object_store::{ObjectStoreExt, PutPayload};

use crate::support::{Sink, documents, skipped, spec};

/// How long a server may be silent that is meant to be.
const SHORT: Duration = Duration::from_millis(500);

struct Bed {
    s3: Arc<S3>,
    client: AmazonS3,
}

impl Bed {
    async fn new() -> Self {
        let s3 = tokio::task::spawn_blocking(S3::start).await.unwrap();
        let variables = s3.variables();
        let client = AmazonS3Builder::new()
            .with_endpoint(s3.endpoint())
            .with_allow_http(true)
            .with_bucket_name(BUCKET)
            .with_access_key_id(&variables["AWS_ACCESS_KEY_ID"])
            .with_secret_access_key(&variables["AWS_SECRET_ACCESS_KEY"])
            .build()
            .unwrap();
        Self {
            s3: Arc::new(s3),
            client,
        }
    }

    async fn put(&self, key: &str, content: impl Into<PutPayload>) {
        self.client.put(&key.into(), content.into()).await.unwrap();
    }

    async fn delete(&self, key: &str) {
        self.client.delete(&key.into()).await.unwrap();
    }

    fn credentials(&self) -> S3Credentials {
        let variables = self.s3.variables();
        let secret = |key: &str| Secret::new(variables[key].clone());
        S3Credentials {
            access_key_id: secret("AWS_ACCESS_KEY_ID"),
            secret_access_key: secret("AWS_SECRET_ACCESS_KEY"),
            session_token: None,
        }
    }

    fn spec(&self) -> BucketSpec {
        BucketSpec {
            provider: BucketProvider::S3 {
                region: None,
                credentials: Some(self.credentials()),
            },
            endpoint: Some(self.s3.endpoint().parse().unwrap()),
            ..nobody()
        }
    }
}

/// Anybody's bucket on AWS.
fn nobody() -> BucketSpec {
    BucketSpec {
        provider: BucketProvider::S3 {
            region: None,
            credentials: None,
        },
        bucket: BUCKET.into(),
        prefix: "docs".into(),
        endpoint: None,
        include: Vec::new(),
        exclude: Vec::new(),
        max_objects: 10_000,
        max_object_bytes: 4 << 20,
        allow_private: true,
        timeout: Duration::from_secs(10),
        secret: Some("runbooks".into()),
    }
}

fn source(bucket: BucketSpec) -> SourceSpec {
    spec(SourceKind::Bucket(bucket))
}

async fn refused(bucket: BucketSpec) -> String {
    let sink = Sink::default();
    let refused = sink.snapshot(&source(bucket), None).await;
    refused.unwrap_err().to_string()
}

async fn changed(source: &SourceSpec, listing: &Listing) -> String {
    match probe(source, Some(&listing.state)).await.unwrap() {
        Probe::Changed(words) => words,
        Probe::Unchanged => panic!("unchanged"),
    }
}

#[tokio::test]
async fn only_objects_that_changed_are_read_again() {
    let bed = Bed::new().await;
    bed.put("docs/a.md", "# A").await;
    bed.put("docs/deep/b.html", "<p>b").await;
    bed.put("docs/c.bin", "skipped by its type").await;
    bed.put("docs-of-others/d.md", "# D").await;
    bed.put("e.md", "# E").await;
    let (source, sink) = (source(bed.spec()), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(documents(&first), ["a.md", "deep/b.html"]);
    assert_eq!(first.documents[1].uri, "s3://artefacts/docs/deep/b.html");
    assert_eq!(first.documents[1].media, Media::Html);
    assert_eq!(sink.taken(), ["# A", "<p>b"]);
    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Unchanged
    );
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!((&second, sink.taken()), (&first, Vec::new()));

    bed.put("docs/a.md", "# A, again").await;
    bed.put("docs/new.txt", "new").await;
    bed.delete("docs/deep/b.html").await;
    assert_eq!(changed(&source, &second).await, "1 new, 1 changed, 1 gone");
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(documents(&third), ["a.md", "new.txt"]);
    assert_eq!(sink.taken(), ["# A, again", "new"]);

    sink.forget(&third, "new.txt");
    sink.snapshot(&source, Some(&third)).await.unwrap();
    assert_eq!(sink.taken(), ["new"], "lost content is read again");
}

#[tokio::test]
async fn the_same_content_put_again_is_the_same_document() {
    let bed = Bed::new().await;
    bed.put("docs/a.md", "# A").await;
    let (source, sink) = (source(bed.spec()), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    bed.put("docs/a.md", "# A").await;
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!(second.documents, first.documents);
}

#[tokio::test]
async fn globs_sizes_and_counts_bound_what_is_read() {
    let bed = Bed::new().await;
    for name in ["a.md", "b.md", "c.md", "deep/d.md", "drafts/e.md"] {
        bed.put(&format!("docs/{name}"), name.to_owned()).await;
    }
    bed.put("docs/large.md", vec![b'x'; 2_000]).await;
    let sink = Sink::default();
    let some = BucketSpec {
        include: vec!["**/*.md".into()],
        exclude: vec!["drafts".into()],
        max_object_bytes: 1_000,
        ..bed.spec()
    };
    let listing = sink.snapshot(&source(some.clone()), None).await.unwrap();
    assert_eq!(documents(&listing), ["a.md", "b.md", "c.md", "deep/d.md"]);
    let reason = skipped(&listing, "large.md");
    assert!(reason.contains("is 2000 bytes"), "{reason}");
    assert_eq!(
        probe(&source(some.clone()), Some(&listing.state))
            .await
            .unwrap(),
        Probe::Unchanged,
        "what is too large is not asked for again"
    );

    let few = BucketSpec {
        max_objects: 4,
        ..some
    };
    let error = refused(few).await;
    for part in [
        "bucket.maxObjects: more than 4 objects match",
        "bucket.include",
        "bucket.url",
    ] {
        assert!(error.contains(part), "{error}");
    }
}

#[tokio::test]
async fn listings_go_on_beyond_one_page() {
    let bed = Bed::new().await;
    for group in 0..11 {
        let some = (0..100).map(|i| {
            let key = format!("docs/{:04}.txt", group * 100 + i);
            let bed = &bed;
            async move { bed.put(&key, key.clone()).await }
        });
        futures::future::join_all(some).await;
    }
    let listing = Sink::default()
        .snapshot(&source(bed.spec()), None)
        .await
        .unwrap();
    assert_eq!(listing.documents.len(), 1_100);
    assert_eq!(listing.documents[1_099].document, "1099.txt");
}

#[tokio::test]
async fn who_may_not_read_is_told_which_secret_to_look_at() {
    let bed = Bed::new().await;
    bed.put("docs/a.md", "# A").await;
    let with = |credentials: S3Credentials| BucketSpec {
        provider: BucketProvider::S3 {
            region: None,
            credentials: Some(credentials),
        },
        ..bed.spec()
    };
    let wrong = with(S3Credentials {
        secret_access_key: Secret::new("n0t-it"),
        ..bed.credentials()
    });
    let error = refused(wrong).await;
    for part in [
        "s3://artefacts/docs",
        &bed.s3.endpoint(),
        "access is denied (SignatureDoesNotMatch)",
        "secretAccessKey in the Secret runbooks of bucket.secretRef",
    ] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(!error.contains("n0t-it") && !error.contains('<'), "{error}");

    let nobody = with(S3Credentials {
        access_key_id: Secret::new("nobody"),
        ..bed.credentials()
    });
    let error = refused(nobody).await;
    assert!(error.contains("access is denied ("), "{error}");

    let error = refused(BucketSpec {
        bucket: "no-such-bucket".into(),
        ..bed.spec()
    })
    .await;
    assert!(
        error.contains("there is no bucket \"no-such-bucket\"") && error.contains("bucket.url"),
        "{error}"
    );
}

#[tokio::test]
async fn a_bucket_that_is_open_to_anybody_needs_no_secret() {
    let bed = Bed::new().await;
    bed.put("docs/a.md", "# A").await;
    let anonymous = || BucketSpec {
        endpoint: Some(bed.s3.endpoint().parse().unwrap()),
        secret: None,
        ..nobody()
    };
    let error = refused(anonymous()).await;
    assert!(
        error.contains("access is denied") && error.contains("name a Secret by bucket.secretRef"),
        "{error}"
    );
    open_to_anybody(&bed).await;
    let listing = Sink::default()
        .snapshot(&source(anonymous()), None)
        .await
        .unwrap();
    assert_eq!(documents(&listing), ["a.md"]);
}

/// By a policy of the bucket.
async fn open_to_anybody(bed: &Bed) {
    let all = format!("arn:aws:s3:::{BUCKET}");
    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Principal": "*", "Action": "s3:ListBucket", "Resource": all},
            {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": format!("{all}/*")},
        ],
    })
    .to_string();
    let variables = bed.s3.variables();
    let credential = AwsCredential {
        key_id: variables["AWS_ACCESS_KEY_ID"].clone(),
        secret_key: variables["AWS_SECRET_ACCESS_KEY"].clone(),
        token: None,
    };
    let url = format!("{}/{BUCKET}?policy=", bed.s3.endpoint());
    let mut request = axum::http::Request::builder()
        .method("PUT")
        .uri(&url)
        .body(HttpRequestBody::from(policy.clone()))
        .unwrap();
    AwsAuthorizer::new(&credential, "s3", "us-east-1")
        .try_authorize(&mut request, None)
        .unwrap();
    let answer = reqwest::Client::new()
        .put(&url)
        .headers(request.headers().clone())
        .body(policy)
        .send()
        .await
        .unwrap();
    let status = answer.status();
    assert!(status.is_success(), "{status}: {:?}", answer.text().await);
}

#[tokio::test]
async fn inside_addresses_are_refused_unless_allowed_whoever_the_provider_is() {
    let azure = BucketProvider::Azure {
        account: "acme".into(),
        account_key: None,
        sas_token: Some(Secret::new("sv=2024&sig=s3cret")),
    };
    let gcs = BucketProvider::Gcs {
        service_account: None,
    };
    for provider in [nobody().provider, gcs, azure] {
        for (host, kind) in [
            ("127.0.0.1:9", "loopback"),
            ("localhost:9", "loopback"),
            ("169.254.169.254", "link-local"),
        ] {
            let bucket = BucketSpec {
                provider: provider.clone(),
                endpoint: Some(format!("http://{host}").parse().unwrap()),
                allow_private: false,
                ..nobody()
            };
            let begun = Instant::now();
            let error = Sink::default()
                .snapshot(&source(bucket), None)
                .await
                .unwrap_err();
            assert!(error.refused().is_some(), "{error}");
            let error = error.to_string();
            assert!(error.contains(kind) && !error.contains("s3cret"), "{error}");
            assert!(begun.elapsed() < Duration::from_secs(2), "no retries");
        }
    }
}

#[tokio::test]
async fn keys_of_google_and_azure_that_are_none_are_refused_by_name_and_without_their_values() {
    let cases = [
        (
            BucketProvider::Gcs {
                service_account: Some(Secret::new("{\"private_key\": \"s3cret\"}")),
            },
            "serviceAccount of the Secret runbooks is not the JSON key",
        ),
        (
            BucketProvider::Azure {
                account: "acme".into(),
                account_key: Some(Secret::new("s3cret!")),
                sas_token: None,
            },
            "accountKey of the Secret runbooks is not a key of the account",
        ),
        (
            BucketProvider::Azure {
                account: "acme".into(),
                account_key: None,
                sas_token: Some(Secret::new("s3cret")),
            },
            "sasToken of the Secret runbooks is not a shared access signature",
        ),
    ];
    for (provider, reason) in cases {
        let bucket = BucketSpec {
            provider,
            ..nobody()
        };
        assert!(!format!("{bucket:?}").contains("s3cret"));
        let error = refused(bucket).await;
        assert!(
            error.contains("bucket.secretRef: ") && error.contains(reason),
            "{error}"
        );
        assert!(!error.contains("s3cret"), "{error}");
    }
}
