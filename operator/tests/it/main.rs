//! The operator against the real API server of a bare control plane.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod anew;
mod argo;
mod lasting;
mod leaders;
mod life;
mod metrics;
mod objects;
mod site;
mod told;
mod unreadable;
mod wrong;
