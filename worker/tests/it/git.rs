use std::path::Path;
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use loci_worker::source::{GitRef, GitSpec, Listing, Probe, SourceKind, SourceSpec, probe};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

use crate::http::serve;
use crate::support::{Sink, documents, skipped, spec};

/// A work tree, and the bare repository that it pushes to.
struct Repository {
    folder: TempDir,
}

impl Repository {
    fn new() -> Self {
        let repository = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let path = repository.folder.path();
        run(
            path,
            &[
                "init",
                "--quiet",
                "--bare",
                "--initial-branch=main",
                "bare.git",
            ],
        );
        run(path, &["init", "--quiet", "--initial-branch=main", "work"]);
        repository.git(&["remote", "add", "origin", "../bare.git"]);
        repository
    }

    fn git(&self, arguments: &[&str]) -> String {
        run(&self.folder.path().join("work"), arguments)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits all and pushes it; the commit's id.
    fn push(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "change"]);
        self.git(&["push", "--quiet", "--tags", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn url(&self) -> String {
        format!("file://{}", self.folder.path().join("bare.git").display())
    }

    fn source(&self, url: String, reference: GitRef) -> SourceSpec {
        let cache = self.folder.path().join("cache");
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

    fn main(&self) -> SourceSpec {
        self.source(self.url(), GitRef::Branch("main".into()))
    }
}

fn run(folder: &Path, arguments: &[&str]) -> String {
    let identity = [
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@localhost",
        "-c",
        "commit.gpgsign=false",
    ];
    let output = Command::new("git")
        .args(identity)
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
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
    std::os::unix::fs::symlink("a.md", repository.folder.path().join("work/link.md")).unwrap();
    let commit = repository.push();
    let (source, sink) = (repository.main(), Sink::default());
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
    std::fs::remove_dir_all(repository.folder.path().join("cache")).unwrap();
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
        let source = repository.source(repository.url(), reference);
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
    let branch = repository.source(repository.url(), GitRef::Branch("nope".into()));
    let error = sink.snapshot(&branch, None).await.unwrap_err().to_string();
    assert!(
        error.starts_with("source \"docs\": git.ref: ") && error.contains("refs/heads/nope"),
        "{error}"
    );
    let gone = repository.source(
        "file:///nonexistent/repo.git".into(),
        GitRef::Branch("main".into()),
    );
    let error = sink.snapshot(&gone, None).await.unwrap_err().to_string();
    assert!(error.contains("git.url must name a repository"), "{error}");
}

/// Serves `git http-backend` as CGI, as web servers do.
async fn backend(root: std::path::PathBuf, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let header = |name: &str| {
        parts
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("REQUEST_METHOD", parts.method.as_str())
        .env("PATH_INFO", parts.uri.path())
        .env("QUERY_STRING", parts.uri.query().unwrap_or_default())
        .env("CONTENT_TYPE", header("content-type"))
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    child.stdin.take().unwrap().write_all(&body).await.unwrap();
    let output = child.wait_with_output().await.unwrap().stdout;
    let split = output
        .windows(4)
        .position(|window| window == b"\r\n\r\n")
        .unwrap();
    let mut response = Response::new(Body::from(output[split + 4..].to_vec()));
    for line in String::from_utf8_lossy(&output[..split]).lines() {
        let (name, value) = line.split_once(": ").unwrap();
        match name {
            "Status" => *response.status_mut() = value[..3].parse().unwrap(),
            _ => drop(response.headers_mut().insert(
                header::HeaderName::try_from(name).unwrap(),
                value.parse().unwrap(),
            )),
        }
    }
    response
}

#[tokio::test]
async fn over_http_addresses_are_guarded_and_redirects_are_not_followed() {
    let repository = Repository::new();
    repository.write("a.md", "over http");
    repository.push();
    let root = repository.folder.path().to_owned();
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
        let mut source = repository.source(url, GitRef::Branch("main".into()));
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
