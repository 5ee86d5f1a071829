//! The sources of the declared pipelines, with paths made absolute and credentials looked up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use async_trait::async_trait;
use loci_manifest::Manifests;
use loci_plan::Pipeline;
use loci_plan::spec::{Location, Paths, Reference, Source};
use loci_worker::source::{
    ConfigMapSpec, DirectorySpec, GitCredentials, GitRef, GitSpec, HttpCredentials, HttpSpec,
    Limits, Secret, SourceKind, SourceSpec,
};
use loci_worker::step::{SourceProvider, StepError};

/// Sources by pipeline (`namespace/name`), each with its memory class.
#[derive(Clone, Default)]
pub struct Sources(Arc<HashMap<String, Vec<(SourceSpec, String)>>>);

impl Sources {
    /// From all pipelines.
    pub fn new(pipelines: impl IntoIterator<Item = (String, Vec<(SourceSpec, String)>)>) -> Self {
        Self(Arc::new(pipelines.into_iter().collect()))
    }

    /// All sources of a pipeline.
    pub fn of(&self, pipeline: &str) -> impl Iterator<Item = &SourceSpec> {
        self.0
            .get(pipeline)
            .into_iter()
            .flatten()
            .map(|(spec, _)| spec)
    }

    /// One source.
    pub fn one(&self, pipeline: &str, source: &str) -> Option<&SourceSpec> {
        self.of(pipeline).find(|s| s.name == source)
    }
}

#[async_trait]
impl SourceProvider for Sources {
    async fn sources(&self, pipeline: &str) -> Result<Vec<(SourceSpec, String)>, StepError> {
        self.0
            .get(pipeline)
            .cloned()
            .ok_or_else(|| StepError::UnknownPipeline(pipeline.to_owned()))
    }
}

/// The worker's form of a pipeline's sources. Relative paths start at `base`.
pub fn resolve(
    pipeline: &Pipeline,
    manifests: &Manifests,
    base: &Path,
    git_cache: &Path,
) -> Result<Vec<(SourceSpec, String)>> {
    let namespace = pipeline.namespace.as_deref().unwrap_or("default");
    let resolver = Resolver {
        manifests,
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
    manifests: &'a Manifests,
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
                let Some(found) = self.manifests.config_map(self.namespace, name) else {
                    bail!("there is no ConfigMap {name} in the given files: add its document");
                };
                SourceKind::ConfigMap(ConfigMapSpec {
                    name: name.clone(),
                    data: found.object.data.clone(),
                    binary_data: found.object.binary_data.clone(),
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
        let username = match self
            .manifests
            .secret(self.namespace, name)
            .and_then(|s| s.object.get("username"))
        {
            Some(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            None => "git".to_owned(),
        };
        Ok(GitCredentials {
            username,
            password: self.secret(name, "password")?,
        })
    }

    fn secret(&self, name: &str, key: &str) -> Result<Secret> {
        let Some(found) = self.manifests.secret(self.namespace, name) else {
            bail!("there is no Secret {name} in the given files: add its document");
        };
        let Some(value) = found.object.get(key) else {
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
