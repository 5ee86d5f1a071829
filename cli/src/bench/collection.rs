//! A collection that changes: real texts, with vectors made of their words.

use std::collections::{BTreeMap, BTreeSet};

use loci_digest::Digest;
use loci_index::{Delta, Document, DocumentKey, IndexedDocument, Passage};

use super::draws::Draws;

/// One change in so many gives its document another name, too.
const RENAMED: usize = 10;
/// Shorter words are in every text.
const LETTERS: usize = 4;

/// Documents of one passage each.
pub struct Collection {
    /// What documents are made of.
    texts: Vec<String>,
    documents: Vec<Named>,
    dimensions: usize,
}

struct Named {
    name: String,
    text: String,
}

impl Collection {
    /// So many documents, each the first half of one text, in turn, and the second of another.
    pub fn new(texts: Vec<String>, count: usize, dimensions: usize) -> Self {
        let mut draws = Draws::new(0);
        let mut document = |n: usize| Named {
            name: format!("{n:06}.md"),
            text: mixed(&texts, n, &mut draws),
        };
        Self {
            documents: (0..count).map(&mut document).collect(),
            texts,
            dimensions,
        }
    }

    /// All documents as they are now.
    pub fn all(&self) -> Delta {
        Delta {
            remove: Vec::new(),
            upsert: self.documents.iter().map(|d| self.indexed(d)).collect(),
        }
    }

    /// Changes so many documents: each keeps the first half of its text and takes another second one.
    pub fn change(&mut self, round: u64, count: usize) -> Delta {
        let mut draws = Draws::new(round);
        let mut chosen = BTreeSet::new();
        while chosen.len() < count.min(self.documents.len()) {
            chosen.insert(draws.below(self.documents.len()));
        }
        let mut delta = Delta::default();
        for (i, &n) in chosen.iter().enumerate() {
            let text = mixed(&self.texts, n, &mut draws);
            let mut name = self.documents[n].name.clone();
            if i % RENAMED == 0 {
                delta.remove.push(key(&name));
                name = format!("{n:06}-{round}.md");
            }
            self.documents[n] = Named { name, text };
            delta.upsert.push(self.indexed(&self.documents[n]));
        }
        delta
    }

    /// Questions made of words of documents, each with its vector.
    pub fn questions(&self, count: usize) -> Vec<(String, Vec<f32>)> {
        let mut draws = Draws::new(u64::MAX);
        let mut question = || {
            let text = &self.documents[draws.below(self.documents.len())].text;
            let words: Vec<&str> = text.split_whitespace().skip(5).take(8).collect();
            let question = words.join(" ");
            let vector = vector(&question, self.dimensions);
            (question, vector)
        };
        (0..count).map(|_| question()).collect()
    }

    fn indexed(&self, document: &Named) -> IndexedDocument {
        let Named { name, text } = document;
        let passage = Passage {
            ordinal: 0,
            text: text.clone(),
            span: 0..text.len() as u64,
            headings: Vec::new(),
        };
        IndexedDocument {
            vectors: vector(text, self.dimensions),
            document: Document {
                key: key(name),
                uri: format!("file:///{name}"),
                version: Digest::of(text).short(),
                memory: "factual".to_owned(),
                title: None,
                metadata: BTreeMap::new(),
                passages: Vec::from([passage]),
            },
        }
    }
}

fn key(name: &str) -> DocumentKey {
    DocumentKey::new("documents", name)
}

/// The first half of the text whose turn it is, and the second of any.
fn mixed(texts: &[String], n: usize, draws: &mut Draws) -> String {
    let other = &texts[draws.below(texts.len())];
    joined(&texts[n % texts.len()], other)
}

/// The first half of one text's words and the second of another's.
fn joined(one: &str, other: &str) -> String {
    let (one, other): (Vec<&str>, Vec<&str>) = (
        one.split_whitespace().collect(),
        other.split_whitespace().collect(),
    );
    let words = one[..one.len() / 2].iter().chain(&other[other.len() / 2..]);
    words.copied().collect::<Vec<_>>().join(" ")
}

/// A unit vector of a text: the sum of random directions, one for each of its words (random indexing: Kanerva,
/// Kristofersson and Holst, 2000). Texts that share words are near each other.
fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let words: BTreeSet<String> = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().count() >= LETTERS)
        .map(str::to_lowercase)
        .collect();
    let mut sum = vec![0.0f32; dimensions];
    for word in words {
        let mut seed = [0; 8];
        seed.copy_from_slice(&Digest::of(word).as_bytes()[..8]);
        let mut draws = Draws::new(u64::from_le_bytes(seed));
        for part in sum.chunks_mut(64) {
            let signs = draws.draw();
            for (bit, x) in part.iter_mut().enumerate() {
                *x += if signs >> bit & 1 == 1 { 1.0 } else { -1.0 };
            }
        }
    }
    let norm = sum.iter().map(|x| x * x).sum::<f32>().sqrt();
    match sum.first_mut() {
        Some(first) if norm == 0.0 => *first = 1.0,
        _ => sum.iter_mut().for_each(|x| *x /= norm),
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_share_words_are_near() {
        let of = |text: &str| vector(text, 256);
        let cosine = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        let cats = of("cats chase mice through gardens");
        assert!((cosine(&cats, &cats) - 1.0).abs() < 1e-5);
        let near = cosine(&cats, &of("cats chase dogs through gardens"));
        let far = cosine(&cats, &of("volcanoes erupt under oceans"));
        assert!(near > 0.5 && far < 0.3, "{near} {far}");
        assert_eq!(of("a b c")[0], 1.0);
    }

    #[test]
    fn a_change_is_of_so_many_documents_and_leaves_their_number() {
        let texts = (0..50).map(|n| format!("text {n} says one thing and then another thing {n}"));
        let mut collection = Collection::new(texts.take(20).collect(), 50, 64);
        let change = collection.change(1, 20);
        assert_eq!((change.upsert.len(), change.remove.len()), (20, 2));
        assert_eq!(collection.all().upsert.len(), 50);
        assert_eq!(collection.change(2, 500).upsert.len(), 50);
        let questions = collection.questions(3);
        assert!(
            questions
                .iter()
                .all(|(q, v)| !q.is_empty() && v.len() == 64)
        );
        assert_eq!(joined("a b c d", "e f g h"), "a b g h");
    }
}
