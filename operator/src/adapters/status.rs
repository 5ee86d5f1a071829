//! Where it is said how releases stand, and whether the vLLM may be asked. Nothing here is secret, and nothing can be
//! changed here.

use std::sync::{Arc, Mutex};

use anyhow::Result;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::fleet::Report;
use crate::lock;

/// What is shown: how releases stand, and which is to answer.
#[derive(Clone, Default)]
pub struct Shown(Arc<Mutex<(Report, Option<String>)>>);

impl Shown {
    /// Shows this from now on.
    pub fn show(&self, report: Report, desired: Option<String>) {
        *lock(&self.0) = (report, desired);
    }

    /// What is shown of releases.
    pub fn report(&self) -> Report {
        lock(&self.0).0.clone()
    }
}

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, shown: Shown, shutdown: CancellationToken) -> Result<()> {
    let router = Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .with_state(shown);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn status(State(shown): State<Shown>) -> Json<Report> {
    Json(shown.report())
}

/// Whether chats may be sent here: the adapters of the release that answers are loaded.
async fn ready(State(shown): State<Shown>) -> (StatusCode, String) {
    let (report, desired) = lock(&shown.0).clone();
    match desired {
        Some(desired) if report.serving.as_ref() == Some(&desired) => {
            (StatusCode::OK, format!("{desired} is loaded\n"))
        }
        Some(desired) => {
            let why = report.failures.get(&desired).map_or("", String::as_str);
            let told = format!("{desired} is not loaded yet: {why}\n");
            (StatusCode::SERVICE_UNAVAILABLE, told)
        }
        None => {
            let told = "no release is to answer yet\n".to_owned();
            (StatusCode::SERVICE_UNAVAILABLE, told)
        }
    }
}
