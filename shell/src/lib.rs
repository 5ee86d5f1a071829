//! What the two shells around the plan share: `loci up`, whose resources are files, and the operator, whose
//! resources are on an API server.
//!
//! A [`Controller`] loops for one pipeline: it gathers the [`World`](loci_plan::World), asks
//! [`plan`](loci_plan::plan()) and does what it says. Where resources are kept is a [`Keeper`]'s affair; steps go
//! out and come back by a [`Dispatch`]; [`Fleet`] is what serves.

mod apply;
mod asks;
mod controller;
mod declared;
mod dispatch;
mod fleet;
mod garbage;
mod items;
mod keeper;
mod lasting;
mod live;
mod news;
mod pushed;
mod results;
mod sources;
mod suites;
mod sweep;
mod trainings;
mod wait;

pub use controller::{Classes, Controller, Shared};
pub use declared::Declared;
pub use dispatch::{CLASS, Dispatch, FETCH, Progresses};
pub use fleet::{Fleet, Load, LocalFleet, StoredAdapter};
pub use garbage::Garbage;
pub use items::{Crew, Uploads, full_name};
pub use keeper::{Keeper, Kept, Told};
pub use news::News;
pub use pushed::{Pushed, open_logs};
pub use results::count;
pub use sources::{Data, Objects, Resolver, SECRET_KEYS, Sources, absolute, model, resolve};
pub use suites::{Questions, builtin, questions};
pub use sweep::{Census, Sweeper};
