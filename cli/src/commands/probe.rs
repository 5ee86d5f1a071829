//! `loci probe`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;

use crate::output::say;

/// Asks a URL until it answers as expected; for `helm test`, whose image has no other client
#[derive(Debug, Args)]
pub struct Probe {
    /// Where to ask
    url: url::Url,
    /// The HTTP status that the answer should have
    #[arg(long, default_value_t = 200)]
    expect: u16,
    /// How long to wait for it, in seconds
    #[arg(long, default_value_t = 60)]
    timeout: u64,
}

impl Probe {
    /// Fails when the time is over.
    pub async fn run(self) -> Result<()> {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(5))
            .build()?;
        let started = Instant::now();
        loop {
            let answer = client.get(self.url.clone()).send().await;
            let found = match answer {
                Ok(answer) if answer.status().as_u16() == self.expect => {
                    say!("{} answers {}", self.url, answer.status());
                    return Ok(());
                }
                Ok(answer) => format!("answers {}", answer.status()),
                Err(error) => format!("does not answer: {error}"),
            };
            if started.elapsed() > Duration::from_secs(self.timeout) {
                bail!("{} {found}; {} was expected", self.url, self.expect);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}
