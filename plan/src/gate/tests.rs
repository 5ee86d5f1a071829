use super::compare::weigh;
use super::*;

/// SplitMix64 (Steele, Lea and Flood, 2014): seeded draws for simulation.
pub(super) struct Draws(pub u64);

impl Draws {
    pub fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

fn gate(floor: Option<f64>, max_regression: Option<f64>) -> Gate {
    Gate {
        suite: "faq".into(),
        metric: Metric::RecallAt(5),
        floor,
        max_regression,
        min_gain: None,
    }
}

fn scores(values: &[f64]) -> Vec<SuiteScores> {
    let question = |(i, v): (usize, &f64)| QuestionScore {
        id: format!("q{i}"),
        stale: false,
        chance: 0.0,
        scores: BTreeMap::from([(Metric::RecallAt(5), *v)]),
    };
    vec![SuiteScores {
        suite: "faq".into(),
        questions: values.iter().enumerate().map(question).collect(),
    }]
}

fn judged(
    gate: &Gate,
    candidate: &[SuiteScores],
    serving: Option<&[SuiteScores]>,
    anchor: Option<&[SuiteScores]>,
) -> GateResult {
    let compared = Compared {
        serving: serving.is_some(),
        anchor: anchor.is_some(),
        base: false,
    };
    judge(
        gate,
        &Scores {
            candidate,
            serving,
            anchor,
            base: None,
        },
        compared,
    )
}

/// `n` questions of which the first `lost` score 0.
fn losing(n: usize, lost: usize) -> Vec<SuiteScores> {
    scores(
        &(0..n)
            .map(|i| if i < lost { 0.0 } else { 1.0 })
            .collect::<Vec<_>>(),
    )
}

/// The share of `draws` simulated suites of `n` questions in which the comparison says `outcome`.
fn rate(
    outcome: Outcome,
    margin: f64,
    n: usize,
    draws: usize,
    mut loss: impl FnMut(&mut Draws) -> f64,
) -> f64 {
    let mut source = Draws(n as u64 * 7919 + (margin * 1e6) as u64);
    let hits = (0..draws).filter(|_| {
        let losses: Vec<f64> = (0..n).map(|_| loss(&mut source)).collect();
        weigh("the serving release", 0.5, &losses, margin).outcome == outcome
    });
    hits.count() as f64 / draws as f64
}

/// Wins and losses whole questions with these probabilities.
pub(super) fn binary(lost: f64, won: f64) -> impl FnMut(&mut Draws) -> f64 {
    move |d| match d.unit() {
        u if u < lost => 1.0,
        u if u < lost + won => -1.0,
        _ => 0.0,
    }
}

#[test]
fn a_loss_at_the_margin_passes_in_at_most_one_of_twenty() {
    // Including suites in which by chance nothing differs.
    for (n, margin) in [
        (50, 0.10),
        (100, 0.05),
        (128, 0.05),
        (200, 0.05),
        (200, 0.02),
        (500, 0.02),
        (1000, 0.01),
    ] {
        for won in [0.02, 0.05, 0.15] {
            let rate = rate(Outcome::Passed, margin, n, 4000, binary(margin + won, won));
            // Three standard errors of the simulation above 5 %.
            assert!(
                rate <= 0.05 + 0.0104,
                "n {n}, margin {margin}, won {won}: {rate}"
            );
        }
        // Ranks that slip: many small losses and some gains with the same mean.
        let graded = |d: &mut Draws| {
            if d.unit() < 0.4 {
                margin / 0.4 * 2.0 * d.unit()
            } else {
                0.0
            }
        };
        let rate = rate(Outcome::Passed, margin, n, 4000, graded);
        assert!(
            rate <= 0.05 + 0.0104,
            "n {n}, margin {margin}, graded: {rate}"
        );
    }
}

#[test]
fn a_loss_at_the_margin_fails_in_at_most_one_of_twenty() {
    for (n, margin) in [(100, 0.05), (200, 0.02), (500, 0.02)] {
        let rate = rate(
            Outcome::Failed,
            margin,
            n,
            4000,
            binary(margin + 0.05, 0.05),
        );
        assert!(rate <= 0.05 + 0.0104, "n {n}, margin {margin}: {rate}");
    }
}

#[test]
fn the_detectable_effect_is_what_is_detected() {
    for (n, discordance) in [(100, 0.10), (200, 0.10), (500, 0.06), (1000, 0.20)] {
        let margin = detectable_effect(n, discordance);
        let equal = rate(
            Outcome::Passed,
            margin,
            n,
            3000,
            binary(discordance / 2.0, discordance / 2.0),
        );
        assert!(
            (0.76..0.85).contains(&equal),
            "n {n}, margin {margin}: {equal}"
        );
    }
    assert!(detectable_effect(1000, 0.1) < detectable_effect(100, 0.1));
    assert!(detectable_effect(0, 0.1) >= 1.0);
}

#[test]
fn bounds_agree_with_the_published_formula() {
    // Bonett and Price: b = 9 lost, c = 2 won of 40: p12 = 10/42, p21 = 3/42.
    let losses: Vec<f64> = [[1.0; 9].as_slice(), &[-1.0; 2], &[0.0; 29]].concat();
    let (p12, p21): (f64, f64) = (10.0 / 42.0, 3.0 / 42.0);
    let half = 1.644_853_626_951_472_2 * ((p12 + p21 - (p12 - p21).powi(2)) / 42.0).sqrt();
    let Bounds { lower, upper } = bounds(&losses);
    assert!(
        (upper - (p12 - p21 + half)).abs() < 1e-12 && (lower - (p12 - p21 - half)).abs() < 1e-12
    );
    // Of 59 questions none lost: the rule of three says about 3/59, exactly 0.0495.
    assert!((unseen_loss(59) - 0.0495).abs() < 1e-4);
}

#[test]
fn equal_scores_pass_and_say_what_could_hide() {
    let same = losing(50, 10);
    let result = judged(&gate(None, Some(0.02)), &same, Some(&same), Some(&same));
    assert_eq!(result.outcome, Outcome::Passed);
    assert!(result.message.contains("0.0582"), "{}", result.message);
    assert_eq!(
        (result.serving.as_deref(), result.bound.as_deref()),
        (Some("0.8000"), Some("0.0000"))
    );
}

#[test]
fn losses_pass_fail_or_cannot_tell() {
    let all = losing(200, 0);
    let outcome = |lost| {
        judged(
            &gate(None, Some(0.05)),
            &losing(200, lost),
            Some(&all),
            None,
        )
        .outcome
    };
    assert_eq!(outcome(3), Outcome::Passed);
    assert_eq!(outcome(10), Outcome::Inconclusive);
    assert_eq!(outcome(40), Outcome::Failed);
    // Small losses add up against the anchor.
    let anchored = judged(
        &gate(None, Some(0.05)),
        &losing(200, 41),
        Some(&losing(200, 40)),
        Some(&all),
    );
    assert_eq!(anchored.outcome, Outcome::Failed);
    assert!(
        anchored.message.contains("the anchor"),
        "{}",
        anchored.message
    );
}

#[test]
fn floors_decide_where_there_is_no_baseline() {
    let gate = |floor| gate(floor, Some(0.02));
    assert_eq!(
        judged(&gate(None), &losing(50, 5), None, None).outcome,
        Outcome::NotApplicable
    );
    assert_eq!(
        judged(&gate(Some(0.9)), &losing(50, 5), None, None).outcome,
        Outcome::Passed
    );
    let low = judged(&gate(Some(0.9)), &losing(50, 6), None, None);
    assert_eq!(
        (low.outcome, low.candidate.as_str()),
        (Outcome::Failed, "0.8800")
    );
    assert_eq!(
        overall(&[judged(&gate(None), &losing(50, 5), None, None)]),
        Outcome::Passed
    );
    assert_eq!(overall(&[]), Outcome::Passed);
    assert_eq!(overall(&[low]), Outcome::Failed);
    // A third of three is a third, whatever floating point makes of it.
    let thirds = scores(&[1.0 / 3.0; 30]);
    assert_eq!(
        judged(
            &super::Gate {
                floor: Some(0.333_333),
                ..gate(None)
            },
            &thirds,
            None,
            None
        )
        .outcome,
        Outcome::Passed
    );
}

#[test]
fn what_cannot_be_told_is_not_told() {
    let gate = gate(Some(0.1), Some(0.05));
    let stale = |count: usize| {
        let mut suite = losing(50, 0);
        suite[0]
            .questions
            .iter_mut()
            .take(count)
            .for_each(|q| q.stale = true);
        judged(&gate, &suite, Some(&losing(50, 0)), None)
    };
    assert_eq!(
        (stale(10).outcome, stale(10).questions, stale(10).stale),
        (Outcome::Passed, 40, 10)
    );
    assert_eq!(stale(11).outcome, Outcome::Inconclusive);
    assert!(stale(11).message.contains("stale"), "{}", stale(11).message);
    // Nine questions that differ are too few; nine that do not are not.
    assert_eq!(
        judged(&gate, &losing(9, 1), Some(&losing(9, 0)), None).outcome,
        Outcome::Inconclusive
    );
    assert_eq!(
        judged(&gate, &losing(9, 1), Some(&losing(9, 1)), None).outcome,
        Outcome::Passed
    );
    // A baseline without scores, other questions, no number.
    assert_eq!(
        judged(&gate, &losing(50, 0), Some(&[]), None).outcome,
        Outcome::Inconclusive
    );
    assert_eq!(
        judged(&gate, &losing(50, 0), Some(&losing(49, 0)), None).outcome,
        Outcome::Inconclusive
    );
    assert_eq!(
        judged(&gate, &scores(&[f64::NAN; 50]), None, None).outcome,
        Outcome::Inconclusive
    );
    assert_eq!(
        judged(&gate, &[], None, None).outcome,
        Outcome::Inconclusive
    );
    assert_eq!(
        judged(&gate, &scores(&[]), None, None).outcome,
        Outcome::Inconclusive
    );
}
