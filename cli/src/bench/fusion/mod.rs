//! How dense and BM25 scores are best fused: chosen on one half of a collection's articles, judged on the other.

mod report;

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

use super::bar;
use super::score::{Figure, Scores};
use super::squad::Squad;
use crate::commands::Shared;
use crate::output::{self, Output, count};
use report::{Report, Tried, best, gains, of_each};

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
        rerank: None,
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
