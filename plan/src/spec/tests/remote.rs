use std::time::Duration;

use super::*;
use crate::spec::{Bucket, Location, Provider, Sitemap};

/// The location of a source, or the fields that are wrong with it.
fn location(source: Value) -> Result<Location, Vec<String>> {
    let resource = resource(|s| {
        s["sources"][0] = json!({"name": "a", "memory": "factual"});
        let at = s["sources"][0].as_object_mut().unwrap();
        at.extend(source.as_object().unwrap().clone());
    });
    let told = |errors: Vec<FieldError>| -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    };
    let pipeline = Pipeline::from_resource(&resource).map_err(told)?;
    Ok(pipeline.sources[0].location.clone())
}

fn bucket(bucket: Value) -> Result<Bucket, Vec<String>> {
    match location(json!({"bucket": bucket}))? {
        Location::Bucket(bucket) => Ok(*bucket),
        other => panic!("{other:?}"),
    }
}

fn sitemap(sitemap: Value) -> Result<Sitemap, Vec<String>> {
    match location(json!({"http": {"sitemap": sitemap}}))? {
        Location::Http {
            urls,
            sitemap: Some(sitemap),
            ..
        } if urls.is_empty() => Ok(*sitemap),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_bucket_is_read_from_its_url() {
    let found = bucket(json!({
        "url": "s3://acme-runbooks/team/on call/", "region": "eu-central-1", "endpoint": "http://minio.agents:9000",
        "include": ["*.md"], "maxObjects": 5, "maxObjectBytes": 7, "allowPrivate": true, "timeout": "5s",
        "secretRef": {"name": "runbooks"},
    }))
    .unwrap();
    let region = Some("eu-central-1".to_owned());
    assert_eq!(found.provider, Provider::S3 { region });
    assert_eq!(
        (found.name.as_str(), found.prefix.as_str()),
        ("acme-runbooks", "team/on call")
    );
    assert_eq!(
        found.endpoint.unwrap().as_str(),
        "http://minio.agents:9000/"
    );
    assert_eq!((found.max_objects, found.max_object_bytes), (5, 7));
    assert_eq!(
        (found.allow_private, found.timeout),
        (true, Duration::from_secs(5))
    );
    assert_eq!(found.secret.as_deref(), Some("runbooks"));

    let found = bucket(json!({"url": "gs://docs"})).unwrap();
    assert_eq!((found.provider, found.prefix.as_str()), (Provider::Gcs, ""));
    assert_eq!(
        (found.max_objects, found.max_object_bytes, found.timeout),
        (20_000, 64 << 20, Duration::from_secs(30))
    );
    let found = bucket(json!({"url": "az://$web/docs", "account": "acme"})).unwrap();
    let account = "acme".to_owned();
    assert_eq!(
        (found.provider, found.name.as_str()),
        (Provider::Azure { account }, "$web")
    );
}

#[test]
fn what_is_no_bucket_is_refused_by_its_field() {
    let cases = [
        (json!({"url": "acme"}), "url", "is no bucket"),
        (json!({"url": "s3:///docs"}), "url", "names no bucket"),
        (
            json!({"url": "s3://u:p4ss@acme/docs"}),
            "url",
            "names no bucket",
        ),
        (json!({"url": "s3://acme:9000/docs"}), "url", "without user"),
        (json!({"url": "s3://acme/a//b"}), "url", "an empty part"),
        (json!({"url": "s3://acme/../b"}), "url", "\"..\""),
        (
            json!({"url": "s3://acme", "endpoint": "https://u:p4ss@minio/"}),
            "endpoint",
            "holds credentials",
        ),
        (
            json!({"url": "s3://acme", "endpoint": "ftp://minio/"}),
            "endpoint",
            "ftp",
        ),
        (json!({"url": "az://acme"}), "account", "storage account"),
        (
            json!({"url": "gs://acme", "account": "a"}),
            "account",
            "az://",
        ),
        (
            json!({"url": "gs://acme", "region": "eu"}),
            "region",
            "s3://",
        ),
        (
            json!({"url": "gs://acme", "endpoint": "http://gcs/", "secretRef": {"name": "gcs"}}),
            "endpoint",
            "clear text",
        ),
        (
            json!({"url": "s3://acme", "maxObjects": 0}),
            "maxObjects",
            "from 1 to 200000",
        ),
        (
            json!({"url": "s3://acme", "maxObjectBytes": 67_108_865}),
            "maxObjectBytes",
            "from 1 to 67108864",
        ),
        (
            json!({"url": "s3://acme", "include": ["*.{md"]}),
            "include[0]",
            "glob",
        ),
        (
            json!({"url": "s3://acme", "timeout": "0s"}),
            "timeout",
            "no duration",
        ),
    ];
    for (declared, field, reason) in cases {
        let errors = bucket(declared.clone()).unwrap_err();
        let field = format!("spec.sources[0].bucket.{field}: ");
        assert!(
            matches!(&errors[..], [error] if error.starts_with(&field) && error.contains(reason)),
            "{declared}: {errors:?}"
        );
        assert!(!errors[0].contains("p4ss"), "{errors:?}");
    }
}

#[test]
fn a_sitemap_has_bounds_and_a_pace_unless_it_says_otherwise() {
    let url = "https://docs.example.com/sitemap.xml";
    let found = sitemap(json!({"urls": [url]})).unwrap();
    assert_eq!(
        (found.max_pages, found.pause, found.revisit),
        (
            1_000,
            Duration::from_secs(1),
            Duration::from_secs(24 * 3600)
        )
    );
    let found = sitemap(json!({
        "urls": [url], "hosts": ["WWW.Example.com"], "include": ["guide/**"], "maxPages": 9, "pause": "200ms", "revisit": "1h",
    }))
    .unwrap();
    assert_eq!(found.hosts, ["www.example.com"]);
    assert_eq!(
        (found.max_pages, found.pause, found.revisit),
        (9, Duration::from_millis(200), Duration::from_secs(3600))
    );
    let cases = [
        (json!({"urls": []}), "urls", "at least one"),
        (json!({"urls": ["ftp://x/"]}), "urls[0]", "ftp"),
        (
            json!({"urls": ["https://u:p4ss@x/"]}),
            "urls[0]",
            "holds credentials",
        ),
        (
            json!({"urls": [url], "hosts": ["https://x/"]}),
            "hosts[0]",
            "name of a host",
        ),
        (
            json!({"urls": [url], "hosts": ["x:8080"]}),
            "hosts[0]",
            "name of a host",
        ),
        (
            json!({"urls": [url], "maxPages": 50_001}),
            "maxPages",
            "from 1 to 50000",
        ),
        (
            json!({"urls": [url], "pause": "0s"}),
            "pause",
            "no duration",
        ),
    ];
    for (declared, field, reason) in cases {
        let errors = sitemap(declared.clone()).unwrap_err();
        let field = format!("spec.sources[0].http.sitemap.{field}: ");
        assert!(
            matches!(&errors[..], [error] if error.starts_with(&field) && error.contains(reason)),
            "{declared}: {errors:?}"
        );
        assert!(!errors[0].contains("p4ss"), "{errors:?}");
    }
    for http in [
        json!({}),
        json!({"urls": ["https://x/"], "sitemap": {"urls": [url]}}),
    ] {
        let errors = location(json!({"http": http})).unwrap_err();
        assert_eq!(
            errors,
            ["spec.sources[0].http: give exactly one of urls, sitemap"]
        );
    }
}
