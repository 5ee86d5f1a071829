//! What is fetched from an operator: revisions and adapters, file by file, what is here already not again, verified by
//! digest. A download that breaks off goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use loci_store::{FileEntry, Store, Tree};
use loci_worker::step::{AdapterManifest, RevisionManifest};
use reqwest::StatusCode;
use reqwest::header::{HeaderValue, LOCATION, RANGE};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::artifacts::IDLE;
use crate::lock;

/// Files fetched at once.
const PARALLEL: usize = 4;
/// The longest silence of the server.
const SILENCE: Duration = Duration::from_secs(30);
/// Files that nothing needs are kept this long: the next revision may share them.
const GRACE: Duration = Duration::from_secs(600);

/// Where something is to be had.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    /// The digest of its manifest.
    pub digest: &'a Digest,
    /// Where the operator gives it out.
    pub url: &'a str,
    /// Lets in who asks there.
    pub key: &'a str,
}

/// What is kept here of something that was fetched with its files.
pub trait Kept: Serialize + DeserializeOwned + Send + Sync {
    /// The body of its manifest.
    type Manifest: DeserializeOwned;
    /// Manifests of this kind keep the files.
    const KIND: &'static str;
    /// What is kept of the manifest.
    fn of(manifest: Self::Manifest) -> Self;
    /// Its files.
    fn files(&self) -> &Tree;
}

/// Of a revision, nothing but its files.
impl Kept for Tree {
    type Manifest = RevisionManifest;
    const KIND: &'static str = "replica";

    fn of(manifest: RevisionManifest) -> Self {
        manifest.tree
    }

    fn files(&self) -> &Tree {
        self
    }
}

impl Kept for AdapterManifest {
    type Manifest = Self;
    const KIND: &'static str = "replica-adapter";

    fn of(manifest: Self) -> Self {
        manifest
    }

    fn files(&self) -> &Tree {
        &self.tree
    }
}

/// What was fetched, on disk. Cheap to clone.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    store: Store,
    root: PathBuf,
    http: reqwest::Client,
    /// What keeps the files of each.
    roots: Mutex<BTreeMap<Digest, Digest>>,
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

/// While it lives, the files do.
pub struct Held {
    digest: Digest,
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

#[derive(Deserialize)]
struct Envelope<T> {
    body: T,
}

impl Cache {
    /// Over a store of its own, and a directory for what is unpacked.
    pub fn new(store: Store, root: PathBuf) -> Result<Self> {
        let connect = Duration::from_secs(5);
        let http = reqwest::Client::builder()
            .connect_timeout(connect)
            .read_timeout(SILENCE)
            .pool_idle_timeout(IDLE)
            // Followed by hand: the key is for the operator alone.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        std::fs::create_dir_all(&root)
            .with_context(|| format!("cannot create {}", root.display()))?;
        Ok(Self(Arc::new(Inner {
            store,
            root,
            http,
            roots: Mutex::default(),
            held: Arc::default(),
        })))
    }

    /// What is here of something.
    pub async fn here<K: Kept>(&self, digest: &Digest) -> Result<Option<K>> {
        Ok(match self.0.store.lookup(digest).await? {
            Some(root) => Some(self.0.store.get_manifest(K::KIND, &root).await?),
            None => None,
        })
    }

    /// What there is to know of something, without its files.
    pub async fn find<K: Kept>(&self, place: Place<'_>) -> Result<K> {
        // Fetched before: nobody has to be asked.
        match self.here(place.digest).await? {
            Some(kept) => Ok(kept),
            None => Ok(K::of(self.manifest(place).await?)),
        }
    }

    /// How many bytes of these files are here.
    pub async fn fetched(&self, tree: &Tree) -> Result<u64> {
        let mut bytes = 0;
        for entry in tree.values() {
            if self.0.store.contains(&entry.digest).await? {
                bytes += entry.size;
            }
        }
        Ok(bytes)
    }

    /// The directory with its files, fetched if they are not there.
    pub async fn directory<K: Kept>(&self, place: Place<'_>, kept: &K) -> Result<PathBuf> {
        let path = self.path(place.digest);
        let root = match self.0.store.lookup(place.digest).await? {
            Some(root) => root,
            None => {
                let root = self.fetch_all(place, kept).await?;
                self.0.store.record(place.digest, &root).await?
            }
        };
        lock(&self.0.roots).insert(*place.digest, root);
        self.0.store.materialise_tree(kept.files(), &path).await?;
        Ok(path)
    }

    async fn fetch_all<K: Kept>(&self, place: Place<'_>, kept: &K) -> Result<Digest> {
        let files = kept.files().values().copied();
        let missing = stream::iter(files.map(|entry| self.fetch(place, entry)));
        let missing = missing.buffer_unordered(PARALLEL);
        missing.try_collect::<Vec<()>>().await?;
        let files: Vec<Digest> = kept.files().values().map(|entry| entry.digest).collect();
        Ok(self.0.store.put_manifest(K::KIND, &files, kept).await?)
    }

    async fn manifest<T: DeserializeOwned>(&self, place: Place<'_>) -> Result<T> {
        let answer = self.get(place.url, place.key, 0).await?;
        let bytes = answer.bytes().await.context("the manifest")?;
        let found = Digest::of(&bytes);
        ensure!(
            found == *place.digest,
            "{} answered with {found}, which is something else",
            place.url
        );
        let envelope: Envelope<T> = serde_json::from_slice(&bytes).context("the manifest")?;
        Ok(envelope.body)
    }

    async fn fetch(&self, place: Place<'_>, entry: FileEntry) -> Result<()> {
        if self.0.store.contains(&entry.digest).await? {
            return Ok(());
        }
        let url = format!("{}/files/{}", place.url, entry.digest);
        let file = tempfile::NamedTempFile::new_in(&self.0.root)?;
        let mut out = tokio::fs::File::from_std(file.reopen()?);
        let mut have = 0;
        loop {
            let before = have;
            match self.download(&url, place.key, &mut out, &mut have).await {
                Ok(()) => break,
                Err(error) if have > before => {
                    tracing::debug!(have, "a download broke off and goes on: {error:#}");
                }
                Err(error) => return Err(error),
            }
        }
        out.flush().await?;
        let found = self.0.store.put_file(file.path()).await?;
        ensure!(found == entry.digest, "{url} answered with {found}");
        Ok(())
    }

    /// Downloads what comes after the first `have` bytes, as far as it comes.
    async fn download(
        &self,
        url: &str,
        key: &str,
        out: &mut tokio::fs::File,
        have: &mut u64,
    ) -> Result<()> {
        let answer = self.get(url, key, *have).await?;
        if *have > 0 && answer.status() != StatusCode::PARTIAL_CONTENT {
            // It starts anew.
            out.set_len(0).await?;
            out.rewind().await?;
            *have = 0;
        }
        let mut chunks = answer.bytes_stream();
        while let Some(chunk) = chunks.try_next().await.with_context(|| url.to_owned())? {
            out.write_all(&chunk).await?;
            *have += chunk.len() as u64;
        }
        Ok(())
    }

    /// What the operator answers, or who it sends on to: that one gets no key.
    async fn get(&self, url: &str, key: &str, from: u64) -> Result<reqwest::Response> {
        let asked = self.0.http.get(url).bearer_auth(key);
        let mut answer = send(asked, from, url).await?;
        if answer.status() == StatusCode::TEMPORARY_REDIRECT {
            let to = answer.headers().get(LOCATION).map(HeaderValue::to_str);
            let to = answer.url().join(to.context("a redirect to nowhere")??)?;
            // Without its query, which lets in who has it.
            let place = format!("{}{}", to.authority(), to.path());
            answer = send(self.0.http.get(to), from, &place).await?;
        }
        Ok(answer)
    }

    /// Keeps the files while the answer lives.
    pub fn hold(&self, digest: Digest) -> Held {
        *lock(&self.0.held).entry(digest).or_default() += 1;
        Held {
            digest,
            held: self.0.held.clone(),
        }
    }

    /// Deletes all but what is to be kept or held.
    pub async fn sweep(&self, mut keep: BTreeSet<Digest>) -> Result<()> {
        keep.extend(lock(&self.0.held).keys().copied());
        let paths: Vec<PathBuf> = keep.iter().map(|digest| self.path(digest)).collect();
        let root = self.0.root.clone();
        // Deleting large files takes long, and queries are answered by the threads that would wait for it.
        tokio::task::spawn_blocking(move || delete_others(&root, &paths)).await??;
        let roots: Vec<Digest> = {
            let mut roots = lock(&self.0.roots);
            roots.retain(|digest, _| keep.contains(digest));
            roots.values().copied().collect()
        };
        self.0.store.gc(&roots, GRACE).await?;
        Ok(())
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.0.root.join(digest.to_hex())
    }
}

fn delete_others(root: &Path, keep: &[PathBuf]) -> std::io::Result<()> {
    for entry in std::fs::read_dir(root)? {
        let path = entry?.path();
        if path.is_dir() && !keep.contains(&path) {
            std::fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

async fn send(asked: reqwest::RequestBuilder, from: u64, url: &str) -> Result<reqwest::Response> {
    let asked = match from {
        0 => asked,
        from => asked.header(RANGE, format!("bytes={from}-")),
    };
    let answer = asked.send().await.map_err(reqwest::Error::without_url);
    let answer = answer.with_context(|| format!("{url} does not answer"))?;
    let code = answer.status();
    if !code.is_success() && code != StatusCode::TEMPORARY_REDIRECT {
        let why = answer.text().await.unwrap_or_default();
        let why: String = why.chars().take(300).collect();
        bail!("{url} answered {code}: {why}");
    }
    Ok(answer)
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut held = lock(&self.held);
        if let Some(count) = held.get_mut(&self.digest) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.digest);
            }
        }
    }
}
