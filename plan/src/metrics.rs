//! Metrics by name, and those of retrieval for one question, from ranked hits and labels. How behaviour is scored is
//! the worker's to know: only there is a model.
//!
//! Recall, MRR and nDCG judge documents: a hit is relevant when its document is labelled, whatever
//! passage of it was found, and a document counts once. Citation hit judges spans: does a cited span
//! overlap a labelled one? Definitions follow trec_eval (binary gains) and, for nDCG, Järvelin and
//! Kekäläinen, "Cumulated gain-based evaluation of IR techniques", ACM TOIS 20(4), 2002.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Hits that MRR looks at; a first relevant hit further down counts as none.
pub const MRR_DEPTH: usize = 100;

/// A metric, from 0 to 1 for each question; more is better. K is from 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Metric {
    /// The share of labelled documents that are among the first K hits.
    RecallAt(u8),
    /// Discounted gain of the first K hits over that of the best order.
    NdcgAt(u8),
    /// 1 when one of the first K hits cites a labelled span, else 0.
    CitationHitAt(u8),
    /// One over the rank of the first relevant hit.
    Mrr,
    /// 1 when a model says one of the expected answers, else 0.
    ExactMatch,
    /// 1 when what a model says matches a pattern, else 0.
    RegexMatch,
    /// 1 when what a model says is JSON that a schema allows, else 0.
    SchemaValid,
    /// 1 when a model is right, whatever decides that: a choice, an expected answer, a pattern, a schema.
    Accuracy,
    /// How likely a reference answer is to a model: the geometric mean of the probabilities of its tokens.
    Likelihood,
    /// How likely a text is to a model, in the same way: 1 over its perplexity.
    Perplexity,
}

/// What a suite asks for, and so what a metric judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// What an index finds.
    Retrieval,
    /// What a model says.
    Behavior,
}

/// A metric's name that is none.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnknownMetric {
    /// There is no such metric.
    #[error("\"{0}\" is not a metric: use {metrics}", metrics = named())]
    Name(String),
}

/// The metrics without a K.
const PLAIN: [Metric; 7] = [
    Metric::Mrr,
    Metric::ExactMatch,
    Metric::RegexMatch,
    Metric::SchemaValid,
    Metric::Accuracy,
    Metric::Likelihood,
    Metric::Perplexity,
];

fn named() -> String {
    let kinds = [Kind::Retrieval, Kind::Behavior].map(Kind::metrics);
    kinds.join("; of behavior suites ")
}

impl Kind {
    /// For what has a kind only where it is not this one.
    pub(crate) fn is_retrieval(&self) -> bool {
        *self == Self::Retrieval
    }

    /// The metrics that judge it, for people.
    pub fn metrics(self) -> &'static str {
        match self {
            Self::Retrieval => "recallAtK, ndcgAtK or citationHitAtK with K from 1 to 100, or mrr",
            Self::Behavior => {
                "exactMatch, regexMatch, schemaValid, accuracy, likelihood or perplexity"
            }
        }
    }
}

/// A passage that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Its source.
    pub source: String,
    /// Its document.
    pub document: String,
    /// The bytes of the document that it cites.
    pub span: Range<u64>,
}

/// A label: what answers a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// The source; any when absent.
    pub source: Option<String>,
    /// The document.
    pub document: String,
    /// The bytes that hold the answer; the whole document when absent.
    pub span: Option<Range<u64>>,
}

impl Metric {
    /// The metrics of behaviour.
    pub const BEHAVIOR: [Self; 6] = [
        Self::ExactMatch,
        Self::RegexMatch,
        Self::SchemaValid,
        Self::Accuracy,
        Self::Likelihood,
        Self::Perplexity,
    ];

    /// How many hits the metric looks at.
    pub fn depth(self) -> usize {
        match self {
            Self::RecallAt(k) | Self::NdcgAt(k) | Self::CitationHitAt(k) => usize::from(k),
            Self::Mrr => MRR_DEPTH,
            _ => 0,
        }
    }

    /// What the metric judges.
    pub fn kind(self) -> Kind {
        if Self::BEHAVIOR.contains(&self) {
            Kind::Behavior
        } else {
            Kind::Retrieval
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RecallAt(k) => write!(f, "recallAt{k}"),
            Self::NdcgAt(k) => write!(f, "ndcgAt{k}"),
            Self::CitationHitAt(k) => write!(f, "citationHitAt{k}"),
            Self::Mrr => f.write_str("mrr"),
            Self::ExactMatch => f.write_str("exactMatch"),
            Self::RegexMatch => f.write_str("regexMatch"),
            Self::SchemaValid => f.write_str("schemaValid"),
            Self::Accuracy => f.write_str("accuracy"),
            Self::Likelihood => f.write_str("likelihood"),
            Self::Perplexity => f.write_str("perplexity"),
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let at = |prefix: &str| -> Option<u8> {
            let digits = s.strip_prefix(prefix)?;
            let k: u8 = digits.parse().ok()?;
            ((1..=100).contains(&k) && digits == k.to_string()).then_some(k)
        };
        None.or_else(|| at("recallAt").map(Self::RecallAt))
            .or_else(|| at("ndcgAt").map(Self::NdcgAt))
            .or_else(|| at("citationHitAt").map(Self::CitationHitAt))
            .or_else(|| PLAIN.into_iter().find(|metric| metric.to_string() == s))
            .ok_or_else(|| UnknownMetric::Name(s.to_owned()))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Expected {
    fn names(&self, hit: &Hit) -> bool {
        self.document == hit.document && self.source.as_ref().is_none_or(|s| *s == hit.source)
    }

    fn cited_by(&self, hit: &Hit) -> bool {
        let overlaps = |span: &Range<u64>| hit.span.start < span.end && span.start < hit.span.end;
        self.names(hit) && self.span.as_ref().is_none_or(overlaps)
    }
}

/// The score of one question: `hits` best first against `expected`. Without labels it is 0; a metric of behaviour has
/// none.
pub fn score(metric: Metric, hits: &[Hit], expected: &[Expected]) -> Option<f64> {
    let hits = &hits[..hits.len().min(metric.depth())];
    Some(match metric {
        Metric::RecallAt(_) => recall(hits, expected),
        Metric::NdcgAt(k) => ndcg(usize::from(k), hits, expected),
        Metric::CitationHitAt(_) => {
            f64::from(hits.iter().any(|h| expected.iter().any(|e| e.cited_by(h))))
        }
        Metric::Mrr => hits
            .iter()
            .position(|h| expected.iter().any(|e| e.names(h)))
            .map_or(0.0, |i| 1.0 / (i as f64 + 1.0)),
        _ => return None,
    })
}

/// The labelled documents; several spans of one are one.
fn documents(expected: &[Expected]) -> Vec<&Expected> {
    let mut seen = BTreeSet::new();
    expected
        .iter()
        .filter(|e| seen.insert((&e.source, &e.document)))
        .collect()
}

fn recall(hits: &[Hit], expected: &[Expected]) -> f64 {
    let documents = documents(expected);
    let found = documents
        .iter()
        .filter(|e| hits.iter().any(|h| e.names(h)))
        .count();
    if documents.is_empty() {
        0.0
    } else {
        found as f64 / documents.len() as f64
    }
}

fn ndcg(k: usize, hits: &[Hit], expected: &[Expected]) -> f64 {
    let documents = documents(expected);
    let discount = |rank: usize| 1.0 / (rank as f64 + 2.0).log2();
    let first = |e: &&Expected| hits.iter().position(|h| e.names(h));
    // A set: two labels that one hit satisfies gain once at its rank.
    let ranks: BTreeSet<usize> = documents.iter().filter_map(first).collect();
    let gain: f64 = ranks.into_iter().map(discount).sum();
    let ideal: f64 = (0..documents.len().min(k)).map(discount).sum();
    if ideal > 0.0 { gain / ideal } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hit(document: &str, span: Range<u64>) -> Hit {
        Hit {
            source: "s".into(),
            document: document.into(),
            span,
        }
    }

    fn label(document: &str, span: Option<Range<u64>>) -> Expected {
        Expected {
            source: None,
            document: document.into(),
            span,
        }
    }

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    fn score(metric: Metric, hits: &[Hit], expected: &[Expected]) -> f64 {
        super::score(metric, hits, expected).unwrap()
    }

    #[test]
    fn agree_with_values_by_hand() {
        // Relevant a and c; found at ranks 2 and 4; a second passage of a at rank 3 gains nothing.
        let hits = [
            hit("x", 0..9),
            hit("a", 0..9),
            hit("a", 9..20),
            hit("c", 0..9),
            hit("y", 0..9),
        ];
        let expected = [label("a", None), label("c", None)];
        close(score(Metric::RecallAt(1), &hits, &expected), 0.0);
        close(score(Metric::RecallAt(2), &hits, &expected), 0.5);
        close(score(Metric::RecallAt(5), &hits, &expected), 1.0);
        close(score(Metric::Mrr, &hits, &expected), 0.5);
        // DCG = 1/log2(3) + 1/log2(5) = 0.63093 + 0.43068; ideal = 1 + 0.63093.
        let by_hand = (0.630_929_753_571_457_4 + 0.430_676_558_073_393_1) / 1.630_929_753_571_457_4;
        close(score(Metric::NdcgAt(5), &hits, &expected), by_hand);
        // At k = 1 the ideal has one gain.
        close(score(Metric::NdcgAt(1), &[hit("a", 0..1)], &expected), 1.0);
    }

    #[test]
    fn citations_are_judged_by_span() {
        let hits = [hit("a", 0..10), hit("a", 10..20)];
        let at = |k, span| score(Metric::CitationHitAt(k), &hits, &[label("a", Some(span))]);
        close(at(1, 5..7), 1.0);
        close(at(1, 10..12), 0.0); // touching is not overlapping
        close(at(2, 10..12), 1.0);
        close(at(2, 20..30), 0.0);
        close(
            score(Metric::CitationHitAt(1), &hits, &[label("a", None)]),
            1.0,
        );
    }

    #[test]
    fn a_label_may_name_its_source() {
        let other = Expected {
            source: Some("t".into()),
            ..label("a", None)
        };
        close(score(Metric::RecallAt(5), &[hit("a", 0..1)], &[other]), 0.0);
        close(score(Metric::RecallAt(5), &[], &[]), 0.0);
        close(score(Metric::NdcgAt(5), &[], &[]), 0.0);
        close(
            score(Metric::Mrr, &[hit("b", 0..1)], &[label("a", None)]),
            0.0,
        );
        // Two spans of one document are one document.
        let spans = [
            label("a", Some(0..1)),
            label("a", Some(5..6)),
            label("b", None),
        ];
        close(score(Metric::RecallAt(5), &[hit("a", 0..1)], &spans), 0.5);
    }

    #[test]
    fn names_read_back() {
        for name in ["recallAt5", "ndcgAt10", "citationHitAt100", "mrr"] {
            let metric: Metric = name.parse().unwrap();
            assert_eq!(
                (metric.to_string().as_str(), metric.kind()),
                (name, Kind::Retrieval)
            );
        }
        for metric in Metric::BEHAVIOR {
            assert_eq!(metric.to_string().parse::<Metric>(), Ok(metric));
            assert_eq!((metric.kind(), metric.depth()), (Kind::Behavior, 0));
            assert_eq!(super::score(metric, &[], &[]), None);
        }
        assert_eq!("schemaValid".parse::<Metric>(), Ok(Metric::SchemaValid));
        for bad in [
            "recallAt0",
            "recallAt101",
            "recallAt05",
            "recall",
            "mrr5",
            "recallAt+5",
        ] {
            assert!(bad.parse::<Metric>().is_err(), "{bad}");
        }
    }
}
