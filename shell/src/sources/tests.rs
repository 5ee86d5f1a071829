use loci_crds::MemoryPipeline;
use serde_json::{Value, json};

use super::*;

/// A Secret `there`, which has no key that anybody asks for, and `full`, which has those of buckets.
struct Lacking;

impl Objects for Lacking {
    fn config_map(&self, _: &str, _: &str) -> Option<Data> {
        None
    }

    fn secret(&self, _: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let keys = SECRET_KEYS.iter().skip(3);
        let full = keys.map(|&key| (key.to_owned(), format!("of {key}\n").into_bytes()));
        match name {
            "there" => Some(BTreeMap::new()),
            "full" => Some(full.collect()),
            _ => None,
        }
    }

    fn place(&self) -> &'static str {
        "here"
    }
}

fn resolved(sources: Value) -> Result<Vec<SourceSpec>, Vec<FieldError>> {
    let resource: MemoryPipeline = serde_json::from_value(json!({
        "apiVersion": "loci.dev/v1alpha1", "kind": "MemoryPipeline", "metadata": {"name": "shop"},
        "spec": {"embedder": {"model": "hf://org/model@main"}, "sources": sources},
    }))
    .unwrap();
    let pipeline = Pipeline::from_resource(&resource).unwrap();
    resolve(&pipeline, &Lacking, Path::new("/"), Path::new("/tmp"))
}

#[test]
fn private_addresses_are_read_only_where_a_source_says_so() {
    let git = |allow: Value| json!([{"name": "a", "memory": "factual", "git": {"url": "https://git.test/a.git", "allowPrivate": allow}}]);
    for (sources, expected) in [
        (git(json!(false)), false),
        (git(json!(true)), true),
        (
            json!([{"name": "a", "memory": "factual", "git": {"url": "https://git.test/a.git"}}]),
            false,
        ),
    ] {
        let specs = resolved(sources).unwrap();
        let SourceKind::Git(git) = &specs[0].kind else {
            panic!("{specs:?}");
        };
        assert_eq!(git.allow_private, expected);
    }
}

#[test]
fn what_is_missing_is_told_by_its_field() {
    let secret = |name: &str| json!({"url": "https://git.test/a.git", "secretRef": {"name": name}});
    let errors = resolved(json!([
        {"name": "a", "memory": "factual", "configMap": {"name": "docs"}},
        {"name": "b", "memory": "factual", "git": secret("gone")},
        {"name": "c", "memory": "factual", "git": secret("there")},
        {"name": "d", "memory": "factual", "bucket": {"url": "s3://a", "secretRef": {"name": "there"}}},
        {"name": "e", "memory": "factual", "bucket": {"url": "gs://a", "secretRef": {"name": "there"}}},
        {"name": "f", "memory": "factual", "bucket": {"url": "az://a", "account": "acme", "secretRef": {"name": "there"}}},
    ]))
    .unwrap_err();
    let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "spec.sources[0].configMap: there is no ConfigMap docs here: add it",
        "spec.sources[1].git.secretRef: there is no Secret gone here: add it",
        "spec.sources[2].git.secretRef: the Secret there has no key password: add it",
        "spec.sources[3].bucket.secretRef: the Secret there has no key accessKeyId: add it",
        "spec.sources[4].bucket.secretRef: the Secret there has no key serviceAccount: add it",
        "spec.sources[5].bucket.secretRef: the Secret there has no key accountKey: add it",
    ];
    assert_eq!(told, expected);
}

#[test]
fn buckets_get_the_keys_of_their_provider_or_none() {
    let specs = resolved(json!([
        {"name": "a", "memory": "factual", "bucket": {"url": "s3://a", "region": "eu", "secretRef": {"name": "full"}}},
        {"name": "b", "memory": "factual", "bucket": {"url": "gs://a", "secretRef": {"name": "full"}}},
        {"name": "c", "memory": "factual", "bucket": {"url": "az://a", "account": "acme", "secretRef": {"name": "full"}}},
        {"name": "d", "memory": "factual", "bucket": {"url": "s3://a"}},
    ]))
    .unwrap();
    let providers: Vec<_> = specs
        .iter()
        .map(|spec| match &spec.kind {
            SourceKind::Bucket(bucket) => &bucket.provider,
            other => panic!("{other:?}"),
        })
        .collect();
    let of = |key: &str| Secret::new(format!("of {key}"));
    assert!(matches!(
        providers[0],
        BucketProvider::S3 { region: Some(region), credentials: Some(found) }
            if region == "eu" && found.access_key_id == of("accessKeyId")
                && found.secret_access_key == of("secretAccessKey")
                && found.session_token == Some(of("sessionToken"))
    ));
    assert!(matches!(
        providers[1],
        BucketProvider::Gcs { service_account: Some(key) } if *key == of("serviceAccount")
    ));
    assert!(matches!(
        providers[2],
        BucketProvider::Azure { account, account_key: None, sas_token: Some(token) }
            if account == "acme" && *token == of("sasToken")
    ));
    assert!(matches!(
        providers[3],
        BucketProvider::S3 {
            region: None,
            credentials: None
        }
    ));
}

#[test]
fn a_sitemap_comes_with_its_bounds() {
    let specs = resolved(json!([{"name": "a", "memory": "factual", "http": {"sitemap": {
        "urls": ["https://docs.test/sitemap.xml"], "exclude": ["old"], "hosts": ["www.docs.test"], "maxPages": 7,
    }}}]))
    .unwrap();
    let SourceKind::Http(http) = &specs[0].kind else {
        panic!("{specs:?}");
    };
    let sitemap = http.sitemap.as_ref().unwrap();
    assert!(http.urls.is_empty());
    assert_eq!(sitemap.urls, ["https://docs.test/sitemap.xml"]);
    assert_eq!(
        (&*sitemap.exclude, &*sitemap.hosts),
        (&["old".to_owned()][..], &["www.docs.test".to_owned()][..])
    );
    assert_eq!((sitemap.max_pages, sitemap.pause.as_secs()), (7, 1));
}
