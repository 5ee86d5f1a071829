//! The store on a real directory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod blobs;
mod crash;
mod documents;
mod garbage;
mod names;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use loci_digest::Digest;
use loci_store::Store;
use tempfile::TempDir;

async fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_local(&dir.path().join("store")).await.unwrap();
    (dir, store)
}

/// The file of an object, as the on-disk format promises.
fn file(dir: &TempDir, area: &str, digest: &Digest) -> PathBuf {
    let hex = digest.to_hex();
    dir.path()
        .join("store")
        .join(area)
        .join("sha256")
        .join(&hex[..2])
        .join(&hex[2..])
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
