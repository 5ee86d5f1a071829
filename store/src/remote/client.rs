//! The client of an S3 server, as the usual variables and files say.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};

use super::RemoteOptions;
use crate::error::{Result, StoreError};

const CONNECT: Duration = Duration::from_secs(5);
/// The settings that say who asks, any of which is enough.
const IDENTITIES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The client, and the server's URL.
pub(super) fn build(
    bucket: &str,
    url: &str,
    options: &RemoteOptions,
) -> Result<(AmazonS3, String)> {
    let set = |key: &str| options.settings.get(key).filter(|v| !v.is_empty());
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    let endpoint = endpoint.into_iter().find_map(set);
    let region = ["AWS_REGION", "AWS_DEFAULT_REGION"]
        .into_iter()
        .find_map(set);
    let region = region.map_or("us-east-1", String::as_str);
    let aws = format!("https://s3.{region}.amazonaws.com");
    let server = endpoint.unwrap_or(&aws).clone();
    let refused = |reason: String, advice| StoreError::Remote {
        act: "open".to_owned(),
        place: url.to_owned(),
        endpoint: server.clone(),
        reason,
        advice,
    };
    let mut settings = options.settings.clone();
    if !IDENTITIES.iter().any(|key| set(key).is_some()) {
        let (file, profile) = shared_file(&settings);
        match credentials(&file, &profile) {
            Some(found) => settings.extend(found),
            // Only machines of AWS tell who they are.
            None if endpoint.is_some() => {
                let reason = format!(
                    "there are no credentials: AWS_ACCESS_KEY_ID is not set, and {} has no profile \"{profile}\" with a key",
                    file.display()
                );
                return Err(refused(
                    reason,
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                ));
            }
            None => {}
        }
    }
    let http = ClientOptions::new()
        .with_allow_http(server.starts_with("http://"))
        .with_connect_timeout(CONNECT.min(options.silence))
        .with_timeout_disabled()
        .with_read_timeout(options.silence);
    let mut builder = AmazonS3Builder::new().with_client_options(http);
    for (key, value) in &settings {
        if let Ok(key) = key.to_ascii_lowercase().parse() {
            builder = builder.with_config(key, value);
        }
    }
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(5),
            base: 2.,
        },
        max_retries: 8,
        retry_timeout: options.silence * 2,
    };
    let client = builder
        .with_bucket_name(bucket)
        .with_region(region)
        .with_retry(retry)
        .build();
    let client = client.map_err(|e| refused(e.to_string(), "correct the AWS_… variables"))?;
    Ok((client, server))
}

/// The file of credentials, and the profile in it.
fn shared_file(settings: &BTreeMap<String, String>) -> (PathBuf, String) {
    let home = settings.get("HOME").map_or("/", String::as_str);
    let file = settings.get("AWS_SHARED_CREDENTIALS_FILE");
    let file = file.map_or_else(|| Path::new(home).join(".aws/credentials"), PathBuf::from);
    let profile = settings
        .get("AWS_PROFILE")
        .map_or("default", String::as_str);
    (file, profile.to_owned())
}

/// The keys of a profile, as variables; none without an access key.
fn credentials(file: &Path, profile: &str) -> Option<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(file).ok()?;
    let header = format!("[{profile}]");
    let of_profile = text
        .lines()
        .map(str::trim)
        .skip_while(|line| *line != header);
    let keys = [
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
    ];
    let found: BTreeMap<String, String> = of_profile
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim(), value.trim()))
        .filter(|(key, _)| keys.contains(key))
        .map(|(key, value)| (key.to_ascii_uppercase(), value.to_owned()))
        .collect();
    found.contains_key("AWS_ACCESS_KEY_ID").then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_profile() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials");
        let text = "[default]\naws_access_key_id = A\naws_secret_access_key=B\n\n[other]\nregion = x\naws_access_key_id=C\n\
                    aws_secret_access_key = D=\naws_session_token = E\n[empty]\n";
        std::fs::write(&file, text).unwrap();
        let of = |profile| credentials(&file, profile);
        let keys = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            Some(pairs.collect::<BTreeMap<_, _>>())
        };
        assert_eq!(
            of("default"),
            keys(&[("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "B")])
        );
        assert_eq!(
            of("other"),
            keys(&[
                ("AWS_ACCESS_KEY_ID", "C"),
                ("AWS_SECRET_ACCESS_KEY", "D="),
                ("AWS_SESSION_TOKEN", "E")
            ])
        );
        assert_eq!((of("empty"), of("absent")), (None, None));
        assert_eq!(credentials(&dir.path().join("absent"), "default"), None);
    }

    #[test]
    fn without_credentials_the_variables_and_the_file_are_named() {
        let settings = [
            ("AWS_ENDPOINT_URL", "http://127.0.0.1:9"),
            ("AWS_SHARED_CREDENTIALS_FILE", "/no/such/file"),
        ];
        let options = RemoteOptions {
            cache: "/no/cache".into(),
            silence: CONNECT,
            settings: settings.map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        };
        let error = build("acme", "s3://acme", &options)
            .unwrap_err()
            .to_string();
        for part in [
            "s3://acme",
            "http://127.0.0.1:9",
            "/no/such/file",
            "AWS_SECRET_ACCESS_KEY",
        ] {
            assert!(error.contains(part), "{error}");
        }
    }
}
