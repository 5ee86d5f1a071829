//! What ends a training for good.

use std::time::Duration;

use loci_models::Schedule;
use loci_worker::step::{StepError, TrainError, TrainInput};

use super::{Field, HOUR, Signals, order, yielded};

#[tokio::test]
async fn a_training_that_diverges_ends_for_good_and_says_where() {
    let field = Field::new().await;
    let mut wanted = order(field.dataset);
    wanted.training.learning_rate = 1e30;
    wanted.training.schedule = Schedule::Constant;
    wanted.training.warmup = 0.0;
    let error = field.train(&wanted).await.unwrap_err();
    assert_eq!((error.reason(), error.retryable()), ("Diverged", false));
    let StepError::Train(TrainError::Diverged {
        step,
        learning_rate,
        ..
    }) = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*step, *learning_rate), (2, 1e30));
    let told = error.to_string();
    assert!(
        told.starts_with("the training diverged in step 2 of ") && told.contains("learningRate"),
        "{told}"
    );
}

type Change = fn(&mut TrainInput);

#[tokio::test]
async fn what_cannot_be_trained_is_refused_before_any_step() {
    let field = Field::new().await;
    let refusals: [(Change, &str, &str); 8] = [
        (
            |i| i.lora.targets = vec!["w_proj".to_owned()],
            "MissingModules",
            "lora.targetModules: the model has no linear layer \"w_proj\"",
        ),
        (
            |i| i.lora.rank = 21,
            "RankTooLarge",
            "rank 21 is more than 20",
        ),
        (
            |i| i.max_lora_rank = Some(2),
            "RankTooLarge",
            "what serves it",
        ),
        (|i| i.lora.alpha = 0.0, "InvalidSettings", "alpha 0"),
        (|i| i.training.epochs = 0, "InvalidSettings", "epochs 0"),
        (|i| i.training.batch = 0, "InvalidSettings", "batch 0"),
        (
            |i| i.training.max_tokens = Some(9),
            "NoExamples",
            "more than the 9 of training.maxTokens",
        ),
        (
            |i| i.max_device_seconds = Some(0),
            "BudgetExceeded",
            "after step 0 of",
        ),
    ];
    for (change, reason, part) in refusals {
        let mut wanted = order(field.dataset);
        change(&mut wanted);
        let error = field.train(&wanted).await.unwrap_err();
        assert_eq!((error.reason(), error.retryable()), (reason, false));
        let told = error.to_string();
        assert!(told.contains(part), "\"{part}\" is not in: {told}");
    }
    assert_eq!(field.trainings().await, []);
}

#[tokio::test]
async fn a_run_stops_within_a_step_of_its_budget_however_many_attempts_it_takes() {
    let field = Field::new().await;
    let wanted = TrainInput {
        max_device_seconds: Some(2),
        ..order(field.dataset)
    };
    let slowly = |call: usize| {
        move |now: usize, signals: &Signals| {
            std::thread::sleep(Duration::from_millis(600));
            if now == call {
                signals.way.ask();
            }
        }
    };
    assert!(yielded(field.attempt(&wanted, HOUR, slowly(3)).await));
    assert!(field.trainings().await[0].runs["support-1"] >= 1.8);
    let error = field.attempt(&wanted, HOUR, slowly(99)).await;
    let Some(Err(StepError::Train(TrainError::Budget { used, step, .. }))) = error else {
        panic!("{error:?}");
    };
    assert!(used >= 2.0 && step <= 3, "{used} {step}");
    // What attempts have used that left nothing behind counts, if whoever sends it knows of that.
    let lost = TrainInput {
        run: "support-3".to_owned(),
        device_seconds: 1,
        ..wanted.clone()
    };
    let error = field.attempt(&lost, HOUR, slowly(99)).await;
    let Some(Err(StepError::Train(TrainError::Budget {
        used, step, steps, ..
    }))) = error
    else {
        panic!("{error:?}");
    };
    assert!(used >= 2.0 && step <= 4 && step < steps, "{used} {step}");
    // Another run has its own.
    let other = TrainInput {
        run: "support-2".to_owned(),
        max_device_seconds: Some(3600),
        ..wanted
    };
    let done = field.train(&other).await.unwrap();
    assert!(done.trained.steps > 3 && done.device_seconds > 0.0);
}
