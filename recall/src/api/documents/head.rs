//! What headers say of a document.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, header};
use loci_push::Condition;
use reqwest::Url;
use serde_json::{Map, Value};

use super::super::body::{kind, shorten};
use super::super::error::ApiError;
use crate::wire::{MAX_METADATA_BYTES, MAX_METADATA_FIELDS};

const URI: HeaderName = HeaderName::from_static("loci-uri");
const METADATA: HeaderName = HeaderName::from_static("loci-metadata");
const MAX_URI_BYTES: usize = 2048;
/// What filters know of every document.
const RESERVED: [&str; 5] = ["source", "document", "uri", "memory", "version"];
/// What a page that shows citations could run.
const ACTIVE: [&str; 3] = ["javascript", "vbscript", "data"];

/// The condition of a request.
pub(super) fn condition(headers: &HeaderMap) -> Result<Condition, ApiError> {
    let (matches, none) = (
        text(headers, header::IF_MATCH)?,
        text(headers, header::IF_NONE_MATCH)?,
    );
    match (matches, none) {
        (None, None) => Ok(Condition::Always),
        (None, Some("*")) => Ok(Condition::Absent),
        (None, Some(_)) => Err(ApiError::field(
            "If-None-Match",
            "only * is known: the document must not be there",
        )),
        (Some("*"), None) => Ok(Condition::Present),
        (Some(versions), None) => {
            let versions = versions.split(',').map(str::trim);
            // A weak tag matches nothing (RFC 9110, section 13.1.1).
            let versions = versions.map(|version| version.trim_matches('"').to_owned());
            Ok(Condition::Version(versions.collect()))
        }
        (Some(_), Some(_)) => Err(ApiError::field(
            "If-Match",
            "it stands together with If-None-Match: send one of the two",
        )),
    }
}

/// Where a person finds the document.
pub(super) fn uri(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let Some(uri) = text(headers, URI)? else {
        return Ok(None);
    };
    check_uri("Loci-Uri", uri)?;
    Ok(Some(uri.to_owned()))
}

/// What is known about the document.
pub(super) fn metadata(headers: &HeaderMap) -> Result<BTreeMap<String, String>, ApiError> {
    const FIELD: &str = "Loci-Metadata";
    let Some(json) = text(headers, METADATA)? else {
        return Ok(BTreeMap::new());
    };
    let fields: Map<String, Value> = serde_json::from_str(json)
        .map_err(|e| ApiError::field(FIELD, format!("it is no JSON object: {e}")))?;
    let mut metadata = BTreeMap::new();
    for (name, value) in fields {
        let Value::String(value) = value else {
            let reason = format!(
                "{} is {}: write it as a string",
                shorten(&name),
                kind(&value)
            );
            return Err(ApiError::field(FIELD, reason));
        };
        metadata.insert(name, value);
    }
    check_metadata(FIELD, &metadata)?;
    Ok(metadata)
}

pub(super) fn check_uri(field: &str, uri: &str) -> Result<(), ApiError> {
    if uri.len() > MAX_URI_BYTES {
        let reason = format!(
            "it has {} bytes, and {MAX_URI_BYTES} are allowed",
            uri.len()
        );
        return Err(ApiError::field(field, reason));
    }
    let wrong = match Url::parse(uri) {
        Ok(url) if ACTIVE.contains(&url.scheme()) => format!("{}: runs", url.scheme()),
        Ok(_) => return Ok(()),
        Err(error) => format!("\"{}\" is no URL: {error}", shorten(uri)),
    };
    let reason = format!("{wrong}; write one such as https://wiki.example.com/page");
    Err(ApiError::field(field, reason))
}

pub(super) fn check_metadata(
    field: &str,
    metadata: &BTreeMap<String, String>,
) -> Result<(), ApiError> {
    let refuse = |reason: String| Err(ApiError::field(field, reason));
    if metadata.len() > MAX_METADATA_FIELDS {
        return refuse(format!(
            "it has {} fields, and {MAX_METADATA_FIELDS} are allowed",
            metadata.len()
        ));
    }
    let bytes: usize = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return refuse(format!(
            "it has {bytes} bytes, and {MAX_METADATA_BYTES} are allowed"
        ));
    }
    for name in metadata.keys() {
        if name.trim().is_empty() || name.chars().any(char::is_control) {
            return refuse("a field has no name that can be written".to_owned());
        }
        if RESERVED.contains(&name.as_str()) {
            return refuse(format!(
                "{name} is known of every document already: choose another name"
            ));
        }
    }
    Ok(())
}

fn text(headers: &HeaderMap, name: HeaderName) -> Result<Option<&str>, ApiError> {
    let Some(value) = headers.get(&name) else {
        return Ok(None);
    };
    let value = value.to_str().map_err(|_| {
        let reason =
            "it has characters other than visible ASCII: write them as \\u escapes or %-encoded";
        ApiError::field(name.as_str(), reason)
    })?;
    Ok(Some(value.trim()))
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, StatusCode};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            (HeaderName::from_static(name), value)
        });
        pairs.collect()
    }

    #[test]
    fn conditions_are_read_as_http_has_them() {
        let read = |pairs: &[(&'static str, &str)]| condition(&headers(pairs));
        let versions = |v: &[&str]| Condition::Version(v.iter().map(|v| (*v).to_owned()).collect());
        assert_eq!(read(&[]).unwrap(), Condition::Always);
        assert_eq!(read(&[("if-none-match", "*")]).unwrap(), Condition::Absent);
        assert_eq!(read(&[("if-match", "*")]).unwrap(), Condition::Present);
        assert_eq!(
            read(&[("if-match", "\"sha256:a\", \"sha256:b\"")]).unwrap(),
            versions(&["sha256:a", "sha256:b"])
        );
        for wrong in [
            vec![("if-none-match", "\"sha256:a\"")],
            vec![("if-none-match", "*"), ("if-match", "*")],
        ] {
            let error = read(&wrong).unwrap_err();
            assert_eq!(error.status(), StatusCode::BAD_REQUEST);
        }
    }

    #[test]
    fn metadata_is_texts_by_names_that_are_free() {
        let read = |json: &str| metadata(&headers(&[("loci-metadata", json)]));
        let good = read(r#"{"team": "blue", "city": "Z\u00fcrich"}"#).unwrap();
        assert_eq!(
            (good["team"].as_str(), good["city"].as_str()),
            ("blue", "Zürich")
        );
        let many = format!(
            "{{{}}}",
            (0..65)
                .map(|i| format!("\"k{i}\": \"v\""))
                .collect::<Vec<_>>()
                .join(",")
        );
        let long = format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_METADATA_BYTES));
        for wrong in [
            "[]",
            "team=blue",
            r#"{"year": 2026}"#,
            r#"{"source": "x"}"#,
            r#"{" ": "x"}"#,
            "{\"city\": \"Zürich\"}",
            &many,
            &long,
        ] {
            let body = read(wrong).unwrap_err().into_body();
            assert!(body.error.param.is_some(), "{wrong}: {body:?}");
        }
    }

    #[test]
    fn a_uri_is_an_address_that_does_nothing() {
        for good in [
            "https://wiki.example.com/a?b#c",
            "urn:isbn:0451450523",
            "slack://channel/1",
        ] {
            assert!(check_uri("uri", good).is_ok(), "{good}");
        }
        let long = format!("https://a.example/{}", "a".repeat(MAX_URI_BYTES));
        for wrong in [
            "",
            "a/b.md",
            "javascript:alert(1)",
            "JavaScript:alert(1)",
            "data:text/html,x",
            &long,
        ] {
            assert!(check_uri("uri", wrong).is_err(), "{wrong}");
        }
    }
}
