//! A real server on loopback, with real revisions and a real encoder.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod bad_input;
mod contracts;
mod openapi;
mod overload;
mod support;
mod swaps;
