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

mod api;
mod auth;
mod connections;
mod engine;
mod error;
mod lanes;
mod lookup;
mod metrics;
mod recall;
mod release;
mod server;
mod urgency;
pub mod wire;

pub use api::openapi::openapi;
pub use auth::{Auth, Tokens};
pub use error::RecallError;
pub use lanes::BulkGate;
pub use recall::{Recall, RecallOptions};
pub use release::{LoadRequest, Prepared, Retired, Serving};
pub use server::serve;
pub use urgency::answers_queries;
