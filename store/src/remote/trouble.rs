//! What an S3 server's refusal or silence means, and the way out.

use std::error::Error;
use std::time::Duration;

use object_store::client::{HttpError, HttpErrorKind};

const KEYS: &str = "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and that their owner may list, read, write and delete there";
const REGION: (&str, &str) = (
    "the bucket is in another region",
    "set AWS_REGION to the bucket's",
);
const WAY: &str = "check AWS_ENDPOINT_URL, the server and the network to it";

/// Whether something else than an object is not there: the bucket, or who asks.
pub(crate) fn not_object(error: &object_store::Error) -> bool {
    code(&error.to_string()).is_some_and(|code| code != "NoSuchKey")
}

/// Whether the request may have been carried out though no answer came.
pub(crate) fn unanswered(error: &object_store::Error) -> bool {
    use HttpErrorKind::{Interrupted, Timeout};
    matches!(transport(error), Some(Timeout | Interrupted))
}

/// The reason and the way out.
pub(super) fn explain(
    error: &object_store::Error,
    bucket: &str,
    silence: Duration,
) -> (String, &'static str) {
    use object_store::Error::{NotFound, PermissionDenied, Unauthenticated};
    let text = error.to_string();
    let code = code(&text);
    let named =
        |what: &str| code.map_or_else(|| what.to_owned(), |code| format!("{what} ({code})"));
    if code == Some("NoSuchBucket") {
        let advice = "create it, or correct the URL of the store";
        return (format!("there is no bucket \"{bucket}\""), advice);
    }
    if let Some((reason, advice)) = code.and_then(known) {
        return (named(reason), advice);
    }
    if text.contains("Received redirect without LOCATION") {
        return (REGION.0.to_owned(), REGION.1);
    }
    match (transport(error), error) {
        (Some(HttpErrorKind::Timeout), _) => {
            let seconds = silence.as_secs_f32();
            let reason = format!("the server has been silent for {seconds} s, several times");
            (reason, WAY)
        }
        (Some(HttpErrorKind::Connect), _) => (format!("no connection: {}", innermost(error)), WAY),
        (Some(_), _) => (format!("the connection broke: {}", innermost(error)), WAY),
        (None, PermissionDenied { .. } | Unauthenticated { .. }) => {
            (named("access is denied"), KEYS)
        }
        (None, NotFound { .. }) => (
            named("it is not there"),
            "the bucket may be gone: check the URL of the store",
        ),
        (None, _) => (innermost(error), "see what the server logs"),
    }
}

/// What servers' codes mean, and the way out.
fn known(code: &str) -> Option<(&'static str, &'static str)> {
    Some(match code {
        "InvalidAccessKeyId" | "XAdminUserNotFound" => ("access is denied", KEYS),
        "RequestTimeTooSkewed" => (
            "this machine's clock and the server's differ by more than 15 minutes",
            "set the clock",
        ),
        "PermanentRedirect"
        | "AuthorizationHeaderMalformed"
        | "IllegalLocationConstraintException" => REGION,
        "SlowDown" | "ServiceUnavailable" | "InternalError" => (
            "the server is overloaded or in trouble",
            "it was tried several times; try again later",
        ),
        "QuotaExceeded" | "InsufficientStorage" | "XMinioStorageFull" | "NoSpaceLeftOnDevice" => {
            ("the server has no space", "free some, or raise the quota")
        }
        _ => return None,
    })
}

/// The code in a server's answer.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    rest.split_once("</Code>").map(|(code, _)| code)
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
