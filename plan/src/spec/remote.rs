//! Buckets and sitemaps as typed values.

use std::time::Duration;

use loci_crds::source::{BucketSource, SitemapSource};
use serde::{Deserialize, Serialize};
use url::Url;

use super::fields::Fields;
use super::source::{Paths, name};

const SILENCE: Duration = Duration::from_secs(30);
const OBJECTS: usize = 20_000;
const MOST_OBJECTS: usize = 200_000;
const OBJECT_BYTES: usize = 64 << 20;
const PAGES: usize = 1_000;
const MOST_PAGES: usize = 50_000;
const PAUSE: Duration = Duration::from_secs(1);
const REVISIT: Duration = Duration::from_secs(24 * 3600);

/// A bucket of an object store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// Whose it is.
    pub provider: Provider,
    /// The bucket, or the container.
    pub name: String,
    /// The folder that is read; empty for all.
    pub prefix: String,
    /// The server, where it is not the provider's own.
    pub endpoint: Option<Url>,
    /// Which keys.
    pub paths: Paths,
    /// How many objects may match.
    pub max_objects: usize,
    /// The most bytes of one object.
    pub max_object_bytes: u64,
    /// Whether loopback and private addresses are allowed.
    pub allow_private: bool,
    /// How long the server may stay silent.
    pub timeout: Duration,
    /// The Secret with its credentials.
    pub secret: Option<String>,
}

/// What a bucket's server speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Provider {
    /// S3.
    S3 {
        /// The bucket's region, if it is said.
        region: Option<String>,
    },
    /// Google Cloud Storage.
    Gcs,
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
    },
}

/// Pages that sitemaps list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sitemap {
    /// The sitemaps.
    pub urls: Vec<Url>,
    /// Which paths of pages.
    pub paths: Paths,
    /// Further hosts.
    pub hosts: Vec<String>,
    /// How many pages may match.
    pub max_pages: usize,
    /// The least pause between two requests to a host.
    pub pause: Duration,
    /// How often all pages are asked for changes.
    pub revisit: Duration,
}

impl Fields {
    pub(super) fn bucket(&mut self, field: &str, spec: &BucketSource) -> Option<Bucket> {
        let at = |rest: &str| format!("{field}.{rest}");
        let (scheme, bucket, prefix) = self.bucket_url(&at("url"), &spec.url)?;
        let endpoint = spec.endpoint.as_deref();
        let endpoint =
            endpoint.and_then(|e| self.plain_url(&at("endpoint"), e, &["https", "http"]));
        let provider = match (scheme, &spec.account, &spec.region) {
            ("s3", None, region) => Provider::S3 {
                region: region.clone(),
            },
            ("gs", None, None) => Provider::Gcs,
            ("az", Some(account), None) => Provider::Azure {
                account: account.clone(),
            },
            (_, _, Some(_)) => {
                self.error(at("region"), "region belongs to s3:// URLs: remove it");
                return None;
            }
            ("az", None, None) => {
                self.error(at("account"), "give the storage account of the az:// URL");
                return None;
            }
            (_, Some(_), None) => {
                self.error(at("account"), "account belongs to az:// URLs: remove it");
                return None;
            }
            // `bucket_url` knows no other scheme.
            (_, None, None) => return None,
        };
        let plain = endpoint.as_ref().is_some_and(|e| e.scheme() == "http");
        if plain && spec.secret_ref.is_some() && !matches!(provider, Provider::S3 { .. }) {
            let reason = "credentials of gs:// and az:// are never sent in clear text: give an https:// endpoint";
            self.error(at("endpoint"), reason);
        }
        let bytes = 1..=OBJECT_BYTES;
        let bytes = self.count(
            &at("maxObjectBytes"),
            spec.max_object_bytes,
            bytes,
            OBJECT_BYTES,
        );
        Some(Bucket {
            provider,
            name: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint,
            paths: self.paths(field, &spec.include, &spec.exclude),
            max_objects: self.count(
                &at("maxObjects"),
                spec.max_objects,
                1..=MOST_OBJECTS,
                OBJECTS,
            ),
            max_object_bytes: bytes as u64,
            allow_private: spec.allow_private,
            timeout: self.duration(&at("timeout"), spec.timeout.as_ref(), SILENCE),
            secret: name(spec.secret_ref.as_ref()),
        })
    }

    /// Scheme, bucket and prefix.
    fn bucket_url<'a>(
        &mut self,
        field: &str,
        text: &'a str,
    ) -> Option<(&'a str, &'a str, &'a str)> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-$".contains(c);
        let parts = |prefix: &str| {
            !prefix
                .split('/')
                .any(|part| ["", ".", ".."].contains(&part))
        };
        let reason = match scheme {
            "s3" | "gs" | "az" if bucket.is_empty() || !bucket.chars().all(fits) => {
                "names no bucket: write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, without user, port or query"
            }
            "s3" | "gs" | "az" if !prefix.is_empty() && !parts(prefix) => {
                "has an empty part, \".\" or \"..\" in its prefix, which no key may have: correct it"
            }
            "s3" | "gs" | "az" => return Some((scheme, bucket, prefix)),
            _ => {
                "is no bucket: write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
            }
        };
        // Without what may be a password.
        let shown = if rest.contains('@') { scheme } else { text };
        self.error(field, format!("\"{shown}\" {reason}"));
        None
    }

    pub(super) fn sitemap(&mut self, field: &str, spec: &SitemapSource) -> Sitemap {
        let at = |rest: &str| format!("{field}.{rest}");
        if spec.urls.is_empty() {
            self.error(at("urls"), "give at least one sitemap");
        }
        let urls = spec.urls.iter().enumerate();
        let urls = urls.filter_map(|(i, url)| {
            self.plain_url(&at(&format!("urls[{i}]")), url, &["http", "https"])
        });
        let urls = urls.collect();
        let hosts = spec.hosts.iter().enumerate();
        let hosts = hosts.filter_map(|(i, host)| self.host(&at(&format!("hosts[{i}]")), host));
        let hosts = hosts.collect();
        Sitemap {
            urls,
            paths: self.paths(field, &spec.include, &spec.exclude),
            hosts,
            max_pages: self.count(&at("maxPages"), spec.max_pages, 1..=MOST_PAGES, PAGES),
            pause: self.duration(&at("pause"), spec.pause.as_ref(), PAUSE),
            revisit: self.duration(&at("revisit"), spec.revisit.as_ref(), REVISIT),
        }
    }

    /// A URL without user and password.
    fn plain_url(&mut self, field: &str, text: &str, schemes: &[&str]) -> Option<Url> {
        let url = self.url(field, text, schemes)?;
        if !url.username().is_empty() || url.password().is_some() {
            self.error(
                field,
                "the URL holds credentials: move them to the Secret of secretRef",
            );
            return None;
        }
        Some(url)
    }

    /// A host's name, as URLs have it.
    fn host(&mut self, field: &str, text: &str) -> Option<String> {
        let url = Url::parse(&format!("https://{text}/")).ok();
        let host = url.filter(|url| {
            url.path() == "/"
                && url.port().is_none()
                && url.username().is_empty()
                && url.query().is_none()
                && url.fragment().is_none()
        });
        let host = host.and_then(|url| url.host_str().map(str::to_owned));
        if host.is_none() {
            self.error(
                field,
                format!("\"{text}\" is not the name of a host: write docs.example.com"),
            );
        }
        host
    }
}
