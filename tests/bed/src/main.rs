//! Holds a control plane open, to try things by hand: `cargo run --release -p loci-testbed`.

use std::process::ExitCode;

use loci_testbed::{ControlPlane, Result};

#[tokio::main]
async fn main() -> ExitCode {
    match hold().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn hold() -> Result<()> {
    let plane = ControlPlane::start().await?;
    plane.controllers().await?;
    println!("export KUBECONFIG={}", plane.kubeconfig().display());
    eprintln!("a control plane without nodes is up; Ctrl-C ends it");
    Ok(tokio::signal::ctrl_c().await?)
}
