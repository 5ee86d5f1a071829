//! Git repositories with commits of a test's own, over HTTP too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::header;
use axum::response::Response;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// A work tree, and the bare repository that it pushes to.
pub struct Repository {
    folder: TempDir,
}

impl Repository {
    /// An empty one.
    pub fn new() -> Self {
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

    /// Runs git in the work tree; gives what it prints.
    pub fn git(&self, arguments: &[&str]) -> String {
        run(&self.folder.path().join("work"), arguments)
    }

    /// Writes a file of the work tree.
    pub fn write(&self, name: &str, content: &str) {
        let path = self.folder.path().join("work").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    /// Commits all and pushes it; the commit's id.
    pub fn push(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message", "change"]);
        self.git(&["push", "--quiet", "--tags", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Of the bare repository, as a path.
    pub fn url(&self) -> String {
        format!("file://{}", self.folder.path().join("bare.git").display())
    }

    /// Where all of it is.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Serves the bare repository over HTTP on loopback until the process ends; gives its URL.
    pub async fn serve(&self) -> String {
        let root = self.folder().to_owned();
        let router = Router::new().fallback(move |request| backend(root.clone(), request));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}/bare.git")
    }
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
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

/// Answers a request by `git http-backend` as CGI, as web servers do.
pub async fn backend(root: PathBuf, request: Request) -> Response {
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
