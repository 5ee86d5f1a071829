//! What servers answer, and its bodies within bounds.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::header::{ETAG, HeaderName, LAST_MODIFIED, LOCATION, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::document::Media;
use crate::source::SourceError;
use crate::source::error::chain;

/// What a server tells to ask for changes by.
#[derive(Clone, Default, Serialize, Deserialize)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) modified: Option<String>,
}

/// What a server answered.
pub(super) enum Answer {
    Unchanged,
    Gone,
    Page(Page),
    /// Not now; after this time, if it says so.
    Busy(Option<Duration>, SourceError),
    /// Nor will it be another at the next look.
    Unfit(SourceError),
}

/// What a server answered that is no page: robots.txt, a sitemap.
pub(super) enum Raw {
    Unchanged,
    Content(Bytes, Validators),
    /// An error of the client's (4xx), or no end of redirects.
    Refused(SourceError),
}

/// More than a body may have.
#[derive(Clone, Copy)]
pub(super) enum Excess {
    Cut,
    Refuse,
}

/// Why there is no answer.
pub(super) enum Stop {
    Unfit(SourceError),
    Failed(SourceError),
}

pub(super) struct Page {
    /// Where redirects led.
    pub(super) url: Url,
    pub(super) media: Media,
    pub(super) content: Bytes,
    pub(super) validators: Validators,
}

impl Validators {
    pub(super) fn of(response: &Response) -> Self {
        Self {
            etag: header(response, ETAG),
            modified: header(response, LAST_MODIFIED),
        }
    }
}

pub(super) fn header(response: &Response, name: HeaderName) -> Option<String> {
    let value = response.headers().get(name)?;
    value.to_str().ok().map(str::to_owned)
}

/// The body, counted after decompression, as it arrives.
pub(super) async fn body(
    url: &Url,
    mut response: Response,
    most: usize,
    excess: Excess,
) -> Result<Bytes, Stop> {
    let mut content = BytesMut::new();
    while let Some(part) = response
        .chunk()
        .await
        .map_err(|error| Stop::Failed(failed(url, chain(&error.without_url()))))?
    {
        content.extend_from_slice(&part);
        match excess {
            _ if content.len() <= most => {}
            Excess::Cut => {
                content.truncate(most);
                break;
            }
            Excess::Refuse => {
                let reason = format!("has more than the {most} bytes that it may have");
                return Err(Stop::Unfit(failed(url, reason)));
            }
        }
    }
    Ok(content.freeze())
}

pub(super) fn is_busy(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

/// In seconds, the form that servers that are busy use.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = header(response, RETRY_AFTER)?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// Where a redirect leads: never from https to http, never to another scheme.
pub(super) fn next(url: &Url, response: &Response) -> Result<Url, SourceError> {
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

pub(super) fn failed(url: &Url, reason: String) -> SourceError {
    SourceError::Remote {
        url: shown(url),
        reason,
    }
}

/// Without user and password.
pub(super) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // Neither fails for the schemes that get here.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
