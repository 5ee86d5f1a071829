//! Which section of a runbook is most like a ticket: BM25 (Robertson and Zaragoza, 2009) with Lucene's constants, which is
//! enough for a dozen sections.

use std::collections::HashMap;

const K1: f64 = 1.2;
const B: f64 = 0.75;

/// Texts by their words.
#[derive(Debug)]
pub struct Bm25 {
    texts: Vec<HashMap<String, f64>>,
    lengths: Vec<f64>,
    mean: f64,
}

impl Bm25 {
    /// Of at least one text.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut counted, mut lengths) = (Vec::new(), Vec::new());
        for text in texts {
            let mut counts = HashMap::new();
            let words = words(text);
            lengths.push(words.len() as f64);
            for word in words {
                *counts.entry(word).or_insert(0.0) += 1.0;
            }
            counted.push(counts);
        }
        Self {
            mean: lengths.iter().sum::<f64>() / lengths.len() as f64,
            texts: counted,
            lengths,
        }
    }

    /// The places of the `count` texts that are most like the query, the likest first; of equals, the first.
    pub fn best(&self, query: &str, count: usize) -> Vec<usize> {
        let mut query = words(query);
        query.sort();
        query.dedup();
        let scores: Vec<f64> = (0..self.texts.len())
            .map(|text| query.iter().map(|word| self.score(text, word)).sum())
            .collect();
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
        order.truncate(count);
        order
    }

    fn score(&self, text: usize, word: &str) -> f64 {
        let Some(count) = self.texts[text].get(word) else {
            return 0.0;
        };
        let having = self.texts.iter().filter(|t| t.contains_key(word)).count() as f64;
        let all = self.texts.len() as f64;
        let rarity = (1.0 + (all - having + 0.5) / (having + 0.5)).ln();
        let length = 1.0 - B + B * self.lengths[text] / self.mean;
        rarity * count * (K1 + 1.0) / (count + K1 * length)
    }
}

/// Words in lower case; plurals without their `s`.
fn words(text: &str) -> Vec<String> {
    let split = text.split(|c: char| !c.is_alphanumeric());
    let words = split.filter(|word| !word.is_empty());
    let plain = words.map(|word| {
        let word = word.to_lowercase();
        match word.strip_suffix('s') {
            Some(stem) if stem.len() > 2 && !stem.ends_with('s') => stem.to_owned(),
            _ => word,
        }
    });
    plain.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rare_words_count_for_more_and_long_texts_for_less() {
        let texts = [
            "the refunds and the payouts of the shop",
            "the parcels of the shop and the couriers of the shop and much else of the shop",
            "the parcels of the shop",
        ];
        let search = Bm25::new(texts);
        assert_eq!(search.best("Is a refund of the shop late?", 1), [0]);
        assert_eq!(search.best("PARCEL!", 3), [2, 1, 0]);
        assert_eq!(search.best("nothing like it", 2), [0, 1]);
        // By hand: 1 of 3 texts has it, once, and that text has 8 words where the mean is 10.
        let rarity = (1.0f64 + 2.5 / 1.5).ln();
        let want = rarity * 2.2 / (1.0 + 1.2 * (0.25 + 0.75 * 0.8));
        assert_eq!(search.lengths, [8.0, 17.0, 5.0]);
        assert!((search.score(0, "refund") - want).abs() < 1e-12);
    }

    #[test]
    fn words_lose_case_punctuation_and_plurals() {
        assert_eq!(
            words("The till's GLASS, refunds; bus"),
            ["the", "till", "s", "glass", "refund", "bus"]
        );
    }
}
