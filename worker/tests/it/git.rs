use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect};
use axum::routing::get;
use loci_testbed::git::{Repository, backend};
use loci_worker::source::{GitRef, GitSpec, Listing, Probe, SourceKind, SourceSpec, probe};

use crate::http::serve;
use crate::support::{Sink, documents, skipped, spec};

fn source_at(repository: &Repository, url: String, reference: GitRef) -> SourceSpec {
    let cache = repository.folder().join("cache");
    let (include, exclude) = (Vec::new(), vec!["drafts".into()]);
    let git = GitSpec {
        url,
        reference,
        include,
        exclude,
        credentials: None,
        allow_private: false,
        cache,
    };
    spec(SourceKind::Git(git))
}

fn main_branch(repository: &Repository) -> SourceSpec {
    source_at(repository, repository.url(), GitRef::Branch("main".into()))
}

fn version<'a>(listing: &'a Listing, document: &str) -> &'a str {
    &listing
        .documents
        .iter()
        .find(|entry| entry.document == document)
        .unwrap()
        .version
}

#[tokio::test]
async fn changes_are_found_by_tree_diff() {
    let repository = Repository::new();
    for name in ["a.md", "deep/b.md", "c.md", "drafts/d.md", "code.rs"] {
        repository.write(name, name);
    }
    repository.write(
        "lfs.md",
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    );
    std::os::unix::fs::symlink("a.md", repository.folder().join("work/link.md")).unwrap();
    let commit = repository.push();
    let (source, sink) = (main_branch(&repository), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(documents(&first), ["a.md", "c.md", "deep/b.md"]);
    assert_eq!(
        first.documents[2].uri,
        format!("{}@{commit}/deep/b.md", repository.url())
    );
    assert_eq!(
        version(&first, "a.md"),
        repository.git(&["rev-parse", "HEAD:a.md"])
    );
    assert!(
        skipped(&first, "lfs.md").contains("LFS")
            && skipped(&first, "link.md").contains("symbolic link")
    );
    assert_eq!(sink.taken(), ["a.md", "c.md", "deep/b.md"]);
    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Unchanged
    );

    repository.write("a.md", "changed");
    repository.git(&["mv", "c.md", "e.md"]);
    let next = repository.push();
    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Changed(format!("now at {next}"))
    );
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!(documents(&second), ["a.md", "deep/b.md", "e.md"]);
    assert_eq!(
        sink.taken(),
        ["c.md", "changed"],
        "deep/b.md is not read again"
    );
    assert_eq!(
        second.documents[1], first.documents[2],
        "an unchanged document keeps its citation"
    );
    assert_eq!(second.skipped, first.skipped);

    // A force-push, a lost clone and lost content: the listing is right all the same.
    repository.git(&["reset", "--quiet", "--hard", &commit]);
    repository.write("f.md", "f");
    repository.git(&["add", "--all"]);
    repository.git(&["commit", "--quiet", "--message", "other"]);
    repository.git(&["push", "--quiet", "--force", "origin", "main"]);
    std::fs::remove_dir_all(repository.folder().join("cache")).unwrap();
    sink.forget(&second, "deep/b.md");
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(documents(&third), ["a.md", "c.md", "deep/b.md", "f.md"]);
    assert_eq!(sink.taken(), ["a.md", "c.md", "deep/b.md", "f"]);
}

#[tokio::test]
async fn tags_and_commits_name_what_is_read() {
    let repository = Repository::new();
    repository.write("a.md", "one");
    let first = repository.push();
    repository.git(&["tag", "--annotate", "--message", "v1", "v1"]);
    repository.write("a.md", "two");
    repository.push();
    let sink = Sink::default();
    for reference in [GitRef::Tag("v1".into()), GitRef::Commit(first.clone())] {
        let source = source_at(&repository, repository.url(), reference);
        let listing = sink.snapshot(&source, None).await.unwrap();
        assert_eq!(sink.text(&listing, "a.md"), "one");
        assert!(listing.documents[0].uri.contains(&first));
        assert_eq!(
            probe(&source, Some(&listing.state)).await.unwrap(),
            Probe::Unchanged
        );
        let again = sink.snapshot(&source, Some(&listing)).await.unwrap();
        assert_eq!(again, listing);
    }
}

#[tokio::test]
async fn a_missing_branch_or_repository_fails_with_the_way_out() {
    let repository = Repository::new();
    repository.write("a.md", "a");
    repository.push();
    let sink = Sink::default();
    let branch = source_at(&repository, repository.url(), GitRef::Branch("nope".into()));
    let error = sink.snapshot(&branch, None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("source \"docs\": git.ref: ") && error.contains("refs/heads/nope"),
        "{error}"
    );
    let gone = source_at(
        &repository,
        "file:///nonexistent/repo.git".into(),
        GitRef::Branch("main".into()),
    );
    let error = sink.snapshot(&gone, None).await.unwrap_err().to_string();
    assert!(error.contains("git.url must name a repository"), "{error}");
}

#[tokio::test]
async fn over_http_addresses_are_guarded_and_redirects_are_not_followed() {
    let repository = Repository::new();
    repository.write("a.md", "over http");
    repository.push();
    let root = repository.folder().to_owned();
    let private = || async {
        (
            StatusCode::UNAUTHORIZED,
            [(header::WWW_AUTHENTICATE, "Basic realm=\"x\"")],
        )
            .into_response()
    };
    let moved = || async {
        Redirect::permanent("http://169.254.169.254/info/refs?service=git-upload-pack")
    };
    let router = Router::new()
        .route("/private.git/info/refs", get(private))
        .route("/moved.git/info/refs", get(moved))
        .fallback(move |request| backend(root.clone(), request));
    let address = serve(router).await;
    let sink = Sink::default();
    let source = |host: &str, name: &str, allow: bool| {
        let url = format!("http://{host}:{}/{name}", address.port());
        let mut source = source_at(&repository, url, GitRef::Branch("main".into()));
        let SourceKind::Git(git) = &mut source.kind else {
            panic!("git")
        };
        git.allow_private = allow;
        source
    };
    let listing = sink
        .snapshot(&source("localhost", "bare.git", true), None)
        .await
        .unwrap();
    assert_eq!(sink.text(&listing, "a.md"), "over http");
    for host in ["127.0.0.1", "localhost"] {
        let error = sink
            .snapshot(&source(host, "bare.git", false), None)
            .await
            .unwrap_err();
        assert!(
            error
                .refused()
                .is_some_and(|refused| refused.kind == "loopback"),
            "{error}"
        );
    }
    let error = sink
        .snapshot(&source("127.0.0.1", "private.git", true), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("git.secretRef"), "{error}");
    let error = sink
        .snapshot(&source("127.0.0.1", "moved.git", true), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("redirects are not followed"), "{error}");
}
