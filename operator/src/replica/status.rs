//! Where a replica says what it serves. Nothing here is secret, and nothing can be changed here.

use anyhow::Result;
use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Shown;
use crate::fleet::Report;
use crate::lock;

/// Serves until `shutdown`.
pub async fn serve(listener: TcpListener, shown: Shown, shutdown: CancellationToken) -> Result<()> {
    let router = Router::new()
        .route("/status", get(status))
        .with_state(shown);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn status(State(shown): State<Shown>) -> Json<Report> {
    Json(lock(&shown).clone())
}
