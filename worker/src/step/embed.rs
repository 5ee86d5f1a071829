//! Embed: cuts what changed into passages and gives vectors to those that have none yet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use loci_bus::Unit;
use loci_digest::Digest;
use loci_index::{Document, DocumentKey, MetaValue, Passage, Revision};
use loci_models::{Encoder, Role, TextTokenizer};

use super::corpus::{Corpus, EntryCorpus, SourceCorpus};
use super::delta::{DELTA, DeltaManifest, EmbedOutput, bytes, floats};
use super::evaluate::cancelled;
use super::{
    Reporter, RevisionManifest, SNAPSHOT, Snapshot, StepContext, StepError, StepInput, blocking,
};
use crate::chunk::{ChunkerConfig, TokenCounter, chunk};
use crate::document::{ParseContext, ParsedDocument, parse};
use crate::source::Entry;

/// Passages embedded between two records in the store: what a crash costs at most.
const SHARD: usize = 1024;

/// Changes when the same entry would be read differently.
const PARSER: u32 = 1;

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
    let encoder = context.encoders.get(model).await?;
    let identity = encoder.identity().digest();
    let key = input.key(pipeline, Some(&identity))?;
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
    let chunker = Digest::of_json(&(PARSER, chunking.digest(encoder.tokenizer().digest())))?;
    let base = previous
        .as_ref()
        .filter(|(_, m)| m.info.embedder == identity && m.info.chunker == chunker);
    let snapshot: Snapshot = context.store.get_manifest(SNAPSHOT, snapshot).await?;
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

/// Documents that are new or changed, those that are gone, and all entries.
struct Cut {
    corpus: Corpus,
    documents: Vec<Document>,
    remove: Vec<DocumentKey>,
    counts: EmbedOutput,
}

async fn cut(
    context: &StepContext,
    snapshot: &Snapshot,
    base: Option<&RevisionManifest>,
    encoder: &Arc<Encoder>,
    chunking: ChunkerConfig,
    reporter: &Reporter,
) -> Result<Cut, StepError> {
    let old: Corpus = match base {
        Some(manifest) => serde_json::from_slice(&context.store.get(&manifest.corpus).await?)?,
        None => Corpus::default(),
    };
    let old_documents = old.documents();
    let total: usize = snapshot.sources.values().map(|s| s.entries().len()).sum();
    let mut corpus = Corpus::default();
    let mut documents = Vec::new();
    let mut done = 0;
    for (name, source) in &snapshot.sources {
        let mut entries = BTreeMap::new();
        for entry in source.entries() {
            reporter.check()?;
            done += 1;
            let kept = old.unchanged(
                name,
                &source.memory,
                &entry.document,
                &entry.version,
                &entry.uri,
            );
            if let Some(kept) = kept {
                entries.insert(entry.document.clone(), kept.clone());
                continue;
            }
            let content = context.store.get(&entry.digest).await?;
            let reading = Reading {
                source: name.clone(),
                memory: source.memory.clone(),
                entry: entry.clone(),
            };
            let tokenizer = encoder.tokenizer().clone();
            let (read, problems) =
                blocking(move || Ok(reading.read(&content, chunking, &tokenizer))).await?;
            let versions = read
                .iter()
                .map(|d| (d.key.document.clone(), d.version.clone()))
                .collect();
            let state = EntryCorpus {
                version: entry.version.clone(),
                uri: entry.uri.clone(),
                documents: versions,
                problems,
            };
            entries.insert(entry.document.clone(), state);
            documents.extend(read.into_iter().filter(|d| {
                let same_class = old
                    .sources
                    .get(name)
                    .is_some_and(|s| s.memory == source.memory);
                !same_class || old_documents.get(&d.key) != Some(&d.version.as_str())
            }));
            reporter.report(done, Some(total as u64), Unit::Documents, None);
        }
        corpus.sources.insert(
            name.clone(),
            SourceCorpus {
                memory: source.memory.clone(),
                entries,
            },
        );
    }
    reporter.report(done, Some(total as u64), Unit::Documents, None);
    let new_documents = corpus.documents();
    let remove: Vec<DocumentKey> = old_documents
        .into_keys()
        .filter(|k| !new_documents.contains_key(k))
        .collect();
    let problems = corpus
        .sources
        .values()
        .flat_map(|s| s.entries.values())
        .flat_map(|e| &e.problems);
    let counts = EmbedOutput {
        changed: documents.len() as u64,
        removed: remove.len() as u64,
        passages: documents.iter().map(|d| d.passages.len() as u64).sum(),
        problems: problems.clone().count() as u64,
        first_problem: problems.clone().next().cloned(),
        ..EmbedOutput::default()
    };
    Ok(Cut {
        corpus,
        documents,
        remove,
        counts,
    })
}

/// One entry that is being read.
struct Reading {
    source: String,
    memory: String,
    entry: Entry,
}

impl Reading {
    /// Its documents, and what could not be read of it.
    fn read(
        &self,
        content: &[u8],
        chunking: ChunkerConfig,
        tokenizer: &TextTokenizer,
    ) -> (Vec<Document>, Vec<String>) {
        let name = &self.entry.document;
        let parsed = match parse(self.entry.media, content, &ParseContext { document: name }) {
            Ok(parsed) => parsed,
            Err(error) => return (Vec::new(), vec![format!("{}: {error}", self.source)]),
        };
        let mut problems: Vec<String> = parsed
            .problems
            .iter()
            .map(|p| format!("{}: {p}", self.source))
            .collect();
        let mut documents: BTreeMap<String, Document> = BTreeMap::new();
        for one in &parsed.documents {
            match self.document(one, chunking, tokenizer) {
                Ok(document) => {
                    let id = document.key.document.clone();
                    if documents.insert(id.clone(), document).is_some() {
                        problems.push(format!(
                            "{}: {id} stands twice: the later one is kept; give each its own id",
                            self.source
                        ));
                    }
                }
                Err(reason) => problems.push(format!("{}: {name}: {reason}", self.source)),
            }
        }
        (documents.into_values().collect(), problems)
    }

    fn document(
        &self,
        parsed: &ParsedDocument,
        chunking: ChunkerConfig,
        tokenizer: &TextTokenizer,
    ) -> Result<Document, String> {
        let (document, version) = match &parsed.part {
            Some(part) => (
                format!("{}#{part}", self.entry.document),
                parsed.content.to_string(),
            ),
            None => (self.entry.document.clone(), self.entry.version.clone()),
        };
        let title = parsed.title.as_deref();
        let chunks = chunk(parsed, title, &chunking, tokenizer).map_err(|e| e.to_string())?;
        let passages = chunks
            .into_iter()
            .map(|c| Passage {
                ordinal: c.ordinal,
                text: c.text,
                span: c.span,
                headings: c.headings,
            })
            .collect();
        let known = self
            .entry
            .metadata
            .iter()
            .map(|(k, v)| (k.clone(), vec![MetaValue::Text(v.clone())]));
        let stated = parsed
            .metadata
            .iter()
            .map(|(k, vs)| (k.clone(), vs.iter().filter_map(meta_value).collect()));
        let metadata = known.chain(stated).collect();
        Ok(Document {
            key: DocumentKey::new(self.source.clone(), document),
            uri: parsed.uri.clone().unwrap_or_else(|| self.entry.uri.clone()),
            version,
            memory: self.memory.clone(),
            title: parsed.title.clone(),
            metadata,
            passages,
        })
    }
}

/// A scalar as a value to filter by.
fn meta_value(value: &serde_json::Value) -> Option<MetaValue> {
    serde_json::from_value(value.clone()).ok()
}

/// The vectors of all passages in order.
async fn vectors(
    context: &StepContext,
    documents: &[Document],
    encoder: &Arc<Encoder>,
    reuse: Option<PathBuf>,
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
