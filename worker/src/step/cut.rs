//! The first half of Embed: reads and cuts the entries that changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use loci_bus::Unit;
use loci_index::{Document, DocumentKey, MetaValue, Passage};
use loci_models::{Encoder, TextTokenizer};
use tokio_util::task::AbortOnDropHandle;

use super::corpus::{Corpus, EntryCorpus, SourceCorpus};
use super::delta::EmbedOutput;
use super::snapshot::DeclaredMetadata;
use super::{Reporter, RevisionManifest, Snapshot, StepContext, StepError, blocking};
use crate::chunk::{ChunkerConfig, chunk};
use crate::document::{
    DocumentError, Format, Metadata, ParseContext, Parsed, ParsedDocument, parse,
};
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
    let (mut corpus, changed) = carry_over(&old, snapshot);
    let mut documents = Vec::new();
    let mut done = total - changed.len();
    // In order; documents that are no text are parsed ahead, side by side.
    let mut opened = stream::iter(changed)
        .map(|reading| open(context, reading))
        .buffered(context.parsers.side_by_side());
    while let Some(opened) = reporter.unless_stopped(opened.next()).await? {
        let (reading, content) = opened?;
        let tokenizer = encoder.tokenizer().clone();
        let (reading, read) = blocking(move || {
            let read = reading.read(content, chunking, &tokenizer);
            Ok((reading, read))
        })
        .await?;
        let Reading {
            source,
            memory,
            entry,
            ..
        } = reading;
        let state = read.state(&entry, old.entry(&source, &memory, &entry.document));
        let same_class = old.sources.get(&source).is_some_and(|s| s.memory == memory);
        documents.extend(
            read.documents
                .into_iter()
                .filter(|d| !same_class || old_documents.get(&d.key) != Some(&d.version.as_str())),
        );
        if let Some(source) = corpus.sources.get_mut(&source) {
            source.entries.insert(entry.document, state);
        }
        done += 1;
        reporter.report(done as u64, Some(total as u64), Unit::Documents, None);
    }
    reporter.report(done as u64, Some(total as u64), Unit::Documents, None);
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

/// The sources with all entries that are as they were, and the others.
fn carry_over(old: &Corpus, snapshot: &Snapshot) -> (Corpus, Vec<Reading>) {
    let (mut corpus, mut changed) = (Corpus::default(), Vec::new());
    for (name, source) in &snapshot.sources {
        let mut entries = BTreeMap::new();
        for entry in source.entries() {
            let kept = old.unchanged(
                name,
                &source.memory,
                &entry.document,
                &entry.version,
                &entry.uri,
            );
            match kept {
                Some(kept) => drop(entries.insert(entry.document.clone(), kept.clone())),
                None => changed.push(Reading {
                    source: name.clone(),
                    memory: source.memory.clone(),
                    declared: source.metadata.clone(),
                    entry: entry.clone(),
                }),
            }
        }
        let memory = source.memory.clone();
        let kept = SourceCorpus { memory, entries };
        corpus.sources.insert(name.clone(), kept);
    }
    (corpus, changed)
}

/// What an entry holds.
enum Content {
    /// Text, to be parsed here.
    Text(Bytes),
    /// What a process of its own made of it.
    Parsed(Result<Parsed, DocumentError>),
}

/// Fetches an entry's content, and has it parsed if that is for a process of its own.
async fn open(context: &StepContext, reading: Reading) -> Result<(Reading, Content), StepError> {
    let content = context.store.get(&reading.entry.digest).await?;
    let content = match Format::of(reading.entry.media, &content) {
        None => Content::Text(content),
        Some(format) => {
            let (parsers, document) = (context.parsers.clone(), reading.entry.document.clone());
            // A task, so that a parser is heard while other documents are cut; dropped, it ends.
            let parsing =
                tokio::spawn(async move { parsers.parse(format, content, &document).await });
            let parsed = AbortOnDropHandle::new(parsing).await;
            Content::Parsed(parsed.map_err(|e| StepError::Task(e.to_string()))??)
        }
    };
    Ok((reading, content))
}

/// One entry that is being read.
struct Reading {
    source: String,
    memory: String,
    declared: DeclaredMetadata,
    entry: Entry,
}

/// What was read of an entry.
struct Read {
    documents: Vec<Document>,
    problems: Vec<String>,
    /// The same content may be readable another time.
    passing: bool,
}

impl Read {
    /// What is known of the entry from now on. While it cannot be read, that is what was read before.
    fn state(&self, entry: &Entry, before: Option<&EntryCorpus>) -> EntryCorpus {
        let problems = self.problems.clone();
        if let Some(before) = before.filter(|_| self.passing) {
            return EntryCorpus {
                problems,
                passing: true,
                ..before.clone()
            };
        }
        let documents = self.documents.iter();
        EntryCorpus {
            version: entry.version.clone(),
            uri: entry.uri.clone(),
            documents: documents
                .map(|d| (d.key.document.clone(), d.version.clone()))
                .collect(),
            problems,
            passing: self.passing,
        }
    }
}

impl Reading {
    /// Its documents, and what could not be read of it.
    fn read(&self, content: Content, chunking: ChunkerConfig, tokenizer: &TextTokenizer) -> Read {
        let name = &self.entry.document;
        let parsed = match content {
            Content::Text(bytes) => {
                parse(self.entry.media, &bytes, &ParseContext { document: name })
            }
            Content::Parsed(parsed) => parsed,
        };
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                return Read {
                    documents: Vec::new(),
                    problems: vec![format!("{}: {error}", self.source)],
                    passing: error.is_passing(),
                };
            }
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
        Read {
            documents: documents.into_values().collect(),
            problems,
            passing: false,
        }
    }

    /// Where a person finds it.
    fn uri(&self, parsed: &ParsedDocument) -> String {
        let uri = &self.entry.uri;
        match (&parsed.uri, &parsed.fragment) {
            (Some(own), _) => own.clone(),
            (None, Some(fragment)) if !uri.contains('#') => format!("{uri}#{fragment}"),
            (None, _) => uri.clone(),
        }
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
        Ok(Document {
            key: DocumentKey::new(self.source.clone(), document),
            uri: self.uri(parsed),
            version,
            memory: self.memory.clone(),
            title: parsed.title.clone(),
            metadata: metadata(&self.entry.metadata, &parsed.metadata, &self.declared),
            passages,
        })
    }
}

/// What a document says of itself; before it comes what the source knows of it, and before that what is declared: no
/// document talks itself out of its tenant, or into another.
fn metadata(
    known: &BTreeMap<String, String>,
    stated: &Metadata,
    declared: &DeclaredMetadata,
) -> BTreeMap<String, Vec<MetaValue>> {
    let known = known
        .iter()
        .map(|(k, v)| (k.clone(), vec![MetaValue::Text(v.clone())]));
    let stated = stated
        .iter()
        .map(|(k, vs)| (k.clone(), vs.iter().filter_map(meta_value).collect()));
    let declared = declared.iter().map(|(k, vs)| (k.clone(), vs.clone()));
    // Of equal names the last holds.
    stated.chain(known).chain(declared).collect()
}

/// A scalar as a value to filter by.
fn meta_value(value: &serde_json::Value) -> Option<MetaValue> {
    serde_json::from_value(value.clone()).ok()
}

#[cfg(test)]
mod tests {
    use loci_digest::Digest;
    use serde_json::json;

    use super::*;
    use crate::document::Media;

    fn entry(version: &str) -> Entry {
        Entry {
            document: "a.pdf".to_owned(),
            uri: "file:///a.pdf".to_owned(),
            version: version.to_owned(),
            media: Media::Pdf,
            bytes: 1,
            digest: Digest::of(version),
            metadata: BTreeMap::new(),
        }
    }

    #[test]
    fn what_cannot_be_read_now_stays_as_it_was_and_is_read_again() {
        let failed = |passing| Read {
            documents: Vec::new(),
            problems: vec!["docs: a.pdf: …".to_owned()],
            passing,
        };
        let before = EntryCorpus {
            version: "1".to_owned(),
            uri: "file:///a.pdf".to_owned(),
            documents: BTreeMap::from([("a.pdf#page=1".to_owned(), "x".to_owned())]),
            problems: Vec::new(),
            passing: false,
        };
        let unchanged = |state: EntryCorpus, version: &str| {
            let entries = BTreeMap::from([("a.pdf".to_owned(), state)]);
            let memory = "factual".to_owned();
            let source = SourceCorpus { memory, entries };
            let corpus = Corpus {
                sources: BTreeMap::from([("docs".to_owned(), source)]),
            };
            let (source, memory, uri) = ("docs", "factual", "file:///a.pdf");
            corpus
                .unchanged(source, memory, "a.pdf", version, uri)
                .is_some()
        };
        let kept = failed(true).state(&entry("2"), Some(&before));
        assert_eq!(kept.documents, before.documents);
        assert_eq!(kept.problems.len(), 1);
        assert!(!unchanged(kept.clone(), "2") && !unchanged(kept, "1"));
        let new = failed(true).state(&entry("2"), None);
        assert!(new.documents.is_empty() && !unchanged(new, "2"));
        let bad = failed(false).state(&entry("2"), Some(&before));
        assert!(bad.documents.is_empty() && unchanged(bad, "2"));
    }

    #[test]
    fn what_is_declared_holds_whatever_a_document_says() {
        let known = BTreeMap::from([("author".to_owned(), "git".to_owned())]);
        let stated: Metadata = serde_json::from_value(json!({
            "tenant": ["umbrella", "acme"], "author": ["Ada"], "year": [2026], "on": ["2026-03-01"],
        }))
        .unwrap();
        let declared: DeclaredMetadata =
            serde_json::from_value(json!({"tenant": ["acme"], "tier": [2]})).unwrap();
        let expected = json!({
            "author": ["git"], "on": ["2026-03-01"], "tenant": ["acme"], "tier": [2], "year": [2026],
        });
        let all = metadata(&known, &stated, &declared);
        assert_eq!(serde_json::to_value(all).unwrap(), expected);
    }
}
