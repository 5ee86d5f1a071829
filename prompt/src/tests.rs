use std::collections::BTreeMap;
use std::convert::Infallible;

use loci_index::{DocumentKey, Passage};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

fn hit(text: &str) -> Hit {
    Hit {
        score: 1.0,
        dense: None,
        bm25: None,
        fused: 1.0,
        key: DocumentKey::new("handbook", "a.md"),
        uri: "https://handbook.example/a".to_owned(),
        version: "1".to_owned(),
        memory: "factual".to_owned(),
        title: None,
        passage: Passage {
            ordinal: 0,
            text: text.to_owned(),
            span: 0..1,
            headings: Vec::new(),
        },
        metadata: BTreeMap::new(),
    }
}

fn chat(turns: &[(&str, &str)]) -> Vec<Message> {
    let message = |(role, content): &(&str, &str)| Message {
        role: (*role).to_owned(),
        content: (*content).to_owned(),
    };
    turns.iter().map(message).collect()
}

fn marks() -> Marks {
    Marks::new([
        "<|im_end|>",
        "<s>",
        "</s>",
        "[INST]",
        "\u{3}",
        " <sep>",
        " ",
    ])
}

/// All passages, however long the chat becomes.
fn whole(messages: &[Message], hits: &[Hit]) -> Context {
    with_context(messages, hits, &marks(), |_| Ok::<_, Infallible>(true)).unwrap()
}

#[test]
fn passages_stand_numbered_between_fences_before_the_last_question() {
    let turns = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello."),
        ("user", "When are refunds paid?"),
        ("assistant", "In"),
    ];
    let mut first = hit("Refunds take five days.\n");
    first.title = Some("Handbook".to_owned());
    first.passage.headings = vec!["Refunds".to_owned()];
    let context = whole(&chat(&turns), &[first, hit("Use ```code``` for it.")]);
    let mut want = chat(&turns);
    want[3].content = format!(
        "{BEFORE}\n\n[1]\n```\nHandbook > Refunds\nRefunds take five days.\n```\n\n[2]\n````\nUse ```code``` for it.\n````\n\n{AFTER}\n\nWhen are refunds paid?"
    );
    assert_eq!(context.messages, want);
    assert_eq!(context.cited, [0, 1]);
}

#[test]
fn what_does_not_fit_is_left_out_and_the_numbers_go_on() {
    let hits = [
        hit("one"),
        hit(&"long ".repeat(100)),
        hit("three"),
        hit("four"),
    ];
    let messages = chat(&[("user", "?")]);
    let mut asked = 0;
    let fits = |messages: &[Message]| {
        asked += 1;
        let content = &messages[0].content;
        Ok::<_, Infallible>(content.len() < 500 && !content.contains("[3]"))
    };
    let context = with_context(&messages, &hits, &marks(), fits).unwrap();
    assert_eq!((context.cited.as_slice(), asked), ([0, 2].as_slice(), 4));
    let content = &context.messages[0].content;
    assert!(content.contains("[2]\n```\nthree\n```"), "{content}");
    assert!(
        !content.contains("long") && !content.contains("four"),
        "{content}"
    );
    let none = with_context(&messages, &hits, &marks(), |_| Ok::<_, Infallible>(false));
    assert_eq!(none.unwrap(), whole(&messages, &[]));
    let failed = with_context(&messages, &hits, &marks(), |_| Err::<bool, _>("no"));
    assert_eq!(failed, Err("no"));
}

#[test]
fn without_a_question_nothing_is_put_in() {
    let messages = chat(&[("system", "Be brief."), ("assistant", "Hello.")]);
    let context = whole(&messages, &[hit("one")]);
    assert_eq!((context.messages, context.cited), (messages, vec![]));
}

#[test]
fn passages_are_looked_up_for_the_last_question() {
    let asked = |turns: &[(&str, &str)]| question(&chat(turns)).map(str::to_owned);
    let turns = [("user", "Hi"), ("assistant", "Hello."), ("user", "When?")];
    assert_eq!(asked(&turns), Some("When?".to_owned()));
    assert_eq!(
        asked(&[("user", "When?"), ("assistant", "In")]),
        Some("When?".to_owned())
    );
    assert_eq!(asked(&[("system", "Be brief.")]), None);
    assert_eq!(asked(&[("user", " \n")]), None);
    // Cut where a character begins.
    let long = "é".repeat(QUESTION_BYTES / 2 - 1) + "x日";
    let cut = asked(&[("user", long.as_str())]).unwrap();
    assert_eq!(cut.len(), QUESTION_BYTES - 1);
    assert!(cut.ends_with('x'), "{} bytes", cut.len());
}

#[test]
fn marks_are_broken_up_in_every_turn() {
    let turns = [("system", "a<|im_end|>b"), ("user", "<s>[INST]</s>")];
    let context = whole(&chat(&turns), &[]);
    let got: Vec<&str> = context
        .messages
        .iter()
        .map(|m| m.content.as_str())
        .collect();
    assert_eq!(got, ["a< |im_end| >b", "< s>[ INST]< /s>"]);
    let broken = |text: &str| marks().broken(text).into_owned();
    assert_eq!(
        broken("1 < 2 || 3 > 2; a [inst] s>"),
        "1 < 2 || 3 > 2; a [inst] s>"
    );
    // A mark of one character goes, and what it kept apart does not meet.
    assert_eq!(broken("<\u{3}|im_end|\u{3}>"), "< |im_end| >");
    assert_eq!(broken("a<sep>"), "a< sep>");
    // A space can make a mark, too.
    let spaced = Marks::new(["< |", "|>", "a  b", "a b"]);
    assert_eq!(spaced.broken("<| a b"), "<  | a   b");
}

#[test]
fn nothing_hidden_is_sent() {
    let text = "pl\u{200b}ai\u{2060}n\u{e0041}\u{e0042}\u{e0100}\u{feff}\u{202e} text\u{7}\tand\nlines \u{1fef}\u{1fef}\u{1fef}";
    let context = whole(&chat(&[("user", "?")]), &[hit(text)]);
    let content = &context.messages[0].content;
    assert!(
        content.contains("\n````\nplain text\tand\nlines ```\n````\n"),
        "{content}"
    );
}

/// The passages of a turn and what follows them, by CommonMark's rule for fences.
fn read_back(content: &str) -> (Vec<String>, String) {
    let rest = content.strip_prefix(BEFORE).unwrap();
    let mut lines = rest.strip_prefix("\n\n").unwrap().split('\n');
    let mut passages = Vec::new();
    loop {
        let line = lines.next().unwrap();
        if line == AFTER {
            assert_eq!(lines.next(), Some(""));
            return (passages, lines.collect::<Vec<_>>().join("\n"));
        }
        assert_eq!(line, format!("[{}]", passages.len() + 1));
        let fence = lines.next().unwrap();
        assert!(fence.len() >= 3 && fence.chars().all(|c| c == '`'));
        let closes = |line: &&str| {
            let line = line.trim();
            line.len() >= fence.len() && line.chars().all(|c| c == '`')
        };
        let inside: Vec<&str> = lines.by_ref().take_while(|line| !closes(line)).collect();
        passages.push(inside.join("\n"));
        assert_eq!(lines.next(), Some(""));
    }
}

/// Texts out of what may be taken for the form of a prompt.
fn hostile() -> impl Strategy<Value = String> {
    let parts = [
        "```",
        "`",
        "````````",
        "\n",
        "[1]",
        "[2]\n",
        AFTER,
        BEFORE,
        "<|im_end|>",
        "<|",
        "|>",
        "|",
        "<",
        ">",
        "s>",
        "</s>",
        "<s>",
        "[INST]",
        " ",
        "  ",
        "\u{3}",
        "\u{1fef}",
        "a",
        "é",
        "日本",
        "\r",
        "\u{e0041}",
        "<sep>",
        "> ",
        "   ```\n",
    ];
    vec(select(parts.to_vec()), 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn passages_come_back_out_of_their_fences(texts in vec(hostile(), 1..5), question in hostile()) {
        let hits: Vec<Hit> = texts.iter().map(|text| hit(text)).collect();
        let context = whole(&chat(&[("user", &question)]), &hits);
        let (passages, rest) = read_back(&context.messages[0].content);
        prop_assert_eq!(passages.len(), texts.len());
        let bare = |text: &str| -> String { text.chars().filter(|c| c.is_alphanumeric()).collect() };
        for (passage, text) in passages.iter().zip(&texts) {
            prop_assert_eq!(bare(passage), bare(text));
        }
        prop_assert_eq!(&rest, &marks().broken(&question));
    }

    #[test]
    fn no_mark_stands_in_what_was_broken_up(text in hostile()) {
        let broken = marks().broken(&text).into_owned();
        for mark in ["<|im_end|>", "<s>", "</s>", "[INST]", "\u{3}", "<sep>", "<|", "|>"] {
            prop_assert!(!broken.contains(mark), "{:?} in {:?}", mark, broken);
        }
        let without = |text: &str| text.replace([' ', '\u{3}'], "");
        prop_assert_eq!(without(&broken), without(&text), "only spaces are put in");
        prop_assert_eq!(marks().broken(&broken).into_owned(), broken);
    }
}
