use proptest::prelude::*;

use super::*;

fn read(media: Media, text: &str) -> (Vec<Found>, Vec<String>) {
    let Examples { found, problems } = parse(media, text.as_bytes(), "d");
    (found, problems.iter().map(ToString::to_string).collect())
}

/// As `system|user|assistant|…`; without system where there is none.
fn said(found: &Found) -> String {
    let of = |m: &Message| format!("{}: {}", &m.role.as_str()[..1], m.content);
    let all: Vec<_> = found.example.messages.iter().map(of).collect();
    all.join(" | ")
}

#[test]
fn both_forms_of_lines_are_read() {
    let text = concat!(
        "\u{feff}{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"U\"}, {\"role\": \"assistant\", \"content\": \"A\"}]}\r\n",
        "\n",
        "{\"id\": 7, \"prompt\": \"P\", \"response\": \" R\\n\", \"metadata\": {\"any\": [1]}}\n",
        "{\"id\": \"x\", \"prompt\": \"P\", \"completion\": \"C\", \"system\": \"S\"}",
    );
    let (found, problems) = read(Media::Jsonl, text);
    assert_eq!(problems, Vec::<String>::new());
    let all: Vec<_> = found.iter().map(said).collect();
    assert_eq!(
        all,
        ["s: S | u: U | a: A", "u: P | a:  R\n", "s: S | u: P | a: C"]
    );
    let places: Vec<_> = found.iter().map(|f| (f.line, f.id.as_deref())).collect();
    assert_eq!(places, [(1, None), (3, Some("7")), (4, Some("x"))]);
}

#[test]
fn a_poisoned_line_is_named_and_the_rest_is_read() {
    let long = format!(
        r#"{{"prompt": "{}", "response": "r"}}"#,
        "x".repeat(EXAMPLE_BYTES)
    );
    let many = r#"{"role": "user", "content": "x"},"#.repeat(MESSAGES);
    let many = format!(r#"{{"messages": [{many} {{"role": "assistant", "content": "y"}}]}}"#);
    let cases = [
        ("{broken", "key must be a string (column 2)"),
        (r#"{"text": "a document"}"#, "unknown field `text`"),
        (r#"{"id": 1}"#, "is no example: each line is"),
        (r#"{"prompt": "P"}"#, "has no `response`"),
        (r#"{"response": "R"}"#, "has no `prompt`"),
        (
            r#"{"prompt": "P", "response": " \n"}"#,
            "message 2 is empty",
        ),
        (
            r#"{"prompt": "P", "response": ["R"]}"#,
            "invalid type: sequence, expected a string",
        ),
        (
            r#"{"prompt": "P", "response": "R", "response": "S"}"#,
            "duplicate field",
        ),
        (
            r#"{"messages": [], "prompt": "P"}"#,
            "has more beside `messages`",
        ),
        (
            r#"{"messages": []}"#,
            "does not end with a message of assistant",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}]}"#,
            "does not end with a message of assistant",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}"#,
            "message 2 is of user where one of assistant is due",
        ),
        (
            r#"{"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}"#,
            "message 2 is of system",
        ),
        (
            r#"{"messages": [{"role": "tool", "content": "a"}]}"#,
            "unknown variant `tool`, expected one of `system`, `user`, `assistant`",
        ),
        (
            r#"{"messages": [{"role": "assistant", "content": "a", "weight": 0}]}"#,
            "unknown field `weight`",
        ),
        (
            r#"{"prompt": "<|im_end|>\n<|im_start|>system", "response": "R"}"#,
            "message 1 holds <|im_end|>, which marks turns",
        ),
        (r#"{"prompt": "[INST] x", "response": "R"}"#, "holds [INST]"),
        (
            r#"{"prompt": "a\u0007b", "response": "R"}"#,
            "holds the character U+0007",
        ),
        (
            r#"{"prompt": "a\u202eb", "response": "R"}"#,
            "holds the character U+202E",
        ),
        (
            long.as_str(),
            "more than the 262144 that an example may have",
        ),
        (many.as_str(), "has 65 messages, more than the 64"),
    ];
    let good = r#"{"prompt": "P", "response": "a < b | c > d <||> <| x |>"}"#;
    for (line, part) in cases {
        let (found, problems) = read(Media::Jsonl, &format!("{good}\n{line}\n{good}\n"));
        assert_eq!(found.len(), 2, "{part}");
        let [problem] = &problems[..] else {
            panic!("{part}: {problems:?}")
        };
        assert!(problem.starts_with("d, line 2: "), "{problem}");
        assert!(problem.contains(part), "{part}: {problem}");
        assert!(problem.chars().count() < 500, "{part}");
        assert!(!problem.contains('\u{7}'), "{part}");
    }
    let bytes = [good.as_bytes(), &b"\n{\"prompt\": \"caf\xe9\"}\n"[..]].concat();
    let examples = parse(Media::Jsonl, &bytes, "d");
    assert_eq!(examples.found.len(), 1);
    assert_eq!(
        examples.problems[0].to_string(),
        "d, line 2: is not valid UTF-8 at byte 15: convert it to UTF-8"
    );
}

const RUNBOOK: &str = "---
title: Gateway errors
owner: payments
system: You are on call.
prompt:
- The gateway answers 502.
- Cards are refused.
answer: Steps
examples:
- {prompt: \"Who is told?\", response: \"The lead.\"}
- id: chat
  messages:
  - {role: system, content: Other.}
  - {role: user, content: U}
  - {role: assistant, content: A}
- {prompt: \"No answer\"}
---
# Gateway errors

Intro.

## Steps

1. Look.

### Then

Tell.

## After

Write.
";

#[test]
fn a_runbook_says_what_its_text_answers() {
    let (found, problems) = read(Media::Markdown, RUNBOOK);
    let steps = "1. Look.\n\n### Then\n\nTell.";
    let all: Vec<_> = found.iter().map(said).collect();
    assert_eq!(
        all,
        [
            format!("s: You are on call. | u: The gateway answers 502. | a: {steps}"),
            format!("s: You are on call. | u: Cards are refused. | a: {steps}"),
            "s: You are on call. | u: Who is told? | a: The lead.".to_owned(),
            "s: Other. | u: U | a: A".to_owned(),
        ]
    );
    assert_eq!((found[2].line, found[3].line), (10, 11));
    assert_eq!(found[3].id.as_deref(), Some("chat"));
    let [problem] = &problems[..] else {
        panic!("{problems:?}")
    };
    assert!(
        problem.starts_with("d, line 16: has no `response`"),
        "{problem}"
    );
}

#[test]
fn a_text_answers_without_its_title_and_sections_answer_their_headings() {
    let (found, problems) = read(
        Media::Markdown,
        "---\nprompt: Why 502?\n---\n\n# Title\n\nLook.\n\n# Not a title\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(said(&found[0]), "u: Why 502? | a: Look.\n\n# Not a title");

    let (found, problems) = read(
        Media::Markdown,
        "---\nexamples: sections\n---\n# FAQ\n\n## Who *pays*?\nThe `team`.\n\n### More\n\nIt does.\n\n> ## Not one\n\n## Empty\n\n## When\nNow.",
    );
    let all: Vec<_> = found.iter().map(|f| (f.line, said(f))).collect();
    let first = "u: Who pays? | a: The `team`.\n\n### More\n\nIt does.\n\n> ## Not one";
    assert_eq!(
        all,
        [(6, first.to_owned()), (17, "u: When | a: Now.".to_owned())]
    );
    assert_eq!(problems, ["d, line 15: message 2 is empty"]);
}

#[test]
fn a_runbook_that_says_nothing_is_reported() {
    let cases = [
        ("# Title\nText", "d: does not say what it answers"),
        ("---\n---\nText", "d: does not say what it answers"),
        (
            "---\nowner: ops\n---\nText",
            "d: does not say what it answers",
        ),
        ("---\nprompt: x\n---\n \n", "d, line 2: message 2 is empty"),
        ("---\na: [1\n---\n", "its front matter does not read"),
        (
            "---\nprompt: {a: b}\n---\nText",
            "its front matter does not read",
        ),
        (
            "---\nprompt: []\n---\nText",
            "d, line 2: `prompt` has 0 texts",
        ),
        (
            "---\nanswer: Steps\nexamples: sections\n---\n## Steps\nx",
            "d, line 2: `answer` says which section",
        ),
        (
            "---\nprompt: x\nanswer: Step\n---\n## Steps\nx",
            "d, line 3: no section is called \"Step\": its headings are Steps",
        ),
        (
            "---\nexamples: section\n---\n## A\nb",
            "its front matter does not read",
        ),
        (
            "---\nexamples: sections\n---\n# A\nb",
            "d: has no section of the second level",
        ),
        (
            "---\nexamples:\n- {promt: x}\n---\n",
            "d, line 3: is no example: unknown field `promt`",
        ),
    ];
    for (text, part) in cases {
        let (found, problems) = read(Media::Markdown, text);
        assert_eq!(found.len(), 0, "{text}");
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].contains(part), "{part}: {}", problems[0]);
    }
    let (_, problems) = read(Media::Html, "<p>x");
    assert!(
        problems[0].starts_with("d: HTML holds no examples"),
        "{problems:?}"
    );
    let large = format!("---\nprompt: x\n---\n{}", "y".repeat(RUNBOOK_BYTES));
    let (_, problems) = read(Media::Markdown, &large);
    assert!(problems[0].contains("split it"), "{problems:?}");
}

/// What examples are made of, in pieces that may be wrong.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "---\n",
        "prompt: x\n",
        "examples:\n",
        "- ",
        "sections",
        "## A\n",
        "text\n",
        "answer: A\n",
        "{\"prompt\": \"p\", ",
        "\"response\": \"r\"}",
        "\"messages\": [",
        "]}",
        "\n",
        "&a [*a]",
        "{\"role\": \"user\", \"content\": \"c\"}",
        ",",
        "\u{feff}",
        "> # q\n",
        "|a|\n|-|\n",
    ]);
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_line_is_an_example_or_a_problem(text in pieces(), bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let bytes = [text.as_bytes(), &bytes].concat();
        let Examples { found, problems } = parse(Media::Jsonl, &bytes, "d");
        let unmarked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
        let lines = unmarked.split(|b| *b == b'\n').filter(|line| !line.trim_ascii().is_empty());
        prop_assert_eq!(found.len() + problems.len(), lines.count());
    }

    #[test]
    fn whatever_a_runbook_says_its_examples_can_be_used(text in pieces()) {
        let Examples { found, problems } = parse(Media::Markdown, text.as_bytes(), "d");
        prop_assert!(!found.is_empty() || !problems.is_empty());
        let lines = text.lines().count().max(1);
        for Found { line, example, .. } in found {
            prop_assert!((1..=lines).contains(&line), "{line} of {lines}");
            prop_assert!(check::conversation(example.messages).is_ok());
        }
    }
}
