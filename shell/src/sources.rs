//! The sources of the declared pipelines, with paths made absolute and credentials looked up.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result};
use async_trait::async_trait;
use loci_plan::spec::{Bucket, Location, Paths, Provider, Reference, Sitemap, Source};
use loci_plan::{FieldError, Pipeline};
use loci_push::PushLog;
use loci_worker::source::{
    BucketProvider, BucketSpec, ConfigMapSpec, DirectorySpec, GitCredentials, GitRef, GitSpec,
    HttpCredentials, HttpSpec, Limits, PushSpec, S3Credentials, Secret, SitemapSpec, SourceKind,
    SourceSpec,
};
use loci_worker::step::{Missing, SourceInput, SourceProvider, StepError};

use crate::items::{namespace, sources};

/// The keys of Secrets that sources may be read with.
pub const SECRET_KEYS: [&str; 9] = [
    "username",
    "password",
    "token",
    "accessKeyId",
    "secretAccessKey",
    "sessionToken",
    "serviceAccount",
    "accountKey",
    "sasToken",
];

/// What a ConfigMap holds, by key.
#[derive(Clone, Debug, Default)]
pub struct Data {
    /// Text.
    pub text: BTreeMap<String, String>,
    /// Bytes; no key is in `text` as well.
    pub binary: BTreeMap<String, Vec<u8>>,
}

/// ConfigMaps and Secrets, by namespace and name.
pub trait Objects {
    /// A ConfigMap's data and binary data.
    fn config_map(&self, namespace: &str, name: &str) -> Option<Data>;
    /// A Secret's data; values are never printed.
    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>>;
    /// The documents of a push source of the pipeline; none where nobody takes any.
    fn pushed(&self, _source: &str) -> Option<PushLog> {
        None
    }
    /// Where an object that is missing would have to be: "in the given files", "in the namespace".
    fn place(&self) -> &'static str;
}

type ByPipeline = HashMap<String, Vec<SourceSpec>>;

/// Opened sources by pipeline (`namespace/name`).
#[derive(Clone, Default)]
pub struct Sources(Arc<RwLock<ByPipeline>>);

impl Sources {
    /// Sets the sources of a pipeline.
    pub fn set(&self, pipeline: String, sources: Vec<SourceSpec>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(pipeline, sources);
    }

    /// Forgets a pipeline.
    pub fn forget(&self, pipeline: &str) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(pipeline);
    }
}

#[async_trait]
impl SourceProvider for Sources {
    async fn open(&self, pipeline: &str, input: &SourceInput) -> Result<SourceSpec, StepError> {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut of = all.get(pipeline).into_iter().flatten();
        let found = of.find(|spec| spec.name == input.source.name).cloned();
        found.ok_or_else(|| StepError::UnknownPipeline(pipeline.to_owned()))
    }
}

/// All sources of a pipeline, opened. Relative paths start at `base`.
///
/// # Errors
/// Each field that names something that is not there.
pub fn resolve(
    pipeline: &Pipeline,
    objects: &dyn Objects,
    base: &Path,
    git_cache: &Path,
) -> Result<Vec<SourceSpec>, Vec<FieldError>> {
    let resolver = Resolver {
        objects,
        namespace: namespace(pipeline),
        base,
        git_cache,
    };
    let (mut specs, mut errors) = (Vec::new(), Vec::new());
    for input in sources(pipeline) {
        match resolver.open(&input) {
            Ok(spec) => specs.push(spec),
            Err(missing) => errors.push(missing.error),
        }
    }
    if errors.is_empty() {
        Ok(specs)
    } else {
        Err(errors)
    }
}

/// Opens sources as they are declared.
pub struct Resolver<'a> {
    /// The objects that they name.
    pub objects: &'a dyn Objects,
    /// Their namespace.
    pub namespace: &'a str,
    /// Where relative paths start.
    pub base: &'a Path,
    /// Where repositories are cached.
    pub git_cache: &'a Path,
}

type Found<T> = Result<T, Missing>;

impl Resolver<'_> {
    /// A source with its credentials.
    ///
    /// # Errors
    /// When something that it names is not there.
    pub fn open(&self, input: &SourceInput) -> Found<SourceSpec> {
        Ok(SourceSpec {
            name: input.source.name.clone(),
            kind: self.kind(&input.field, &input.source)?,
            limits: Limits::default(),
        })
    }

    fn kind(&self, at: &str, source: &Source) -> Found<SourceKind> {
        Ok(match &source.location {
            Location::Directory { path, paths } => {
                SourceKind::Directory(self.directory(at, path, paths)?)
            }
            Location::ConfigMap { name, paths } => {
                SourceKind::ConfigMap(self.config_map(at, name, paths)?)
            }
            Location::Push { .. } => {
                let log = self.objects.pushed(&source.name).ok_or_else(|| {
                    let reason = "nobody takes documents here: push sources are for loci up";
                    missing("InvalidSource", &format!("{at}.push"), reason.to_owned())
                })?;
                SourceKind::Push(PushSpec { log })
            }
            Location::Http {
                urls,
                sitemap,
                allow_private,
                timeout,
                secret,
            } => {
                let field = format!("{at}.http.secretRef");
                let token = secret.as_deref().map(|s| self.secret(&field, s, "token"));
                SourceKind::Http(HttpSpec {
                    urls: texts(urls),
                    sitemap: sitemap.as_deref().map(sitemap_spec),
                    credentials: HttpCredentials {
                        bearer: token.transpose()?,
                        ..HttpCredentials::default()
                    },
                    allow_private: *allow_private,
                    timeout: *timeout,
                })
            }
            Location::Bucket(bucket) => {
                SourceKind::Bucket(self.bucket(&format!("{at}.bucket.secretRef"), bucket)?)
            }
            Location::Git {
                url,
                reference,
                paths,
                allow_private,
                secret,
            } => {
                let field = format!("{at}.git.secretRef");
                let credentials = secret.as_deref().map(|s| self.git_credentials(&field, s));
                SourceKind::Git(GitSpec {
                    url: self.git_url(at, url)?,
                    reference: git_ref(reference),
                    include: paths.include.clone(),
                    exclude: paths.exclude.clone(),
                    credentials: credentials.transpose()?,
                    allow_private: *allow_private,
                    cache: self.git_cache.to_owned(),
                })
            }
        })
    }

    fn directory(&self, at: &str, path: &str, paths: &Paths) -> Found<DirectorySpec> {
        let path = self.base.join(path);
        let path = std::fs::canonicalize(&path).map_err(|e| {
            let reason = format!("cannot open the directory {}: {e}", path.display());
            missing("MissingDirectory", &format!("{at}.directory.path"), reason)
        })?;
        Ok(DirectorySpec {
            path,
            include: paths.include.clone(),
            exclude: paths.exclude.clone(),
        })
    }

    fn config_map(&self, at: &str, name: &str, paths: &Paths) -> Found<ConfigMapSpec> {
        let found = self.objects.config_map(self.namespace, name);
        let found = found.ok_or_else(|| {
            let place = self.objects.place();
            let reason = format!("there is no ConfigMap {name} {place}: add it");
            missing("MissingConfigMap", &format!("{at}.configMap"), reason)
        })?;
        Ok(ConfigMapSpec {
            name: name.to_owned(),
            data: found.text,
            binary_data: found.binary,
            include: paths.include.clone(),
        })
    }

    fn bucket(&self, field: &str, bucket: &Bucket) -> Found<BucketSpec> {
        let name = bucket.secret.as_deref();
        let of = |key: &str| name.map(|name| self.secret(field, name, key)).transpose();
        let either = |key: &'static str| name.filter(|name| self.has(name, key)).and(Some(key));
        let provider = match &bucket.provider {
            Provider::S3 { region } => BucketProvider::S3 {
                region: region.clone(),
                credentials: match (of("accessKeyId")?, of("secretAccessKey")?) {
                    (Some(access_key_id), Some(secret_access_key)) => Some(S3Credentials {
                        access_key_id,
                        secret_access_key,
                        session_token: either("sessionToken").map_or(Ok(None), of)?,
                    }),
                    _ => None,
                },
            },
            Provider::Gcs => BucketProvider::Gcs {
                service_account: of("serviceAccount")?,
            },
            Provider::Azure { account } => {
                let sas_token = either("sasToken").map_or(Ok(None), of)?;
                BucketProvider::Azure {
                    account: account.clone(),
                    account_key: match sas_token {
                        Some(_) => None,
                        None => of("accountKey")?,
                    },
                    sas_token,
                }
            }
        };
        Ok(BucketSpec {
            provider,
            bucket: bucket.name.clone(),
            prefix: bucket.prefix.clone(),
            endpoint: bucket.endpoint.clone(),
            include: bucket.paths.include.clone(),
            exclude: bucket.paths.exclude.clone(),
            max_objects: bucket.max_objects,
            max_object_bytes: bucket.max_object_bytes,
            allow_private: bucket.allow_private,
            timeout: bucket.timeout,
            secret: bucket.secret.clone(),
        })
    }

    fn has(&self, secret: &str, key: &str) -> bool {
        let found = self.objects.secret(self.namespace, secret);
        found.is_some_and(|secret| secret.contains_key(key))
    }

    fn git_url(&self, at: &str, url: &str) -> Found<String> {
        let Some(path) = url.strip_prefix("file://") else {
            return Ok(url.to_owned());
        };
        let path = absolute(self.base, path);
        let path =
            path.map_err(|e| missing("InvalidSource", &format!("{at}.git.url"), format!("{e:#}")))?;
        Ok(format!("file://{}", path.display()))
    }

    fn git_credentials(&self, field: &str, name: &str) -> Found<GitCredentials> {
        let secret = self.objects.secret(self.namespace, name);
        let username = match secret.as_ref().and_then(|s| s.get("username")) {
            Some(bytes) => String::from_utf8_lossy(bytes).trim().to_owned(),
            None => "git".to_owned(),
        };
        Ok(GitCredentials {
            username,
            password: self.secret(field, name, "password")?,
        })
    }

    fn secret(&self, field: &str, name: &str, key: &str) -> Found<Secret> {
        let lacks = |reason: String| missing("MissingSecret", field, reason);
        let found = self.objects.secret(self.namespace, name).ok_or_else(|| {
            let place = self.objects.place();
            lacks(format!("there is no Secret {name} {place}: add it"))
        })?;
        let value = found.get(key);
        let value =
            value.ok_or_else(|| lacks(format!("the Secret {name} has no key {key}: add it")))?;
        let text = std::str::from_utf8(value);
        let text =
            text.map_err(|_| lacks(format!("{key} of the Secret {name} is not UTF-8 text")))?;
        Ok(Secret::new(text.trim()))
    }
}

fn texts(urls: &[impl ToString]) -> Vec<String> {
    urls.iter().map(ToString::to_string).collect()
}

fn sitemap_spec(sitemap: &Sitemap) -> SitemapSpec {
    SitemapSpec {
        urls: texts(&sitemap.urls),
        include: sitemap.paths.include.clone(),
        exclude: sitemap.paths.exclude.clone(),
        hosts: sitemap.hosts.clone(),
        max_pages: sitemap.max_pages,
        pause: sitemap.pause,
        revisit: sitemap.revisit,
    }
}

fn missing(reason: &'static str, field: &str, text: String) -> Missing {
    Missing {
        reason,
        error: FieldError {
            field: field.to_owned(),
            reason: text,
        },
    }
}

fn git_ref(reference: &Reference) -> GitRef {
    match reference {
        Reference::Default => GitRef::Default,
        Reference::Branch(name) => GitRef::Branch(name.clone()),
        Reference::Tag(name) => GitRef::Tag(name.clone()),
        Reference::Commit(id) => GitRef::Commit(id.clone()),
    }
}

/// A path of a manifest: relative to `base`, which must exist.
pub fn absolute(base: &Path, path: &str) -> Result<PathBuf> {
    let path = base.join(path);
    std::path::absolute(&path).with_context(|| format!("cannot make {} absolute", path.display()))
}

/// The embedder's reference with a `file://` path made absolute.
pub fn model(reference: &str, base: &Path) -> Result<String> {
    match reference.strip_prefix("file://") {
        Some(path) => Ok(format!("file://{}", absolute(base, path)?.display())),
        None => Ok(reference.to_owned()),
    }
}

#[cfg(test)]
mod tests;
