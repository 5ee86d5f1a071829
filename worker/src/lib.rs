//! The steps that turn sources into index revisions.

pub mod chunk;
mod devices;
pub mod document;
pub mod service;
pub mod source;
pub mod step;

pub use devices::devices;
