//! Talks to who serves a pipeline.

use std::path::Path;

use anyhow::{Context, Result, bail};
use loci_recall::wire::{ErrorBody, ErrorDetail, RetrieveRequest, RetrieveResponse};
use serde::Serialize;

use crate::state::State;

/// Where the server is and how to be let in.
pub struct Client {
    url: String,
    token: Option<String>,
    http: reqwest::Client,
    /// What may be wrong when nobody answers.
    hint: &'static str,
}

impl Client {
    /// The server at `url`, or the one that the state directory names.
    pub fn find(url: Option<String>, token_file: Option<&Path>, state: &Path) -> Result<Self> {
        let url = match url {
            Some(url) => url,
            None => State::open(state)
                .ok()
                .and_then(|s| s.server())
                .map_or_else(|| "http://127.0.0.1:7700".to_owned(), |s| s.url),
        };
        let hint = "is `loci up` running? give --url when it listens elsewhere";
        Self::new(&url, token_file, hint)
    }

    /// The server at `url`.
    pub fn new(url: &str, token_file: Option<&Path>, hint: &'static str) -> Result<Self> {
        let token = token_file.map(first_token).transpose()?;
        Ok(Self {
            url: url.trim_end_matches('/').to_owned(),
            token,
            http: reqwest::Client::builder().build()?,
            hint,
        })
    }

    /// Asks for passages.
    pub async fn retrieve(&self, request: &RetrieveRequest) -> Result<RetrieveResponse> {
        match self.ask(request).await? {
            Ok(answer) => Ok(answer),
            Err(refused) => bail!("{}", refused.message),
        }
    }

    /// Asks for passages with whatever fields; within the result is what the server says.
    pub async fn ask(
        &self,
        request: &impl Serialize,
    ) -> Result<Result<RetrieveResponse, ErrorDetail>> {
        let url = format!("{}/v1/retrieve", self.url);
        let mut call = self.http.post(&url).json(request);
        if let Some(token) = &self.token {
            call = call.bearer_auth(token);
        }
        let answer = call
            .send()
            .await
            .with_context(|| format!("no answer from {}: {}", self.url, self.hint))?;
        let status = answer.status();
        let body = answer.bytes().await.context("the answer broke off")?;
        if !status.is_success() {
            match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(refused) => return Ok(Err(refused.error)),
                Err(_) => bail!(
                    "{url} answered {status}: {}",
                    String::from_utf8_lossy(&body)
                ),
            }
        }
        let answer = serde_json::from_slice(&body)
            .with_context(|| format!("{url} answered what this loci cannot read"))?;
        Ok(Ok(answer))
    }
}

/// The token of the file's first line that is no comment: the line, or the `token` of its JSON.
fn first_token(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the token file {}", path.display()))?;
    let mut lines = text.lines().map(str::trim);
    let first = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    let token = first.and_then(|line| {
        if !line.starts_with('{') {
            return Some(line.to_owned());
        }
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(line.get("token")?.as_str()?.to_owned())
    });
    token.with_context(|| {
        format!(
            "{} holds no token: write one on a line of its own",
            path.display()
        )
    })
}
