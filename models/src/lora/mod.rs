//! Adapters: what low-rank adaptation adds to a decoder whose own weights stay as they are (Hu et al., 2021).

mod adapter;
mod config;
mod manifest;
mod peft;
mod probe;
mod routes;

pub use adapter::Adapter;
pub(crate) use adapter::Delta;
pub use config::LoraConfig;
pub use manifest::AdapterBase;
pub(crate) use peft::{tensor_a, tensor_b};
pub use probe::Probe;
pub(crate) use routes::Routes;
