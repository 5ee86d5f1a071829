//! The store, in a directory and in a bucket of a real S3 server: one text for both.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod bucket;
mod crash;
mod documents;
mod garbage;
mod names;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use loci_digest::Digest;
use loci_store::{RemoteOptions, Store, StoreUrl};
use loci_testbed::{S3, s3};
use tempfile::TempDir;

/// Makes two tests of each function: in a directory and in a bucket.
macro_rules! both {
    ($($name:ident),+ $(,)?) => {
        mod directory {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(crate::Bed::directory().await).await;
            })+
        }
        mod bucket {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn $name() {
                super::$name(crate::Bed::bucket().await).await;
            })+
        }
    };
}
use both;

/// A store, and what is behind it.
struct Bed {
    store: Store,
    /// A scratch directory.
    dir: TempDir,
    /// Where the store's objects are files.
    root: PathBuf,
    url: StoreUrl,
    server: Option<Arc<S3>>,
}

impl Bed {
    async fn directory() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        Self::new(dir, root.clone(), StoreUrl::Directory(root), None).await
    }

    async fn bucket() -> Self {
        Self::on(Arc::new(S3::start()), "team/loci").await
    }

    async fn on(server: Arc<S3>, prefix: &str) -> Self {
        let url = format!("s3://{}/{prefix}", s3::BUCKET).parse().unwrap();
        let root = server.directory().join(prefix);
        Self::new(tempfile::tempdir().unwrap(), root, url, Some(server)).await
    }

    async fn new(dir: TempDir, root: PathBuf, url: StoreUrl, server: Option<Arc<S3>>) -> Self {
        let options = options(server.as_deref(), dir.path());
        let store = Store::open(&url, options).await.unwrap();
        Self {
            store,
            dir,
            root,
            url,
            server,
        }
    }

    /// An empty store of the same kind.
    async fn another(&self, name: &str) -> Self {
        match &self.server {
            None => Self::directory().await,
            Some(server) => Self::on(server.clone(), name).await,
        }
    }

    /// The same store, as another process sees it.
    async fn reopen(&self) -> Store {
        let options = options(self.server.as_deref(), &self.dir.path().join("other"));
        Store::open(&self.url, options).await.unwrap()
    }

    /// The file of an object, as the format promises.
    fn file(&self, area: &str, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let folder = self.root.join(area).join("sha256");
        folder.join(&hex[..2]).join(&hex[2..])
    }

    /// What errors call that.
    fn place(&self, area: &str, digest: &Digest) -> String {
        let file = self.file(area, digest);
        let inside = file.strip_prefix(&self.root).unwrap();
        match &self.url {
            StoreUrl::Directory(_) => file.display().to_string(),
            url => format!("{url}/{}", inside.display()),
        }
    }
}

fn options(server: Option<&S3>, dir: &Path) -> RemoteOptions {
    RemoteOptions {
        cache: dir.join("cache"),
        silence: Duration::from_secs(10),
        settings: server.map(S3::variables).unwrap_or_default(),
    }
}

/// Overwrites an object as a failing disk would.
fn damage(path: &Path, content: &[u8]) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(path, content).unwrap();
}

fn all_files(dir: &Path) -> Vec<PathBuf> {
    let (mut files, mut open) = (Vec::new(), vec![dir.to_owned()]);
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files
}

/// Makes a file look as if it was last used so long ago.
fn set_age(path: &Path, age: Duration) {
    fs::File::open(path)
        .unwrap()
        .set_modified(SystemTime::now() - age)
        .unwrap();
}
