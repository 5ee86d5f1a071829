//! `loci mcp`: a running server's passages for hosts of the Model Context Protocol that start programs.

use std::io::{IsTerminal, stdin};
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use loci_recall::wire::RetrieveResponse;
use loci_recall::{NoAnswer, Retriever};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::commands::{Shared, log_from};

/// Serves the Model Context Protocol on standard input and output, with the answers of a running server
///
/// A host of the protocol starts it. Hosts that take a URL need no program: the server has the same at /mcp.
#[derive(Debug, Args)]
pub struct Mcp {
    /// The server; by default the one that `loci up` announced in --state
    #[arg(long, env = "LOCI_URL")]
    url: Option<String>,
    /// A file with the bearer token
    #[arg(long, env = "LOCI_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Mcp {
    /// Serves until the input ends.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        log_from("warn");
        let client = Client::find(self.url, self.token_file.as_deref(), &shared.state)?;
        if stdin().is_terminal() {
            eprintln!(
                "waiting for JSON-RPC on standard input: a host of the Model Context Protocol starts this program; Ctrl-C stops"
            );
        }
        Ok(loci_recall::mcp_stdio(Server(client)).await?)
    }
}

/// A server that answers.
struct Server(Client);

impl Retriever for Server {
    async fn retrieve(&self, fields: Map<String, Value>) -> Result<RetrieveResponse, NoAnswer> {
        let answer = self.0.ask(&fields).await;
        let answer = answer.map_err(|e| NoAnswer {
            message: format!("{e:#}"),
            param: None,
        })?;
        answer.map_err(|refused| NoAnswer {
            message: refused.message,
            param: refused.param,
        })
    }
}
