//! Suites asked of a revision that is re-ranked: what is judged is what serving answers when it has the time.

use std::ops::ControlFlow;

use loci_digest::Digest;
use loci_index::{Mode, Query, Revision};
use loci_models::Role;
use loci_plan::spec::{Fusion, Rerank, RerankMethod};
use loci_rerank::{Outcome, Reranker};
use loci_testbed::root;
use loci_worker::chunk::ChunkerConfig;
use loci_worker::step::{
    EVALUATION, EvaluateOutput, StepError, StepInput, StepOutput, SuiteEvaluation, SuiteInput,
};

use crate::bed::Bed;

impl Bed {
    /// A revision that holds these files, embedded by a model of random weights: words find them.
    pub async fn index(&self, files: &[(&str, &str)]) -> Digest {
        self.index_with(files, None).await.unwrap()
    }

    /// The same, whose passages are put into another order.
    pub async fn index_with(
        &self,
        files: &[(&str, &str)],
        rerank: Option<Rerank>,
    ) -> Result<Digest, StepError> {
        let model = root().join("models/tests/reference/tiny");
        let embed = StepInput::Embed {
            snapshot: self.snapshot(&[("handbook", "factual", files)]).await,
            previous: None,
            model: format!("file://{}", model.display()),
            chunking: ChunkerConfig {
                max_tokens: 64,
                overlap_tokens: 0,
            },
        };
        let delta = match self.run(&embed).await.unwrap() {
            StepOutput::Embed(output) => output.delta.unwrap(),
            other => panic!("{other:?}"),
        };
        let assemble = StepInput::Assemble {
            delta,
            fusion: Fusion::default(),
            rerank,
        };
        match self.run(&assemble).await? {
            StepOutput::Assemble(output) => Ok(output.revision),
            other => panic!("{other:?}"),
        }
    }
}

const FILES: [(&str, &str); 5] = [
    (
        "tyres.md",
        "# Tyres\nA flat tyre is patched or changed in the workshop.",
    ),
    ("brakes.md", "# Brakes\nBrakes are bled once a year."),
    (
        "workshop.md",
        "# Workshop\nThe workshop is open on weekdays.",
    ),
    (
        "deposit.md",
        "# Deposit\nThe deposit comes back within a week.",
    ),
    (
        "battery.md",
        "# Battery\nA battery lasts for sixty kilometres.",
    ),
];
const QUESTION: &str = "When is the workshop open?";

fn late() -> Rerank {
    Rerank {
        method: RerankMethod::LateInteraction,
        model: None,
        candidates: 4,
        // No query would have the time.
        budget_ms: 1,
    }
}

async fn evaluate(bed: &Bed, revision: Digest) -> (EvaluateOutput, Vec<String>) {
    let line =
        format!(r#"{{"question": "{QUESTION}", "expected": [{{"document": "workshop.md"}}]}}"#);
    let input = StepInput::Evaluate {
        revisions: vec![revision],
        suites: vec![SuiteInput {
            name: "faq".into(),
            data: bed.put(&line).await,
            depth: 3,
        }],
        behaviors: vec![],
    };
    let output = match bed.run(&input).await.unwrap() {
        StepOutput::Evaluate(output) => output,
        other => panic!("{other:?}"),
    };
    let stored = bed
        .context
        .store
        .get_manifest(EVALUATION, &output.evaluations[0][0]);
    let stored: SuiteEvaluation = stored.await.unwrap();
    let hits = stored.questions[0].hits.iter();
    let documents = hits.map(|hit| hit.document.clone()).collect();
    (output, documents)
}

/// What serving answers from a revision with all the time that there is.
async fn served(bed: &Bed, revision: Digest) -> Vec<String> {
    let model = root().join("models/tests/reference/tiny");
    let model = format!("file://{}", model.display());
    let encoder = bed.context.encoders.get(&model).await.unwrap();
    let directory = bed.context.revisions.directory(&revision).await.unwrap();
    let index = Revision::open(&directory).unwrap();
    let mut going_on = |_| ControlFlow::Continue(());
    let asked = encoder
        .embed(&[QUESTION], Role::Query, &mut going_on)
        .unwrap();
    let found = index.search(&Query {
        text: QUESTION,
        vector: Some(&asked.vectors),
        k: 4,
        mode: Mode::Hybrid,
        ..Query::default()
    });
    let says = index.info().rerank.as_ref().unwrap();
    let reranker = Reranker::new(says, &encoder, None).unwrap();
    let ranked = reranker.rank(QUESTION, found.unwrap().hits, None).unwrap();
    assert_eq!(ranked.outcome, Outcome::Applied(4));
    let hits = ranked.hits.into_iter().take(3);
    hits.map(|hit| hit.key.document).collect()
}

#[tokio::test]
async fn all_candidates_are_compared_whatever_the_budget() {
    let bed = Bed::new().await;
    let plain = bed.index(&FILES).await;
    let reranked = bed.index_with(&FILES, Some(late())).await.unwrap();
    assert_ne!(plain, reranked);
    let revisions = &bed.context.revisions;
    let (before, after) = (
        revisions.manifest(&plain).await.unwrap(),
        revisions.manifest(&reranked).await.unwrap(),
    );
    assert_ne!(before.info.content_id, after.info.content_id);
    assert_eq!(before.info.passages, after.info.passages);

    let (first, documents) = evaluate(&bed, reranked).await;
    assert_eq!(documents, served(&bed, reranked).await);
    assert_eq!(first.asked, 1);
    let (again, same) = evaluate(&bed, reranked).await;
    assert_eq!((again.asked, same), (0, documents));
    let (other, _) = evaluate(&bed, plain).await;
    assert_eq!(other.asked, 1);
    assert_ne!(other.evaluations, first.evaluations);
}

#[tokio::test]
async fn a_cross_encoder_that_is_none_is_named_by_its_field() {
    let bed = Bed::new().await;
    let model = root().join("models/tests/reference/tiny");
    let cross = Rerank {
        method: RerankMethod::CrossEncoder,
        model: Some(format!("file://{}", model.display())),
        ..late()
    };
    let refused = bed.index_with(&FILES, Some(cross)).await.unwrap_err();
    assert_eq!(refused.reason(), "ModelError");
    let said = refused.to_string();
    assert!(said.starts_with("spec.retrieval.rerank.model: "), "{said}");
    assert!(said.contains("BertForSequenceClassification"), "{said}");
}
