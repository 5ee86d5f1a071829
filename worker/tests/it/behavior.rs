//! Evaluate asks behaviour suites of SmolLM2-135M-Instruct, over a store.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use loci_bus::{Dispatcher, Outcome};
use loci_digest::Digest;
use loci_plan::metrics::Metric;
use loci_worker::behavior::CaseRecord;
use loci_worker::step::{
    self, BEHAVIOR, BehaviorEvaluation, BehaviorInput, EvaluateOutput, Reporter, StepError,
    StepInput, StepOutput,
};
use tempfile::TempDir;

use crate::bed::Bed;

/// A store, and a directory with the model.
struct Desk {
    bed: Bed,
    model: TempDir,
}

/// A directory with SmolLM2-135M-Instruct.
pub fn smollm2() -> TempDir {
    let file = std::env::var("LOCI_TEST_DECODER").expect(
        "LOCI_TEST_DECODER must name the .gguf file of SmolLM2-135M-Instruct: run make test",
    );
    let model = tempfile::tempdir().unwrap();
    symlink(PathBuf::from(file), model.path().join("model.gguf")).unwrap();
    model
}

impl Desk {
    async fn new() -> Self {
        Self {
            bed: Bed::new().await,
            model: smollm2(),
        }
    }

    async fn input(&self, suite: &str, lines: &str) -> StepInput {
        self.input_of(suite, lines, None).await
    }

    /// With passages of a revision before each question, if there is one.
    async fn input_of(&self, suite: &str, lines: &str, revision: Option<Digest>) -> StepInput {
        let behaviors = vec![BehaviorInput {
            suite: suite.to_owned(),
            data: self.bed.put(lines).await,
            base: format!("file://{}", self.model.path().display()),
            adapter: None,
            revision,
        }];
        StepInput::Evaluate {
            revisions: Vec::new(),
            suites: Vec::new(),
            behaviors,
        }
    }

    async fn ask(&self, suite: &str, lines: &str) -> Result<EvaluateOutput, StepError> {
        self.ask_of(suite, lines, None).await
    }

    async fn ask_of(
        &self,
        suite: &str,
        lines: &str,
        revision: Option<Digest>,
    ) -> Result<EvaluateOutput, StepError> {
        let input = self.input_of(suite, lines, revision).await;
        self.bed.run(&input).await.map(|output| match output {
            StepOutput::Evaluate(output) => output,
            other => panic!("{other:?}"),
        })
    }

    async fn evaluation(&self, output: &EvaluateOutput) -> BehaviorEvaluation {
        let store = &self.bed.context.store;
        let found = store.get_manifest(BEHAVIOR, &output.behaviors[0]).await;
        found.unwrap()
    }

    async fn records(&self, output: &EvaluateOutput) -> BTreeMap<String, CaseRecord> {
        let cases = self.evaluation(output).await.cases.into_iter();
        cases.map(|case| (case.id.clone(), case)).collect()
    }
}

const LINES: &str = r#"
{"id": "says", "prompt": "Tell me about the sea.", "pattern": "[a-z]", "maxTokens": 5}
{"id": "never", "prompt": "Tell me about the sea.", "expected": "Quartz zebra.", "maxTokens": 5}
{"id": "form", "prompt": "Tell me about the sea.", "schema": {"type": "object"}, "maxTokens": 5}
{"id": "choice", "prompt": "What is the capital of France?", "choices": ["Banana", "Paris", "Seven"], "answer": "Paris"}
{"id": "wrong", "prompt": "What is the capital of France?", "choices": ["Banana", "Paris", "Seven"], "answer": "Seven"}
{"id": "likely", "prompt": "What is the capital of France?", "reference": "The capital of France is Paris."}
{"id": "unlikely", "prompt": "What is the capital of France?", "reference": "Violet gravel sings sideways."}
{"id": "text", "text": "The cat sat on the mat and looked out of the window."}
{"id": "salad", "text": "Window the of out looked and mat the on sat cat the."}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_asked_once_and_scored_by_what_it_says() {
    let desk = Desk::new().await;
    let first = desk.ask("mixed", LINES).await.unwrap();
    assert_eq!((first.asked, first.behaviors.len()), (9, 1));
    let records = desk.records(&first).await;
    let score = |id: &str, metric| records[id].scores[&metric];
    assert_eq!(score("says", Metric::RegexMatch), 1.0);
    assert_eq!(score("says", Metric::Accuracy), 1.0);
    assert_eq!(score("never", Metric::ExactMatch), 0.0);
    assert_eq!(score("form", Metric::SchemaValid), 0.0);
    let said = records["says"].said.as_deref().unwrap();
    assert!(said.split_whitespace().count() <= 5, "{said}");
    assert_eq!(records["choice"].chosen, Some(1));
    assert_eq!(
        (
            score("choice", Metric::Accuracy),
            score("wrong", Metric::Accuracy)
        ),
        (1.0, 0.0)
    );
    assert!(score("likely", Metric::Likelihood) > 2.0 * score("unlikely", Metric::Likelihood));
    assert!(score("text", Metric::Perplexity) > 2.0 * score("salad", Metric::Perplexity));

    let again = desk.ask("mixed", LINES).await.unwrap();
    assert_eq!((again.asked, again.behaviors), (0, first.behaviors));
    // Alone it scores as among others, but for rounding.
    let text = LINES
        .lines()
        .find(|line| line.contains("\"text\""))
        .unwrap();
    let alone = desk.ask("text", text).await.unwrap();
    let alone = desk.records(&alone).await["text"].scores[&Metric::Perplexity];
    assert!((alone / score("text", Metric::Perplexity) - 1.0).abs() < 1e-4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_asked_is_named_and_who_is_told_to_stop_stops() {
    let desk = Desk::new().await;
    let long = format!(
        "{{\"id\": \"long\", \"text\": \"{}\"}}",
        "far away ".repeat(5000)
    );
    let error = desk.ask("s", &long).await.unwrap_err();
    assert!(!error.retryable());
    assert_eq!(error.reason(), "InvalidSuite");
    let told = error.to_string();
    assert!(
        told.starts_with("suite s, case long: ") && told.contains("context"),
        "{told}"
    );
    let error = desk.ask("s", "{}").await.unwrap_err();
    assert!(
        error.to_string().starts_with("suite s, line 1: "),
        "{error}"
    );

    let input = desk.input("s", LINES).await;
    let lease = desk.bed.lease("2").await;
    desk.bed.bus.cancel("2").await.unwrap();
    let cancelled = lease.cancelled();
    let heard = tokio::time::timeout(Duration::from_secs(5), cancelled.cancelled());
    heard.await.unwrap();
    let context = &desk.bed.context;
    let done = step::run(context, "agents/support", &input, &Reporter::new(&lease)).await;
    assert!(matches!(done, Err(StepError::Cancelled)), "{done:?}");
    lease.finish(Outcome::Cancelled).await.unwrap();
}

const GATE: &str = r#"
{"id": "asked", "prompt": "What opens the gate?", "reference": "The gate opens by plover."}
{"id": "chosen", "prompt": "What opens the gate?", "choices": ["The gate opens by plover.", "The gate opens by walrus."], "answer": "The gate opens by plover."}
{"id": "said", "prompt": "What opens the gate?", "pattern": "(?i)[a-z]", "maxTokens": 3}
{"id": "text", "text": "The cat sat on the mat and looked out of the window."}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_model_sees_what_the_index_finds_and_is_asked_anew_of_another_index() {
    let desk = Desk::new().await;
    let page = |word: &str| format!("The gate opens by {word}.\n");
    let (plover, walrus) = (page("plover"), page("walrus"));
    let one = desk.bed.index(&[("gates.md", plover.as_str())]).await;
    let other = desk.bed.index(&[("gates.md", walrus.as_str())]).await;
    let alone = desk.ask("gate", GATE).await.unwrap();
    let shown = desk.ask_of("gate", GATE, Some(one)).await.unwrap();
    let misled = desk.ask_of("gate", GATE, Some(other)).await.unwrap();
    assert_eq!([alone.asked, shown.asked, misled.asked], [4; 3]);
    assert_eq!(desk.evaluation(&shown).await.revision, Some(one));
    assert_eq!(desk.evaluation(&alone).await.revision, None);
    let again = desk.ask_of("gate", GATE, Some(one)).await.unwrap();
    assert_eq!((again.asked, again.behaviors), (0, shown.behaviors.clone()));

    let mut records = Vec::new();
    for output in [&alone, &shown, &misled] {
        records.push(desk.records(output).await);
    }
    let likely = |i: usize| records[i]["asked"].scores[&Metric::Likelihood];
    assert!(likely(1) > likely(0) && likely(1) > likely(2));
    let chosen = |i: usize| records[i]["chosen"].chosen;
    assert_eq!((chosen(1), chosen(2)), (Some(0), Some(1)));
    let passages = |i: usize| ["asked", "said", "text"].map(|id| records[i][id].passages);
    assert_eq!(passages(0), [None; 3]);
    assert_eq!(passages(1), [Some(1), Some(1), Some(0)]);
    // Of a text nothing is asked: it is as likely as before.
    let text = |i: usize| records[i]["text"].scores[&Metric::Perplexity];
    assert!((text(1) / text(0) - 1.0).abs() < 1e-4);
}
