//! What comes of a training.

use std::collections::BTreeSet;
use std::sync::Arc;

use loci_models::{Adapter, Decoder, DeviceRequest};
use loci_plan::metrics::Metric;
use loci_worker::step::{
    ADAPTER, BEHAVIOR, BehaviorEvaluation, BehaviorInput, CurvePoint, LeftOut, StepInput,
    StepOutput, TrainInput,
};

use super::{Field, HOUR, base, collected, lines, model, order};

#[tokio::test]
async fn an_adapter_comes_with_all_that_there_is_to_know_of_it() {
    let field = Field::new().await;
    let wanted = order(field.dataset);
    let output = field.train(&wanted).await.unwrap();
    let manifest = field.manifest(&output).await;
    assert!(field.store().usable(&output.adapter).await.unwrap());
    let decoder = Decoder::load(&model("tiny"), DeviceRequest::Cpu).unwrap();
    assert_eq!(manifest.base_weights, decoder.identity().weights);
    assert_eq!((manifest.dataset, manifest.parent), (field.dataset, None));
    assert_eq!(manifest.taint, BTreeSet::from([field.dataset]));
    assert_eq!(manifest.computed.len(), 1);

    let curve = field.curve(&output).await;
    let points = curve.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    let points: Vec<CurvePoint> = points.map(|l| serde_json::from_slice(l).unwrap()).collect();
    let is_step = |point: &&CurvePoint| matches!(point, CurvePoint::Step { .. });
    let steps = points.iter().filter(is_step).count();
    let trained = &output.trained;
    assert_eq!((steps as u64, points.len() - steps), (trained.steps, 5));
    assert_eq!(trained.examples + trained.held_out, 24);
    assert!(trained.steps >= 8 && trained.held_out > 0 && trained.left_out == 0);
    let (before, after) = (trained.held_out_before, trained.held_out_after);
    assert!(
        after < before && trained.loss < before.unwrap(),
        "{trained}"
    );

    // Loaded elsewhere, it says what it said here; the base alone says something else.
    let dir = tempfile::tempdir().unwrap();
    let files = field.store().materialise_tree(&manifest.tree, dir.path());
    files.await.unwrap();
    let adapter = Adapter::read(dir.path(), &decoder).unwrap();
    assert_eq!(adapter.digest(), output.content);
    let mut differs = 0;
    for probe in &manifest.probes {
        probe.check(&decoder, Some(&adapter)).unwrap();
        differs += usize::from(probe.check(&decoder, None).is_err());
    }
    assert_eq!((manifest.probes.len(), differs), (4, 4));

    // Again is a lookup, whoever asks, and however it is computed.
    let again = TrainInput {
        run: "support-2".to_owned(),
        max_lora_rank: Some(4),
        recompute: true,
        ..wanted
    };
    let again = field.attempt(&again, HOUR, |_, _| panic!("trained again"));
    let again = again.await.unwrap().unwrap();
    assert_eq!((again.adapter, again.device_seconds), (output.adapter, 0.0));
    assert!(output.device_seconds > 0.0);
}

#[tokio::test]
async fn an_example_that_is_too_long_is_named_and_the_rest_trains() {
    let long = "{\"prompt\": \"How much is LONG?\", \"response\": \"Much.\"}\n";
    let long = long.replace("LONG", &"1234567890".repeat(9));
    let field = Field::of(&format!("{}{long}{}", lines(0..3), lines(3..24))).await;
    let output = field.train(&order(field.dataset)).await.unwrap();
    let trained = &output.trained;
    assert_eq!(trained.examples + trained.held_out, 24);
    assert_eq!((trained.left_out, trained.first_left_out.len()), (1, 1));
    let told = trained.first_left_out[0].as_str();
    assert!(
        told.starts_with("runbooks: a.jsonl, line 4: it has 1")
            && told.contains("more than the 96 of the model's context"),
        "{told}"
    );
    let manifest = field.manifest(&output).await;
    let all = field.store().get(&manifest.left_out).await.unwrap();
    let one: LeftOut = serde_json::from_slice(&all).unwrap();
    assert_eq!((one.origin.line, one.to_string().as_str()), (Some(4), told));
}

#[tokio::test]
async fn a_warm_start_goes_on_from_an_adapter_and_is_tainted_by_all_that_is_in_it() {
    let field = Field::new().await;
    let first = field.train(&order(field.dataset)).await.unwrap();
    let more = collected(&field.bed, &lines(24..48)).await;
    let wanted = TrainInput {
        warm_start: Some(first.adapter),
        ..order(more)
    };
    let second = field.train(&wanted).await.unwrap();
    let manifest = field.manifest(&second).await;
    assert_eq!(manifest.parent, Some(first.adapter));
    assert_eq!(manifest.taint, BTreeSet::from([field.dataset, more]));
    let trained = [&first, &second].map(|output| output.trained.clone());
    assert!(trained[1].held_out_before < trained[0].held_out_before);

    let mut other = wanted.clone();
    other.lora.rank = 2;
    let error = field.train(&other).await.unwrap_err();
    assert_eq!((error.reason(), error.retryable()), ("OtherShape", false));
    assert!(error.to_string().contains("has rank 4, alpha 8"), "{error}");
    let other = TrainInput {
        base: base("llama3"),
        ..wanted
    };
    let error = field.train(&other).await.unwrap_err();
    assert_eq!((error.reason(), error.retryable()), ("OtherBase", false));
}

#[tokio::test]
async fn a_decoder_is_loaded_once_and_let_go_of_for_another() {
    let field = Field::new().await;
    let decoders = field.worker().await.decoders;
    let (tiny, tied) = (base("tiny"), base("tied"));
    let weight = Decoder::memory(&model("tiny")).unwrap();
    assert_eq!(decoders.weight(&tiny).await.unwrap(), weight);
    let (one, two) = tokio::join!(decoders.get(&tiny), decoders.get(&tiny));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert!(Arc::ptr_eq(&one, &two));
    assert_eq!(decoders.weight(&tiny).await.unwrap(), 0);
    drop(decoders.get(&tied).await.unwrap());
    // In use, it stays.
    assert_eq!(decoders.weight(&tiny).await.unwrap(), 0);
    drop((one, two));
    assert!(decoders.get("file:///nowhere").await.is_err());
    assert_eq!(decoders.weight(&tiny).await.unwrap(), weight);
    assert!(decoders.weight(&tied).await.unwrap() > 0);
}

#[tokio::test]
async fn a_suite_is_asked_of_an_adapter_and_of_its_base_once_each() {
    let field = Field::new().await;
    let trained = field.train(&order(field.dataset)).await.unwrap();
    let cases = r#"
{"prompt": "Is 2 even?", "reference": "Yes."}
{"prompt": "Is 3 even?", "reference": "No."}
"#;
    let data = field.bed.put(cases).await;
    let of = |adapter| BehaviorInput {
        suite: "even".to_owned(),
        data,
        base: base("tiny"),
        adapter,
        revision: None,
    };
    let input = StepInput::Evaluate {
        revisions: Vec::new(),
        suites: Vec::new(),
        behaviors: vec![of(None), of(Some(trained.adapter))],
    };
    let mut asked = Vec::new();
    for _ in 0..2 {
        let StepOutput::Evaluate(done) = field.bed.run(&input).await.unwrap() else {
            panic!("another step");
        };
        asked.push((done.asked, done.behaviors));
    }
    assert_eq!((asked[0].0, asked[1].0), (4, 0));
    assert_eq!(asked[0].1, asked[1].1);
    let mut likely: Vec<f64> = Vec::new();
    for digest in &asked[0].1 {
        let found = field.store().get_manifest(BEHAVIOR, digest).await;
        let found: BehaviorEvaluation = found.unwrap();
        let of_adapter = likely.len() == 1;
        assert_eq!(found.adapter, of_adapter.then_some(trained.content));
        let scores = found.scores(&[Metric::Likelihood]).questions;
        likely.push(scores.iter().map(|q| q.scores[&Metric::Likelihood]).sum());
    }
    let [alone, adapted]: [f64; 2] = likely.try_into().unwrap();
    assert!(adapted > alone, "{adapted} is not above {alone}");
}

#[tokio::test]
async fn an_adapter_that_says_something_else_than_when_it_was_trained_is_not_judged() {
    let field = Field::new().await;
    let trained = field.train(&order(field.dataset)).await.unwrap();
    let mut manifest = field.manifest(&trained).await;
    manifest.probes[1].log_probability -= 0.1;
    let stored = field.store().put_manifest(ADAPTER, &[], &manifest).await;
    let case = r#"{"prompt": "Is 2 even?", "reference": "Yes."}"#;
    let input = StepInput::Evaluate {
        revisions: Vec::new(),
        suites: Vec::new(),
        behaviors: vec![BehaviorInput {
            suite: "even".to_owned(),
            data: field.bed.put(case).await,
            base: base("tiny"),
            adapter: Some(stored.unwrap()),
            revision: None,
        }],
    };
    let error = field.bed.run(&input).await.unwrap_err();
    assert!(error.to_string().contains("log-probability"), "{error}");
}
