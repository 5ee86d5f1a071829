//! What rules refuse of sources that are read from servers.

use serde_json::{Value, json};

use crate::rules::Case;

/// Each change that a rule refuses, with the field and the reason.
pub fn refused() -> Vec<Case> {
    let instead =
        |pointer, value: Value| vec![("/spec/sources/0/directory", Value::Null), (pointer, value)];
    let bucket = |value| instead("/spec/sources/0/bucket", value);
    let (at, http) = ("spec.sources[0].bucket", "spec.sources[0].http");
    let urls = json!(["https://a.example/sitemap.xml"]);
    vec![
        (
            instead("/spec/sources/0/http", json!({})),
            http,
            "give exactly one of urls, sitemap",
        ),
        (
            instead(
                "/spec/sources/0/http",
                json!({"urls": urls, "sitemap": {"urls": urls}}),
            ),
            http,
            "give exactly one of urls, sitemap",
        ),
        (
            bucket(json!({"url": "az://docs"})),
            at,
            "account is the storage account of an az:// URL",
        ),
        (
            bucket(json!({"url": "s3://docs", "account": "acme"})),
            at,
            "account is the storage account of an az:// URL",
        ),
        (
            bucket(json!({"url": "gs://docs", "region": "europe-west3"})),
            at,
            "region belongs to s3:// URLs",
        ),
        (
            bucket(json!({
                "url": "gs://docs", "endpoint": "http://gcs.example", "secretRef": {"name": "gcs"},
            })),
            at,
            "credentials of gs:// and az:// are never sent in clear text",
        ),
    ]
}
