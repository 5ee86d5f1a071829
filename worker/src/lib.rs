//! The steps that turn sources into index revisions.

pub mod chunk;
pub mod document;
pub mod service;
pub mod source;
pub mod step;
