//! Collect over a store: from a snapshot to a dataset.

use std::collections::BTreeSet;

use loci_digest::Digest;
use loci_worker::dataset::{Part, examples, lineage};
use loci_worker::example::Role;
use loci_worker::step::{CollectInput, CollectOutput, ContextInput};
use tempfile::TempDir;

use crate::bed::{Bed, Source, input, procedural};
use crate::behavior::smollm2;

fn lines(numbers: std::ops::Range<usize>) -> String {
    let line = |n| format!("{{\"prompt\": \"Question {n}?\", \"response\": \"Answer {n}.\"}}\n");
    numbers.map(line).collect()
}

const RUNBOOK: &str = "---\nprompt: How?\n---\n# Title\n\nLike this.\n";

#[tokio::test]
async fn a_dataset_knows_where_each_example_comes_from_and_what_was_left_out() {
    let bed = Bed::new().await;
    let (first, second) = (lines(0..20), lines(20..40));
    let poisoned = format!("{first}{{\"prompt\": \"x\"}}\n{second}{}", lines(7..8));
    let files = [("a.jsonl", poisoned.as_str()), ("b.md", RUNBOOK)];
    let handbook = [("x.md", "# Facts")];
    let handbook: Source<'_> = ("handbook", "factual", &handbook);
    let sources = [handbook, procedural("runbooks", &files)];
    let snapshot = bed.snapshot(&sources).await;
    let suite = bed
        .put("{\"id\": \"seen\", \"prompt\": \"question 3?\"}\n")
        .await;
    let wanted = CollectInput {
        suites: [("escalation".to_owned(), suite)].into(),
        ..input(snapshot, &["runbooks"])
    };
    let output = bed.collect(wanted.clone()).await.unwrap();
    let total = output.report.total;
    assert_eq!((total.documents, total.found, total.malformed), (2, 42, 1));
    assert_eq!((total.duplicates, total.contaminated), (1, 1));
    assert_eq!(total.train + total.held_out, 40);
    assert!(total.held_out > 0 && output.new == total.train);
    let told = &output.report.first_malformed[0];
    assert!(
        told.starts_with("runbooks: a.jsonl, line 21: has no `response`"),
        "{told}"
    );
    let told = &output.report.first_contaminated[0];
    assert_eq!(
        told,
        "runbooks: a.jsonl, line 4: asks what seen of suite escalation asks: \"question 3?\""
    );

    let manifest = bed.manifest(&output).await;
    let store = &bed.context.store;
    let train = store.get(&manifest.train).await.unwrap();
    let parsed = examples(&train).unwrap();
    assert_eq!(parsed.len() as u64, total.train);
    let places = lineage(&store.get(&manifest.lineage).await.unwrap()).unwrap();
    assert_eq!(places.len(), 40);
    let of_train = places.iter().filter(|l| l.part == Part::Train);
    for (line, place) in train.split(|b| *b == b'\n').zip(of_train) {
        assert_eq!(Digest::of(line), place.digest);
    }
    let seven = places.iter().find(|l| l.origins.len() == 2).unwrap();
    let at: Vec<_> = seven.origins.iter().map(|o| o.line.unwrap()).collect();
    assert_eq!(at, [8, 42]);
    let rejected = store.get(&manifest.rejected).await.unwrap();
    assert_eq!(rejected.split(|b| *b == b'\n').count(), 4);

    // Again is a lookup.
    assert_eq!(bed.collect(wanted).await.unwrap(), output);
}

#[tokio::test]
async fn examples_that_move_are_the_same_and_those_that_are_new_are_counted() {
    let bed = Bed::new().await;
    let (all, head, tail) = (lines(0..40), lines(0..10), lines(10..40));
    let whole = [("a.jsonl", all.as_str())];
    let one = bed.snapshot(&[procedural("runbooks", &whole)]).await;
    let (head, tail) = ([("b.jsonl", head.as_str())], [("z.jsonl", tail.as_str())]);
    let parts = [procedural("more", &tail), procedural("runbooks", &head)];
    let two = bed.snapshot(&parts).await;
    let one = bed.collect(input(one, &["runbooks"])).await.unwrap();
    let two = bed
        .collect(input(two, &["more", "runbooks"]))
        .await
        .unwrap();
    assert_eq!(one.content, two.content);
    assert_ne!(one.dataset, two.dataset);

    let grown = lines(5..60);
    let grown = [("a.jsonl", grown.as_str())];
    let grown = bed.snapshot(&[procedural("runbooks", &grown)]).await;
    let wanted = CollectInput {
        last: Some(one.dataset),
        min_new_examples: 20,
        ..input(grown, &["runbooks"])
    };
    let next = bed.collect(wanted.clone()).await.unwrap();
    let trained = |output: &CollectOutput| output.report.total.train;
    assert_eq!(trained(&one) + next.new - next.gone, trained(&next));
    assert!(next.gone > 0 && next.gone <= 5 && next.new <= 20);
    let why = next.not_enough.as_ref().unwrap();
    assert!(why.contains("fewer than minNewExamples (20)"), "{why}");
    let enough = CollectInput {
        min_new_examples: 1,
        ..wanted.clone()
    };
    let enough = bed.collect(enough).await.unwrap();
    assert_eq!((enough.not_enough, enough.dataset), (None, next.dataset));
    let few = CollectInput {
        min_examples: 1000,
        ..wanted
    };
    let why = bed.collect(few).await.unwrap().not_enough.unwrap();
    assert!(why.contains("fewer than minExamples (1000)"), "{why}");
}

#[tokio::test]
async fn only_procedural_sources_that_were_read_are_trained_on() {
    let bed = Bed::new().await;
    let all = lines(0..3);
    let files = [("a.jsonl", all.as_str())];
    let factual: Source<'_> = ("handbook", "factual", &files);
    let snapshot = bed.snapshot(&[factual]).await;
    let refused = bed
        .collect(input(snapshot, &["handbook"]))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.reason(), refused.retryable()),
        ("NotProcedural", false)
    );
    assert!(refused.to_string().contains("source handbook is factual"));
    let refused = bed
        .collect(input(snapshot, &["runbooks"]))
        .await
        .unwrap_err();
    assert_eq!(refused.reason(), "SourceNotRead");

    let snapshot = bed.snapshot(&[procedural("runbooks", &files)]).await;
    let silent = bed.put("{\"input\": \"?\"}").await;
    let wanted = CollectInput {
        suites: [("s".to_owned(), silent)].into(),
        ..input(snapshot, &["runbooks"])
    };
    let refused = bed.collect(wanted).await.unwrap_err();
    assert_eq!(refused.reason(), "InvalidSuite");
    assert!(
        refused.to_string().starts_with("suite s, line 1: "),
        "{refused}"
    );
    let none: BTreeSet<String> = BTreeSet::new();
    let nothing = CollectInput {
        sources: none,
        ..input(snapshot, &[])
    };
    let why = bed.collect(nothing).await.unwrap().not_enough.unwrap();
    assert!(why.contains("minExamples (1)"), "{why}");
}

/// With the passages of a revision, for SmolLM2-135M-Instruct.
fn shown(input: CollectInput, revision: Digest, model: &TempDir) -> CollectInput {
    CollectInput {
        context: Some(ContextInput {
            revision,
            base: format!("file://{}", model.path().display()),
            max_tokens: 2048,
        }),
        ..input
    }
}

const TALK: &str = r#"
{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Who opens the gate?"}, {"role": "assistant", "content": "You do."}, {"role": "user", "content": "What opens the gate?"}, {"role": "assistant", "content": "Plover."}]}
{"prompt": "Does plover open the gate?", "response": "Yes."}
"#;

#[tokio::test(flavor = "multi_thread")]
async fn training_sees_the_passages_that_serving_would_send() {
    let (bed, model) = (Bed::new().await, smollm2());
    let files = [("a.jsonl", TALK)];
    let snapshot = bed.snapshot(&[procedural("runbooks", &files)]).await;
    let one = bed
        .index(&[("gate.md", "The gate opens by plover.\n")])
        .await;
    let other = bed
        .index(&[("gate.md", "The gate opens by walrus.\n")])
        .await;
    let plain = bed.collect(input(snapshot, &["runbooks"])).await.unwrap();
    let wanted = shown(input(snapshot, &["runbooks"]), one, &model);
    let output = bed.collect(wanted.clone()).await.unwrap();
    assert_eq!(output.report, plain.report);
    let context = output.context.clone().unwrap();
    assert_eq!((context.questions, context.passages), (3, 3));
    assert_eq!((context.revision, plain.context), (one, None));
    let manifest = bed.manifest(&output).await;
    let store = &bed.context.store;
    let mut all = Vec::new();
    for part in [&manifest.train, &manifest.held_out] {
        all.extend(examples(&store.get(part).await.unwrap()).unwrap());
    }
    let places = store.get(&manifest.lineage).await.unwrap();
    assert_eq!((all.len(), lineage(&places).unwrap().len()), (3, 3));
    let passage = "[1]\n```\nThe gate opens by plover.\n```\n\n";
    for example in &all {
        let (answer, asked) = example.messages.split_last().unwrap();
        assert_eq!(answer.role, Role::Assistant);
        let (question, before) = asked.split_last().unwrap();
        assert!(question.content.contains(passage), "{}", question.content);
        assert!(before.iter().all(|m| !m.content.contains("plover")));
    }
    // Each answer has a line, and earlier turns stand in it as they were said.
    let turns: BTreeSet<usize> = all.iter().map(|e| e.messages.len()).collect();
    assert_eq!(turns, BTreeSet::from([2, 3, 5]));
    let talk = &all.iter().find(|e| e.messages.len() == 5).unwrap().messages;
    assert_eq!(talk[1].content, "Who opens the gate?");
    assert!(talk[3].content.ends_with("\n\nWhat opens the gate?"));

    // Again is a lookup; another index gives another dataset, and no new example.
    assert_eq!(bed.collect(wanted.clone()).await.unwrap(), output);
    let moved = CollectInput {
        last: Some(output.dataset),
        min_new_examples: 1,
        ..shown(wanted.clone(), other, &model)
    };
    let moved = bed.collect(moved).await.unwrap();
    assert!(moved.dataset != output.dataset && moved.content != output.content);
    assert_eq!((moved.new, moved.gone), (0, 0));
    assert!(moved.not_enough.is_some());
    // What would be too long to be trained on has none.
    let mut short = wanted;
    short.context.as_mut().unwrap().max_tokens = 48;
    let short = bed.collect(short).await.unwrap();
    assert_eq!(short.context.unwrap().passages, 0);
    assert_ne!(short.content, plain.content);
}
