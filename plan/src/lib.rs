//! Planning as pure functions: what is to be done for a pipeline, given the time and all that is so.
//!
//! No I/O, no clock, no threads. The shells (`loci up`, the operator) gather a [`World`], call
//! [`plan`], apply its [`Action`]s and do so again until there are none.

pub mod action;
pub mod advise;
mod clock;
mod conditions;
pub mod gate;
mod history;
mod judge;
pub mod metrics;
mod plan;
mod rollout;
mod runs;
pub mod schedule;
mod sources;
pub mod spec;
mod status;
mod steps;
mod view;
pub mod world;

pub use action::{Action, Decision, StepInput};
pub use plan::plan;
pub use rollout::rollback_target;
pub use spec::{FieldError, Impact, Pipeline, impact};
pub use status::refused;
pub use world::*;
