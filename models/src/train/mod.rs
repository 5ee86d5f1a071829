//! Training of adapters: low-rank adaptation of a frozen decoder (Hu et al., 2021), one step at a time.

mod adamw;
mod batch;
mod checkpoint;
mod example;
mod layer;
mod linear;
mod network;
mod parameters;
mod pass;
mod settings;
mod trainer;

pub use example::Example;
pub use settings::{Schedule, TrainingRecord, TrainingSettings};
pub use trainer::{Trainer, TrainingStep};
