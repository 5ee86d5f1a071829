//! The sources of the declared pipelines, with paths made absolute and credentials looked up.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use loci_plan::Pipeline;
use loci_plan::spec::{Location, Paths, Reference, Source};
use loci_worker::source::{
    ConfigMapSpec, DirectorySpec, GitCredentials, GitRef, GitSpec, HttpCredentials, HttpSpec,
    Limits, Secret, SourceKind, SourceSpec,
};
use loci_worker::step::{SourceProvider, StepError};

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
    /// Where an object that is missing would have to be: "in the given files", "in the namespace".
    fn place(&self) -> &'static str;
}

type ByPipeline = HashMap<String, Vec<(SourceSpec, String)>>;

/// Sources by pipeline (`namespace/name`), each with its memory class.
#[derive(Clone, Default)]
pub struct Sources(Arc<RwLock<ByPipeline>>);

impl Sources {
    /// Sets the sources of a pipeline.
    pub fn set(&self, pipeline: String, sources: Vec<(SourceSpec, String)>) {
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

    /// All sources of a pipeline.
    pub fn of(&self, pipeline: &str) -> Option<Vec<(SourceSpec, String)>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(pipeline)
            .cloned()
    }

    /// One source.
    pub fn one(&self, pipeline: &str, source: &str) -> Option<SourceSpec> {
        let all = self.of(pipeline).unwrap_or_default().into_iter();
        all.map(|(spec, _)| spec).find(|s| s.name == source)
    }
}

#[async_trait]
impl SourceProvider for Sources {
    async fn sources(&self, pipeline: &str) -> Result<Vec<(SourceSpec, String)>, StepError> {
        self.of(pipeline)
            .ok_or_else(|| StepError::UnknownPipeline(pipeline.to_owned()))
    }
}

/// The worker's form of a pipeline's sources. Relative paths start at `base`.
pub fn resolve(
    pipeline: &Pipeline,
    objects: &dyn Objects,
    base: &Path,
    git_cache: &Path,
) -> Result<Vec<(SourceSpec, String)>> {
    let namespace = pipeline.namespace.as_deref().unwrap_or("default");
    let resolver = Resolver {
        objects,
        namespace,
        base,
        git_cache,
    };
    pipeline
        .sources
        .iter()
        .map(|source| {
            let kind = resolver
                .kind(source)
                .with_context(|| format!("source {}", source.name))?;
            let spec = SourceSpec {
                name: source.name.clone(),
                kind,
                limits: Limits::default(),
            };
            Ok((spec, source.memory.as_str().to_owned()))
        })
        .collect()
}

struct Resolver<'a> {
    objects: &'a dyn Objects,
    namespace: &'a str,
    base: &'a Path,
    git_cache: &'a Path,
}

impl Resolver<'_> {
    fn kind(&self, source: &Source) -> Result<SourceKind> {
        Ok(match &source.location {
            Location::Directory { path, paths } => {
                SourceKind::Directory(self.directory(path, paths)?)
            }
            Location::ConfigMap { name, paths } => {
                let found = self.objects.config_map(self.namespace, name);
                let Some(found) = found else {
                    bail!(
                        "there is no ConfigMap {name} {}: add it",
                        self.objects.place()
                    );
                };
                SourceKind::ConfigMap(ConfigMapSpec {
                    name: name.clone(),
                    data: found.text,
                    binary_data: found.binary,
                    include: paths.include.clone(),
                })
            }
            Location::Http {
                urls,
                allow_private,
                timeout,
                secret,
            } => SourceKind::Http(HttpSpec {
                urls: urls.iter().map(ToString::to_string).collect(),
                credentials: HttpCredentials {
                    bearer: secret
                        .as_deref()
                        .map(|s| self.secret(s, "token"))
                        .transpose()?,
                    ..HttpCredentials::default()
                },
                allow_private: *allow_private,
                timeout: *timeout,
            }),
            Location::Git {
                url,
                reference,
                paths,
                secret,
            } => SourceKind::Git(GitSpec {
                url: self.git_url(url)?,
                reference: git_ref(reference),
                include: paths.include.clone(),
                exclude: paths.exclude.clone(),
                credentials: secret
                    .as_deref()
                    .map(|s| self.git_credentials(s))
                    .transpose()?,
                allow_private: true,
                cache: self.git_cache.to_owned(),
            }),
        })
    }

    fn directory(&self, path: &str, paths: &Paths) -> Result<DirectorySpec> {
        let path = self.base.join(path);
        let path = std::fs::canonicalize(&path).with_context(|| {
            format!(
                "cannot open the directory {}: correct directory.path",
                path.display()
            )
        })?;
        Ok(DirectorySpec {
            path,
            include: paths.include.clone(),
            exclude: paths.exclude.clone(),
        })
    }

    fn git_url(&self, url: &str) -> Result<String> {
        match url.strip_prefix("file://") {
            Some(path) => Ok(format!("file://{}", absolute(self.base, path)?.display())),
            None => Ok(url.to_owned()),
        }
    }

    fn git_credentials(&self, name: &str) -> Result<GitCredentials> {
        let secret = self.objects.secret(self.namespace, name);
        let username = match secret.as_ref().and_then(|s| s.get("username")) {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "git".to_owned(),
        };
        Ok(GitCredentials {
            username,
            password: self.secret(name, "password")?,
        })
    }

    fn secret(&self, name: &str, key: &str) -> Result<Secret> {
        let Some(found) = self.objects.secret(self.namespace, name) else {
            bail!("there is no Secret {name} {}: add it", self.objects.place());
        };
        let Some(value) = found.get(key) else {
            bail!("the Secret {name} has no key {key}: add it");
        };
        let Ok(text) = std::str::from_utf8(value) else {
            bail!("{key} of the Secret {name} is not UTF-8 text");
        };
        Ok(Secret::new(text.trim()))
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
