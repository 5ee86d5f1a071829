use super::*;
use crate::data::tests::story;
use crate::score::score;

const LIMITS: Limits = Limits {
    min_gain: 0.15,
    max_regression: 0.03,
};

/// The suite, answered right in the cases that `right` says.
fn asked(story: &Story, right: impl Fn(usize) -> bool) -> Asked {
    let cases = story.cases.iter().enumerate();
    let answers = cases.map(|(place, case)| match right(place) {
        true => case.expected.clone(),
        false => "no".to_owned(),
    });
    let answers: Vec<String> = answers.collect();
    let pairs = answers.iter().zip(&story.cases);
    Asked {
        scores: pairs.map(|(a, c)| score(a, &c.expected)).collect(),
        answers,
        ..Asked::default()
    }
}

fn run(arm: Arm, seed: u64, asked: Asked, right: Vec<bool>) -> Run {
    Run {
        arm,
        seed,
        learning_rate: 1e-3,
        adapter: String::new(),
        curve: Vec::new(),
        seconds: 1.0,
        tokens_per_second: 1.0,
        asked,
        right,
        stopped: None,
    }
}

/// So many of 800 sums.
fn sums(right: usize) -> Vec<bool> {
    (0..800).map(|item| item < right).collect()
}

fn measured(story: &Story) -> Measured {
    let control = |arm, trials| Control { arm, trials };
    Measured {
        controls: vec![
            control(Arm::Base, vec![asked(story, |_| false)]),
            control(
                Arm::Examples,
                vec![
                    asked(story, |case| case % 5 == 0),
                    asked(story, |case| case % 5 < 2),
                ],
            ),
            control(Arm::Protocol, vec![asked(story, |case| case % 10 == 0)]),
        ],
        guard: sums(480),
        runs: Vec::new(),
    }
}

#[test]
fn gains_are_counted_from_the_best_control() {
    let story = story();
    let mut measured = measured(&story);
    let run = run(
        Arm::Adapter,
        1,
        asked(&story, |case| case % 10 < 7),
        sums(480),
    );
    measured.runs.push(run);
    let report = Report::of(&measured, &story, LIMITS);
    assert_eq!(report.best, Some("base + examples"));
    let names: Vec<_> = report.rows.iter().map(|r| r.name.as_str()).collect();
    let all = ["base", "base + examples", "base + protocol", "adapter 1"];
    assert_eq!(names, all);
    let exact = |row: usize| report.rows[row].exact.unwrap().mean;
    assert!((exact(1) - 0.3).abs() < 1e-9 && (exact(3) - 0.7).abs() < 1e-9);
    let adapter = &report.rows[3];
    let gain = adapter.gain.unwrap();
    assert!((gain.mean - 0.4).abs() < 1e-9, "{gain:?}");
    assert!(gain.low > 0.3 && gain.high < 0.5, "{gain:?}");
    assert_eq!(adapter.loss.unwrap().mean, 0.0);
    assert_eq!(adapter.verdict.as_deref(), Some("promoted"));
    assert_eq!(report.rows[0].arithmetic, Some(0.6));
    assert!(adapter.new_answers.is_some() && report.reasons.is_empty());
}

#[test]
fn an_adapter_that_forgets_is_rejected_however_much_it_gains() {
    let story = story();
    let verdict = |right: usize, asked: Asked, change: fn(&mut Measured)| {
        let mut measured = measured(&story);
        measured
            .runs
            .push(run(Arm::Aggressive, 1, asked, sums(right)));
        change(&mut measured);
        let report = Report::of(&measured, &story, LIMITS);
        let reason = report.reasons.first().cloned().unwrap_or_default();
        let row = report.rows.last().unwrap();
        (row.verdict.clone().unwrap(), reason)
    };
    let same = |_: &mut Measured| {};
    let well = || asked(&story, |_| true);
    assert_eq!(verdict(480, well(), same).0, "promoted");
    let (told, why) = verdict(400, well(), same);
    assert_eq!(told, "rejected");
    assert!(
        why.starts_with("aggressive 1 rejected: arithmetic lost 0.100"),
        "{why}"
    );
    let (told, why) = verdict(456, well(), same);
    assert_eq!(told, "held");
    assert!(why.contains("lost 0.030"), "{why}");
    let (told, why) = verdict(480, asked(&story, |case| case % 10 < 4), same);
    assert_eq!(told, "rejected");
    assert!(why.contains("gained 0.100"), "{why}");
    let (told, why) = verdict(180, well(), |measured| measured.guard = sums(200));
    assert_eq!(told, "held");
    assert!(why.contains("cannot guard"), "{why}");
    let (told, why) = verdict(480, well(), |measured| measured.controls.clear());
    assert_eq!(told, "held");
    assert!(why.contains("no control"), "{why}");
}

#[test]
fn seeds_are_averaged_and_a_training_that_stopped_is_told() {
    let story = story();
    let mut measured = measured(&story);
    for (seed, share) in [(1, 6), (2, 8)] {
        let asked = asked(&story, |case| case % 10 < share);
        measured
            .runs
            .push(run(Arm::Adapter, seed, asked, sums(480)));
    }
    measured.runs.push(Run {
        stopped: Some("the training stopped in step 3".to_owned()),
        ..run(Arm::Adapter, 3, Asked::default(), Vec::new())
    });
    let report = Report::of(&measured, &story, LIMITS);
    let [.., stopped, mean] = &report.rows[..] else {
        panic!("{report:#?}")
    };
    assert_eq!(
        (stopped.exact, stopped.verdict.as_deref()),
        (None, Some("diverged"))
    );
    assert_eq!(mean.name, "adapter, mean");
    assert!((mean.exact.unwrap().mean - 0.7).abs() < 1e-9);
    assert_eq!(mean.verdict.as_deref(), Some("2 of 3"));
    assert_eq!(
        report.reasons,
        ["adapter 3 diverged: the training stopped in step 3"]
    );
}
