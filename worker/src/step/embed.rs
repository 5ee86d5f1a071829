//! Embed: cuts what changed into passages and gives vectors to those that have none yet.

use std::collections::{HashMap, HashSet};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use bytes::Bytes;
use loci_bus::Unit;
use loci_digest::Digest;
use loci_index::{Document, Revision};
use loci_models::{EmbedProgress, Embeddings, Encoder, ModelError, Role, TextTokenizer};

use super::cut::cut;
use super::delta::{DELTA, DeltaManifest, EmbedOutput, bytes, floats};
use super::evaluate::cancelled;
use super::{Directory, Reporter, SNAPSHOT, Snapshot, StepContext, StepError, StepInput, blocking};
use crate::chunk::{ChunkerConfig, TokenCounter};
use crate::devices::{Card, in_batches};

/// Passages embedded between two records in the store: what a crash costs at most.
const SHARD: usize = 1024;

/// Changes when the same entry would be read differently: also by another version of a library that parses.
const PARSER: u32 = 3;

pub(super) async fn run(
    context: &StepContext,
    pipeline: &str,
    input: &StepInput,
    reporter: &Reporter,
) -> Result<EmbedOutput, StepError> {
    let StepInput::Embed {
        snapshot,
        previous,
        model,
        chunking,
    } = input
    else {
        return Err(StepError::Task(
            "Embed was given another step's input".to_owned(),
        ));
    };
    let encoder = context.encoders.get(model).await;
    let encoder = encoder.map_err(|error| match error {
        StepError::Model(error) => StepError::Embedder(error),
        error => error,
    })?;
    let identity = encoder.identity().digest();
    let key = input.key(pipeline, Some(&Digest::of_json(&(PARSER, identity))?))?;
    if let Some(delta) = context.store.lookup(&key).await? {
        let done: DeltaManifest = context.store.get_manifest(DELTA, &delta).await?;
        return Ok(EmbedOutput {
            delta: Some(delta),
            ..done.counts
        });
    }
    let chunking = fitting(*chunking, encoder.tokenizer());
    let previous = match previous {
        Some(digest) => Some((*digest, context.revisions.manifest(digest).await?)),
        None => None,
    };
    let snapshot: Snapshot = context.store.get_manifest(SNAPSHOT, snapshot).await?;
    let chunker = chunker(&snapshot, chunking.digest(encoder.tokenizer().digest()))?;
    let base = previous
        .as_ref()
        .filter(|(_, m)| m.info.embedder == identity && m.info.chunker == chunker);
    let cut = cut(
        context,
        &snapshot,
        base.map(|(_, m)| m),
        &encoder,
        chunking,
        reporter,
    )
    .await?;
    let reuse = match previous
        .as_ref()
        .filter(|(_, m)| m.info.embedder == identity)
    {
        Some((digest, _)) => Some(context.revisions.directory(digest).await?),
        None => None,
    };
    let mut counts = cut.counts;
    let vectors = vectors(
        context,
        &cut.documents,
        &encoder,
        reuse,
        reporter,
        &mut counts,
    )
    .await?;
    let manifest = DeltaManifest {
        base: base.map(|(digest, _)| *digest),
        model: model.clone(),
        embedder: identity,
        chunker,
        dimensions: encoder.dimensions(),
        corpus: context
            .store
            .put(serde_json::to_vec(&cut.corpus)?.into())
            .await?,
        remove: cut.remove,
        documents: context
            .store
            .put(serde_json::to_vec(&cut.documents)?.into())
            .await?,
        vectors: context.store.put(bytes(&vectors).into()).await?,
        counts,
    };
    let mut refs = vec![manifest.corpus, manifest.documents, manifest.vectors];
    refs.extend(manifest.base);
    let delta = context.store.put_manifest(DELTA, &refs, &manifest).await?;
    let delta = context.store.record(&key, &delta).await?;
    Ok(EmbedOutput {
        delta: Some(delta),
        ..manifest.counts
    })
}

/// What decides how entries become documents. What sources declare is part of it: a revision in which a document has other
/// metadata is another, also where no text changed.
fn chunker(snapshot: &Snapshot, chunking: Digest) -> Result<Digest, StepError> {
    let declared = snapshot.declared();
    Ok(if declared.is_empty() {
        Digest::of_json(&(PARSER, chunking))?
    } else {
        Digest::of_json(&(PARSER, chunking, declared))?
    })
}

/// The settings, within what the model takes.
fn fitting(chunking: ChunkerConfig, tokenizer: &TextTokenizer) -> ChunkerConfig {
    let limit = tokenizer
        .max_tokens()
        .saturating_sub(tokenizer.special_tokens());
    let max_tokens = chunking.max_tokens.min(limit);
    ChunkerConfig {
        max_tokens,
        overlap_tokens: chunking.overlap_tokens.min(max_tokens / 2),
    }
}

impl TokenCounter for TextTokenizer {
    fn count(&self, text: &str) -> usize {
        TextTokenizer::count(self, text)
    }

    fn offsets(&self, text: &str) -> Vec<Range<usize>> {
        TextTokenizer::offsets(self, text)
    }
}

/// The vectors of all passages in order.
async fn vectors(
    context: &StepContext,
    documents: &[Document],
    encoder: &Arc<Encoder>,
    reuse: Option<Directory>,
    reporter: &Reporter,
    counts: &mut EmbedOutput,
) -> Result<Vec<f32>, StepError> {
    let mut texts: HashMap<Digest, String> = HashMap::new();
    let mut order = Vec::new();
    for document in documents {
        let title = document.title.as_deref();
        for passage in &document.passages {
            let text = passage.embedding_text(title);
            let hash = Digest::of(&text);
            order.push(hash);
            texts.entry(hash).or_insert(text);
        }
    }
    let wanted: HashSet<Digest> = texts.keys().copied().collect();
    let mut known = match reuse {
        Some(dir) => blocking(move || Ok(Revision::open(&dir)?.vectors_of(&wanted)?)).await?,
        None => HashMap::new(),
    };
    let mut seen = HashSet::new();
    let missing: Vec<Digest> = order
        .iter()
        .filter(|h| !known.contains_key(*h) && seen.insert(**h))
        .copied()
        .collect();
    counts.embedded = missing.len() as u64;
    let embedding = Embedding {
        context,
        encoder,
        total: missing.len() as u64,
    };
    for (n, shard) in missing.chunks(SHARD).enumerate() {
        let texts: Vec<String> = shard.iter().filter_map(|h| texts.remove(h)).collect();
        let done = (n * SHARD) as u64;
        let (pack, tokens) = embedding
            .shard(shard, texts, done, counts.tokens, reporter)
            .await?;
        counts.tokens += tokens;
        let rows = pack
            .chunks_exact(4 * encoder.dimensions())
            .map(|row| floats(row).collect());
        known.extend(shard.iter().copied().zip(rows));
    }
    Ok(order
        .iter()
        .filter_map(|h| known.get(h))
        .flatten()
        .copied()
        .collect())
}

struct Embedding<'a> {
    context: &'a StepContext,
    encoder: &'a Arc<Encoder>,
    total: u64,
}

impl Embedding<'_> {
    /// The vectors of one shard as bytes, and the tokens that this took: none when it was done before.
    async fn shard(
        &self,
        hashes: &[Digest],
        texts: Vec<String>,
        done: u64,
        tokens: u64,
        reporter: &Reporter,
    ) -> Result<(Bytes, u64), StepError> {
        let store = &self.context.store;
        let key = Digest::of_json(&("loci/shard/v1", self.encoder.identity().digest(), hashes))?;
        if let Some(pack) = store.lookup(&key).await? {
            reporter.report(
                done + hashes.len() as u64,
                Some(self.total),
                Unit::Chunks,
                None,
            );
            return Ok((store.get(&pack).await?, 0));
        }
        let (encoder, total) = (self.encoder.clone(), self.total);
        let (reporter, pace) = (reporter.clone(), self.context.pace.clone());
        let card = self.context.card.clone();
        let started = std::time::Instant::now();
        let embedded = blocking(move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut progress = |p: EmbedProgress| {
                let rate = p.tokens as f64 / started.elapsed().as_secs_f64().max(1e-3);
                let message = format!("{} tokens, {rate:.0} tokens/s", tokens + p.tokens as u64);
                reporter.report(
                    done + p.texts as u64,
                    Some(total),
                    Unit::Chunks,
                    Some(message),
                );
                pace();
                reporter.flow()
            };
            passages(&encoder, card.as_ref(), &texts, &mut progress).map_err(cancelled)
        })
        .await?;
        let pack = Bytes::from(bytes(&embedded.vectors));
        let stored = store.put(pack.clone()).await?;
        let winner = store.record(&key, &stored).await?;
        let pack = if winner == stored {
            pack
        } else {
            store.get(&winner).await?
        };
        Ok((pack, embedded.tokens as u64))
    }
}

/// Embeds passages: all together, or as many at once as the device has room for.
fn passages(
    encoder: &Encoder,
    card: Option<&Card>,
    texts: &[&str],
    progress: &mut dyn FnMut(EmbedProgress) -> ControlFlow<()>,
) -> Result<Embeddings, ModelError> {
    let Some(card) = card else {
        return encoder.embed(texts, Role::Passage, progress);
    };
    let model = encoder.identity().digest().to_string();
    let mut done = EmbedProgress::default();
    let batch = |batch: Range<usize>| {
        let before = done;
        let embedded = encoder.embed(&texts[batch.clone()], Role::Passage, &mut |now| {
            progress(EmbedProgress {
                texts: before.texts + now.texts,
                tokens: before.tokens + now.tokens,
            })
        })?;
        done.texts += batch.len();
        done.tokens += embedded.tokens;
        Ok(embedded)
    };
    let ran_out = |size| card.ran_out(&model, size);
    let parts = in_batches(texts.len(), card.most(&model), batch, ran_out)?;
    card.worked();
    Ok(Embeddings {
        dimensions: encoder.dimensions(),
        tokens: parts.iter().map(|part| part.tokens).sum(),
        truncated: parts.iter().map(|part| part.truncated).sum(),
        vectors: parts.into_iter().flat_map(|part| part.vectors).collect(),
    })
}

#[cfg(test)]
mod tests {
    use loci_bus::Device;
    use loci_models::DeviceRequest;
    use loci_testbed::root;

    use super::*;

    #[test]
    fn vectors_are_the_same_however_few_passages_a_device_has_room_for() {
        let tiny = root().join("models/tests/reference/tiny");
        let encoder = Encoder::load(&tiny, DeviceRequest::Cpu).unwrap();
        let texts = ["the", "of", "and a", "in the", "to"];
        let state = tempfile::tempdir().unwrap();
        let device = Device {
            uuid: "GPU-1".to_owned(),
            ..Device::default()
        };
        let card = Card::new(device, state.path());
        let seen = std::cell::RefCell::new(Vec::new());
        let embed = |card: Option<&Card>| {
            seen.borrow_mut().clear();
            let mut progress = |now: EmbedProgress| {
                seen.borrow_mut().push((now.texts, now.tokens));
                ControlFlow::Continue(())
            };
            passages(&encoder, card, &texts, &mut progress).unwrap()
        };
        let whole = embed(None);
        let all = (texts.len(), whole.tokens);
        assert_eq!(seen.borrow().last(), Some(&all));
        for most in [texts.len(), 2, 1] {
            card.ran_out(&encoder.identity().digest().to_string(), 2 * most);
            let parts = embed(Some(&card));
            assert_eq!(parts.vectors, whole.vectors, "{most} at once");
            assert_eq!(
                (parts.tokens, parts.truncated),
                (whole.tokens, whole.truncated)
            );
            assert_eq!(seen.borrow().last(), Some(&all));
            assert!(seen.borrow().is_sorted() && seen.borrow().len() >= texts.len().div_ceil(most));
        }
    }
}
