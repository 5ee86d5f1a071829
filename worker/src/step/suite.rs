//! Retrieval suites: JSON Lines of questions with the documents that answer them.

use loci_index::Filter;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A question with its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Names it in reports and pairs it between releases; `L` and the line's number when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// What is asked.
    pub question: String,
    /// What answers it: any one of these counts as found.
    pub expected: Vec<Expected>,
    /// Filters, as `POST /v1/retrieve` takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Value>,
}

/// A document, or a span of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// The source; any when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The document.
    pub document: String,
    /// Bytes of the document: start, end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<[u64; 2]>,
}

/// Why a suite cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A line is wrong.
    #[error(
        "suite {suite}, line {line}: {reason}; each line is {{\"id\"?, \"question\", \"expected\": [{{\"source\"?, \"document\", \"span\"?}}], \"filters\"?}}"
    )]
    Line {
        /// The suite.
        suite: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing in it.
    #[error("suite {0} has no questions: add lines, or remove the suite and its gates")]
    Empty(String),
}

/// A question that is ready to be asked.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its name.
    pub id: String,
    /// What is asked.
    pub question: String,
    /// Its labels.
    pub expected: Vec<Expected>,
    /// Its filter.
    pub filter: Option<Filter>,
}

/// Reads the lines of the suite called `suite`.
///
/// # Errors
/// Names the first line that is wrong.
pub fn parse(suite: &str, text: &str) -> Result<Vec<Ready>, SuiteError> {
    let mut questions = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let error = |reason: String| SuiteError::Line {
            suite: suite.to_owned(),
            line: index + 1,
            reason,
        };
        let question: Question = serde_json::from_str(line).map_err(|e| error(e.to_string()))?;
        let ready = ready(question, index + 1).map_err(error)?;
        if !seen.insert(ready.id.clone()) {
            return Err(error(format!(
                "the id \"{}\" stands on an earlier line already",
                ready.id
            )));
        }
        questions.push(ready);
    }
    if questions.is_empty() {
        return Err(SuiteError::Empty(suite.to_owned()));
    }
    Ok(questions)
}

fn ready(question: Question, line: usize) -> Result<Ready, String> {
    if question.question.trim().is_empty() {
        return Err("the question is empty".to_owned());
    }
    if question.expected.is_empty() {
        return Err("expected is empty: name the document that answers the question".to_owned());
    }
    if let Some(span) = question
        .expected
        .iter()
        .filter_map(|e| e.span)
        .find(|s| s[0] >= s[1])
    {
        return Err(format!(
            "the span [{}, {}] ends before it starts",
            span[0], span[1]
        ));
    }
    let filter = question
        .filters
        .as_ref()
        .map(|f| Filter::from_json(f, "filters"))
        .transpose()
        .map_err(|e| e.to_string())?;
    Ok(Ready {
        id: question.id.unwrap_or_else(|| format!("L{line}")),
        question: question.question,
        expected: question.expected,
        filter,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_named_when_wrong() {
        let good = r#"{"question": "How?", "expected": [{"document": "a.md"}], "filters": {"audience": "staff"}}"#;
        let questions = parse("faq", &format!("{good}\n\n")).unwrap();
        assert_eq!(
            (questions[0].id.as_str(), questions[0].filter.is_some()),
            ("L1", true)
        );
        let bad = [
            ("{", "line 2"),
            (
                r#"{"question": "How?", "expected": []}"#,
                "expected is empty",
            ),
            (
                r#"{"question": " ", "expected": [{"document": "a"}]}"#,
                "the question is empty",
            ),
            (r#"{"question": "x", "expect": []}"#, "expect"),
            (
                r#"{"question": "x", "expected": [{"document": "a", "span": [5, 5]}]}"#,
                "span",
            ),
        ];
        for (line, part) in bad {
            let error = parse("faq", &format!("{good}\n{line}\n"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("line 2") && error.contains(part), "{error}");
        }
        let twice = r#"{"id": "a", "question": "x", "expected": [{"document": "a"}]}"#;
        assert!(
            parse("faq", &format!("{twice}\n{twice}"))
                .unwrap_err()
                .to_string()
                .contains("earlier line")
        );
        assert!(
            parse("faq", "\n")
                .unwrap_err()
                .to_string()
                .contains("no questions")
        );
    }
}
