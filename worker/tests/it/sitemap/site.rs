//! A site that says what it was asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::serve;

/// What a site answers at a path.
#[derive(Clone)]
pub enum Answer {
    Text(&'static str, Vec<u8>),
    Status(StatusCode),
    Redirect(String),
    /// Busy for so many requests; then this page.
    Busy(usize, String),
}

#[derive(Default)]
pub struct Site {
    answers: Mutex<BTreeMap<String, Answer>>,
    requests: Mutex<Vec<Seen>>,
}

#[derive(Clone)]
pub struct Seen {
    pub path: String,
    pub at: Instant,
    pub agent: String,
    pub token: Option<String>,
}

impl Site {
    pub async fn start() -> (Arc<Self>, SocketAddr) {
        let site = Arc::new(Self::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&site));
        (site, serve(router).await)
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.answers.lock().unwrap().insert(path.to_owned(), answer);
    }

    pub fn page(&self, path: &str, text: &str) {
        self.set(path, Answer::Text("text/html", text.into()));
    }

    pub fn robots(&self, text: &str) {
        self.set("/robots.txt", Answer::Text("text/plain", text.into()));
    }

    pub fn sitemap(&self, path: &str, text: impl Into<Vec<u8>>) {
        self.set(path, Answer::Text("application/xml", text.into()));
    }

    /// What was asked since the last call, in order.
    pub fn asked(&self) -> Vec<Seen> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    pub fn paths(&self) -> Vec<String> {
        self.asked().into_iter().map(|seen| seen.path).collect()
    }
}

async fn answer(State(site): State<Arc<Site>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let text = |name| {
        let value = request.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    site.requests.lock().unwrap().push(Seen {
        path: path.clone(),
        at: Instant::now(),
        agent: text(header::USER_AGENT).unwrap_or_default(),
        token: text(header::AUTHORIZATION),
    });
    let mut answers = site.answers.lock().unwrap();
    match answers.get_mut(&path) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(Answer::Status(status)) => status.into_response(),
        Some(Answer::Redirect(to)) => {
            (StatusCode::FOUND, [(header::LOCATION, to.clone())]).into_response()
        }
        Some(Answer::Busy(left @ 1.., _)) => {
            *left -= 1;
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, "1")]).into_response()
        }
        Some(Answer::Busy(_, page)) => {
            ([(header::CONTENT_TYPE, "text/html")], page.clone()).into_response()
        }
        Some(Answer::Text(media, content)) => {
            let etag = format!("\"{}\"", loci_digest::Digest::of(&*content));
            if text(header::IF_NONE_MATCH).as_deref() == Some(etag.as_str()) {
                return StatusCode::NOT_MODIFIED.into_response();
            }
            let headers = [
                (header::ETAG, etag),
                (header::CONTENT_TYPE, (*media).to_owned()),
            ];
            (headers, content.clone()).into_response()
        }
    }
}

/// A sitemap of pages, each with the time of its last change.
pub fn urlset(base: &str, pages: &[(&str, &str)]) -> String {
    let entries = pages.iter().map(|(path, lastmod)| match *lastmod {
        "" => format!("<url><loc>{base}{path}</loc></url>"),
        time => format!("<url><loc>{base}{path}</loc><lastmod>{time}</lastmod></url>"),
    });
    let entries: String = entries.collect();
    format!("<urlset xmlns=\"http://www.sitemaps.org/schemas/sitemap/0.9\">{entries}</urlset>")
}

pub fn index(files: &[String]) -> String {
    let entries: String = files
        .iter()
        .map(|file| format!("<sitemap><loc>{file}</loc></sitemap>"))
        .collect();
    format!("<sitemapindex>{entries}</sitemapindex>")
}
