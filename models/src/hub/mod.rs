//! Models from a hub that speaks the Hugging Face protocol.

mod part;
mod record;

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::TryStreamExt;
use hf_hub::repository::RepoTreeEntry;
use hf_hub::{HFClient, HFError, HFRepository, RepoTypeModel};
use loci_digest::Digest;
use url::Url;

use crate::{ModelError, ModelRef};
use part::{Part, is_packed, wanted};
use record::{Record, digest_of};

/// The hub used when none is configured.
const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// Where models are fetched from and kept.
#[derive(Clone)]
pub struct HubOptions {
    /// The cache, laid out as Hugging Face's own (`models--org--name/{blobs,snapshots,refs}`), so that one may be
    /// shared with other tools.
    pub cache: PathBuf,
    /// The hub's address; `None` for huggingface.co.
    pub endpoint: Option<Url>,
    /// A token for private and gated models. `None` leaves it to the hub client's own sources: `HF_TOKEN`,
    /// `HF_TOKEN_PATH` and the login of the Hugging Face tools.
    pub token: Option<String>,
}

impl fmt::Debug for HubOptions {
    /// Without the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("HubOptions");
        options
            .field("cache", &self.cache)
            .field("endpoint", &self.endpoint);
        options
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish()
    }
}

/// The directory with the model's files, fetching them where necessary; the file, where a reference names a .gguf one.
///
/// Of a hub's repository these are the configuration files, the tokenizer, the chat template and the weights: in
/// safetensors, or else in the one .gguf file. Each file is checked when it arrives: against its published SHA-256 if it is stored in LFS, as weights are, by its size
/// otherwise. The digests of all files are recorded,
/// and compared each time the model is fetched again; a damaged file is replaced. A revision that is a commit needs
/// no network once cached; a tag or branch is resolved each time, and while the hub cannot be reached the commit it
/// had last is used, with a warning.
///
/// # Errors
/// [`ModelError::MissingFile`] when there is no such directory; [`ModelError::Hub`] when the hub does not have the
/// model or cannot be reached; [`ModelError::Checksum`] when a file arrives other than published;
/// [`ModelError::Io`] when the cache cannot be written.
pub async fn fetch(model: &ModelRef, hub: &HubOptions) -> Result<PathBuf, ModelError> {
    fetch_part(model, hub, Part::Whole).await
}

/// The same with the tokenizer alone: a directory with `tokenizer.json`, and maybe more.
///
/// # Errors
/// As [`fetch`]; [`ModelError::Hub`] also when the repository has no such file.
pub async fn fetch_tokenizer(model: &ModelRef, hub: &HubOptions) -> Result<PathBuf, ModelError> {
    fetch_part(model, hub, Part::Tokenizer).await
}

async fn fetch_part(model: &ModelRef, hub: &HubOptions, part: Part) -> Result<PathBuf, ModelError> {
    match model {
        ModelRef::File(dir) => match fs::metadata(dir) {
            Ok(found) if found.is_dir() || is_packed(dir) => Ok(dir.clone()),
            Ok(_) => {
                let reason = "is a file; a model is a directory, or one .gguf file";
                Err(ModelError::config(dir, reason))
            }
            Err(e) => Err(ModelError::opening(dir, "the model's directory", e)),
        },
        ModelRef::Hub { repo, revision } => {
            let fetch = Fetch::new(model, repo, hub)?;
            fetch.run(revision, part).await
        }
    }
}

/// One model of a hub, being fetched.
struct Fetch {
    model: String,
    endpoint: String,
    repository: HFRepository<RepoTypeModel>,
    /// The model's folder in the cache.
    folder: PathBuf,
}

impl Fetch {
    fn new(model: &ModelRef, repo: &str, hub: &HubOptions) -> Result<Self, ModelError> {
        let endpoint = hub
            .endpoint
            .as_ref()
            .map_or(DEFAULT_ENDPOINT, Url::as_str)
            .to_owned();
        let failed = |e: &dyn std::error::Error| ModelError::Hub {
            model: model.to_string(),
            endpoint: endpoint.clone(),
            reason: e.to_string(),
        };
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(Duration::from_secs(60))
            .user_agent(concat!("loci/", env!("CARGO_PKG_VERSION")));
        let mut client = HFClient::builder()
            .client(http.build().map_err(|e| failed(&e))?)
            .endpoint(&endpoint)
            .cache_dir(&hub.cache)
            .retry_max_attempts(4);
        if let Some(token) = &hub.token {
            client = client.token(token);
        }
        let client = client.build().map_err(|e| failed(&e))?;
        let (owner, name) = hf_hub::split_id(repo);
        let folder = hub.cache.join(format!("models--{owner}--{name}"));
        Ok(Self {
            model: model.to_string(),
            repository: client.model(owner, name),
            folder,
            endpoint,
        })
    }

    async fn run(&self, revision: &str, part: Part) -> Result<PathBuf, ModelError> {
        let commit = self.resolve(revision).await?;
        let snapshot = self.folder.join("snapshots").join(&commit);
        let record = self.folder.join("loci").join(part.record(&commit));
        if let Some(known) = Record::read(&record)? {
            let dir = snapshot.clone();
            let damaged = blocking(move || Ok(known.damaged(&dir))).await?;
            if damaged.is_empty() {
                return Ok(snapshot);
            }
            for path in damaged {
                tracing::warn!(path = %path.display(), "a cached file of {} is damaged or gone: fetching it again", self.model);
                remove(&path)?;
            }
        }
        let mut fetched = Record::default();
        let files = part.of(self.list(&commit).await?);
        for (name, size) in files.map_err(|reason| self.failed(&reason))? {
            let digest = self.download(&name, size, &commit).await?;
            fetched.files.insert(name, digest);
        }
        fetched.write(&record)?;
        Ok(snapshot)
    }

    /// The commit that `revision` names.
    async fn resolve(&self, revision: &str) -> Result<String, ModelError> {
        if is_commit(revision) {
            return Ok(revision.to_owned());
        }
        let last = self.folder.join("loci/refs").join(revision);
        match self.repository.info().revision(revision).send().await {
            Ok(info) => {
                let commit = info.sha.filter(|sha| is_commit(sha));
                let commit = commit
                    .ok_or_else(|| self.failed("the hub names no commit for this revision"))?;
                remember(&last, &commit).map_err(|e| ModelError::io(&last, e))?;
                Ok(commit)
            }
            Err(e) => {
                let known = fs::read_to_string(&last)
                    .ok()
                    .filter(|commit| is_commit(commit));
                let known = known.filter(|_| matches!(e, HFError::Request { .. }));
                let commit = known.ok_or_else(|| self.failed(&e.to_string()))?;
                tracing::warn!(
                    "{} cannot be reached ({e}): {} stays at commit {commit}",
                    self.endpoint,
                    self.model
                );
                Ok(commit)
            }
        }
    }

    /// The repository's files that a model is loaded from, with their sizes in bytes.
    async fn list(&self, commit: &str) -> Result<Vec<(String, u64)>, ModelError> {
        let failed = |e: HFError| self.failed(&e.to_string());
        let request = self.repository.list_tree().revision(commit).recursive(true);
        let tree = request.send().map_err(failed)?;
        let entries: Vec<RepoTreeEntry> = tree.try_collect().await.map_err(failed)?;
        let files = entries.into_iter().filter_map(|entry| match entry {
            RepoTreeEntry::File { path, size, .. } => Some((path, size)),
            RepoTreeEntry::Directory { .. } => None,
        });
        wanted(files.collect()).map_err(|reason| self.failed(&reason))
    }

    /// Downloads a file into the cache unless it is there, checks it and gives its digest.
    async fn download(&self, name: &str, size: u64, commit: &str) -> Result<Digest, ModelError> {
        let request = self
            .repository
            .download_file()
            .filename(name)
            .revision(commit);
        let path = request
            .send()
            .await
            .map_err(|e| self.failed(&format!("{name}: {e}")))?;
        // The client keeps the body of an error answer as if it were the file.
        let length = fs::metadata(&path)
            .map_err(|e| ModelError::io(&path, e))?
            .len();
        if length != size {
            remove(&path)?;
            let reason = format!("{name} arrived with {length} bytes, the hub lists {size}");
            return Err(self.failed(&reason));
        }
        blocking(move || {
            let digest = digest_of(&path)?;
            match published_digest(&path) {
                Some(expected) if expected != digest.to_hex() => {
                    remove(&path)?;
                    Err(ModelError::Checksum {
                        path,
                        expected,
                        got: digest.to_hex(),
                    })
                }
                _ => Ok(digest),
            }
        })
        .await
    }

    fn failed(&self, reason: &str) -> ModelError {
        ModelError::Hub {
            model: self.model.clone(),
            endpoint: self.endpoint.clone(),
            reason: reason.to_owned(),
        }
    }
}

/// The published SHA-256 of a cached file: the cache keeps content under its entity tag, which for files in LFS is
/// their SHA-256 and for others their git object id.
fn published_digest(path: &Path) -> Option<String> {
    let blob = fs::read_link(path).ok()?;
    let tag = blob.file_name()?.to_str()?;
    let sha256 = tag.len() == 64 && tag.bytes().all(|b| b.is_ascii_hexdigit());
    sha256.then(|| tag.to_ascii_lowercase())
}

/// Notes the commit that a tag or branch named last.
fn remember(last: &Path, commit: &str) -> io::Result<()> {
    fs::create_dir_all(last.parent().unwrap_or(Path::new(".")))?;
    fs::write(last, commit)
}

/// Removes a cached file: the link in the snapshot and the content it leads to.
fn remove(path: &Path) -> Result<(), ModelError> {
    let content = fs::canonicalize(path).ok();
    for path in content.iter().map(PathBuf::as_path).chain([path]) {
        match fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(ModelError::io(path, e));
            }
            _ => {}
        }
    }
    Ok(())
}

fn is_commit(revision: &str) -> bool {
    revision.len() == 40 && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Runs file work away from the threads that serve connections.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ModelError> + Send + 'static,
) -> Result<T, ModelError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(e) => Err(ModelError::Compute(e.to_string())),
    }
}
