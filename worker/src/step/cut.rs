//! The first half of Embed: reads and cuts the entries that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use loci_bus::Unit;
use loci_index::{Document, DocumentKey, MetaValue, Passage};
use loci_models::{Encoder, TextTokenizer};

use super::corpus::{Corpus, EntryCorpus, SourceCorpus};
use super::delta::EmbedOutput;
use super::{Reporter, RevisionManifest, Snapshot, StepContext, StepError, blocking};
use crate::chunk::{ChunkerConfig, chunk};
use crate::document::{ParseContext, ParsedDocument, parse};
use crate::source::Entry;

/// Documents that are new or changed, those that are gone, and all entries.
pub(super) struct Cut {
    pub(super) corpus: Corpus,
    pub(super) documents: Vec<Document>,
    pub(super) remove: Vec<DocumentKey>,
    pub(super) counts: EmbedOutput,
}

/// Reads what `base` has not, and carries the rest over.
pub(super) async fn cut(
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
