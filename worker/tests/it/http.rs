use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use loci_worker::document::Media;
use loci_worker::source::{
    HttpCredentials, HttpSpec, Limits, Probe, Secret, SourceKind, SourceSpec, probe,
};

use crate::support::{Sink, documents, skipped, spec};

/// A server on loopback that counts its requests.
pub async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    address
}

struct Site {
    requests: AtomicUsize,
    /// What `/page` answers: its text, or a failure.
    page: Mutex<Result<String, StatusCode>>,
    credentials: Mutex<Vec<Option<String>>>,
}

async fn page(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    site.requests.fetch_add(1, Ordering::Relaxed);
    let authorization = headers
        .get(header::AUTHORIZATION)
        .map(|value| value.to_str().unwrap().to_owned());
    site.credentials.lock().unwrap().push(authorization);
    let text = match &*site.page.lock().unwrap() {
        Ok(text) => text.clone(),
        Err(status) => return status.into_response(),
    };
    let etag = format!("\"{}\"", text.len());
    if headers
        .get(header::IF_NONE_MATCH)
        .is_some_and(|value| value == etag.as_str())
    {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    (
        [
            (header::ETAG, etag),
            (header::CONTENT_TYPE, "text/html; charset=utf-8".into()),
        ],
        text,
    )
        .into_response()
}

async fn site(text: &str) -> (Arc<Site>, SocketAddr) {
    let (requests, credentials) = (AtomicUsize::default(), Mutex::default());
    let site = Arc::new(Site {
        requests,
        page: Mutex::new(Ok(text.into())),
        credentials,
    });
    let router = Router::new()
        .route("/page", get(page))
        .with_state(Arc::clone(&site));
    (site, serve(router).await)
}

fn pages(urls: &[String]) -> SourceSpec {
    spec(SourceKind::Http(HttpSpec {
        urls: urls.to_vec(),
        allow_private: true,
        ..HttpSpec::default()
    }))
}

async fn refusal(source: &SourceSpec) -> String {
    let error = Sink::default().snapshot(source, None).await.unwrap_err();
    assert!(error.refused().is_some(), "{error}");
    error.to_string()
}

#[tokio::test]
async fn a_page_is_fetched_again_only_when_it_changed() {
    let (site, address) = site("<p>one").await;
    let (source, sink) = (pages(&[format!("http://{address}/page")]), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    assert_eq!(
        (first.documents[0].media, sink.taken()),
        (Media::Html, vec!["<p>one".to_owned()])
    );
    assert_eq!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Unchanged
    );
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!(second, first);
    assert!(sink.taken().is_empty(), "304 is not put again");
    *site.page.lock().unwrap() = Ok("<p>other".into());
    assert!(matches!(
        probe(&source, Some(&second.state)).await.unwrap(),
        Probe::Changed(_)
    ));
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_ne!(third.documents[0].version, second.documents[0].version);
    sink.taken();
    sink.forget(&third, &third.documents[0].document.clone());
    sink.snapshot(&source, Some(&third)).await.unwrap();
    assert_eq!(
        sink.taken(),
        ["<p>other"],
        "lost content is asked for without conditions"
    );
}

#[tokio::test]
async fn a_failing_page_keeps_its_last_good_content() {
    let ((one, a), (_, b)) = (site("<p>a").await, site("<p>b").await);
    let (a, b) = (format!("http://{a}/page"), format!("http://{b}/page"));
    let (source, sink) = (pages(&[a.clone(), b.clone()]), Sink::default());
    let first = sink.snapshot(&source, None).await.unwrap();
    *one.page.lock().unwrap() = Err(StatusCode::INTERNAL_SERVER_ERROR);
    assert!(matches!(
        probe(&source, Some(&first.state)).await.unwrap(),
        Probe::Changed(_)
    ));
    let second = sink.snapshot(&source, Some(&first)).await.unwrap();
    assert_eq!(second.documents, first.documents);
    let reason = skipped(&second, &a);
    assert!(
        reason.contains("answered 500") && reason.contains("last good content is kept"),
        "{reason}"
    );
    assert_eq!(
        probe(&source, Some(&second.state)).await.unwrap(),
        Probe::Unchanged,
        "reported once"
    );
    let alone = pages(std::slice::from_ref(&a));
    assert!(
        sink.snapshot(&alone, None)
            .await
            .unwrap_err()
            .to_string()
            .contains("answered 500")
    );
    assert!(
        probe(&alone, Some(&sink_state(&sink, &alone, &one).await))
            .await
            .is_err()
    );
    *one.page.lock().unwrap() = Err(StatusCode::GONE);
    let third = sink.snapshot(&source, Some(&second)).await.unwrap();
    assert_eq!(documents(&third), [b.as_str()]);
    assert!(skipped(&third, &a).contains("410"));
}

/// The state of a source while its page was good; then the page fails again.
async fn sink_state(
    sink: &Sink,
    source: &SourceSpec,
    site: &Site,
) -> loci_worker::source::SourceState {
    *site.page.lock().unwrap() = Ok("good".into());
    let state = sink.snapshot(source, None).await.unwrap().state;
    *site.page.lock().unwrap() = Err(StatusCode::BAD_GATEWAY);
    state
}

#[tokio::test]
async fn inside_addresses_are_refused_unless_allowed_and_link_local_ones_always() {
    let (site, address) = site("<p>inside").await;
    let port = address.port();
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "2130706433"] {
        let mut source = pages(&[format!("http://{host}:{port}/page")]);
        let SourceKind::Http(http) = &mut source.kind else {
            panic!("http")
        };
        http.allow_private = false;
        let reason = refusal(&source).await;
        assert!(
            reason.contains("loopback") && reason.contains("allowPrivate"),
            "{reason}"
        );
    }
    assert_eq!(
        site.requests.load(Ordering::Relaxed),
        0,
        "refused before any connection"
    );
    for host in ["169.254.169.254", "[fe80::1]", "[::ffff:169.254.169.254]"] {
        let reason = refusal(&pages(&[format!("http://{host}/")])).await;
        assert!(
            reason.contains("link-local") && reason.contains("never fetched"),
            "{reason}"
        );
    }
}

#[tokio::test]
async fn redirects_are_checked_at_every_hop_and_drop_credentials() {
    let (site, target) = site("<p>target").await;
    let hop = move |Path(left): Path<usize>| async move {
        match left {
            0 => Redirect::temporary(&format!("http://{target}/page")),
            left => Redirect::temporary(&format!("/hop/{}", left - 1)),
        }
    };
    let metadata = || async { Redirect::temporary("http://169.254.169.254/latest/meta-data/") };
    let file = || async { Redirect::temporary("file:///etc/passwd") };
    let router = Router::new()
        .route("/hop/{left}", get(hop))
        .route("/metadata", get(metadata))
        .route("/file", get(file));
    let address = serve(router).await;
    let url = |path: &str| format!("http://{address}{path}");

    let reason = refusal(&pages(&[url("/metadata")])).await;
    assert!(
        reason.contains("http://169.254.169.254/latest/meta-data/: ")
            && reason.contains("link-local"),
        "{reason}"
    );
    let sink = Sink::default();
    let scheme = sink
        .snapshot(&pages(&[url("/file")]), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(scheme.contains("redirects to file://"), "{scheme}");
    let far = sink
        .snapshot(&pages(&[url("/hop/9")]), None)
        .await
        .unwrap_err()
        .to_string();
    assert!(far.contains("more than 5 times"), "{far}");

    let credentials = HttpCredentials {
        bearer: Some(Secret::new("t0ken")),
        ..HttpCredentials::default()
    };
    let urls = vec![url("/hop/4"), format!("http://{target}/page")];
    let http = HttpSpec {
        urls,
        credentials,
        allow_private: true,
        ..HttpSpec::default()
    };
    assert!(!format!("{http:?}").contains("t0ken"));
    let listing = sink
        .snapshot(&spec(SourceKind::Http(http)), None)
        .await
        .unwrap();
    assert!(
        listing
            .documents
            .iter()
            .all(|entry| entry.uri == format!("http://{target}/page"))
    );
    let mut seen = site.credentials.lock().unwrap().clone();
    seen.sort();
    assert_eq!(
        seen,
        [None, Some("Bearer t0ken".to_owned())],
        "the redirected request has none"
    );
}

pub fn gzip(content: &[u8]) -> Vec<u8> {
    let mut child = Command::new("gzip")
        .arg("-c")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let content = content.to_vec();
    let writer = std::thread::spawn(move || input.write_all(&content).unwrap());
    let output = child.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    output
}

#[tokio::test]
async fn bombs_slow_pages_and_unknown_types_are_refused() {
    let packed = |content: Vec<u8>| {
        let body = gzip(&content);
        move || {
            let headers = [
                (header::CONTENT_ENCODING, "gzip"),
                (header::CONTENT_TYPE, "text/plain"),
            ];
            let body = body.clone();
            async move { (headers, body) }
        }
    };
    let slow = || async { tokio::time::sleep(Duration::from_secs(30)).await };
    let png = || async { ([(header::CONTENT_TYPE, "image/png")], "PNG") };
    let router = Router::new()
        .route("/small", get(packed(b"small".to_vec())))
        .route("/bomb", get(packed(vec![b' '; 32 << 20])))
        .route("/slow", get(slow))
        .route("/png", get(png));
    let address = serve(router).await;
    let sink = Sink::default();
    let source = |path: &str| {
        let urls = vec![format!("http://{address}{path}")];
        let timeout = Duration::from_millis(if path == "/slow" { 300 } else { 20_000 });
        let http = HttpSpec {
            urls,
            allow_private: true,
            timeout,
            ..HttpSpec::default()
        };
        let limits = Limits {
            max_document_bytes: 1 << 20,
            ..Limits::default()
        };
        SourceSpec {
            limits,
            ..spec(SourceKind::Http(http))
        }
    };
    let small = sink.snapshot(&source("/small"), None).await.unwrap();
    assert_eq!(
        sink.text(&small, &small.documents[0].document.clone()),
        "small"
    );
    let cases = [
        ("/bomb", "more than the 1048576 bytes"),
        ("/slow", "took longer"),
        ("/png", "image/png"),
        ("/none", "answered 404"),
    ];
    for (path, reason) in cases {
        let error = sink
            .snapshot(&source(path), None)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason), "{path}: {error}");
    }
    for (url, reason) in [
        ("ftp://x/", "\"ftp\" is not fetched"),
        ("http://u:p4ss@x/", "holds credentials"),
        ("x", "is not a URL"),
    ] {
        let error = sink
            .snapshot(&pages(&[url.into()]), None)
            .await
            .unwrap_err()
            .to_string();
        assert!(error.contains(reason) && !error.contains("p4ss"), "{error}");
    }
}
