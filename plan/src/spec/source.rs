//! Sources as typed values.

use std::collections::BTreeMap;
use std::time::Duration;

use globset::GlobBuilder;
use loci_crds::source::{
    DeclaredField, GitRef, GitSource, HttpSource, LocalRef, MemoryClass, PushSource, SourceSpec,
};
use serde::{Deserialize, Serialize};
use url::Url;

use super::Pipeline;
use super::fields::Fields;
use super::remote::{Bucket, Sitemap};

const HTTP_TIMEOUT: Duration = Duration::from_secs(30);
/// What a push source takes at most, and takes when it does not say.
const PUSH_BYTES: (usize, usize) = (64 << 20, 4 << 20);
const PUSH_DOCUMENTS: usize = 200_000;
const PUSH_PENDING: usize = 10_000;

/// Where a part of the memory comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What kind of memory it holds.
    pub memory: MemoryClass,
    /// Metadata of all its documents, by field.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, Declared>,
    /// Where it is.
    pub location: Location,
}

/// What a metadata field is declared as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Declared {
    /// Texts, at least one.
    Values(Vec<String>),
    /// A whole number.
    Number(i64),
}

/// Names that a declared field cannot have: every document has these fields, or filters read them otherwise.
const RESERVED: [&str; 8] = [
    "source", "document", "uri", "memory", "version", "and", "or", "not",
];

/// Where a source is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Location {
    /// A Git repository.
    Git {
        /// Its URL.
        url: String,
        /// What of it is read.
        reference: Reference,
        /// Which paths.
        paths: Paths,
        /// Whether loopback and private addresses are allowed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        allow_private: bool,
        /// The Secret with its credentials.
        secret: Option<String>,
    },
    /// Web pages.
    Http {
        /// The pages; none where a sitemap lists them.
        urls: Vec<Url>,
        /// The sitemaps that list the pages.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sitemap: Option<Box<Sitemap>>,
        /// Whether loopback and private addresses are allowed.
        allow_private: bool,
        /// How long one request may take.
        timeout: Duration,
        /// The Secret with its token.
        secret: Option<String>,
    },
    /// A bucket of an object store.
    Bucket(Box<Bucket>),
    /// A ConfigMap of the pipeline's namespace.
    ConfigMap {
        /// Its name.
        name: String,
        /// Which keys.
        paths: Paths,
    },
    /// A directory of this machine.
    Directory {
        /// As it stands in the manifest: relative to it, or absolute.
        path: String,
        /// Which paths.
        paths: Paths,
    },
    /// Documents that clients put and delete.
    Push {
        /// The most bytes of one.
        max_document_bytes: usize,
        /// The most of them.
        max_documents: usize,
        /// The most that may differ from what was last indexed.
        max_pending: usize,
    },
}

impl Location {
    /// The Secret that it is read with, if it names one.
    pub fn secret(&self) -> Option<&str> {
        match self {
            Self::Git { secret, .. } | Self::Http { secret, .. } => secret.as_deref(),
            Self::Bucket(bucket) => bucket.secret.as_deref(),
            Self::ConfigMap { .. } | Self::Directory { .. } | Self::Push { .. } => None,
        }
    }
}

/// What of a Git repository is read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reference {
    /// The remote's default branch.
    Default,
    /// A branch.
    Branch(String),
    /// A tag.
    Tag(String),
    /// A commit.
    Commit(String),
}

/// Globs of what is read; all of them compile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// What is read; all when empty.
    pub include: Vec<String>,
    /// What of that is left out.
    pub exclude: Vec<String>,
}

impl Pipeline {
    /// Whether documents of a source are put and deleted by clients.
    pub fn is_pushed(&self, source: &str) -> bool {
        let pushed = |s: &Source| matches!(s.location, Location::Push { .. });
        self.sources.iter().any(|s| s.name == source && pushed(s))
    }
}

impl Fields {
    pub(super) fn sources(&mut self, specs: &[SourceSpec]) -> Vec<Source> {
        if specs.is_empty() {
            self.error("spec.sources", "give at least one source");
        }
        self.unique("spec.sources", specs.iter().map(|s| s.name.as_str()));
        let sources = specs
            .iter()
            .enumerate()
            .filter_map(|(i, s)| self.source(&format!("spec.sources[{i}]"), s));
        sources.collect()
    }

    fn source(&mut self, field: &str, spec: &SourceSpec) -> Option<Source> {
        if spec.memory == MemoryClass::Working {
            let reason = format!(
                "memory class {} is not built yet: use factual, episodic or profile",
                spec.memory.as_str()
            );
            self.error(format!("{field}.memory"), reason);
        }
        let location = self.location(field, spec)?;
        Some(Source {
            name: spec.name.clone(),
            memory: spec.memory,
            metadata: self.metadata(&format!("{field}.metadata"), spec),
            location,
        })
    }

    fn metadata(&mut self, field: &str, spec: &SourceSpec) -> BTreeMap<String, Declared> {
        if spec.memory == MemoryClass::Procedural && !spec.metadata.is_empty() {
            let reason = "metadata is what passages are filtered by, and a procedural source is not looked up: remove it";
            self.error(field, reason);
        }
        self.unique(field, spec.metadata.iter().map(|m| m.name.as_str()));
        let mut declared = BTreeMap::new();
        for (i, one) in spec.metadata.iter().enumerate() {
            if RESERVED.contains(&one.name.as_str()) {
                let reason = format!(
                    "\"{}\" means something else in filters: use another name",
                    one.name
                );
                self.error(format!("{field}[{i}].name"), reason);
            }
            match read(one) {
                Some(read) => _ = declared.insert(one.name.clone(), read),
                None => self.error(
                    format!("{field}[{i}]"),
                    "give exactly one of values, number",
                ),
            }
        }
        declared
    }

    fn location(&mut self, field: &str, spec: &SourceSpec) -> Option<Location> {
        let at = |rest: &str| format!("{field}.{rest}");
        let given = [
            spec.git.is_some(),
            spec.http.is_some(),
            spec.bucket.is_some(),
            spec.config_map.is_some(),
            spec.directory.is_some(),
            spec.push.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() != 1 {
            self.error(
                field,
                "give exactly one of git, http, bucket, configMap, directory, push",
            );
            return None;
        }
        if let Some(git) = &spec.git {
            return Some(self.git(&at("git"), git));
        }
        if let Some(http) = &spec.http {
            return Some(self.http(&at("http"), http));
        }
        if let Some(bucket) = &spec.bucket {
            let bucket = self.bucket(&at("bucket"), bucket)?;
            return Some(Location::Bucket(Box::new(bucket)));
        }
        if let Some(map) = &spec.config_map {
            return Some(Location::ConfigMap {
                name: map.name.clone(),
                paths: self.paths(&at("configMap"), &map.include, &[]),
            });
        }
        if let Some(push) = &spec.push {
            return Some(self.push(&at("push"), push));
        }
        let directory = spec.directory.as_ref()?;
        Some(Location::Directory {
            path: directory.path.clone(),
            paths: self.paths(&at("directory"), &directory.include, &directory.exclude),
        })
    }

    fn git(&mut self, field: &str, spec: &GitSource) -> Location {
        self.url(
            &format!("{field}.url"),
            &spec.url,
            &["https", "http", "file"],
        );
        let reference = match spec.reference.as_ref() {
            None => Reference::Default,
            Some(GitRef {
                branch: Some(branch),
                tag: None,
                commit: None,
            }) => Reference::Branch(branch.clone()),
            Some(GitRef {
                branch: None,
                tag: Some(tag),
                commit: None,
            }) => Reference::Tag(tag.clone()),
            Some(GitRef {
                branch: None,
                tag: None,
                commit: Some(commit),
            }) => {
                if commit.len() != 40 || !commit.bytes().all(|b| b.is_ascii_hexdigit()) {
                    self.error(
                        format!("{field}.ref.commit"),
                        format!("\"{commit}\" is not a commit: give its 40 hexadecimal digits"),
                    );
                }
                Reference::Commit(commit.clone())
            }
            Some(_) => {
                self.error(
                    format!("{field}.ref"),
                    "give exactly one of branch, tag, commit",
                );
                Reference::Default
            }
        };
        Location::Git {
            url: spec.url.clone(),
            reference,
            paths: self.paths(field, &spec.include, &spec.exclude),
            allow_private: spec.allow_private,
            secret: name(spec.secret_ref.as_ref()),
        }
    }

    fn http(&mut self, field: &str, spec: &HttpSource) -> Location {
        if spec.urls.is_empty() == spec.sitemap.is_none() {
            self.error(field, "give exactly one of urls, sitemap");
        }
        let urls = spec.urls.iter().enumerate();
        let urls = urls
            .filter_map(|(i, u)| self.url(&format!("{field}.urls[{i}]"), u, &["http", "https"]))
            .collect();
        Location::Http {
            urls,
            sitemap: spec
                .sitemap
                .as_ref()
                .map(|sitemap| Box::new(self.sitemap(&format!("{field}.sitemap"), sitemap))),
            allow_private: spec.allow_private,
            timeout: self.duration(
                &format!("{field}.timeout"),
                spec.timeout.as_ref(),
                HTTP_TIMEOUT,
            ),
            secret: name(spec.secret_ref.as_ref()),
        }
    }

    fn push(&mut self, field: &str, spec: &PushSource) -> Location {
        let mut count = |name: &str, value, most, default| {
            self.count(&format!("{field}.{name}"), value, 1..=most, default)
        };
        let (most, default) = PUSH_BYTES;
        Location::Push {
            max_document_bytes: count("maxDocumentBytes", spec.max_document_bytes, most, default),
            max_documents: count(
                "maxDocuments",
                spec.max_documents,
                PUSH_DOCUMENTS,
                PUSH_DOCUMENTS,
            ),
            max_pending: count("maxPending", spec.max_pending, PUSH_DOCUMENTS, PUSH_PENDING),
        }
    }

    pub(super) fn url(&mut self, field: &str, text: &str, schemes: &[&str]) -> Option<Url> {
        match Url::parse(text) {
            Ok(url) if schemes.contains(&url.scheme()) => Some(url),
            Ok(url) => {
                self.error(
                    field,
                    format!(
                        "scheme {} cannot be read: use {}",
                        url.scheme(),
                        schemes.join(", ")
                    ),
                );
                None
            }
            Err(error) => {
                self.error(field, format!("\"{text}\" is not a URL: {error}"));
                None
            }
        }
    }

    pub(super) fn paths(&mut self, field: &str, include: &[String], exclude: &[String]) -> Paths {
        for (list, globs) in [("include", include), ("exclude", exclude)] {
            for (index, glob) in globs.iter().enumerate() {
                if let Err(error) = GlobBuilder::new(glob).literal_separator(true).build() {
                    self.error(
                        format!("{field}.{list}[{index}]"),
                        format!("\"{glob}\" is not a glob: {}", error.kind()),
                    );
                }
            }
        }
        Paths {
            include: include.to_vec(),
            exclude: exclude.to_vec(),
        }
    }
}

fn read(field: &DeclaredField) -> Option<Declared> {
    match (field.values.as_slice(), field.number) {
        ([], number) => number.map(Declared::Number),
        (values, None) => Some(Declared::Values(values.to_vec())),
        (_, Some(_)) => None,
    }
}

pub(super) fn name(secret: Option<&LocalRef>) -> Option<String> {
    secret.map(|s| s.name.clone())
}
