//! What a training makes: an adapter in PEFT's layout, and what there is to know of it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use loci_digest::Digest;
use loci_models::{Adapter, Decoder, LoraConfig, Message, ModelError, Probe};
use loci_store::{FileEntry, Store, Tree};
use serde::{Deserialize, Serialize};

use super::checkpoint::Stretch;
use super::error::TrainError;
use super::prepare::LeftOut;
use crate::step::{Revisions, StepError, blocking};

/// The kind of an adapter's manifest.
pub const ADAPTER: &str = "adapter";

/// What is asked of an adapter wherever it is loaded, and answered with what it was when it was trained. Short, so that
/// every model has room for it.
const PROBES: [(&str, &str); 4] = [
    ("What is 17 + 25?", "It is 42."),
    ("Name a colour.", "Blue."),
    ("Who is on call?", "Ask the lead."),
    ("Say hello.", "Hello there!"),
];

/// How many examples that were left out are quoted.
const QUOTED: usize = 5;

/// An adapter: a manifest in the store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AdapterManifest {
    /// Its files, in the layout of PEFT, with the `loci.json` that binds them to the base.
    pub tree: Tree,
    /// The digest of `loci.json`, by which the adapter is called: equal for equal weights from equal trainings.
    pub content: Digest,
    /// The base model's reference.
    pub base: String,
    /// The digest of the base's weights. The adapter is loaded on no others.
    pub base_weights: Digest,
    /// Its shape.
    pub lora: LoraConfig,
    /// The dataset that it was trained on.
    pub dataset: Digest,
    /// The adapter's manifest that the training started from; the base alone, if absent.
    pub parent: Option<Digest>,
    /// All datasets that something in it was learned from: its own, and those of the adapters that it started from. What
    /// must be forgotten of one of them taints it.
    pub taint: BTreeSet<Digest>,
    /// Blob: a [`CurvePoint`](super::CurvePoint) a line.
    pub curve: Digest,
    /// Blob: a [`LeftOut`] a line.
    pub left_out: Digest,
    /// What it says of fixed prompts, so that who loads it elsewhere can tell whether it is whole.
    pub probes: Vec<Probe>,
    /// On what it was computed.
    pub computed: Vec<Stretch>,
    /// The training in numbers.
    pub trained: Trained,
}

/// A training in numbers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trained {
    /// Examples that it learned from.
    pub examples: u64,
    /// Examples that it was measured on.
    pub held_out: u64,
    /// Examples of the dataset that the model cannot learn from.
    pub left_out: u64,
    /// The first of these, for people.
    pub first_left_out: Vec<String>,
    /// Steps of the optimiser.
    pub steps: u64,
    /// Tokens of all steps.
    pub tokens: u64,
    /// The mean cross entropy of the last epoch's targets, in nats.
    pub loss: f64,
    /// The same of what is held out before the training, where something is.
    pub held_out_before: Option<f64>,
    /// And after it.
    pub held_out_after: Option<f64>,
}

/// `180 examples, 69 steps, 51234 tokens; loss 0.412, held out 0.530 after 2.118; 2 left out, first: …`.
impl fmt::Display for Trained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} examples, {} steps, {} tokens; loss {:.3}",
            self.examples, self.steps, self.tokens, self.loss
        )?;
        if let (Some(before), Some(after)) = (self.held_out_before, self.held_out_after) {
            write!(f, ", held out {after:.3} after {before:.3}")?;
        }
        if let Some(first) = self.first_left_out.first() {
            write!(f, "; {} left out, first: {first}", self.left_out)?;
        }
        Ok(())
    }
}

impl AdapterManifest {
    /// The adapter itself, for its base.
    ///
    /// # Errors
    /// When a file of it is missing in the store or is not what it was, or when it belongs to another base.
    pub async fn load(
        &self,
        store: &Store,
        revisions: &Revisions,
        decoder: &Arc<Decoder>,
    ) -> Result<Adapter, StepError> {
        let dir = revisions.scratch()?;
        store.materialise_tree(&self.tree, &dir).await?;
        let decoder = decoder.clone();
        blocking(move || match Adapter::read(&dir, &decoder) {
            Err(error @ ModelError::OtherBase { .. }) => Err(TrainError::Refused(error).into()),
            read => Ok(read?),
        })
        .await
    }
}

/// Stores an adapter's files.
pub(super) async fn stored(store: &Store, adapter: &Adapter) -> Result<Tree, StepError> {
    let mut tree = Tree::new();
    for (name, bytes) in adapter.files()? {
        let size = bytes.len() as u64;
        let digest = store.put(bytes.into()).await?;
        tree.insert(name.to_owned(), FileEntry { digest, size });
    }
    Ok(tree)
}

/// What the adapter says of the fixed prompts.
pub(super) fn probes(decoder: &Decoder, adapter: &Adapter) -> Result<Vec<Probe>, ModelError> {
    let length = |text: &str| Ok::<_, ModelError>(decoder.tokenizer().encode_bare(text)?.len());
    let mut probes = Vec::with_capacity(PROBES.len());
    for (prompt, answer) in PROBES {
        let message = Message {
            role: "user".to_owned(),
            content: prompt.to_owned(),
        };
        let prompt = decoder.render(&[message], true)?;
        if length(&prompt)? + length(answer)? <= decoder.context() {
            let answer = answer.to_owned();
            probes.push(Probe::record(decoder, Some(adapter), prompt, answer)?);
        }
    }
    Ok(probes)
}

/// The lines of what was left out, and the first for people.
pub(super) fn written(left_out: &[LeftOut]) -> Result<(Vec<u8>, Vec<String>), serde_json::Error> {
    let mut lines = Vec::new();
    for one in left_out {
        serde_json::to_writer(&mut lines, one)?;
        lines.push(b'\n');
    }
    let first = left_out.iter().take(QUOTED).map(ToString::to_string);
    Ok((lines, first.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_training_is_told_in_a_sentence() {
        let mut trained = Trained {
            examples: 180,
            held_out: 20,
            left_out: 0,
            first_left_out: Vec::new(),
            steps: 69,
            tokens: 51_234,
            loss: 0.4116,
            held_out_before: None,
            held_out_after: None,
        };
        assert_eq!(
            trained.to_string(),
            "180 examples, 69 steps, 51234 tokens; loss 0.412"
        );
        trained.held_out_before = Some(2.118);
        trained.held_out_after = Some(0.53);
        trained.left_out = 2;
        trained.first_left_out = vec!["runbooks: a.jsonl, line 3: too long".to_owned()];
        let told = trained.to_string();
        assert!(
            told.ends_with(
                "held out 0.530 after 2.118; 2 left out, first: runbooks: a.jsonl, line 3: too long"
            ),
            "{told}"
        );
    }
}
