//! What can go wrong outside of requests.

use std::io;
use std::path::PathBuf;

use loci_index::IndexError;
use loci_models::ModelError;

/// Why a release cannot be served, or the server cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecallError {
    /// The threads that compute queries or answers could not be started.
    #[error(
        "cannot start {threads} more threads: {reason}; lower `concurrency` or raise the limit on processes"
    )]
    Threads {
        /// How many were wanted.
        threads: usize,
        /// The reason.
        reason: String,
    },
    /// The index revision cannot be opened or searched.
    #[error("release {release} of {pipeline}: {source}")]
    Index {
        /// The pipeline.
        pipeline: String,
        /// The release.
        release: String,
        /// The reason.
        source: Box<IndexError>,
    },
    /// The embedder or the decoder failed on a probe.
    #[error("release {release} of {pipeline}: {source}")]
    Model {
        /// The pipeline.
        pipeline: String,
        /// The release.
        release: String,
        /// The reason.
        source: Box<ModelError>,
    },
    /// The release does not answer as it must.
    #[error("release {release} of {pipeline} cannot serve: {reason}")]
    Unfit {
        /// The pipeline.
        pipeline: String,
        /// The release.
        release: String,
        /// What is wrong and the way out.
        reason: String,
    },
    /// Loading the release panicked.
    #[error(
        "release {release} of {pipeline}: loading it panicked; the log has the place, please report it"
    )]
    Panicked {
        /// The pipeline.
        pipeline: String,
        /// The release.
        release: String,
    },
    /// A token is unusable.
    #[error("bearer token {position}: {reason}")]
    Token {
        /// Its position in the list, from 1; in a file, its line.
        position: usize,
        /// What is wrong and the way out; begins with the field where the line has fields.
        reason: String,
    },
    /// There is no token at all.
    #[error("no bearer token is given: nobody could be let in; give one or more, one a line")]
    NoToken,
    /// The token file is unusable.
    #[error("token file {}: {reason}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Authentication is off and the address can be reached from other machines.
    #[error(
        "{0} can be reached from other machines and no token is asked for: listen on 127.0.0.1 or [::1], or give a token file"
    )]
    Exposed(std::net::SocketAddr),
    /// The other side of standard input and output does not speak the Model Context Protocol.
    #[error(
        "MCP on standard input and output: {0}; a host of the protocol starts this program and speaks to it"
    )]
    Mcp(String),
    /// The listener failed.
    #[error("serving HTTP: {0}")]
    Http(#[from] io::Error),
}
