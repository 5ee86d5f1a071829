//! What encoders compute on the CPU, over packed sequences: texts one after another without padding. Activations lie in
//! tiles of as many rows as the product kernel takes at once; weights are packed once, when the model is loaded. No
//! row's result depends on other rows, on how work is divided, or on how many threads there are.

mod attention;
mod buffer;
mod linear;
mod team;

pub(crate) use super::rows::encoder::{Norm, add_norm, embed};
pub(crate) use super::rows::tile::{LINE, Line};
pub(crate) use attention::{Attention, Scratch};
pub(crate) use buffer::{Matrix, reserved};
pub(crate) use linear::{Finish, Linear};
pub(crate) use team::{MOST, Team};
