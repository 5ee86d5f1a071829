use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, LOCATION,
};
use reqwest::{Client, Response, StatusCode, redirect};
use serde::{Deserialize, Serialize};
use url::Url;

use super::HttpSpec;
use crate::document::Media;
use crate::source::address::{Guard, refused_in};
use crate::source::error::chain;
use crate::source::{Limits, SourceError};

const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);

/// What a server tells to ask for changes by.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Validators {
    etag: Option<String>,
    modified: Option<String>,
}

/// What a server answered.
pub(super) enum Answer {
    Unchanged,
    Gone,
    Page(Page),
}

pub(super) struct Page {
    /// Where redirects led.
    pub(super) url: Url,
    pub(super) media: Media,
    pub(super) content: Bytes,
    pub(super) validators: Validators,
}

/// Fetches pages from allowed addresses only.
pub(super) struct Fetcher {
    client: Client,
    guard: Guard,
    credentials: HeaderMap,
    limits: Limits,
    timeout: Duration,
}

/// Reads a URL of the declaration.
pub(super) fn page(text: &str) -> Result<Url, SourceError> {
    let field = |reason: String| SourceError::Field {
        field: "http.urls",
        reason,
    };
    let url = Url::parse(text).map_err(|error| {
        field(format!(
            "\"{text}\" is not a URL ({error}); write https://host/path"
        ))
    })?;
    if !url.username().is_empty() || url.password().is_some() {
        let host = url.host_str().unwrap_or_default();
        return Err(field(format!(
            "the URL at {host} holds credentials; move them to http.secretRef"
        )));
    }
    match url.scheme() {
        "http" | "https" => Ok(url),
        other => Err(field(format!(
            "\"{other}\" is not fetched; use https:// or http://"
        ))),
    }
}

impl Fetcher {
    pub(super) fn new(spec: &HttpSpec, limits: &Limits) -> Result<Self, SourceError> {
        let guard = Guard {
            allow_private: spec.allow_private,
        };
        // A proxy would resolve names itself, past the guard.
        let client = Client::builder()
            .dns_resolver(Arc::new(guard))
            .redirect(redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT)
            .user_agent(concat!("loci/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| SourceError::Remote {
                url: "http".into(),
                reason: chain(&error),
            })?;
        Ok(Self {
            client,
            guard,
            credentials: credentials(spec)?,
            limits: *limits,
            timeout: spec.timeout,
        })
    }

    /// Fetches `url`, unless it still is what `known` describes.
    pub(super) async fn fetch(
        &self,
        url: &Url,
        known: Option<&Validators>,
    ) -> Result<Answer, SourceError> {
        match tokio::time::timeout(self.timeout, self.follow(url, known)).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(
                url,
                format!("took longer than {:?}; raise http.timeout", self.timeout),
            )),
        }
    }

    async fn follow(&self, start: &Url, known: Option<&Validators>) -> Result<Answer, SourceError> {
        let mut url = start.clone();
        for _ in 0..=REDIRECTS {
            let response = self.request(start, &url, known).await?;
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED {
                return Ok(Answer::Unchanged);
            }
            if status == StatusCode::GONE {
                return Ok(Answer::Gone);
            }
            if !status.is_redirection() {
                return self.read(url, response).await.map(Answer::Page);
            }
            url = next(&url, &response)?;
        }
        Err(failed(
            start,
            format!("redirects more than {REDIRECTS} times; use the final URL"),
        ))
    }

    async fn request(
        &self,
        start: &Url,
        url: &Url,
        known: Option<&Validators>,
    ) -> Result<Response, SourceError> {
        let refused = |refused| SourceError::Refused {
            url: shown(url),
            refused,
        };
        self.guard.check_url(url).map_err(refused)?;
        let mut request = self.client.get(url.clone());
        if url.origin() == start.origin() {
            request = request.headers(self.credentials.clone());
        }
        let etag = known
            .and_then(|known| known.etag.as_ref())
            .map(|etag| (IF_NONE_MATCH, etag));
        let modified = known
            .and_then(|known| known.modified.as_ref())
            .map(|time| (IF_MODIFIED_SINCE, time));
        for (name, value) in etag.into_iter().chain(modified) {
            request = request.header(name, value);
        }
        request
            .send()
            .await
            .map_err(|error| match refused_in(&error) {
                Some(found) => refused(found),
                None => failed(url, chain(&error.without_url())),
            })
    }

    async fn read(&self, url: Url, mut response: Response) -> Result<Page, SourceError> {
        let status = response.status();
        if !status.is_success() {
            return Err(failed(&url, format!("answered {status}{}", hint(status))));
        }
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let content_type = text(CONTENT_TYPE).unwrap_or_default();
        let validators = Validators {
            etag: text(ETAG),
            modified: text(LAST_MODIFIED),
        };
        let media = Media::of_content_type(&content_type, url.path()).ok_or_else(|| {
            failed(&url, format!("has the content type \"{content_type}\", which is not read; HTML, Markdown, plain text, JSON Lines, PDF, DOCX, PPTX and XLSX are"))
        })?;
        let mut content = BytesMut::new();
        // Counted after decompression, as it arrives.
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| failed(&url, chain(&error.without_url())))?
        {
            content.extend_from_slice(&part);
            if content.len() as u64 > self.limits.max_document_bytes {
                let limit = self.limits.max_document_bytes;
                return Err(failed(
                    &url,
                    format!("has more than the {limit} bytes that a document may have"),
                ));
            }
        }
        Ok(Page {
            url,
            media,
            content: content.freeze(),
            validators,
        })
    }
}

fn credentials(spec: &HttpSpec) -> Result<HeaderMap, SourceError> {
    let invalid = |name: &str| SourceError::Field {
        field: "http.secretRef",
        reason: format!(
            "\"{name}\" is not a valid header, or its value is not; use printable ASCII"
        ),
    };
    let mut headers = HeaderMap::new();
    let bearer = spec.credentials.bearer.as_ref();
    let bearer = bearer.map(|token| (AUTHORIZATION.as_str(), format!("Bearer {}", token.expose())));
    let others = spec.credentials.headers.iter();
    let others = others.map(|(name, value)| (name.as_str(), value.expose().to_owned()));
    for (name, value) in bearer.into_iter().chain(others) {
        let key = HeaderName::try_from(name).map_err(|_| invalid(name))?;
        let mut value = HeaderValue::try_from(value).map_err(|_| invalid(name))?;
        value.set_sensitive(true);
        headers.insert(key, value);
    }
    Ok(headers)
}

/// Where a redirect leads: never from https to http, never to another scheme.
fn next(url: &Url, response: &Response) -> Result<Url, SourceError> {
    let location = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let location = location.ok_or_else(|| {
        failed(
            url,
            format!("answered {} without a location", response.status()),
        )
    })?;
    let next = url
        .join(location)
        .map_err(|error| failed(url, format!("redirects to what is not a URL ({error})")))?;
    match (url.scheme(), next.scheme()) {
        ("http", "http") | (_, "https") => Ok(next),
        (_, to) => Err(failed(
            url,
            format!("redirects to {to}://, which is not followed; use an https:// URL"),
        )),
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check http.secretRef",
        StatusCode::NOT_FOUND => "; correct the URL or take it off `urls`",
        _ => "",
    }
}

fn failed(url: &Url, reason: String) -> SourceError {
    SourceError::Remote {
        url: shown(url),
        reason,
    }
}

/// Without user and password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for the schemes that get here.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
