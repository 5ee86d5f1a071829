//! The revisions that a replica has: fetched file by file, what it has already not again, verified by digest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use loci_digest::Digest;
use loci_store::{FileEntry, Store, Tree};
use loci_worker::step::RevisionManifest;
use serde::Deserialize;
use tokio::io::AsyncWriteExt;

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

    /// The directory of a revision, fetched if it is not there.
    pub async fn directory(&self, wanted: &Wanted) -> Result<PathBuf> {
        let (revision, path) = (&wanted.revision, self.path(&wanted.revision));
        // Fetched before: nobody has to be asked.
        let root = match self.0.store.lookup(revision).await? {
            Some(root) => root,
            None => {
                let root = self.fetch_all(wanted).await?;
                self.0.store.record(revision, &root).await?
            }
        };
        lock(&self.0.roots).insert(*revision, root);
        let tree: Tree = self.0.store.get_manifest(KIND, &root).await?;
        self.0.store.materialise_tree(&tree, &path).await?;
        Ok(path)
    }

    async fn fetch_all(&self, wanted: &Wanted) -> Result<Digest> {
        let tree = self.manifest(wanted).await?.tree;
        let missing = stream::iter(
            tree.values()
                .copied()
                .map(|entry| self.fetch(wanted, entry)),
        );
        let missing = missing.buffer_unordered(PARALLEL);
        missing.try_collect::<Vec<()>>().await?;
        let files: Vec<Digest> = tree.values().map(|entry| entry.digest).collect();
        Ok(self.0.store.put_manifest(KIND, &files, &tree).await?)
    }

    async fn manifest(&self, wanted: &Wanted) -> Result<RevisionManifest> {
        let answer = self.get(&wanted.url, wanted).await?;
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
        let mut chunks = self.get(&url, wanted).await?.bytes_stream();
        while let Some(chunk) = chunks.try_next().await.with_context(|| url.clone())? {
            out.write_all(&chunk).await?;
        }
        out.flush().await?;
        let found = self.0.store.put_file(file.path()).await?;
        ensure!(found == entry.digest, "{url} answered with {found}");
        Ok(())
    }

    async fn get(&self, url: &str, wanted: &Wanted) -> Result<reqwest::Response> {
        let asked = self.0.http.get(url).bearer_auth(&wanted.key);
        let answer = asked
            .send()
            .await
            .with_context(|| format!("{url} does not answer"))?;
        if !answer.status().is_success() {
            let (code, why) = (answer.status(), answer.text().await.unwrap_or_default());
            bail!("{url} answered {code}: {why}");
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
