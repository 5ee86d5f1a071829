//! `loci` as its users run it: the built program, real models, real files, real HTTP.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod adapters;
mod admission;
mod bench;
mod cluster;
mod devices;
mod documents;
mod forgetting;
mod harness;
mod input;
mod lasting;
mod life;
mod push;
mod python;
mod recovery;
