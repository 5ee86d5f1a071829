//! Serving: releases of memory pipelines behind HTTP.
//!
//! [`Recall`] holds, for each pipeline, the release that serves. A new one is
//! [prepared](Recall::prepare) beside it (opened, warmed, probed) and
//! [switched to](Recall::switch) by one pointer; queries in flight finish on the old.
//! [`serve`] answers the routes of [`openapi`]; [`wire`] has their JSON.
//!
//! Queries are computed on threads of their own, a bounded number at once and a bounded number
//! waiting; what exceeds that is refused at once with 503 and `Retry-After`. Bulk work
//! (`/v1/embeddings` with much text, and whatever else asks [`BulkGate`]) yields to them.
//!
//! Sources of type push take documents at `/v1/documents`, and [`Documents`] keeps them; who may write has a token of its own.
//! `/mcp` has the same answers as `/v1/retrieve` for hosts of the Model Context Protocol; [`mcp_stdio`] serves them on
//! standard input and output, from wherever a [`Retriever`] gets them.
//!
//! A release with a decoder answers `/v1/chat/completions`: passages for the last question are put
//! into the prompt as data, and cited. A thread for each decoder continues several answers
//! together, a bounded number; it yields to queries between tokens. Further chats are refused with
//! 429. An answer finishes on the release that it began with. Instead of a decoder a release may
//! have a [service](LoadService): chats are sent on to it with their passages, to the adapter by
//! the name that has its digest, and who hangs up here hangs up there.

mod api;
mod auth;
mod chat;
mod connections;
mod documents;
mod engine;
mod error;
mod events;
mod generate;
mod lanes;
mod lookup;
mod metrics;
mod model;
mod recall;
mod release;
mod server;
mod service;
mod streams;
mod urgency;
pub mod wire;

pub use api::mcp::{NoAnswer, Retriever, stdio as mcp_stdio};
pub use api::openapi::openapi;
pub use auth::{Auth, Tokens};
pub use documents::{
    DocumentChange, Documents, DocumentsError, NewDocument, PushSource, Refusal, SourceSummary,
    Standing,
};
pub use error::RecallError;
pub use lanes::BulkGate;
pub use model::adapter_name;
pub use recall::{Recall, RecallOptions};
pub use release::{LoadAdapter, LoadRequest, LoadService, Prepared, Retired, Serving};
pub use server::serve;
pub use urgency::answers_queries;
