//! Parts of the test bed, to try things by hand: `cargo run --release --bin loci-testbed` holds a control plane open, and
//! with `hub DIRECTORY ORG/NAME ADDRESS` serves the model in a directory as a hub would.

use std::process::ExitCode;

use loci_testbed::hub::Model;
use loci_testbed::{ControlPlane, Result};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match &args[..] {
        [] => hold().await,
        ["hub", directory, name, address] => hub(directory, name, address).await,
        _ => {
            eprintln!("usage: loci-testbed [hub DIRECTORY ORG/NAME ADDRESS]");
            return ExitCode::from(2);
        }
    };
    match done {
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

async fn hub(directory: &str, name: &str, address: &str) -> Result<()> {
    let model = Model {
        name: name.to_owned(),
        directory: directory.into(),
    };
    Ok(model.serve(TcpListener::bind(address).await?).await?)
}
