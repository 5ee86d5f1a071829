//! Questions with the paragraphs that answer them, in the JSON of SQuAD (Rajpurkar et al., 2016), which many collections have.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use loci_digest::Digest;
use serde::Deserialize;

/// Paragraphs, and questions about them.
pub struct Squad {
    /// No two are alike.
    pub paragraphs: Vec<String>,
    pub questions: Vec<Question>,
}

/// A question and where its answer is.
pub struct Question {
    pub text: String,
    /// The position of the paragraph that answers it.
    pub paragraph: usize,
    /// Whether its article is of the half by which settings are chosen.
    pub choosing: bool,
}

#[derive(Deserialize)]
struct File {
    data: Vec<Article>,
}

#[derive(Deserialize)]
struct Article {
    title: String,
    paragraphs: Vec<Paragraph>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    question: String,
    #[serde(default)]
    is_impossible: bool,
}

impl Squad {
    /// Reads a file; questions that it says have no answer are left out.
    ///
    /// # Errors
    /// When it is not of this form, or one of its halves has no question.
    pub fn read(path: &Path) -> Result<Self> {
        let at = || format!("--data {}", path.display());
        let text = fs::read(path).with_context(at)?;
        let file: File = serde_json::from_slice(&text).with_context(|| {
            format!("{}: not SQuAD's JSON: data, each with title and paragraphs, each with context and qas", at())
        })?;
        let read = Self::of(file);
        for choosing in [true, false] {
            if !read.questions.iter().any(|q| q.choosing == choosing) {
                bail!(
                    "{}: one half of its articles has no question, and settings are chosen on one half and judged on the other: give more articles",
                    at()
                );
            }
        }
        Ok(read)
    }

    fn of(file: File) -> Self {
        let mut positions = BTreeMap::new();
        let mut read = Self {
            paragraphs: Vec::new(),
            questions: Vec::new(),
        };
        for article in file.data {
            let choosing = is_for_choosing(&article.title);
            for Paragraph { context, qas } in article.paragraphs {
                let paragraph = *positions.entry(context.clone()).or_insert_with(|| {
                    read.paragraphs.push(context);
                    read.paragraphs.len() - 1
                });
                let asked = qas.into_iter().filter(|asked| !asked.is_impossible);
                read.questions.extend(asked.map(|asked| Question {
                    text: asked.question,
                    paragraph,
                    choosing,
                }));
            }
        }
        read
    }
}

/// Which half an article is of: by the lowest bit of the first byte of its title's SHA-256.
fn is_for_choosing(title: &str) -> bool {
    Digest::of(title)
        .as_bytes()
        .first()
        .is_some_and(|byte| byte & 1 == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_know_their_paragraph_and_their_half() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("squad.json");
        let write = |titles: &[&str]| {
            let article = |title: &&str| {
                serde_json::json!({"title": title, "paragraphs": [
                    {"context": "shared", "qas": [{"question": "q1", "id": "1", "answers": []}]},
                    {"context": title, "qas": [
                        {"question": "q2", "id": "2", "answers": []},
                        {"question": "q3", "id": "3", "is_impossible": true},
                    ]},
                ]})
            };
            let data: Vec<_> = titles.iter().map(article).collect();
            fs::write(&path, serde_json::json!({"data": data}).to_string()).unwrap();
            Squad::read(&path)
        };
        let titles: Vec<String> = (0..40).map(|n| format!("Article {n}")).collect();
        let titles: Vec<&str> = titles.iter().map(String::as_str).collect();
        let read = write(&titles).unwrap();
        assert_eq!((read.paragraphs.len(), read.questions.len()), (41, 80));
        let choosing = read.questions.iter().filter(|q| q.choosing).count();
        assert!((16..=64).contains(&choosing), "{choosing}");
        assert_eq!(read.questions[2].paragraph, 0);
        assert_eq!(read.paragraphs[read.questions[3].paragraph], titles[1]);

        let error = write(&titles[..1]).err().unwrap().to_string();
        assert!(error.contains("more articles"), "{error}");
        fs::write(&path, "{}").unwrap();
        let error = Squad::read(&path).err().unwrap().to_string();
        assert!(error.contains("not SQuAD's JSON"), "{error}");
    }
}
