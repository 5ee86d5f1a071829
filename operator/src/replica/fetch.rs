//! The revisions that a replica has: fetched file by file, what it has already not again, verified by digest. A download
//! that breaks off goes on where it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use loci_store::{FileEntry, Store, Tree};
use loci_worker::step::RevisionManifest;
use reqwest::StatusCode;
use reqwest::header::{HeaderValue, LOCATION, RANGE};
use serde::Deserialize;
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use crate::artifacts::IDLE;
use crate::fleet::Wanted;
use crate::lock;

/// Files fetched at once.
const PARALLEL: usize = 4;
/// The longest silence of the server.
const SILENCE: Duration = Duration::from_secs(30);
/// Files that no revision needs are kept this long: the next revision may share them.
const GRACE: Duration = Duration::from_secs(600);
/// Manifests of this kind keep a revision's files.
const KIND: &str = "replica";

/// Revisions on disk. Cheap to clone.
#[derive(Clone)]
pub struct Cache(Arc<Inner>);

struct Inner {
    store: Store,
    root: PathBuf,
    http: reqwest::Client,
    /// What keeps the files of each revision.
    roots: Mutex<BTreeMap<Digest, Digest>>,
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

/// While it lives, the revision's files do.
pub struct Held {
    revision: Digest,
    held: Arc<Mutex<BTreeMap<Digest, usize>>>,
}

#[derive(Deserialize)]
struct Envelope {
    body: RevisionManifest,
}

impl Cache {
    /// Over a store of its own, and a directory of unpacked revisions.
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

    /// The files of a revision that is here.
    pub async fn here(&self, revision: &Digest) -> Result<Option<Tree>> {
        Ok(match self.0.store.lookup(revision).await? {
            Some(root) => Some(self.0.store.get_manifest(KIND, &root).await?),
            None => None,
        })
    }

    /// The files of a revision.
    pub async fn tree(&self, wanted: &Wanted) -> Result<Tree> {
        // Fetched before: nobody has to be asked.
        match self.here(&wanted.revision).await? {
            Some(tree) => Ok(tree),
            None => Ok(self.manifest(wanted).await?.tree),
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

    /// The directory of a revision with these files, fetched if they are not there.
    pub async fn directory(&self, wanted: &Wanted, tree: &Tree) -> Result<PathBuf> {
        let (revision, path) = (&wanted.revision, self.path(&wanted.revision));
        let root = match self.0.store.lookup(revision).await? {
            Some(root) => root,
            None => {
                let root = self.fetch_all(wanted, tree).await?;
                self.0.store.record(revision, &root).await?
            }
        };
        lock(&self.0.roots).insert(*revision, root);
        self.0.store.materialise_tree(tree, &path).await?;
        Ok(path)
    }

    async fn fetch_all(&self, wanted: &Wanted, tree: &Tree) -> Result<Digest> {
        let missing = stream::iter(
            tree.values()
                .copied()
                .map(|entry| self.fetch(wanted, entry)),
        );
        let missing = missing.buffer_unordered(PARALLEL);
        missing.try_collect::<Vec<()>>().await?;
        let files: Vec<Digest> = tree.values().map(|entry| entry.digest).collect();
        Ok(self.0.store.put_manifest(KIND, &files, tree).await?)
    }

    async fn manifest(&self, wanted: &Wanted) -> Result<RevisionManifest> {
        let answer = self.get(&wanted.url, wanted, 0).await?;
        let bytes = answer.bytes().await.context("the revision's manifest")?;
        let found = Digest::of(&bytes);
        ensure!(
            found == wanted.revision,
            "{} answered with {found}, which is another revision",
            wanted.url
        );
        let envelope: Envelope =
            serde_json::from_slice(&bytes).context("the revision's manifest")?;
        Ok(envelope.body)
    }

    async fn fetch(&self, wanted: &Wanted, entry: FileEntry) -> Result<()> {
        if self.0.store.contains(&entry.digest).await? {
            return Ok(());
        }
        let url = format!("{}/files/{}", wanted.url, entry.digest);
        let file = tempfile::NamedTempFile::new_in(&self.0.root)?;
        let mut out = tokio::fs::File::from_std(file.reopen()?);
        let mut have = 0;
        loop {
            let before = have;
            match self.download(&url, wanted, &mut out, &mut have).await {
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
        wanted: &Wanted,
        out: &mut tokio::fs::File,
        have: &mut u64,
    ) -> Result<()> {
        let answer = self.get(url, wanted, *have).await?;
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
    async fn get(&self, url: &str, wanted: &Wanted, from: u64) -> Result<reqwest::Response> {
        let asked = self.0.http.get(url).bearer_auth(&wanted.key);
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

    /// Keeps a revision's files while the answer lives.
    pub fn hold(&self, revision: Digest) -> Held {
        *lock(&self.0.held).entry(revision).or_default() += 1;
        Held {
            revision,
            held: self.0.held.clone(),
        }
    }

    /// Deletes all revisions but those to keep and those held.
    pub async fn sweep(&self, mut keep: BTreeSet<Digest>) -> Result<()> {
        keep.extend(lock(&self.0.held).keys().copied());
        let paths: Vec<PathBuf> = keep.iter().map(|revision| self.path(revision)).collect();
        let root = self.0.root.clone();
        // Deleting large files takes long, and queries are answered by the threads that would wait for it.
        tokio::task::spawn_blocking(move || delete_others(&root, &paths)).await??;
        let roots: Vec<Digest> = {
            let mut roots = lock(&self.0.roots);
            roots.retain(|revision, _| keep.contains(revision));
            roots.values().copied().collect()
        };
        self.0.store.gc(&roots, GRACE).await?;
        Ok(())
    }

    fn path(&self, revision: &Digest) -> PathBuf {
        self.0.root.join(revision.to_hex())
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
        if let Some(count) = held.get_mut(&self.revision) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.revision);
            }
        }
    }
}
