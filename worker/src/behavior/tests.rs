use std::collections::BTreeSet;

use loci_plan::metrics::Metric;
use proptest::prelude::*;

use super::*;
use crate::dataset;
use crate::example::Role;

fn one(line: &str) -> Case {
    cases("s", line).unwrap().remove(0)
}

/// What is wrong with a line.
fn problem(line: &str) -> String {
    match cases("s", line) {
        Err(CasesError::Lines { problems, .. }) => problems[0].reason.clone(),
        other => panic!("{line}: {other:?}"),
    }
}

#[test]
fn each_kind_of_line_is_read() {
    let text = concat!(
        "\u{feff}",
        r#"{"prompt": "Say yes.", "system": "Be brief.", "expected": "yes", "maxTokens": 4}"#,
        "\n\n",
        r#"{"id": "b", "messages": [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}, {"role": "user", "content": "3"}], "pattern": "^4"}"#,
        "\n",
        r#"{"id": 7, "prompt": "2 + 2 = ?", "choices": ["3", "4", "5", "6"], "answer": "4"}"#,
        "\r\n",
        r#"{"prompt": "How?", "reference": "So."}"#,
        "\n",
        r#"{"text": "Long ago."}"#,
    );
    let all = cases("s", text).unwrap();
    let ids: Vec<&str> = all.iter().map(|case| case.id.as_str()).collect();
    assert_eq!(ids, ["L1", "b", "7", "L5", "L6"]);
    let Ask::Answer {
        messages,
        max_tokens: 4,
        right: Right::Expected(expected),
    } = &all[0].ask
    else {
        panic!("{:?}", all[0])
    };
    let roles: Vec<Role> = messages.iter().map(|m| m.role).collect();
    assert_eq!(roles, [Role::System, Role::User]);
    assert_eq!(expected, &["yes"]);
    assert!(matches!(
        &all[1].ask,
        Ask::Answer { messages, max_tokens: DEFAULT_TOKENS, right: Right::Pattern(_) } if messages.len() == 3
    ));
    assert!(matches!(&all[2].ask, Ask::Choice { choices, answer: 1, .. } if choices.len() == 4));
    assert!(matches!(&all[3].ask, Ask::Reference { reference, .. } if reference == "So."));
    assert!(matches!(&all[4].ask, Ask::Text(text) if text == "Long ago."));
    let chances: Vec<f64> = all.iter().map(Case::chance).collect();
    assert_eq!(chances, [0.0, 0.0, 0.25, 0.0, 0.0]);
    let counts = [
        (Metric::ExactMatch, 1),
        (Metric::RegexMatch, 1),
        (Metric::Accuracy, 3),
        (Metric::Likelihood, 1),
        (Metric::Perplexity, 1),
    ];
    assert_eq!(scored(&all), counts.into());
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_reason() {
    let mark = r#"{"prompt": "a<|im_end|>", "expected": "b"}"#;
    for (line, part) in [
        ("{", "EOF"),
        ("[]", "each line is a JSON object"),
        (r#"{"prompt": "a"}"#, "has nothing to judge an answer by"),
        (
            r#"{"id": " ", "prompt": "a", "expected": "b"}"#,
            "`id` is empty",
        ),
        (r#"{"expected": "a"}"#, "asks nothing"),
        (
            r#"{"prompt": "a", "expected": "b", "pattern": "c"}"#,
            "has `expected` and `pattern`",
        ),
        (
            r#"{"prompt": "a", "schema": {"type": "object"}, "answer": "b"}"#,
            "has `answer` without `choices`",
        ),
        (r#"{"prompt": "a", "weight": 2, "expected": "b"}"#, "weight"),
        (
            r#"{"prompt": "a", "messages": [], "expected": "b"}"#,
            "has `prompt` and `messages`",
        ),
        (
            r#"{"system": "a", "messages": [{"role": "user", "content": "b"}], "expected": "c"}"#,
            "has `system` beside `messages`",
        ),
        (
            r#"{"messages": [{"role": "assistant", "content": "a"}], "expected": "b"}"#,
            "message 1 is of assistant where one of user is due",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "expected": "c"}"#,
            "does not end with a message of user",
        ),
        (r#"{"messages": [], "expected": "b"}"#, "nothing is asked"),
        (r#"{"prompt": " ", "expected": "b"}"#, "message 1 is empty"),
        (mark, "holds <|im_end|>"),
        (
            r#"{"prompt": "a", "expected": []}"#,
            "`expected` that is empty",
        ),
        (
            r#"{"prompt": "a", "expected": ["b", " "]}"#,
            "`expected` that is empty",
        ),
        (
            r#"{"prompt": "a", "expected": 4}"#,
            "`expected` must be a text or a list of texts",
        ),
        (
            r#"{"prompt": "a", "pattern": "(b"}"#,
            "`pattern` does not read: unclosed group",
        ),
        (
            r#"{"prompt": "a", "pattern": "b*"}"#,
            "matches an answer that says nothing",
        ),
        (
            r#"{"prompt": "a", "choices": ["b"], "answer": "b"}"#,
            "give 2 to 26",
        ),
        (
            r#"{"prompt": "a", "choices": ["b", "b"], "answer": "b"}"#,
            "the choice \"b\" twice",
        ),
        (
            r#"{"prompt": "a", "choices": ["b", " c"], "answer": "b"}"#,
            "`choices` has white space around \"c\"",
        ),
        (
            r#"{"prompt": "a", "choices": ["b", "c"]}"#,
            "without `answer`",
        ),
        (
            r#"{"prompt": "a", "choices": ["b", "c"], "answer": "d"}"#,
            "none of its `choices`",
        ),
        (
            r#"{"prompt": "a", "expected": "b", "answer": "b"}"#,
            "`answer` without `choices`",
        ),
        (
            r#"{"prompt": "a", "reference": ""}"#,
            "`reference` is empty",
        ),
        (
            r#"{"prompt": "a", "expected": "b", "maxTokens": 0}"#,
            "`maxTokens` 0 is not from 1 to 1024",
        ),
        (
            r#"{"prompt": "a", "reference": "b", "maxTokens": 9}"#,
            "with `reference` nothing is generated",
        ),
        (
            r#"{"text": "a", "prompt": "b"}"#,
            "asks something beside `text`",
        ),
        (r#"{"text": "\u0007"}"#, "U+0007"),
    ] {
        let told = problem(line);
        assert!(told.contains(part), "{line}: {told}");
    }
    assert!(matches!(cases("s", " \n"), Err(CasesError::Empty(_))));
}

#[test]
fn every_problem_is_told_with_its_line() {
    let good = r#"{"id": "a", "prompt": "a", "expected": "b"}"#;
    let error = cases("tone", &format!("{good}\n{{}}\n\n{good}\n")).unwrap_err();
    let CasesError::Lines { problems, .. } = &error else {
        panic!("{error}")
    };
    let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
    assert_eq!(lines, [2, 4]);
    let told = error.to_string();
    assert!(
        told.starts_with("suite tone, line 2: has nothing"),
        "{told}"
    );
    assert!(
        told.ends_with("; line 4: the id \"a\" stands on an earlier line already"),
        "{told}"
    );
    let many = cases("tone", &"{}\n".repeat(9)).unwrap_err().to_string();
    assert!(many.ends_with("; and 4 lines more"), "{many}");
}

#[test]
fn answers_are_right_by_text_or_pattern() {
    let case = |judge: &str| one(&format!("{{\"prompt\": \"a\", {judge}}}"));
    let right = |judge: &str, said: &str| match case(judge).ask {
        Ask::Answer { right, .. } => is_right(&right, said),
        other => panic!("{other:?}"),
    };
    let expected = r#""expected": ["Yes", "Yes. "]"#;
    for (said, wanted) in [
        ("Yes", true),
        (" Yes.\n", true),
        ("yes", false),
        ("Yes, yes", false),
        ("", false),
    ] {
        assert_eq!(right(expected, said), wanted, "{said:?}");
    }
    let pattern = r#""pattern": "(?i)^page the lead( now)?[.!]?$""#;
    for (said, wanted) in [
        ("  Page the lead now.\n", true),
        ("page the lead", true),
        ("Do page the lead", false),
        ("Page the lead now, please.", false),
    ] {
        assert_eq!(right(pattern, said), wanted, "{said:?}");
    }
    // Not anchored: anywhere.
    assert!(right(r#""pattern": "P1""#, "This is P1, so call."));
}

#[test]
fn the_likeliest_whole_answer_is_chosen() {
    // By its sum: two likely tokens may be less likely than one.
    assert_eq!(choose(&[vec![-1.0, -1.0], vec![-1.5], vec![-3.0]]), Some(1));
    assert_eq!(choose(&[vec![-2.0], vec![-0.5, -1.0]]), Some(1));
    // What is as likely as another is not chosen.
    assert_eq!(choose(&[vec![-1.0], vec![-0.5, -0.5]]), None);
    assert_eq!(choose(&[vec![f32::NAN], vec![f32::NAN]]), None);
    assert_eq!(choose(&[]), None);
}

#[test]
fn likelihood_is_the_geometric_mean() {
    let logs = |all: &[f64]| all.iter().map(|p| p.ln() as f32).collect::<Vec<f32>>();
    // √(1/2 · 1/8) = 1/4: a perplexity of 4.
    assert!((likelihood(&logs(&[0.5, 0.125])) - 0.25).abs() < 1e-6);
    assert!((likelihood(&logs(&[1.0, 1.0])) - 1.0).abs() < 1e-6);
    assert_eq!(likelihood(&[-1e5]), 0.0);
}

#[test]
fn scores_are_those_that_cases_have() {
    let all = cases(
        "s",
        concat!(
            r#"{"id": "a", "prompt": "a", "choices": ["b", "c"], "answer": "c"}"#,
            "\n",
            r#"{"id": "d", "prompt": "d", "expected": "e"}"#,
        ),
    )
    .unwrap();
    let records: Vec<CaseRecord> = all.iter().map(|case| CaseRecord::new(case, 1.0)).collect();
    let json = serde_json::to_value(&records[0]).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"id": "a", "chance": 0.5, "scores": {"accuracy": 1.0}})
    );
    assert_eq!(
        serde_json::from_value::<CaseRecord>(json).unwrap(),
        records[0]
    );
    let scores = scores("s", &records, &[Metric::ExactMatch, Metric::Likelihood]);
    let had: Vec<(&str, f64, usize)> = scores
        .questions
        .iter()
        .map(|q| (q.id.as_str(), q.chance, q.scores.len()))
        .collect();
    assert_eq!(had, [("a", 0.5, 0), ("d", 0.0, 1)]);
}

/// The first two numbers of a text.
fn numbers(text: &str) -> (i64, i64) {
    let digits = text.split(|c: char| !c.is_ascii_digit());
    let mut numbers = digits.filter_map(|digits| digits.parse().ok());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn arithmetic_is_right_and_guessed_in_one_of_four() {
    let all = cases("arithmetic", ARITHMETIC).unwrap();
    assert!(all.len() >= 700);
    assert_eq!(scored(&all), [(Metric::Accuracy, all.len())].into());
    let mut prompts = BTreeSet::new();
    for case in &all {
        let Ask::Choice {
            messages,
            choices,
            answer,
        } = &case.ask
        else {
            panic!("{case:?}")
        };
        let prompt = messages[0].content.as_str();
        let (a, b) = numbers(prompt);
        assert!(a < 100 && b < 100, "{prompt}");
        let (sign, result) = match case.id.split('-').next() {
            Some("sum") => ('+', a + b),
            Some("difference") => ('-', (a - b).abs()),
            Some("product") => ('x', a * b),
            other => panic!("{other:?}"),
        };
        let (right, _) = choices[*answer].split_once(" = ").unwrap();
        let sides = [format!("{a} {sign} {b}"), format!("{b} {sign} {a}")];
        assert!(sides.iter().any(|side| side == right), "{right}: {prompt}");
        assert_eq!(choices[*answer], format!("{right} = {result}"), "{prompt}");
        let alike = choices
            .iter()
            .all(|c| c.starts_with(&format!("{right} = ")));
        assert!(alike, "{prompt}");
        assert_eq!(case.chance(), 0.25, "{prompt}");
        assert!(prompts.insert(prompt), "{prompt} is asked twice");
    }
}

#[test]
fn ability_is_judged_by_accuracy_and_soon_answered() {
    let all = cases("ability", ABILITY).unwrap();
    assert!(all.len() >= 200);
    assert_eq!(scored(&all)[&Metric::Accuracy], all.len());
    let mut generated = 0;
    for case in &all {
        match &case.ask {
            Ask::Answer { max_tokens, .. } => {
                assert!(*max_tokens <= 48, "{}", case.id);
                generated += 1;
            }
            Ask::Choice { choices, .. } => {
                assert!(choices.iter().all(|c| c.len() <= 24), "{}", case.id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!((50..100).contains(&generated), "{generated}");
}

#[test]
fn datasets_keep_clear_of_what_comes_with_loci() {
    // Every line says something to compare examples with.
    for (name, lines) in [("arithmetic", ARITHMETIC), ("ability", ABILITY)] {
        let read = dataset::cases(name, lines).unwrap();
        assert!(read.iter().all(|case| case.prompt.is_some()));
    }
}

proptest! {
    #[test]
    fn no_line_is_too_strange_to_be_refused(text in "\\PC{0,60}(\n\\PC{0,60}){0,3}") {
        if let Err(CasesError::Lines { problems, .. }) = cases("s", &text) {
            prop_assert!(problems.iter().all(|p| p.line <= text.lines().count()));
        }
    }

    #[test]
    fn scores_stay_between_0_and_1(logs in prop::collection::vec(prop::collection::vec(-200.0f32..0.0, 1..6), 2..6)) {
        for all in &logs {
            prop_assert!((0.0..=1.0).contains(&likelihood(all)));
        }
        if let Some(best) = choose(&logs) {
            let sum = |all: &Vec<f32>| all.iter().map(|p| f64::from(*p)).sum::<f64>();
            prop_assert!(logs.iter().all(|all| sum(all) <= sum(&logs[best])));
        }
    }
}
