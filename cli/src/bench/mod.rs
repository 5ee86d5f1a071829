//! `loci bench`: the figures of `docs/performance.md`, each by one command.

mod churn;
mod collection;
mod corpus;
mod draws;
mod embed;
mod fusion;
mod generate;
mod load;
mod peer;
mod refresh;
mod score;
mod search;
mod serve;
mod side;
mod site;
mod squad;
mod stats;
mod suites;
mod train;

use anyhow::Result;
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use crate::commands::Shared;

/// Measures Loci on this machine
#[derive(Debug, Subcommand)]
pub enum Bench {
    Embed(embed::Embed),
    Serve(serve::Serve),
    Refresh(refresh::Refresh),
    Churn(churn::Churn),
    Fusion(fusion::FusionBench),
    Search(Box<search::Search>),
    Suites(suites::Suites),
    Train(train::Train),
    Generate(generate::Generate),
    #[command(hide = true)]
    Side(side::Side),
}

/// What peers in Python import.
const PACKAGES: &str = "tests/python/bench.txt";

impl Bench {
    /// Measures and prints.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        match self {
            Self::Embed(embed) => tokio::task::block_in_place(|| embed.run(shared)),
            Self::Serve(serve) => serve.run(shared).await,
            Self::Refresh(refresh) => refresh.run(shared).await,
            Self::Churn(churn) => tokio::task::block_in_place(|| churn.run(shared)),
            Self::Fusion(fusion) => tokio::task::block_in_place(|| fusion.run(shared)),
            Self::Search(search) => search.run(shared).await,
            Self::Suites(suites) => tokio::task::block_in_place(|| suites.run(shared)),
            Self::Train(train) => tokio::task::block_in_place(|| train.run(shared)),
            Self::Generate(generate) => tokio::task::block_in_place(|| generate.run(shared)),
            Self::Side(side) => tokio::task::block_in_place(|| side.run()),
        }
    }
}

/// A bar on stderr for `total` rounds of something.
fn bar(total: u64, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(total).with_style(style);
    bar.set_prefix(what);
    bar
}
