//! What an object store's refusal or silence means.

use std::error::Error;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

/// What has to be looked at when an object store does not answer as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Who asks, or what they may do.
    Access,
    /// The bucket's name.
    Bucket,
    /// The bucket's region.
    Region,
    /// This machine's clock, or the server's.
    Clock,
    /// The server, for now.
    Busy,
    /// The server's space.
    Space,
    /// The way to the server.
    Way,
    /// What was asked for is not there.
    Absent,
    /// The server.
    Server,
}

/// Whether something else than an object is not there: the bucket, or who asks.
pub(crate) fn not_object(error: &object_store::Error) -> bool {
    code(&error.to_string()).is_some_and(|code| code != "NoSuchKey")
}

/// Whether the request may have been carried out though no answer came.
pub(crate) fn unanswered(error: &object_store::Error) -> bool {
    use HttpErrorKind::{Interrupted, Timeout};
    matches!(transport(error), Some(Timeout | Interrupted))
}

/// The way out for a store.
pub(super) fn advice(cause: Cause) -> &'static str {
    match cause {
        Cause::Access => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that their owner may list, read, write and delete there"
        }
        Cause::Bucket => "create it, or correct the URL of the store",
        Cause::Region => "set AWS_REGION to the bucket's",
        Cause::Clock => "set the clock",
        Cause::Busy => "it was tried several times; try again later",
        Cause::Space => "free some, or raise the quota",
        Cause::Way => "check AWS_ENDPOINT_URL, the server and the network to it",
        Cause::Absent => "the bucket may be gone: check the URL of the store",
        Cause::Server => "see what the server logs",
    }
}

/// The reason in words, and what to look at. `silence` is how long the server was waited for.
pub fn explain(error: &object_store::Error, bucket: &str, silence: Duration) -> (String, Cause) {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let text = error.to_string();
    let code = code(&text);
    let named =
        |what: &str| code.map_or_else(|| what.to_owned(), |code| format!("{what} ({code})"));
    if matches!(code, Some("NoSuchBucket" | "ContainerNotFound")) {
        return (format!("there is no bucket \"{bucket}\""), Cause::Bucket);
    }
    if let Some((reason, cause)) = code.and_then(known) {
        return (named(reason), cause);
    }
    if text.contains("Received redirect without LOCATION") {
        return (ELSEWHERE.to_owned(), Cause::Region);
    }
    match (transport(error), error) {
        (Some(HttpErrorKind::Timeout), _) => {
            let seconds = silence.as_secs_f32();
            let reason = format!("the server has been silent for {seconds} s, several times");
            (reason, Cause::Way)
        }
        (Some(HttpErrorKind::Connect), _) => {
            (format!("no connection: {}", innermost(error)), Cause::Way)
        }
        (Some(_), _) => (
            format!("the connection broke: {}", innermost(error)),
            Cause::Way,
        ),
        (None, PermissionDenied { .. } | Unauthenticated { .. }) => {
            (named("access is denied"), Cause::Access)
        }
        // Of a listing, the status stands in the text alone.
        (None, _) if matches!(status(&text), Some("401" | "403")) => {
            (named("access is denied"), Cause::Access)
        }
        (None, NotFound { .. }) => (named("it is not there"), Cause::Absent),
        (None, _) => (innermost(error), Cause::Server),
    }
}

const ELSEWHERE: &str = "the bucket is in another region";

/// What servers' codes mean.
fn known(code: &str) -> Option<(&'static str, Cause)> {
    Some(match code {
        "InvalidAccessKeyId"
        | "XAdminUserNotFound"
        | "InvalidAuthenticationInfo"
        | "ExpiredToken"
        | "InvalidToken"
        | "PublicAccessNotPermitted" => ("access is denied", Cause::Access),
        "RequestTimeTooSkewed" => (
            "this machine's clock and the server's differ by more than 15 minutes",
            Cause::Clock,
        ),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => (ELSEWHERE, Cause::Region),
        "SlowDown" | "ServiceUnavailable" | "InternalError" | "ServerBusy" => {
            ("the server is overloaded or in trouble", Cause::Busy)
        }
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "NoSpaceLeftOnDevice" => {
            ("the server has no space", Cause::Space)
        }
        _ => return None,
    })
}

/// The code in a server's answer.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
}

/// The status of a server's answer.
fn status(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("non-2xx status code: ")?;
    rest.split(' ').next()
}

fn transport(error: &object_store::Error) -> Option<HttpErrorKind> {
    chain(error).find_map(|e| e.downcast_ref::<HttpError>().map(HttpError::kind))
}

fn innermost(error: &object_store::Error) -> String {
    chain(error)
        .last()
        .map_or_else(String::new, ToString::to_string)
}

fn chain(error: &object_store::Error) -> impl Iterator<Item = &(dyn Error + 'static)> {
    fn cause<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        (*error).source()
    }
    std::iter::successors(Some(error as &(dyn Error + 'static)), cause)
}
