//! `loci parse-document`: what workers start for each document that is no text.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use loci_worker::document::Format;
use loci_worker::document::isolated::{Bounds, answer};

/// Parses the document on standard input, and writes what it reads of it as a line of JSON
#[derive(Debug, Args)]
pub struct ParseDocument {
    /// What it is: pdf, docx, pptx or xlsx
    #[arg(long)]
    format: Format,
    /// The most bytes of address space
    #[arg(long, value_name = "BYTES")]
    memory: u64,
    /// The most seconds of processor time
    #[arg(long, value_name = "SECONDS")]
    cpu: u64,
}

impl ParseDocument {
    /// Parses it, within bounds that the process keeps to its end.
    pub fn run(&self) -> Result<()> {
        let bounds = Bounds {
            memory: self.memory,
            cpu: Duration::from_secs(self.cpu),
        };
        answer(self.format, &bounds).context("cannot parse a document")
    }
}
