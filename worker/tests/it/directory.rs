use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use loci_digest::Digest;
use loci_worker::document::Media;
use loci_worker::source::{
    DirectorySpec, Entry, Limits, Probe, SourceKind, SourceSpec, Watch, probe, watch,
};
use tokio::time::timeout;

use crate::support::{Sink, documents, skipped, spec};

fn directory(path: &Path) -> SourceSpec {
    spec(SourceKind::Directory(DirectorySpec {
        path: path.into(),
        ..DirectorySpec::default()
    }))
}

fn write(root: &Path, name: &str, content: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

#[tokio::test]
async fn changes_deletes_and_renames_propagate_and_only_changes_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let (root, source, sink) = (folder.path(), directory(folder.path()), Sink::default());
    for name in ["a.md", "deep/b.txt", "c.md", "d.md"] {
        write(root, name, name);
    }
    write(root, "code.rs", "not a document");
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(documents(&first), ["a.md", "c.md", "d.md", "deep/b.txt"]);
    assert_eq!(
        (first.documents[0].media, first.documents[0].bytes),
        (Media::Markdown, 4)
    );
    assert!(
        first.documents[0].uri.starts_with("file:///") && first.documents[0].uri.ends_with("/a.md")
    );
    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Unchanged
    );
    sink.taken();

    // Beyond the time in which a file may have changed unseen.
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    sink.taken();
    write(root, "a.md", "A.MD");
    fs::remove_file(root.join("c.md")).unwrap();
    fs::rename(root.join("d.md"), root.join("e.md")).unwrap();
    assert!(matches!(
        probe(&source, Some(&second.state)).await.unwrap(),
        Probe::Changed(_)
    ));
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(documents(&third), ["a.md", "deep/b.txt", "e.md"]);
    assert_eq!(
        sink.taken(),
        ["A.MD", "d.md"],
        "deep/b.txt is not read again"
    );

    sink.forget(&third, "deep/b.txt");
    let fourth = sink.snapshot(&source, Some(&third)).await.unwrap();
    assert_eq!(sink.text(&fourth, "deep/b.txt"), "deep/b.txt");
    fs::remove_file(root.join("e.md")).unwrap();
    assert_eq!(
        probe(&source, Some(&fourth.state)).await.unwrap(),
        Probe::Changed("e.md is gone".into())
    );
}

#[tokio::test]
async fn links_out_huge_files_and_hidden_files_are_left_out() {
    let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = folder.path();
    write(outside.path(), "secret.md", "secret");
    write(root, "a/real.md", "real");
    write(root, ".git/config.md", "hidden");
    write(root, "a/.hidden.md", "hidden");
    symlink(outside.path().join("secret.md"), root.join("file.md")).unwrap();
    symlink(outside.path(), root.join("folder")).unwrap();
    symlink(
        "../../../../../../../../../etc/hostname",
        root.join("a/climb.txt"),
    )
    .unwrap();
    symlink("nowhere.md", root.join("dangling.md")).unwrap();
    symlink("..", root.join("a/loop")).unwrap();
    symlink("real.md", root.join("a/alias.md")).unwrap();
    fs::File::create(root.join("huge.md"))
        .unwrap()
        .set_len(2 << 30)
        .unwrap();
    let (source, sink) = (directory(root), Sink::default());
    let listing = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(documents(&listing), ["a/alias.md", "a/real.md"]);
    assert_eq!(sink.taken(), ["real", "real"]);
    for link in ["file.md", "folder", "a/climb.txt"] {
        assert!(
            skipped(&listing, link).contains("out of the source's directory"),
            "{link}"
        );
    }
    assert!(skipped(&listing, "dangling.md").contains("leads nowhere"));
    assert!(skipped(&listing, "a/loop").contains("listed already"));
    assert!(
        skipped(&listing, "huge.md").starts_with("is 2147483648 bytes, more than the 67108864")
    );
    assert_eq!(
        probe(&source, Some(&listing.state)).await.unwrap(),
        Probe::Unchanged
    );
    fs::remove_file(root.join("folder")).unwrap();
    assert!(matches!(
        probe(&source, Some(&listing.state)).await.unwrap(),
        Probe::Changed(_)
    ));
}

/// `/proc/<pid>/mem` is a regular file that nobody can read from its start.
#[tokio::test]
async fn an_unreadable_file_is_reported_and_keeps_its_last_good_content() {
    let exclude = ["[a-ln-z]*", "map_files", "mount*"]
        .map(String::from)
        .to_vec();
    let path = format!("/proc/{}", std::process::id()).into();
    let source = spec(SourceKind::Directory(DirectorySpec {
        path,
        include: vec!["mem".into()],
        exclude,
    }));
    let sink = Sink::default();
    let mut listing = sink.snapshot(&source, None).await.unwrap();
    assert!(documents(&listing).is_empty());
    assert!(skipped(&listing, "mem").contains("cannot be read"));
    let good = Digest::of("good");
    listing.documents.push(Entry {
        document: "mem".into(),
        uri: "file:///mem".into(),
        version: good.to_string(),
        media: Media::Text,
        bytes: 4,
        digest: good,
        metadata: Default::default(),
    });
    let again = sink.snapshot(&source, Some(&listing)).await.unwrap();
    assert_eq!(again.documents, listing.documents);
    assert!(skipped(&again, "mem").contains("is kept"));
}

#[tokio::test]
async fn a_source_that_cannot_be_listed_fails_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let sink = Sink::default();
    let missing = sink
        .snapshot(&directory(&folder.path().join("gone")), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        missing.starts_with("source \"docs\": ") && missing.contains("gone: No such file"),
        "{missing}"
    );
    write(folder.path(), "a.md", "a");
    write(folder.path(), "b.md", "b");
    let limits = Limits {
        max_documents: 1,
        ..Limits::default()
    };
    let many = SourceSpec {
        limits,
        ..directory(folder.path())
    };
    assert!(
        sink.snapshot(&many, None)
            .await
            .unwrap_err()
            .to_string()
            .contains("more than 1 documents")
    );
    let file = sink
        .snapshot(&directory(&folder.path().join("a.md")), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(file.contains("is not a directory"), "{file}");
    fs::remove_file(folder.path().join("a.md")).unwrap();
    fs::remove_file(folder.path().join("b.md")).unwrap();
    assert!(
        sink.snapshot(&directory(folder.path()), None)
            .await
            .unwrap()
            .documents
            .is_empty()
    );
}

async fn told(watch: &mut Watch) -> bool {
    timeout(Duration::from_secs(10), watch.changed())
        .await
        .is_ok_and(|changed| changed.is_ok())
}

async fn quiet(watch: &mut Watch) -> bool {
    timeout(Duration::from_millis(700), watch.changed())
        .await
        .is_err()
}

#[tokio::test]
async fn a_watch_tells_changes_once_and_survives_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("docs");
    write(&root, "deep/a.md", "a");
    write(&root, ".git/index", "x");
    let mut watch = watch(&DirectorySpec {
        path: root.clone(),
        ..DirectorySpec::default()
    })
    .unwrap();
    assert!(quiet(&mut watch).await);
    for content in ["b", "c", "d"] {
        write(&root, "deep/a.md", content);
        write(&root, "new/b.md", content);
    }
    assert!(told(&mut watch).await);
    assert!(quiet(&mut watch).await, "a burst is one change");
    write(&root, ".git/index", "y");
    fs::read(root.join("deep/a.md")).unwrap();
    assert!(quiet(&mut watch).await, "hidden files and reads are none");
    fs::remove_dir_all(&root).unwrap();
    assert!(told(&mut watch).await);
    write(&root, "back.md", "back");
    assert!(told(&mut watch).await, "the directory's return is a change");
    while !quiet(&mut watch).await {}
    write(&root, "back.md", "changed");
    assert!(told(&mut watch).await, "and it is watched again");
}
