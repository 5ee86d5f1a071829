use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::example::{Message, Role};

fn example(turns: &[(Role, &str)]) -> Example {
    let message = |(role, content): &(Role, &str)| Message {
        role: *role,
        content: (*content).to_owned(),
    };
    Example {
        messages: turns.iter().map(message).collect(),
    }
}

fn pair(prompt: &str, response: &str) -> Example {
    example(&[(Role::User, prompt), (Role::Assistant, response)])
}

fn at(line: usize, example: Example) -> Located {
    let origin = Origin {
        source: "runbooks".into(),
        document: "a.jsonl".into(),
        version: "v".into(),
        line: Some(line),
        id: None,
    };
    Located { origin, example }
}

fn read(examples: impl IntoIterator<Item = Example>) -> Read {
    let lines = examples.into_iter().enumerate();
    Read {
        documents: [("runbooks".to_owned(), 1)].into(),
        found: lines.map(|(i, example)| at(i + 1, example)).collect(),
        malformed: Vec::new(),
    }
}

fn case(prompt: &str, answer: &str) -> Case {
    Case {
        suite: "cases".into(),
        id: "L1".into(),
        prompt: Some(prompt.to_owned()),
        answers: vec![answer.to_owned()],
        ..Case::default()
    }
}

fn reasons(dataset: &Dataset) -> Vec<String> {
    let told = |r: &Rejection| format!("{:?} {}: {}", r.why, r.origin, r.reason);
    dataset.rejected.iter().map(told).collect()
}

const RULES: Rules = Rules {
    held_out: 0,
    thresholds: Thresholds {
        words: 13,
        least: 8,
        common: 10,
        formula: 1,
    },
};

/// So many words that nothing else has.
fn words(of: &str, count: usize) -> String {
    let words: Vec<_> = (0..count).map(|i| format!("{of}{i}")).collect();
    words.join(" ")
}

#[test]
fn an_example_stands_in_a_dataset_once() {
    let dataset = build(
        read([
            pair("a b", "c"),
            pair("a b", "c"),
            pair(" a\n b", "c "),
            pair("a b", "d"),
        ]),
        &[],
        &RULES,
    );
    assert_eq!(dataset.train.len(), 2);
    assert_eq!(
        reasons(&dataset),
        [
            "Duplicate runbooks: a.jsonl, line 2: says the same as runbooks: a.jsonl, line 1",
            "NearDuplicate runbooks: a.jsonl, line 3: says the same as runbooks: a.jsonl, line 1, but for white space",
        ]
    );
    let written = dataset.written().unwrap();
    let lines = lineage(&written.lineage).unwrap();
    let places: BTreeSet<_> = lines.iter().map(|l| l.origins.len()).collect();
    assert_eq!(places, BTreeSet::from([1, 3]));
    let examples = examples(&written.train).unwrap();
    assert!(examples.contains(&pair("a b", "c")) && examples.contains(&pair("a b", "d")));
    let first = written.train.split(|b| *b == b'\n').next().unwrap();
    assert_eq!(lines[0].digest, Digest::of(first));
}

#[test]
fn what_a_suite_asks_is_left_out_and_named() {
    let asked = words("q", 20);
    let part = format!("Before: {}. After.", words("q", 13).to_uppercase());
    let short = words("s", 9);
    let answer = words("r", 15);
    let cases = [
        case("What is 7 + 5?", "12"),
        case(&asked, "no"),
        case(&format!("{short}!"), "yes"),
        case("Other", &answer),
    ];
    let examples = [
        pair("what  is\n7 + 5?", "twelve"),
        pair("What is 7 - 5?", "12"),
        pair(&part, "x"),
        pair(&words("q", 12), "x"),
        pair("x", &format!("so, {short}, then")),
        pair("y", &words("s", 8)),
        pair("z", &answer),
    ];
    let dataset = build(read(examples), &cases, &RULES);
    let kept = dataset.train.iter().filter_map(|m| m.origin.line);
    assert_eq!(kept.collect::<BTreeSet<_>>(), BTreeSet::from([2, 4, 6]));
    let reasons = reasons(&dataset);
    let expected = [
        "Contaminated runbooks: a.jsonl, line 1: asks what L1 of suite cases asks: \"what is 7 + 5?\"".to_owned(),
        format!("Contaminated runbooks: a.jsonl, line 3: shares words with L1 of suite cases: \"{}\"", words("q", 13)),
        format!("Contaminated runbooks: a.jsonl, line 5: shares words with L1 of suite cases: \"{short}\""),
        format!("Contaminated runbooks: a.jsonl, line 7: shares words with L1 of suite cases: \"{}\"", words("r", 13)),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(dataset.report.contaminated_by["cases"], 4);
    assert!(dataset.report.first_contaminated[0].contains("line 1: asks"));
    let summary = dataset.report.to_string();
    assert!(
        summary.starts_with("3 examples to train on and 0 held out, of 7 in 1 files; 4 contaminated, first: runbooks: a.jsonl, line 1"),
        "{summary}"
    );
}

/// So many examples.
fn many(count: usize, of: impl Fn(usize) -> Example) -> Read {
    read((0..count).map(of))
}

#[test]
fn forms_of_words_are_no_leaks() {
    let (form, answer) = (words("f", 14), words("g", 14));
    let cases = [case(&format!("{form} unseen"), &answer)];
    let seen = |i: usize| pair(&format!("{form} seen{i}"), &format!("a{i}"));
    assert_eq!(build(many(10, seen), &cases, &RULES).train.len(), 0);
    let dataset = build(many(11, seen), &cases, &RULES);
    assert_eq!((dataset.train.len(), dataset.report.common), (11, 2));
    // A whole prompt is never one.
    let whole = case(&form, "x");
    let asked = |i: usize| pair(&form, &format!("a{i}"));
    assert_eq!(build(many(11, asked), &[whole], &RULES).train.len(), 0);
    // An answer that two examples give is what is to be learnt.
    let answered = |i: usize| pair(&format!("p{i}"), &answer);
    assert_eq!(build(many(1, answered), &cases, &RULES).train.len(), 0);
    assert_eq!(build(many(2, answered), &cases, &RULES).train.len(), 2);
}

#[test]
fn answers_to_one_question_are_held_out_together_and_the_share_is_kept() {
    let rules = Rules {
        held_out: 20,
        ..RULES
    };
    let asked = |i: usize| format!("question {i}");
    let both = (0..2000).flat_map(|i| [pair(&asked(i), "yes"), pair(&asked(i), "no")]);
    let dataset = build(read(both), &[], &rules);
    let prompts = |members: &[Member]| -> BTreeSet<String> {
        let prompt = |m: &Member| m.example.messages[0].content.clone();
        members.iter().map(prompt).collect()
    };
    assert!(prompts(&dataset.train).is_disjoint(&prompts(&dataset.held_out)));
    let share = dataset.held_out.len() as f64 / 4000.0;
    assert!((0.17..0.23).contains(&share), "{share}");
    let none = build(read([pair("a", "b")]), &[], &RULES);
    assert_eq!(none.held_out.len(), 0);
}

/// Sentences of 9 to 20 words out of few, so that runs are shared all the time.
fn sentence(number: usize) -> String {
    let word = |i: usize| format!("w{}", (number * 7 + i * i * (number % 3 + 1)) % 17);
    let words: Vec<_> = (0..9 + number % 12).map(word).collect();
    words.join(" ")
}

fn text() -> impl Strategy<Value = String> {
    let sentence = (0..24_usize).prop_map(sentence);
    let short = prop::sample::select(vec!["yes", "No.", "ask  me", "w1 w2"]);
    prop_oneof![
        sentence.clone(),
        (sentence.clone(), sentence).prop_map(|(a, b)| format!("{a}. {b}")),
        short.prop_map(str::to_owned),
    ]
}

fn an_example() -> impl Strategy<Value = Example> {
    let system = prop::option::weighted(0.3, text());
    (system, text(), text()).prop_map(|(system, prompt, response)| {
        let system = system.as_deref().map(|system| (Role::System, system));
        let turns = [
            (Role::User, prompt.as_str()),
            (Role::Assistant, response.as_str()),
        ];
        example(&system.into_iter().chain(turns).collect::<Vec<_>>())
    })
}

fn located() -> impl Strategy<Value = Vec<Located>> {
    let source = prop::sample::select(vec!["a", "b"]);
    let document = prop::sample::select(vec!["a.jsonl", "b.md", "c.jsonl"]);
    let place = (source, document, 1..40_usize);
    let one = (place, an_example()).prop_map(|((source, document, line), example)| Located {
        origin: Origin {
            source: source.to_owned(),
            document: document.to_owned(),
            version: "v".into(),
            line: Some(line),
            id: None,
        },
        example,
    });
    prop::collection::vec(one, 0..60)
}

fn some_cases() -> impl Strategy<Value = Vec<Case>> {
    let one = (text(), text(), prop::option::of(text()));
    let one = one.prop_map(|(prompt, answer, before)| Case {
        texts: before.into_iter().collect(),
        ..case(&prompt, &answer)
    });
    prop::collection::vec(one, 0..6)
}

fn of(found: Vec<Located>) -> Read {
    Read {
        found,
        ..Read::default()
    }
}

/// What an example says, plainly.
type Said = Vec<(Role, String)>;

/// The rules once more, in the plainest words: what is left of `found`.
fn by_hand(found: &[Located], cases: &[Case]) -> BTreeSet<Said> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let words_of = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric());
        let words = words.filter(|w| !w.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let runs_of = |text: &str| -> BTreeSet<Vec<String>> {
        let words = words_of(text);
        match words.len() {
            0..8 => BTreeSet::new(),
            n => words.windows(n.min(13)).map(<[String]>::to_vec).collect(),
        }
    };
    // Each different example, with the words of its turns.
    let mut all: BTreeMap<Said, Vec<Vec<String>>> = BTreeMap::new();
    for Located { example, .. } in found {
        let turns = &example.messages;
        let said = turns.iter().map(|m| (m.role, plain(&m.content))).collect();
        let words = turns.iter().map(|m| words_of(&m.content)).collect();
        all.insert(said, words);
    }
    let has = |turns: &Vec<Vec<String>>, run: &Vec<String>| {
        let mut runs = turns.iter().flat_map(|words| words.windows(run.len()));
        runs.any(|other| other == &run[..])
    };
    let mut leaks: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    let answers = cases.iter().flat_map(|c| &c.answers);
    leaks.extend(answers.flat_map(|text| runs_of(text)).map(|run| (run, 1)));
    let asked = cases.iter().flat_map(|c| c.prompt.iter().chain(&c.texts));
    leaks.extend(asked.flat_map(|text| runs_of(text)).map(|run| (run, 10)));
    leaks.retain(|run, most| all.values().filter(|turns| has(turns, run)).count() <= *most);
    let prompts = cases.iter().flat_map(|c| &c.prompt);
    let prompts: BTreeSet<String> = prompts.map(|p| plain(p).to_lowercase()).collect();
    all.retain(|said, turns| {
        let mut user = said.iter().filter(|(role, _)| *role == Role::User);
        let asked = user.any(|(_, text)| prompts.contains(&text.to_lowercase()));
        !asked && !leaks.keys().any(|run| has(turns, run))
    });
    all.into_keys().collect()
}

fn parts(dataset: &Dataset) -> BTreeMap<Digest, Part> {
    let train = dataset.train.iter().map(|m| (m.identity, Part::Train));
    let held_out = dataset.held_out.iter();
    let held_out = held_out.map(|m| (m.identity, Part::HeldOut));
    train.chain(held_out).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_of_what_is_found_changes_no_byte(
        (found, shuffled) in located().prop_flat_map(|found| (Just(found.clone()), Just(found).prop_shuffle())),
        cases in some_cases(),
    ) {
        let rules = Rules { held_out: 30, ..RULES };
        let (one, other) = (build(of(found), &cases, &rules), build(of(shuffled), &cases, &rules));
        prop_assert_eq!(one.written().unwrap(), other.written().unwrap());
        prop_assert_eq!(one.report, other.report);
    }

    #[test]
    fn nothing_that_a_suite_asks_survives_and_nothing_else_is_lost(found in located(), cases in some_cases(), held_out in 0..60_u8) {
        let dataset = build(of(found.clone()), &cases, &Rules { held_out, ..RULES });
        let kept = dataset.train.iter().chain(&dataset.held_out);
        let plain = |m: &Message| (m.role, identity::plain(&m.content));
        let kept: Vec<Vec<_>> = kept.map(|m| m.example.messages.iter().map(plain).collect()).collect();
        let different: BTreeSet<_> = kept.iter().cloned().collect();
        prop_assert_eq!(different.len(), kept.len());
        prop_assert_eq!(different, by_hand(&found, &cases));
    }

    #[test]
    fn every_example_is_accounted_for(found in located(), cases in some_cases()) {
        let dataset = build(of(found.clone()), &cases, &Rules { held_out: 30, ..RULES });
        let sums = dataset.report.sources.values().chain([&dataset.report.total]);
        for c in sums {
            let sum = c.duplicates + c.near_duplicates + c.contaminated + c.train + c.held_out;
            prop_assert_eq!(c.found, sum);
        }
        prop_assert_eq!(dataset.report.total.found, found.len() as u64);
        let written = dataset.written().unwrap();
        let lineage = lineage(&written.lineage).unwrap();
        let places: usize = lineage.iter().map(|l| l.origins.len()).sum();
        let twice = |r: &&Rejection| matches!(r.why, Why::Duplicate | Why::NearDuplicate);
        prop_assert!(places <= found.len());
        prop_assert!(dataset.rejected.iter().filter(twice).count() + parts(&dataset).len() <= found.len());
        let trained = lineage.iter().filter(|l| l.part == Part::Train).count();
        prop_assert_eq!(trained, examples(&written.train).unwrap().len());
        prop_assert_eq!(lineage.len() - trained, examples(&written.held_out).unwrap().len());
    }

    #[test]
    fn more_examples_move_none_from_part_to_part(found in located(), more in located(), shares in (0..50_u8, 0..50_u8)) {
        let rules = |held_out| Rules { held_out, ..RULES };
        let before = parts(&build(of(found.clone()), &[], &rules(shares.0)));
        let both = [found.clone(), more].concat();
        let after = parts(&build(of(both), &[], &rules(shares.0)));
        for (identity, part) in &before {
            prop_assert_eq!(after.get(identity), Some(part));
        }
        let (less, more) = (shares.0.min(shares.1), shares.0.max(shares.1));
        let held_out = |share| -> BTreeSet<Digest> {
            let dataset = build(of(found.clone()), &[], &rules(share));
            dataset.held_out.iter().map(|m| m.identity).collect()
        };
        prop_assert!(held_out(less).is_subset(&held_out(more)));
    }

    #[test]
    fn a_changed_example_of_a_dataset_shows(found in located(), which in any::<Index>()) {
        prop_assume!(!found.is_empty());
        let mut other = found.clone();
        let changed = which.get(&found).example.messages.len() - 1;
        let index = which.index(found.len());
        other[index].example.messages[changed].content.push_str(" unheard-of");
        let rules = Rules { held_out: 30, ..RULES };
        let (one, other) = (build(of(found), &[], &rules), build(of(other), &[], &rules));
        prop_assert_ne!(one.written().unwrap(), other.written().unwrap());
    }
}
