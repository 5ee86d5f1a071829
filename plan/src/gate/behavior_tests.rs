use super::compare::win;
use super::tests::{Draws, binary};
use super::*;

/// A gate on accuracy.
fn gate(floor: Option<f64>, max_regression: Option<f64>, min_gain: Option<f64>) -> Gate {
    Gate {
        suite: "s".into(),
        metric: Metric::Accuracy,
        floor,
        max_regression,
        min_gain,
    }
}

/// `n` questions of four choices, of which the first `right` are answered so.
fn right(n: usize, right: usize) -> Vec<SuiteScores> {
    let question = |i: usize| QuestionScore {
        id: format!("q{i}"),
        stale: false,
        chance: 0.25,
        scores: BTreeMap::from([(Metric::Accuracy, f64::from(i < right))]),
    };
    vec![SuiteScores {
        suite: "s".into(),
        questions: (0..n).map(question).collect(),
    }]
}

/// What the gate says of a new adapter.
fn judged(
    gate: &Gate,
    candidate: &[SuiteScores],
    serving: Option<&[SuiteScores]>,
    base: &[SuiteScores],
) -> GateResult {
    let scores = Scores {
        candidate,
        serving,
        anchor: None,
        base: Some(base),
    };
    let compared = Compared {
        serving: serving.is_some(),
        anchor: false,
        base: true,
    };
    judge(gate, &scores, compared)
}

#[test]
fn a_gain_is_told_from_the_base_model_alone() {
    let gate = gate(None, None, Some(0.10));
    let base = right(100, 40);
    let outcome = |count| judged(&gate, &right(100, count), None, &base).outcome;
    assert_eq!(outcome(80), Outcome::Passed);
    assert_eq!(outcome(52), Outcome::Inconclusive);
    assert_eq!(outcome(40), Outcome::Failed);
    assert_eq!(outcome(30), Outcome::Failed);
    let won = judged(&gate, &right(100, 80), None, &base);
    assert_eq!(
        (won.base.as_deref(), won.candidate.as_str(), won.serving),
        (Some("0.4000"), "0.8000", None)
    );
    // As a loss, so below 0: m = -40/102, s² = 42/102 - m², and 1.6449 standard errors above.
    let m: f64 = -40.0 / 102.0;
    let upper = m + 1.644_853_626_951_472_2 * ((42.0 / 102.0 - m * m) / 102.0).sqrt();
    assert_eq!(won.bound, Some(format!("{upper:.4}")));
    assert!(won.message.contains("mean gain 0.4000 over the base model"));
}

#[test]
fn a_gain_at_the_least_passes_in_at_most_one_of_twenty() {
    for (n, least) in [(50, 0.20), (100, 0.10), (200, 0.10), (500, 0.05)] {
        for lost in [0.02, 0.10] {
            let mut draws = Draws(n as u64 * 104_729 + (least * 1e6) as u64);
            // Gains are losses of the other sign.
            let mut loss = binary(lost, lost + least);
            let (mut passed, mut failed) = (0, 0);
            for _ in 0..4000 {
                let losses: Vec<f64> = (0..n).map(|_| loss(&mut draws)).collect();
                match win(0.5, &losses, least).outcome {
                    Outcome::Passed => passed += 1,
                    Outcome::Failed => failed += 1,
                    _ => {}
                }
            }
            // Three standard errors of the simulation above 5 %. Of few questions the bounds lean towards no gain, so that
            // more of them fail.
            let most = 4000 * 604 / 10_000;
            assert!(
                passed <= most && (failed <= most || n < 200),
                "n {n}, least {least}, lost {lost}: {passed} passed, {failed} failed"
            );
        }
    }
}

#[test]
fn without_a_new_adapter_nothing_is_gained_and_nothing_must_guard() {
    let same = right(100, 25);
    let scores = Scores {
        candidate: &same,
        serving: Some(&same),
        anchor: None,
        base: None,
    };
    let compared = Compared {
        serving: true,
        anchor: false,
        base: false,
    };
    let of = |gate: &Gate| judge(gate, &scores, compared);
    let gain = of(&gate(None, None, Some(0.10)));
    assert_eq!(gain.outcome, Outcome::NotApplicable);
    assert!(
        gain.message.contains("no adapter is new"),
        "{}",
        gain.message
    );
    assert_eq!(of(&gate(None, Some(0.03), None)).outcome, Outcome::Passed);
    assert_eq!(
        of(&gate(None, Some(0.03), Some(0.10))).outcome,
        Outcome::Passed
    );
}

#[test]
fn what_the_other_cannot_do_cannot_guard() {
    let base = right(100, 25);
    let guard = gate(None, Some(0.03), None);
    // Chance is 25 of 100; all answers alike would pass if the suite could tell.
    let of = |count: usize| {
        let serving = right(100, count);
        judged(&guard, &serving, Some(&serving), &base)
    };
    for count in [0, 20, 25, 32] {
        let told = of(count);
        assert_eq!(told.outcome, Outcome::Inconclusive, "{count}");
        assert!(told.message.contains("guessing"), "{}", told.message);
        assert_eq!(told.serving, Some(format!("{:.4}", count as f64 / 100.0)));
    }
    // The lower bound of what is above chance is above 0 from here on.
    assert_eq!(of(36).outcome, Outcome::Passed);
    // Where nothing is to be lost yet, the gain decides.
    let target = gate(None, Some(0.03), Some(0.10));
    let nothing = right(100, 25);
    let of = |count| judged(&target, &right(100, count), Some(&nothing), &base).outcome;
    assert_eq!(of(60), Outcome::Passed);
    assert_eq!(of(26), Outcome::Failed);
}

#[test]
fn a_guard_fails_what_forgot_and_its_missing_scores_cannot_tell() {
    let guard = gate(None, Some(0.03), None);
    let base = right(800, 480);
    let of = |count| judged(&guard, &right(800, count), Some(&base), &base).outcome;
    assert_eq!(of(480), Outcome::Passed);
    assert_eq!(of(470), Outcome::Passed);
    assert_eq!(of(455), Outcome::Inconclusive);
    assert_eq!(of(400), Outcome::Failed);
    for min_gain in [None, Some(0.1)] {
        let gate = gate(None, Some(0.03), min_gain);
        let missing = judged(&gate, &base, Some(&right(799, 480)), &right(799, 480));
        assert_eq!(missing.outcome, Outcome::Inconclusive);
    }
    let few = judged(
        &gate(None, None, Some(0.1)),
        &right(9, 9),
        None,
        &right(9, 0),
    );
    assert_eq!(few.outcome, Outcome::Inconclusive);
    assert!(few.message.contains("too few"), "{}", few.message);
}

#[test]
fn questions_of_other_kinds_do_not_count() {
    let mut suite = right(100, 80);
    for question in suite[0].questions.iter_mut().take(40) {
        question.scores = BTreeMap::from([(Metric::Likelihood, 0.012_345_6)]);
    }
    let of = |metric| {
        let gate = Gate {
            metric,
            ..gate(Some(0.01), None, None)
        };
        judged(&gate, &suite, None, &[])
    };
    let accuracy = of(Metric::Accuracy);
    assert_eq!(
        (accuracy.questions, accuracy.candidate.as_str()),
        (60, "0.6667")
    );
    let likelihood = of(Metric::Likelihood);
    assert_eq!(
        (likelihood.questions, likelihood.candidate.as_str()),
        (40, "0.012346")
    );
    let none = of(Metric::Perplexity);
    assert_eq!(none.outcome, Outcome::Inconclusive);
    assert!(none.message.contains("no question"), "{}", none.message);
}
