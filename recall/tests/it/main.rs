//! A real server on loopback, with real revisions and a real encoder; decoders are small ones of random weights.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod access;
mod admission;
mod bad_input;
mod chat;
mod chat_limits;
mod chat_load;
mod chat_support;
mod contracts;
mod mcp;
mod openapi;
mod overload;
mod python;
mod rerank;
mod service;
mod service_real;
mod support;
mod swaps;
mod vllm;
