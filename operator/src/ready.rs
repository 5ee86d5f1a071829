//! Whether a worker takes steps, for a kubelet that asks.

use std::net::SocketAddr;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use loci_bus::Worker;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bind;

/// Answers `/readyz` on `address` until `shutdown`: 200 while the worker takes steps, and 503 with the reason while it
/// does not.
///
/// # Errors
/// When nothing can listen there.
pub async fn serve_readiness(
    address: SocketAddr,
    told: watch::Receiver<Worker>,
    shutdown: CancellationToken,
) -> Result<()> {
    let listener = bind(address).await?;
    let router = Router::new().route("/readyz", get(readyz)).with_state(told);
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await?;
    Ok(())
}

async fn readyz(State(told): State<watch::Receiver<Worker>>) -> (StatusCode, String) {
    answer(&told.borrow())
}

fn answer(worker: &Worker) -> (StatusCode, String) {
    let why = worker.trouble.as_ref();
    let why = why.map_or_else(String::new, |why| format!(": {}", why.message));
    match worker.idle {
        false => (StatusCode::OK, format!("{} takes steps{why}\n", worker.id)),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("{} takes no steps{why}\n", worker.id),
        ),
    }
}

#[cfg(test)]
mod tests {
    use loci_bus::Trouble;

    use super::*;

    #[test]
    fn a_worker_that_takes_nothing_is_not_ready_and_says_why() {
        let trouble = Trouble {
            reason: "NoDevice".to_owned(),
            message: "no CUDA device".to_owned(),
        };
        let told = |trouble: Option<Trouble>, idle| {
            answer(&Worker {
                id: "worker-7".to_owned(),
                trouble,
                idle,
                ..Worker::default()
            })
        };
        let (code, said) = told(None, false);
        assert_eq!(
            (code, said.as_str()),
            (StatusCode::OK, "worker-7 takes steps\n")
        );
        let (code, said) = told(Some(trouble.clone()), false);
        assert!(
            code == StatusCode::OK && said.contains(": no CUDA device"),
            "{said}"
        );
        let (code, said) = told(Some(trouble), true);
        assert_eq!(code, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(said, "worker-7 takes no steps: no CUDA device\n");
    }
}
