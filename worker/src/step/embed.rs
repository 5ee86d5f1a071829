//! Embed: cuts what changed into passages and gives vectors to those that have none yet.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use loci_bus::Unit;
use loci_digest::Digest;
use loci_index::{Document, Revision};
use loci_models::{Encoder, Role, TextTokenizer};

use super::cut::cut;
use super::delta::{DELTA, DeltaManifest, EmbedOutput, bytes, floats};
use super::evaluate::cancelled;
use super::{Directory, Reporter, SNAPSHOT, Snapshot, StepContext, StepError, StepInput, blocking};
use crate::chunk::{ChunkerConfig, TokenCounter};

/// Passages embedded between two records in the store: what a crash costs at most.
const SHARD: usize = 1024;

/// Changes when the same entry would be read differently: also by another version of a library that parses.
const PARSER: u32 = 2;

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
        let started = std::time::Instant::now();
        let embedded = blocking(move || {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let mut progress = |p: loci_models::EmbedProgress| {
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
            encoder
                .embed(&texts, Role::Passage, &mut progress)
                .map_err(cancelled)
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
