use loci_plan::metrics::Metric;

use super::*;

#[test]
fn answers_are_right_when_they_are_json_that_the_schema_allows() {
    let line = r##"{"prompt": "a", "maxTokens": 96, "schema": {
        "type": "object", "additionalProperties": false, "required": ["severity", "due"],
        "properties": {"severity": {"enum": ["P1", "P2"]}, "due": {"type": "string", "format": "date"}, "pages": {"$ref": "#/$defs/pages"}},
        "$defs": {"pages": {"type": "array", "items": {"type": "string", "pattern": "^@[a-z]+$"}, "minItems": 1}}
    }}"##;
    let case = cases("s", &line.replace('\n', " ")).unwrap().remove(0);
    assert_eq!(case.metrics(), [Metric::SchemaValid, Metric::Accuracy]);
    let Ask::Answer {
        max_tokens: 96,
        right,
        ..
    } = &case.ask
    else {
        panic!("{case:?}");
    };
    for (said, wanted) in [
        (r#"{"severity": "P1", "due": "2026-02-28"}"#, true),
        (
            "\n{\"due\": \"2026-02-28\",\n \"severity\": \"P2\", \"pages\": [\"@lead\"]}\n",
            true,
        ),
        (r#"{"severity": "P3", "due": "2026-02-28"}"#, false),
        (r#"{"severity": "P1", "due": "2026-02-30"}"#, false),
        (r#"{"severity": "P1"}"#, false),
        (
            r#"{"severity": "P1", "due": "2026-02-28", "note": "x"}"#,
            false,
        ),
        (
            r#"{"severity": "P1", "due": "2026-02-28", "pages": ["lead"]}"#,
            false,
        ),
        (r#"{"severity": "P1", "due": "2026-02-28""#, false),
        (
            "```json\n{\"severity\": \"P1\", \"due\": \"2026-02-28\"}\n```",
            false,
        ),
        ("P1", false),
        ("", false),
    ] {
        assert_eq!(is_right(right, said), wanted, "{said:?}");
    }
}

#[test]
fn a_schema_that_cannot_be_held_to_is_refused_with_its_reason() {
    for (line, part) in [
        (
            r#"{"prompt": "a", "schema": ["type"]}"#,
            "`schema` is no JSON schema",
        ),
        (
            r#"{"prompt": "a", "schema": {"type": "objec"}}"#,
            "`schema` does not read",
        ),
        (
            r#"{"prompt": "a", "schema": {"type": "string", "pattern": "(?=b)"}}"#,
            "`schema` does not read",
        ),
        (
            r#"{"prompt": "a", "schema": {"type": "string", "format": "dat"}}"#,
            "`schema` does not read",
        ),
        (
            r#"{"prompt": "a", "schema": {"$ref": "https://schemas.example/ticket"}}"#,
            "`schema` does not read",
        ),
        (
            r#"{"prompt": "a", "schema": {"title": "Anything"}}"#,
            "`schema` allows null",
        ),
    ] {
        let error = cases("s", line).unwrap_err().to_string();
        assert!(
            error.starts_with("suite s, line 1: ") && error.contains(part),
            "{line}: {error}"
        );
    }
}
