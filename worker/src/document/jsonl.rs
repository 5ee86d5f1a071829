use std::collections::HashSet;

use loci_digest::Digest;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{DocumentError, Input, ParseContext, Parsed, ParsedDocument, metadata, text};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    id: Option<Id>,
    title: Option<String>,
    text: String,
    uri: Option<String>,
    #[serde(default)]
    metadata: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`id` must be a string or an integer")]
enum Id {
    Text(String),
    Integer(i64),
}

/// JSON Lines: one document a line; a bad line is reported and the rest is kept.
pub(super) fn parse(input: &Input<'_>, context: &ParseContext<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut seen = HashSet::new();
    let mut offset = input.start;
    for (index, raw) in input.text.split_inclusive('\n').enumerate() {
        let start = offset;
        offset += raw.len();
        let line = raw.trim_end();
        if line.is_empty() {
            continue;
        }
        match document(line, start, index + 1) {
            Ok(document) if seen.insert(document.part.clone()) => parsed.documents.push(document),
            Ok(document) => parsed.problems.push(problem(
                context,
                index + 1,
                format!(
                    "id \"{}\" is taken by an earlier line",
                    document.part.unwrap_or_default()
                ),
            )),
            Err(reason) => parsed.problems.push(problem(context, index + 1, reason)),
        }
    }
    parsed
}

fn problem(context: &ParseContext<'_>, line: usize, reason: String) -> DocumentError {
    DocumentError::Line {
        document: context.document.to_owned(),
        line,
        reason,
    }
}

fn document(line: &str, start: usize, number: usize) -> Result<ParsedDocument, String> {
    let fields: Line = serde_json::from_str(line).map_err(|error| reason(&error))?;
    if fields.text.trim().is_empty() {
        return Err("`text` is empty".into());
    }
    let part = match fields.id {
        Some(Id::Text(id)) if id.trim().is_empty() => return Err("`id` is empty".into()),
        Some(Id::Text(id)) => id,
        Some(Id::Integer(id)) => id.to_string(),
        None => format!("L{number}"),
    };
    Ok(ParsedDocument {
        part: Some(part),
        title: fields.title.filter(|title| !title.trim().is_empty()),
        uri: fields.uri,
        fragment: None,
        metadata: metadata::flatten(&fields.metadata),
        content: Digest::of(line),
        blocks: text::derived_paragraphs(&fields.text, start..start + line.len()),
    })
}

/// serde's message, with the column but without its own line number, which is always 1 here.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let message = error.to_string();
    match message.rsplit_once(" at line ") {
        Some((what, _)) => format!("{what} (column {})", error.column()),
        None => message,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Media, parse};
    use super::*;

    #[test]
    fn bad_lines_are_reported_by_number_and_the_rest_is_kept() {
        let source = concat!(
            "{\"id\": \"a\", \"title\": \"T\", \"text\": \"caf\\u00e9\\n\\nbar\", \"metadata\": {\"n\": 3, \"tags\": [\"x\", \"y\"]}}\r\n",
            "{\"text\": \"x\", \"txet\": 1}\n",
            "\n",
            "{broken\n",
            "{\"id\": \"a\", \"text\": \"again\"}\n",
            "{\"text\": \"last\", \"uri\": \"https://x/\"}",
        );
        let context = ParseContext {
            document: "d.jsonl",
        };
        let parsed = parse(Media::Jsonl, source.as_bytes(), &context).unwrap();
        let [first, last] = &parsed.documents[..] else {
            panic!("{:?}", parsed.documents)
        };
        assert_eq!(
            (first.part.as_deref(), last.part.as_deref()),
            (Some("a"), Some("L6"))
        );
        assert_eq!(
            first
                .blocks
                .iter()
                .map(|b| b.text.as_str())
                .collect::<Vec<_>>(),
            ["café", "bar"]
        );
        assert_eq!(first.metadata["tags"], ["x", "y"]);
        let span = last.blocks[0].source_range(1..2);
        assert_eq!(
            &source[span.start as usize..],
            "{\"text\": \"last\", \"uri\": \"https://x/\"}"
        );
        let problems: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        let expected = [
            "d.jsonl, line 2: unknown field `txet`",
            "d.jsonl, line 4: key must be a string",
            "d.jsonl, line 5: id \"a\" is taken",
        ];
        assert_eq!(problems.len(), expected.len(), "{problems:?}");
        for (problem, start) in problems.iter().zip(expected) {
            assert!(problem.starts_with(start), "{problem}");
        }
    }
}
