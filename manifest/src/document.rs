//! The documents of a file.

use serde_saphyr::{
    DuplicateKeyPolicy, Error, MessageFormatter, NonFiniteFloatPolicy, Options,
    UserMessageFormatter,
};

use crate::node::{Node, position};
use crate::problem::Position;

/// Text that is no YAML.
pub(crate) struct Malformed {
    pub at: Option<Position>,
    pub reason: String,
}

/// Reads each document of `text`, malformed ones too, so that one of them does not hide the others. Documents are
/// divided at lines of `---`, as kubectl does; those that hold nothing are left out.
pub(crate) fn read(text: &str) -> Vec<Result<Node, Malformed>> {
    divide(text)
        .into_iter()
        .flat_map(
            |part| match serde_saphyr::from_str_multiple_with_options(part.text, options()) {
                Ok(nodes) => shifted(nodes, part.lines_before),
                Err(error) => vec![Err(malformed(&error, &part))],
            },
        )
        .collect()
}

fn shifted(nodes: Vec<Node>, lines: usize) -> Vec<Result<Node, Malformed>> {
    let shift = |mut node: Node| {
        node.shift(lines);
        Ok(node)
    };
    nodes.into_iter().map(shift).collect()
}

/// As kubectl reads, with bounds on depth, nodes and aliases; duplicate keys are found later, with all their places.
fn options() -> Options {
    serde_saphyr::options! {
        legacy_octal_numbers: true,
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
        budget: serde_saphyr::budget! { max_depth: 64, max_nodes: 100_000, max_aliases: 1_000, max_anchors: 1_000 },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

struct Part<'a> {
    text: &'a str,
    lines_before: usize,
}

fn divide(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let (mut start, mut lines_before, mut end) = (0, 0, 0);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        if is_separator(line) && !is_prologue(&text[start..end]) {
            parts.push(Part {
                text: &text[start..end],
                lines_before,
            });
            (start, lines_before) = (end, number);
        }
        end += line.len();
    }
    parts.push(Part {
        text: &text[start..],
        lines_before,
    });
    parts
}

fn is_separator(line: &str) -> bool {
    let rest = line.strip_prefix("---").map(str::trim);
    rest.is_some_and(|r| r.is_empty() || r.starts_with('#'))
}

/// Comments and directives belong to the document that follows.
fn is_prologue(text: &str) -> bool {
    let mut lines = text.lines().map(str::trim);
    lines.all(|l| l.is_empty() || l.starts_with('#') || l.starts_with('%'))
}

fn malformed(error: &Error, part: &Part<'_>) -> Malformed {
    let at = error.location().map(position).map(|p| Position {
        line: p.line + part.lines_before,
        ..p
    });
    let reason = match original(error) {
        // The parser's words can hold what is written there.
        _ if may_be_secret(part.text) => {
            "malformed YAML (a Secret may stand here: no more is said)".to_owned()
        }
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            "the document is nested too deep, has too many values or expands aliases too often"
                .to_owned()
        }
        Error::NullIntoString { .. }
        | Error::SerdeInvalidType { .. }
        | Error::Unexpected { .. } => "malformed YAML: a field name must be text".to_owned(),
        other => format!(
            "malformed YAML: {}",
            UserMessageFormatter.format_message(other)
        ),
    };
    Malformed { at, reason }
}

/// The error below those that say by which alias it was reached.
fn original(mut error: &Error) -> &Error {
    while let Error::AliasError { error: inner, .. } = error {
        error = inner;
    }
    error
}

/// Whether the text speaks of a Secret, other than to refer to one.
fn may_be_secret(text: &str) -> bool {
    text.to_lowercase()
        .replace("secretref", "")
        .contains("secret")
}
