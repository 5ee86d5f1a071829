//! How dense and BM25 scores are best fused: chosen on one half of a collection's articles, judged on the other.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;
use loci_digest::Digest;
use loci_index::{
    Delta, Document, DocumentKey, Fusion, Identity, IndexedDocument, Mode, Normalization, Passage,
    Query, Revision, assemble,
};
use loci_models::{DeviceRequest, Encoder, Role};
use serde::Serialize;

use super::score::{self, Figure, Scores};
use super::squad::Squad;
use super::{bar, stats};
use crate::commands::Shared;
use crate::output::{self, Output, count, say};

/// Passages looked at; MRR is that of the first so many.
const K: usize = 10;
/// The weights tried are those of so many equal steps, without 0 and 1.
const STEPS: u8 = 20;

/// What fusing dense and BM25 scores gains, with the settings chosen on other articles than it is judged on
#[derive(Debug, Args)]
pub struct FusionBench {
    /// The directory of the model
    #[arg(long)]
    model: PathBuf,
    /// Labelled questions, in the JSON of SQuAD
    #[arg(long)]
    data: PathBuf,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Fails unless recall@1 is so much above the better side, and with 95 % confidence above it
    #[arg(long, value_name = "GAIN")]
    gain: Option<f64>,
    /// Fails when recall@5 is more than so much below the better side
    #[arg(long, value_name = "LOSS")]
    loss: Option<f64>,
}

/// Questions with their vectors; each is answered by the document of its number.
struct Asked {
    text: String,
    vector: Vec<f32>,
    document: String,
}

/// A way to fuse, and what it scores on the half by which it is chosen.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tried {
    normalization: Normalization,
    dense_weight: f32,
    recall_at1: f64,
    recall_at5: f64,
    mrr: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    passages: usize,
    /// Questions by which the settings were chosen, and by which they are judged.
    chosen_by: usize,
    judged_by: usize,
    /// The best weight of each normalisation on the first half.
    tried: Vec<Tried>,
    chosen: Tried,
    /// On the other half.
    figures: Vec<Figure>,
    /// What the chosen fusion gains over the better side, by metric.
    gains: Vec<Gain>,
}

/// The gain of one metric, paired by question.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Gain {
    metric: &'static str,
    /// The side that is better by this metric.
    over: &'static str,
    mean: f64,
    /// The one-sided 95 % bootstrap lower bound.
    lower: f64,
}

impl FusionBench {
    /// Measures and prints.
    ///
    /// # Errors
    /// Also when `--gain` or `--loss` is missed.
    pub fn run(self, shared: &Shared) -> Result<()> {
        loci_models::limit_threads(self.threads)?;
        let squad = Squad::read(&self.data)?;
        let encoder = Encoder::load(&self.model, DeviceRequest::Cpu)?;
        let dir = tempfile::tempdir()?;
        let mut revision = index(&squad, &encoder, dir.path())?;
        let (choosing, judging) = questions(&squad, &encoder)?;
        let mut tried = Vec::new();
        let bar = bar(Normalization::ALL.len() as u64, "normalisations");
        for normalization in Normalization::ALL {
            for step in 1..STEPS {
                let dense_weight = f32::from(step) / f32::from(STEPS);
                revision = revision.with_fusion(Fusion::new(normalization, dense_weight)?);
                let scores = ask(&revision, &choosing, Mode::Hybrid)?;
                tried.push(Tried::new(revision.fusion(), &scores));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let Some(chosen) = best(&tried) else {
            bail!("no fusion was tried");
        };
        let sides = [
            ("dense", ask(&revision, &judging, Mode::Dense)?),
            ("BM25", ask(&revision, &judging, Mode::Bm25)?),
        ];
        revision = revision.with_fusion(Fusion::default());
        let default = ask(&revision, &judging, Mode::Hybrid)?;
        let fusion = Fusion::new(chosen.normalization, chosen.dense_weight)?;
        revision = revision.with_fusion(fusion);
        let hybrid = ask(&revision, &judging, Mode::Hybrid)?;
        let mut figures: Vec<Figure> = sides.iter().map(|(n, s)| s.figure(n)).collect();
        figures.push(default.figure("hybrid, default"));
        figures.push(hybrid.figure("hybrid, chosen"));
        let report = Report {
            passages: squad.paragraphs.len(),
            chosen_by: choosing.len(),
            judged_by: judging.len(),
            tried: of_each(&tried),
            chosen,
            figures,
            gains: gains(&sides, &hybrid),
        };
        match shared.output {
            Output::Json => output::json(&report)?,
            Output::Table => report.show(),
        }
        let missed = report.missed(self.gain, self.loss);
        if !missed.is_empty() {
            bail!("{}", missed.join("; "));
        }
        Ok(())
    }
}

/// All paragraphs, one document each.
fn index(squad: &Squad, encoder: &Encoder, dir: &Path) -> Result<Revision> {
    eprintln!(
        "embedding {} passages",
        count(squad.paragraphs.len() as u64)
    );
    let texts: Vec<&str> = squad.paragraphs.iter().map(String::as_str).collect();
    let embedded = encoder.embed(&texts, Role::Passage, &mut |_| ControlFlow::Continue(()))?;
    let vectors = embedded.vectors.chunks_exact(embedded.dimensions);
    let indexed = |((n, text), vector): ((usize, &&str), &[f32])| {
        let passage = Passage {
            ordinal: 0,
            text: (*text).to_owned(),
            span: 0..text.len() as u64,
            headings: Vec::new(),
        };
        IndexedDocument {
            document: Document {
                key: DocumentKey::new("paragraphs", document(n)),
                uri: String::new(),
                version: String::new(),
                memory: "factual".to_owned(),
                title: None,
                metadata: BTreeMap::new(),
                passages: Vec::from([passage]),
            },
            vectors: vector.to_owned(),
        }
    };
    let delta = Delta {
        remove: Vec::new(),
        upsert: texts.iter().enumerate().zip(vectors).map(indexed).collect(),
    };
    let identity = Identity {
        embedder: encoder.identity().digest(),
        chunker: Digest::of("whole paragraphs"),
        dimensions: encoder.dimensions(),
    };
    let out = dir.join("index");
    let fusion = Fusion::default();
    assemble(None, delta, &identity, fusion, &out, &mut |_| {
        ControlFlow::Continue(())
    })?;
    Ok(Revision::open(&out)?)
}

fn document(paragraph: usize) -> String {
    format!("{paragraph:06}")
}

/// The questions of either half.
fn questions(squad: &Squad, encoder: &Encoder) -> Result<(Vec<Asked>, Vec<Asked>)> {
    let texts: Vec<&str> = squad.questions.iter().map(|q| q.text.as_str()).collect();
    let embedded = encoder.embed(&texts, Role::Query, &mut |_| ControlFlow::Continue(()))?;
    let vectors = embedded.vectors.chunks_exact(embedded.dimensions);
    let (mut choosing, mut judging) = (Vec::new(), Vec::new());
    for (question, vector) in squad.questions.iter().zip(vectors) {
        let half = if question.choosing {
            &mut choosing
        } else {
            &mut judging
        };
        half.push(Asked {
            text: question.text.clone(),
            vector: vector.to_owned(),
            document: document(question.paragraph),
        });
    }
    Ok((choosing, judging))
}

/// Asks all questions; the rank of what answers each.
fn ask(revision: &Revision, questions: &[Asked], mode: Mode) -> Result<Scores> {
    let rank = |asked: &Asked| -> Result<Option<usize>> {
        let query = Query {
            text: &asked.text,
            vector: Some(&asked.vector),
            k: K,
            mode,
            exact: true,
            ..Query::default()
        };
        let hits = revision.search(&query)?.hits;
        Ok(hits.iter().position(|h| h.key.document == asked.document))
    };
    let ranks: Result<_> = questions.iter().map(rank).collect();
    Ok(Scores::new(ranks?))
}

impl Tried {
    fn new(fusion: Fusion, scores: &Scores) -> Self {
        let [recall_at1, recall_at5, mrr] = scores.means();
        Self {
            normalization: fusion.normalization(),
            dense_weight: fusion.dense_weight(),
            recall_at1,
            recall_at5,
            mrr,
        }
    }

    /// By recall@1; among equals by MRR, then the more even weight.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        let even = |tried: &Self| -(tried.dense_weight - 0.5).abs();
        let by_recall = self.recall_at1.total_cmp(&other.recall_at1);
        by_recall
            .then(self.mrr.total_cmp(&other.mrr))
            .then(even(self).total_cmp(&even(other)))
    }
}

fn best(tried: &[Tried]) -> Option<Tried> {
    tried.iter().copied().max_by(Tried::order)
}

/// The best of each normalisation.
fn of_each(tried: &[Tried]) -> Vec<Tried> {
    let of = |normalization| {
        let mut of: Vec<Tried> = tried.to_vec();
        of.retain(|tried| tried.normalization == normalization);
        best(&of)
    };
    Normalization::ALL.into_iter().filter_map(of).collect()
}

/// What the fusion gains over the side that is better by each metric.
fn gains(sides: &[(&'static str, Scores); 2], hybrid: &Scores) -> Vec<Gain> {
    let gain = |(i, metric): (usize, &'static str)| {
        let [one, other] = sides;
        let better = if one.1.means()[i] >= other.1.means()[i] {
            one
        } else {
            other
        };
        let differences = hybrid.differences(&better.1, i);
        Gain {
            metric,
            over: better.0,
            mean: differences.iter().sum::<f64>() / differences.len().max(1) as f64,
            lower: stats::bootstrap_lower(&differences),
        }
    };
    score::METRICS.into_iter().enumerate().map(gain).collect()
}

impl Report {
    /// What is less than so much of a gain, or more than so much of a loss.
    fn missed(&self, gain: Option<f64>, loss: Option<f64>) -> Vec<String> {
        let of = |metric: &str| self.gains.iter().find(|gain| gain.metric == metric);
        let mut missed = Vec::new();
        if let Some((wanted, got)) = gain.zip(of("recall@1")) {
            if got.mean < wanted || got.lower <= 0.0 {
                missed.push(format!(
                    "recall@1 is {:+.4} over {}, surely {:+.4}: not {wanted} and surely more than 0",
                    got.mean, got.over, got.lower
                ));
            }
        }
        if let Some((allowed, got)) = loss.zip(of("recall@5")) {
            if got.mean < -allowed {
                missed.push(format!(
                    "recall@5 is {:+.4} over {}: not at least -{allowed}",
                    got.mean, got.over
                ));
            }
        }
        missed
    }

    fn show(&self) {
        let cell = |value: f64| format!("{value:.4}");
        let mut table =
            output::table(&["chosen by", "dense weight", "recall@1", "recall@5", "mrr"]);
        for tried in &self.tried {
            table.add_row([
                tried.normalization.name().to_owned(),
                format!("{:.2}", tried.dense_weight),
                cell(tried.recall_at1),
                cell(tried.recall_at5),
                cell(tried.mrr),
            ]);
        }
        output::print(&table, "nothing was tried");
        say!(
            "\nby {} questions: {} with a dense weight of {:.2}. On {} questions of other articles, {} passages:\n",
            count(self.chosen_by as u64),
            self.chosen.normalization.name(),
            self.chosen.dense_weight,
            count(self.judged_by as u64),
            count(self.passages as u64)
        );
        let mut table = output::table(&["judged", "recall@1", "recall@5", "mrr"]);
        for figure in &self.figures {
            let name = figure.name.clone();
            table.add_row([
                name,
                cell(figure.recall_at1),
                cell(figure.recall_at5),
                cell(figure.mrr),
            ]);
        }
        output::print(&table, "nothing was judged");
        say!();
        for gain in &self.gains {
            say!(
                "{}: {:+.4} over {}, surely {:+.4}",
                gain.metric,
                gain.mean,
                gain.over,
                gain.lower
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(normalization: Normalization, dense_weight: f32, recall: f64, mrr: f64) -> Tried {
        Tried {
            normalization,
            dense_weight,
            recall_at1: recall,
            recall_at5: 1.0,
            mrr,
        }
    }

    #[test]
    fn the_best_recall_is_chosen_then_mrr_then_the_even_weight() {
        let all = [
            tried(Normalization::MinMax, 0.5, 0.90, 0.95),
            tried(Normalization::MinMax, 0.8, 0.91, 0.94),
            tried(Normalization::ZScore, 0.9, 0.91, 0.95),
            tried(Normalization::ZScore, 0.6, 0.91, 0.95),
        ];
        let chosen = best(&all).unwrap();
        assert_eq!(
            (chosen.normalization, chosen.dense_weight),
            (Normalization::ZScore, 0.6)
        );
        let each: Vec<f32> = of_each(&all).iter().map(|t| t.dense_weight).collect();
        assert_eq!(each, [0.8, 0.6]);
    }

    #[test]
    fn a_gain_is_over_the_better_side_and_a_missed_one_is_named() {
        // Of 100 questions dense has 50 first, BM25 60, and the fusion 80.
        let first = |n: usize| Scores::new((0..100).map(|i| (i < n).then_some(0)).collect());
        let sides = [("dense", first(50)), ("BM25", first(60))];
        let report = Report {
            passages: 100,
            chosen_by: 1,
            judged_by: 100,
            tried: Vec::new(),
            chosen: tried(Normalization::MinMax, 0.5, 1.0, 1.0),
            figures: Vec::new(),
            gains: gains(&sides, &first(80)),
        };
        let gain = &report.gains[0];
        assert_eq!((gain.metric, gain.over), ("recall@1", "BM25"));
        assert!(
            (gain.mean - 0.2).abs() < 1e-9 && gain.lower > 0.1,
            "{}",
            gain.lower
        );
        assert!(report.missed(Some(0.15), Some(0.005)).is_empty());
        let missed = report.missed(Some(0.25), None).remove(0);
        assert!(missed.contains("+0.2000 over BM25"), "{missed}");
    }
}
