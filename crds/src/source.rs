//! Where memory comes from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::values::GoDuration;

/// What kind of memory a source holds. Retrieval classes are indexed; `procedural` is the only class that an adapter may be trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum MemoryClass {
    /// What is true of the world and changes: handbooks, status pages, product facts.
    Factual,
    /// What happened: tickets, incidents, conversations that ended.
    Episodic,
    /// What is known of a person or a tenant.
    Profile,
    /// The context of a running session.
    Working,
    /// How things are done: procedures, formats, escalation paths.
    Procedural,
}

impl MemoryClass {
    /// The name as it stands in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Factual => "factual",
            Self::Episodic => "episodic",
            Self::Profile => "profile",
            Self::Working => "working",
            Self::Procedural => "procedural",
        }
    }
}

/// One source of documents: exactly one of git, http, bucket, configMap, directory, push.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("!has(self.metadata) || self.memory != 'procedural'").message("metadata is what passages are filtered by, and a procedural source is not looked up: remove it"),
    validation = Rule::new("[has(self.git), has(self.http), has(self.bucket), has(self.configMap), has(self.directory), has(self.push)].filter(x, x).size() == 1").message("give exactly one of git, http, bucket, configMap, directory, push"),
)]
pub struct SourceSpec {
    /// The source's name, unique in the pipeline; citations carry it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), extend("example" = "handbook"))]
    pub name: String,
    /// The memory class of all that the source holds.
    #[x_kube(validation = Rule::new("self != 'working'").message("memory class working is not built yet: use factual, episodic or profile"))]
    pub memory: MemoryClass,
    /// Metadata of all its documents, to filter by. What a document itself says of a field that is declared here does not count.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub metadata: Vec<DeclaredField>,
    /// A Git repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<GitSource>,
    /// Web pages, by URL or by sitemap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSource>,
    /// A bucket of an object store; each object is a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bucket: Option<BucketSource>,
    /// A ConfigMap of the pipeline's namespace; each key is a document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_map: Option<ConfigMapSource>,
    /// A directory of this machine, watched. For `loci up` only: a cluster refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<DirectorySource>,
    /// Documents that clients put and delete by the API. For `loci up` only: a cluster refuses it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push: Option<PushSource>,
}

/// A metadata field of all documents of a source: exactly one of values, number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.values) != has(self.number)").message("give exactly one of values, number"))]
pub struct DeclaredField {
    /// The field's name, as filters name it.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[A-Za-z_][-A-Za-z0-9_.]*$"), extend("example" = "tenant"))]
    #[x_kube(validation = Rule::new("!(self in ['source', 'document', 'uri', 'memory', 'version', 'and', 'or', 'not'])").message("every document has fields source, document, uri, memory and version, and filters read and, or and not: use another name"))]
    pub name: String,
    /// Its values, texts; those that are RFC 3339 times or dates compare as times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 16), inner(length(min = 1, max = 256)))]
    pub values: Vec<String>,
    /// Its value, a whole number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<i64>,
}

/// A Git repository, read at one ref; changes are found by tree diff.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GitSource {
    /// The repository's URL. `https://`, or `file://` for `loci up`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^(https?|file)://"), extend("example" = "https://git.example.com/handbook.git"))]
    pub url: String,
    /// What to read; the remote's default branch when absent.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    pub reference: Option<GitRef>,
    /// Globs of the paths to read; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Globs of the paths to leave out, applied after `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// Allow loopback and private addresses, such as those of a cluster. Link-local addresses are refused always.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// A Secret of the same namespace with `username` and `password` (or a token as `password`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// Exactly one of branch, tag, commit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("[has(self.branch), has(self.tag), has(self.commit)].filter(x, x).size() == 1").message("give exactly one of branch, tag, commit"))]
pub struct GitRef {
    /// A branch, followed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub branch: Option<String>,
    /// A tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    pub tag: Option<String>,
    /// A commit, by its 40 hexadecimal digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 40, max = 40), regex(pattern = r"^[0-9a-f]{40}$"), extend("example" = "0123456789abcdef0123456789abcdef01234567"))]
    pub commit: Option<String>,
}

/// Web pages, fetched by conditional GET: exactly one of urls, sitemap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.urls) != has(self.sitemap)").message("give exactly one of urls, sitemap"))]
pub struct HttpSource {
    /// The pages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(min = 1, max = 256),
        inner(length(min = 1, max = 2048), regex(pattern = r"^https?://"))
    )]
    pub urls: Vec<String>,
    /// The pages that sitemaps list, read at the pace of their sites.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sitemap: Option<SitemapSource>,
    /// Allow loopback and private addresses. Link-local addresses are refused always.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// How long one request may take; 30s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// A Secret of the same namespace with `token`, sent as a bearer token to the host of each URL, or of each declared sitemap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// The pages that sitemaps list (sitemaps.org), as robots.txt allows (RFC 9309).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SitemapSource {
    /// Sitemaps or sitemap indexes, as XML, plain or compressed by gzip.
    #[schemars(
        length(min = 1, max = 16),
        inner(length(min = 1, max = 2048), regex(pattern = r"^https?://"))
    )]
    pub urls: Vec<String>,
    /// Globs of the paths of pages to read (`guide/**`); all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Globs of the paths of pages to leave out, applied after `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// Further hosts whose pages and sitemaps are read; those of `urls` always are. None of them gets the token.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 253)))]
    pub hosts: Vec<String>,
    /// How many pages may match before the source fails; 1000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 50_000))]
    pub max_pages: Option<i32>,
    /// The pause between two requests to a host, unless its robots.txt asks for a longer one; 1s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pause: Option<GoDuration>,
    /// How often all pages are asked for changes, also those whose `lastmod` says that there are none; 24h when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revisit: Option<GoDuration>,
}

/// A bucket of an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(
    validation = Rule::new("has(self.account) == self.url.startsWith('az://')").message("account is the storage account of an az:// URL: give it with such a URL only"),
    validation = Rule::new("!has(self.region) || self.url.startsWith('s3://')").message("region belongs to s3:// URLs"),
    validation = Rule::new("!has(self.endpoint) || !has(self.secretRef) || self.url.startsWith('s3://') || self.endpoint.startsWith('https://')").message("credentials of gs:// and az:// are never sent in clear text: give an https:// endpoint"),
)]
pub struct BucketSource {
    /// `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX` or `az://CONTAINER/PREFIX`. The prefix is a folder: `s3://acme/docs` holds `docs/a.md`.
    #[schemars(length(min = 6, max = 2048), regex(pattern = r"^(s3|gs|az)://[A-Za-z0-9$][A-Za-z0-9._$-]*(/[^?#]*)?$"), extend("example" = "s3://acme-runbooks/team"))]
    pub url: String,
    /// The region of an S3 bucket; `us-east-1` when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9-]+$"), extend("example" = "eu-central-1"))]
    pub region: Option<String>,
    /// The server, where it is not the provider's own: that of MinIO, Ceph, R2 and so on.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048), regex(pattern = r"^https?://"), extend("example" = "https://minio.example.com"))]
    pub endpoint: Option<String>,
    /// The storage account of an `az://` URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 3, max = 24), regex(pattern = r"^[a-z0-9]+$"), extend("example" = "acmedocs"))]
    pub account: Option<String>,
    /// Globs of the keys below the prefix to read; all of a known type when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Globs of the keys to leave out, applied after `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
    /// How many objects may match before the source fails; 20000 when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200_000))]
    pub max_objects: Option<i32>,
    /// The most bytes of one object; a larger one is skipped unread. 64 MiB when absent, which is also the most.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_object_bytes: Option<i32>,
    /// Allow loopback and private addresses, such as those of a cluster. Link-local addresses are refused always.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_private: bool,
    /// How long the server may stay silent before a request is tried again, twice at most; 30s when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<GoDuration>,
    /// A Secret of the same namespace. For `s3://` it has `accessKeyId`, `secretAccessKey` and perhaps `sessionToken`; for `gs://`
    /// `serviceAccount`, the JSON key; for `az://` `accountKey` or `sasToken`. Without it the bucket is read anonymously.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// A ConfigMap of the pipeline's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfigMapSource {
    /// The ConfigMap's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Globs of the keys to read; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
}

/// A directory of this machine, watched for changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DirectorySource {
    /// The directory; a relative path starts at the manifest's own directory.
    #[schemars(length(min = 1, max = 4096))]
    pub path: String,
    /// Globs of the paths to read; all when empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub include: Vec<String>,
    /// Globs of the paths to leave out, applied after `include`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 256)))]
    pub exclude: Vec<String>,
}

/// Documents that clients put and delete at `/v1/documents/{source}`. They are kept in the store, durably, before a client is answered.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PushSource {
    /// The most bytes of one document, 1 to 67108864 (64 MiB); 4194304 (4 MiB) when absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 67108864))]
    pub max_document_bytes: Option<i32>,
    /// The most documents, 1 to 200000; 200000 when absent. What is there when the limit is lowered stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200000))]
    pub max_documents: Option<i32>,
    /// The most documents that may differ from what was last indexed, 1 to 200000; 10000 when absent. Further changes are refused with 429
    /// until a release was built.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200000))]
    pub max_pending: Option<i32>,
}

/// An object of the same namespace, by name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LocalRef {
    /// The object's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}
