use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
};
use reqwest::{Client, Response, StatusCode, redirect};
use url::{Origin, Url};

use super::HttpSpec;
use super::answer::{
    Answer, Excess, Page, Raw, Stop, Validators, body, failed, header, is_busy, next, retry_after,
    shown,
};
use crate::document::Media;
use crate::source::address::{Guard, refused_in};
use crate::source::error::chain;
use crate::source::{Limits, SourceError};

const REDIRECTS: usize = 5;
const CONNECT: Duration = Duration::from_secs(10);

/// Fetches pages from allowed addresses only.
pub(super) struct Fetcher {
    client: Client,
    guard: Guard,
    credentials: HeaderMap,
    /// Who gets the credentials: where a sitemap lists the pages, the sitemap's own origin.
    trusted: Option<HashSet<Origin>>,
    /// Where redirects may lead: where a sitemap lists the pages, to the hosts of the declaration.
    hosts: Option<BTreeSet<String>>,
    limits: Limits,
    timeout: Duration,
}

/// Reads a URL of the declaration.
pub(super) fn declared(field: &'static str, text: &str) -> Result<Url, SourceError> {
    let field = |reason: String| SourceError::Field { field, reason };
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
        let (trusted, hosts) = match &spec.sitemap {
            Some(sitemap) => {
                let (trusted, hosts) = sitemap.scope()?;
                (Some(trusted), Some(hosts))
            }
            None => (None, None),
        };
        Ok(Self {
            client,
            guard,
            credentials: credentials(spec)?,
            trusted,
            hosts,
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
        match self.ask(url, known).await? {
            Answer::Busy(_, error) | Answer::Unfit(error) => Err(error),
            answer => Ok(answer),
        }
    }

    /// The same, told apart by whether it is worth to ask again.
    pub(super) async fn ask(
        &self,
        url: &Url,
        known: Option<&Validators>,
    ) -> Result<Answer, SourceError> {
        let asked = async {
            let (at, response) = match self.follow(url, known, false).await {
                Ok(found) => found,
                Err(Stop::Unfit(error)) => return Ok(Answer::Unfit(error)),
                Err(Stop::Failed(error)) => return Err(error),
            };
            match response.status() {
                StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
                StatusCode::GONE => return Ok(Answer::Gone),
                _ => {}
            }
            match self.refusal(&at, &response) {
                Some(error) if is_busy(response.status()) => {
                    Ok(Answer::Busy(retry_after(&response), error))
                }
                Some(error) if response.status().is_client_error() => Ok(Answer::Unfit(error)),
                Some(error) => Err(error),
                None => self.read(at, response).await,
            }
        };
        self.in_time(url, asked).await
    }

    /// Fetches what is no page. `anywhere`: also where redirects lead to other hosts.
    pub(super) async fn raw(
        &self,
        url: &Url,
        known: Option<&Validators>,
        most: usize,
        excess: Excess,
        anywhere: bool,
    ) -> Result<Raw, SourceError> {
        let asked = async {
            let (at, response) = match self.follow(url, known, anywhere).await {
                Ok(found) => found,
                Err(Stop::Unfit(error)) => return Ok(Raw::Refused(error)),
                Err(Stop::Failed(error)) => return Err(error),
            };
            let status = response.status();
            if status == StatusCode::NOT_MODIFIED {
                return Ok(Raw::Unchanged);
            }
            match self.refusal(&at, &response) {
                Some(error) if status.is_client_error() && !is_busy(status) => {
                    Ok(Raw::Refused(error))
                }
                Some(error) => Err(error),
                None => {
                    let validators = Validators::of(&response);
                    match body(&at, response, most, excess).await {
                        Ok(content) => Ok(Raw::Content(content, validators)),
                        Err(Stop::Unfit(error) | Stop::Failed(error)) => Err(error),
                    }
                }
            }
        };
        self.in_time(url, asked).await
    }

    async fn in_time<T>(
        &self,
        url: &Url,
        work: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(answer) => answer,
            Err(_) => Err(failed(
                url,
                format!("took longer than {:?}; raise http.timeout", self.timeout),
            )),
        }
    }

    /// The answer at the end of all redirects.
    async fn follow(
        &self,
        start: &Url,
        known: Option<&Validators>,
        anywhere: bool,
    ) -> Result<(Url, Response), Stop> {
        let mut url = start.clone();
        for _ in 0..=REDIRECTS {
            let response = self.request(start, &url, known).await;
            let response = response.map_err(Stop::Failed)?;
            let status = response.status();
            if !status.is_redirection() || status == StatusCode::NOT_MODIFIED {
                return Ok((url, response));
            }
            let next = next(&url, &response).map_err(Stop::Unfit)?;
            let host = next.host_str().unwrap_or_default();
            if let Some(hosts) = self.hosts.as_ref().filter(|_| !anywhere)
                && !hosts.contains(host)
            {
                let reason = format!(
                    "redirects to {host}, another host, which is not followed; name it in http.sitemap.hosts"
                );
                return Err(Stop::Unfit(failed(&url, reason)));
            }
            url = next;
        }
        Err(Stop::Unfit(failed(
            start,
            format!("redirects more than {REDIRECTS} times; use the final URL"),
        )))
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
        let trusted = match &self.trusted {
            Some(origins) => origins.contains(&url.origin()),
            None => url.origin() == start.origin(),
        };
        if trusted {
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

    /// What is wrong with an answer that is no success.
    fn refusal(&self, url: &Url, response: &Response) -> Option<SourceError> {
        let status = response.status();
        let hint = match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "; check http.secretRef",
            StatusCode::NOT_FOUND if self.hosts.is_some() => "; correct the sitemap",
            StatusCode::NOT_FOUND => "; correct the URL or take it off `urls`",
            _ => "",
        };
        (!status.is_success()).then(|| failed(url, format!("answered {status}{hint}")))
    }

    async fn read(&self, url: Url, response: Response) -> Result<Answer, SourceError> {
        let content_type = header(&response, CONTENT_TYPE).unwrap_or_default();
        let validators = Validators::of(&response);
        let Some(media) = Media::of_content_type(&content_type, url.path()) else {
            let reason = format!(
                "has the content type \"{content_type}\", which is not read; HTML, Markdown, plain text, JSON Lines, PDF, DOCX, PPTX and XLSX are"
            );
            return Ok(Answer::Unfit(failed(&url, reason)));
        };
        let most = usize::try_from(self.limits.max_document_bytes).unwrap_or(usize::MAX);
        match body(&url, response, most, Excess::Refuse).await {
            Ok(content) => Ok(Answer::Page(Page {
                url,
                media,
                content,
                validators,
            })),
            Err(Stop::Unfit(error)) => Ok(Answer::Unfit(error)),
            Err(Stop::Failed(error)) => Err(error),
        }
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
