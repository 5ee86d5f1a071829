//! The steps that turn sources into index revisions, datasets and adapters, and judge what comes of them.

pub mod behavior;
pub mod chunk;
pub mod dataset;
pub mod devices;
pub mod document;
pub mod example;
mod passages;
pub mod service;
pub mod source;
pub mod step;
