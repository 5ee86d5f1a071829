//! A dataset as bytes: JSON Lines, the same for the same dataset.

use loci_digest::Digest;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Error;

use super::{Dataset, Member, Origin};
use crate::example::Example;

/// The files of a dataset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// What is trained on: `{"messages": [{"role", "content"}, …]}` a line.
    pub train: Vec<u8>,
    /// What is held out, in the same form.
    pub held_out: Vec<u8>,
    /// [`Lineage`] of each line of `train`, then of each of `held_out`.
    pub lineage: Vec<u8>,
    /// What is in neither: a [`Rejection`](super::Rejection) a line.
    pub rejected: Vec<u8>,
}

/// Where an example of a dataset comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lineage {
    /// The digest of what it says, whatever its white space.
    pub identity: Digest,
    /// The digest of its line.
    pub digest: Digest,
    /// Which part of the dataset it is in.
    pub part: Part,
    /// All places where it stands, in order.
    pub origins: Vec<Origin>,
}

/// A part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Part {
    /// Trained on.
    Train,
    /// Held out.
    HeldOut,
}

impl Dataset {
    /// The dataset's files.
    ///
    /// # Errors
    /// None that is known: what is written here always has a JSON form.
    pub fn written(&self) -> Result<Written, Error> {
        let mut written = Written::default();
        for (part, members) in [(Part::Train, &self.train), (Part::HeldOut, &self.held_out)] {
            for member in members {
                let out = match part {
                    Part::Train => &mut written.train,
                    Part::HeldOut => &mut written.held_out,
                };
                let digest = line(out, &member.example)?;
                line(&mut written.lineage, &member.lineage(digest, part))?;
            }
        }
        for rejection in &self.rejected {
            line(&mut written.rejected, rejection)?;
        }
        Ok(written)
    }
}

impl Member {
    fn lineage(&self, digest: Digest, part: Part) -> Lineage {
        Lineage {
            identity: self.identity,
            digest,
            part,
            origins: std::iter::once(&self.origin)
                .chain(&self.others)
                .cloned()
                .collect(),
        }
    }
}

/// The examples of a part, as they were written.
///
/// # Errors
/// When a line is no example.
pub fn examples(part: &[u8]) -> Result<Vec<Example>, Error> {
    lines(part)
}

/// Where examples come from, as it was written.
///
/// # Errors
/// When a line says nothing of that.
pub fn lineage(lineage: &[u8]) -> Result<Vec<Lineage>, Error> {
    lines(lineage)
}

/// Adds a line, and gives its digest.
fn line(out: &mut Vec<u8>, value: &impl Serialize) -> Result<Digest, Error> {
    let json = serde_json::to_vec(value)?;
    let digest = Digest::of(&json);
    out.extend(json);
    out.push(b'\n');
    Ok(digest)
}

fn lines<T: DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>, Error> {
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(serde_json::from_slice).collect()
}
