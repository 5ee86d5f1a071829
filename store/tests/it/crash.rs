//! A full disk and a killed process, each in a process of its own: this same test, started again.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use loci_digest::Digest;
use loci_store::{Store, StoreError};

use crate::all_files;

const CHILD: &str = "LOCI_STORE_TEST_CHILD";

/// The directory that the parent handed to this process, if it is the child.
fn in_child() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// Starts this test again, in a shell that first runs `setup`.
fn child(setup: &str, test: &str, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("{setup}exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(CHILD, dir)
        .stdin(Stdio::null());
    command
}

#[tokio::test]
async fn a_full_disk_is_named_and_leaves_nothing_half() {
    if let Some(dir) = in_child() {
        return fill_the_disk(&dir).await;
    }
    let dir = tempfile::tempdir().unwrap();
    Store::open_local(&dir.path().join("store")).await.unwrap();
    fs::write(dir.path().join("large"), vec![3; 9 << 20]).unwrap();
    // Files may grow to 32 or 64 KiB, by the shell's idea of a block; the write beyond fails.
    let limit = "trap '' XFSZ; ulimit -f 64; ";
    let test = "crash::a_full_disk_is_named_and_leaves_nothing_half";
    let output = child(limit, test, dir.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}"
    );
}

async fn fill_the_disk(dir: &Path) {
    let store = Store::open_local(&dir.join("store")).await.unwrap();
    let (bytes, large) = (Bytes::from(vec![2; 100_000]), dir.join("large"));
    let failures = [
        (100_000, store.put(bytes).await.unwrap_err()),
        (9 << 20, store.put_file(&large).await.unwrap_err()),
    ];
    for (size, error) in failures {
        assert!(
            matches!(&error, StoreError::Write { place, bytes, .. } if Path::new(place).starts_with(dir) && *bytes == size)
        );
        let message = error.to_string();
        for part in [
            &size.to_string(),
            "store/blobs/sha256",
            "too large",
            "run again",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
    store
        .put_manifest("big", &[], &"x".repeat(100_000))
        .await
        .unwrap_err();
    assert_eq!(
        all_files(&dir.join("store"))
            .into_iter()
            .filter(|file| file.extension().is_none_or(|e| e != "lock"))
            .collect::<Vec<_>>(),
        [dir.join("store/FORMAT")],
        "nothing half may stay"
    );
    let small = store.put("small".into()).await.unwrap();
    let copy = dir.join("copy");
    store.materialise(&small, &copy).await.unwrap();
    assert_eq!(fs::read(copy).unwrap(), b"small");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_process_leaves_only_whole_objects() {
    if let Some(dir) = in_child() {
        return write_forever(&dir).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("store");
    let test = "crash::a_killed_process_leaves_only_whole_objects";
    for round in 0..5_u64 {
        let before = count(&root);
        let mut writer = child("", test, dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while count(&root) < before + 4 {
            assert!(Instant::now() < deadline, "the writer writes nothing");
            tokio::time::sleep(Duration::from_millis(2 + round)).await;
        }
        writer.kill().unwrap();
        writer.wait().unwrap();

        let store = Store::open_local(&root).await.unwrap();
        store.gc(&[], Duration::from_secs(3600)).await.unwrap();
        for path in all_files(&root.join("blobs"))
            .iter()
            .filter(|p| !p.to_string_lossy().contains('#'))
        {
            let folder = path
                .parent()
                .unwrap()
                .file_name()
                .unwrap()
                .to_str()
                .unwrap();
            let digest: Digest = format!(
                "sha256:{folder}{}",
                path.file_name().unwrap().to_str().unwrap()
            )
            .parse()
            .unwrap();
            store.get(&digest).await.unwrap();
        }
    }
}

fn count(root: &Path) -> usize {
    if root.exists() {
        all_files(root).len()
    } else {
        0
    }
}

async fn write_forever(dir: &Path) {
    let store = Store::open_local(&dir.join("store")).await.unwrap();
    let large = dir.join(format!("large-{}", std::process::id()));
    for i in 0_u64.. {
        let seed = format!("{}/{i}/", std::process::id());
        fs::write(&large, seed.repeat(1_000_000)).unwrap();
        let (a, b) = tokio::join!(
            store.put_file(&large),
            store.put(seed.repeat(50_000).into())
        );
        store
            .put_manifest("pair", &[a.unwrap(), b.unwrap()], &i)
            .await
            .unwrap();
    }
}
