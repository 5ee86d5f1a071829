//! Planning as pure functions: what is to be done for a pipeline, given the time and all that is so.
//!
//! No I/O, no clock, no threads. The shells (`loci up`, the operator) gather a [`World`], call
//! [`plan`], write the status, apply the [`Action`]s and do so again until there are none. Then they
//! sleep until [`Decision::wake_at`] or until something happens: a step or a probe ended, a release
//! was loaded, a watch told of a change, a person asked for something, the spec changed.
//!
//! How a change comes to be served: a probe finds it -> a run snapshots, embeds, assembles and evaluates
//! -> its content makes a release, unless it is served or was judged already -> the release is a
//! candidate when its gates pass -> it is loaded beside what serves -> the pointer moves.
//!
//! What keeps that safe in a crash: each action is one write or one dispatch; what is dispatched is
//! asked for by what is written; and a step's attempt has one outcome, whoever asks for it again.

pub mod action;
pub mod advise;
pub mod budget;
mod clock;
mod compose;
mod conditions;
pub mod gate;
mod history;
mod judge;
mod limits;
pub mod metrics;
mod plan;
mod progress;
mod record;
mod rollout;
mod runs;
pub mod schedule;
mod sources;
pub mod spec;
mod status;
mod steps;
mod sweep;
mod view;
mod workers;
pub mod world;

pub use action::{Action, Decision, StepInput, Subject};
pub use plan::plan;
pub use progress::PERIOD as PROGRESS_PERIOD;
pub use record::{KeptRelease, PipelineRecord, Restored, record, restore};
pub use rollout::rollback_target;
pub use sources::answered;
pub use spec::{FieldError, Impact, Pipeline, impact};
pub use status::refused;
pub use sweep::{Fate, Presence, sweep};
pub use workers::{Classes, Workers};
pub use world::*;
