//! PDF and Office files, made here: good ones, and ones that mean no good.

mod office;
mod pdf;

pub use office::{Entry, archive, docx, docx_with, encrypted_office, pptx, xlsx};
pub use pdf::{Pdf, pdf};
