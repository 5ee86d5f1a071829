//! What is searched: real documents, cut as a pipeline would cut them, and questions about them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use loci_digest::Digest;
use loci_index::{Document, DocumentKey, Passage};
use loci_models::TextTokenizer;
use loci_worker::chunk::{ChunkerConfig, chunk};
use loci_worker::document::{Media, ParseContext, ParsedDocument, parse};

use super::draw::shuffle;
use crate::bench::{bar, corpus};
use crate::output::count;

/// A question is so many successive words of a passage, after its first few.
const WORDS: usize = 12;
const SKIPPED: usize = 5;
/// Which passages are asked about.
const SEED: u64 = 20_260_301;

/// Documents in the order of their paths, so that those of a package are neighbours; no two passages alike. Rows are
/// passages, through all documents.
pub struct Collection {
    pub documents: Vec<Document>,
    /// By row: what is embedded.
    pub texts: Vec<String>,
}

impl Collection {
    /// The first `wanted` passages of the Markdown, HTML and text files below the directories.
    ///
    /// # Errors
    /// When a directory cannot be read or they hold too little.
    pub fn read(
        directories: &[PathBuf],
        wanted: usize,
        chunking: ChunkerConfig,
        tokenizer: &TextTokenizer,
    ) -> Result<Self> {
        let mut cutter = Cutter {
            chunking,
            tokenizer,
            seen: HashSet::new(),
            texts: Vec::new(),
        };
        let mut documents = Vec::new();
        let bar = bar(wanted as u64, "cut").with_message("passages");
        for directory in directories {
            let mut files = Vec::new();
            corpus::find(directory, &|path| media(path).is_some(), &mut files)
                .with_context(|| format!("--documents {}: cannot be read", directory.display()))?;
            for file in &files {
                let missing = wanted - cutter.texts.len();
                if missing == 0 {
                    break;
                }
                documents.extend(cutter.documents(file, missing)?);
                bar.set_position(cutter.texts.len() as u64);
            }
        }
        bar.finish_and_clear();
        let texts = cutter.texts;
        if texts.len() < wanted {
            bail!(
                "--documents: only {} passages, and {} are wanted: name a further directory with .md, .html and .txt files, or give a smaller --passages",
                count(texts.len() as u64),
                count(wanted as u64)
            );
        }
        Ok(Self { documents, texts })
    }

    /// The rows of each document.
    pub fn rows(&self) -> Vec<Range<usize>> {
        let mut next = 0;
        let rows = self.documents.iter().map(|document| {
            let start = next;
            next += document.passages.len();
            start..next
        });
        rows.collect()
    }

    /// By document: how many passages it has.
    pub fn sizes(&self) -> Vec<usize> {
        self.documents.iter().map(|d| d.passages.len()).collect()
    }

    /// Distinct stretches of words, each from another passage.
    ///
    /// # Errors
    /// When too few passages are long enough.
    pub fn questions(&self, wanted: usize) -> Result<Vec<String>> {
        let passages = self.documents.iter().flat_map(|d| &d.passages);
        let mut passages: Vec<&Passage> = passages.collect();
        shuffle(&mut passages, SEED);
        let mut seen = HashSet::new();
        let found = passages.into_iter().filter_map(|p| question(&p.text));
        let found: Vec<String> = found
            .filter(|q| seen.insert(q.clone()))
            .take(wanted)
            .collect();
        if found.len() < wanted {
            bail!(
                "--queries {wanted}: the passages hold only {} distinct questions; give fewer, or more --passages",
                found.len()
            );
        }
        Ok(found)
    }
}

fn question(text: &str) -> Option<String> {
    let words: Vec<&str> = text.split_whitespace().skip(SKIPPED).take(WORDS).collect();
    (words.len() == WORDS).then(|| words.join(" "))
}

fn media(path: &Path) -> Option<Media> {
    let media = Media::of_name(path.file_name()?.to_str()?);
    media.filter(|media| *media != Media::Jsonl)
}

struct Cutter<'a> {
    chunking: ChunkerConfig,
    tokenizer: &'a TextTokenizer,
    seen: HashSet<Digest>,
    texts: Vec<String>,
}

impl Cutter<'_> {
    /// The documents of a file, with `most` passages at most, all of which are new.
    fn documents(&mut self, file: &Path, most: usize) -> Result<Vec<Document>> {
        let (Some(media), Ok(bytes)) = (media(file), fs::read(file)) else {
            return Ok(Vec::new());
        };
        let name = file.to_string_lossy().into_owned();
        // What cannot be read as its name says is left out, as a source would.
        let Ok(parsed) = parse(media, &bytes, &ParseContext { document: &name }) else {
            return Ok(Vec::new());
        };
        let mut documents = Vec::new();
        let mut left = most;
        for one in &parsed.documents {
            let document = self.document(one, &name, left)?;
            left -= document.passages.len();
            if !document.passages.is_empty() {
                documents.push(document);
            }
        }
        Ok(documents)
    }

    fn document(&mut self, parsed: &ParsedDocument, name: &str, most: usize) -> Result<Document> {
        let title = parsed.title.as_deref();
        let mut passages: Vec<Passage> = Vec::new();
        for cut in chunk(parsed, title, &self.chunking, self.tokenizer)? {
            if passages.len() == most {
                break;
            }
            let passage = Passage {
                ordinal: passages.len() as u32,
                text: cut.text,
                span: cut.span,
                headings: cut.headings,
            };
            let text = passage.embedding_text(title);
            if self.seen.insert(Digest::of(&text)) {
                self.texts.push(text);
                passages.push(passage);
            }
        }
        Ok(Document {
            key: DocumentKey::new("documents", name),
            uri: format!("file://{name}"),
            version: parsed.content.to_string(),
            memory: "factual".to_owned(),
            title: parsed.title.clone(),
            metadata: BTreeMap::new(),
            passages,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_words_from_within() {
        let words: Vec<String> = (0..20).map(|i| i.to_string()).collect();
        assert_eq!(
            question(&words.join("  ")).unwrap(),
            "5 6 7 8 9 10 11 12 13 14 15 16"
        );
        assert_eq!(question(&words[..16].join(" ")), None);
    }

    #[test]
    fn text_files_of_a_known_kind_are_read() {
        assert_eq!(media(Path::new("a/README.md")), Some(Media::Markdown));
        assert_eq!(media(Path::new("a/index.html")), Some(Media::Html));
        assert_eq!(media(Path::new("a/cases.jsonl")), None);
        assert_eq!(media(Path::new("a/lib.rs")), None);
    }
}
