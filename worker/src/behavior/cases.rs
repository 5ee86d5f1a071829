//! Behaviour suites as JSON Lines: what is asked, and by what an answer is judged.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use loci_plan::metrics::Metric;
use regex::Regex;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::document::json_reason;
use crate::example::{self, Id, Message, Role};

/// The most tokens that an answer may have.
pub const MAX_TOKENS: usize = 1024;
/// How many it may have when its case does not say.
pub const DEFAULT_TOKENS: usize = 64;
/// The most choices of a case.
pub const CHOICES: usize = 26;

/// Problems told of one suite.
const TOLD: usize = 5;

const SHAPES: &str = "each line is a JSON object that asks by `prompt` (and `system`) or `messages` and is judged by one of `expected`, `pattern`, `choices` with `answer`, and `reference`; or that has `text` alone. `id` may stand beside them";

/// One case of a suite.
#[derive(Clone, Debug)]
pub struct Case {
    /// Names it in reports and pairs it between models; `L` and the line's number when its line does not say.
    pub id: String,
    /// What is asked.
    pub ask: Ask,
}

/// What a model is asked, and by what that is judged.
#[derive(Clone, Debug)]
pub enum Ask {
    /// To answer.
    Answer {
        /// What is said before.
        messages: Vec<Message>,
        /// The most tokens of the answer.
        max_tokens: usize,
        /// Which answers are right.
        right: Right,
    },
    /// Which of some answers is the likeliest.
    Choice {
        /// What is said before.
        messages: Vec<Message>,
        /// The answers: at least two.
        choices: Vec<String>,
        /// The place of the right one.
        answer: usize,
    },
    /// How likely an answer is.
    Reference {
        /// What is said before.
        messages: Vec<Message>,
        /// The answer.
        reference: String,
    },
    /// How likely a text is.
    Text(String),
}

/// Which answers are right.
#[derive(Clone, Debug)]
pub enum Right {
    /// One of these, white space around it aside.
    Expected(Vec<String>),
    /// What this matches.
    Pattern(Regex),
}

/// Why a suite cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CasesError {
    /// Lines are wrong.
    #[error("suite {suite}, {}", told(problems))]
    Lines {
        /// The suite.
        suite: String,
        /// What is wrong, in the order of the lines.
        problems: Vec<LineProblem>,
    },
    /// Nothing in it.
    #[error("suite {0} has no cases: add lines, or remove the suite and its gates")]
    Empty(String),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineProblem {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and the way out.
    pub reason: String,
}

impl fmt::Display for LineProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

fn told(problems: &[LineProblem]) -> String {
    let mut told: Vec<String> = problems
        .iter()
        .take(TOLD)
        .map(ToString::to_string)
        .collect();
    if problems.len() > TOLD {
        told.push(format!("and {} lines more", problems.len() - TOLD));
    }
    told.join("; ")
}

/// Reads the lines of the suite called `suite`.
///
/// # Errors
/// Names every line that is wrong.
pub fn cases(suite: &str, jsonl: &str) -> Result<Vec<Case>, CasesError> {
    let jsonl = jsonl.strip_prefix('\u{feff}').unwrap_or(jsonl);
    let (mut cases, mut problems, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, text) in jsonl.lines().enumerate() {
        if text.trim().is_empty() {
            continue;
        }
        let line = index + 1;
        match case(text, line) {
            Ok(case) if seen.insert(case.id.clone()) => cases.push(case),
            Ok(Case { id, .. }) => {
                let reason = format!("the id \"{id}\" stands on an earlier line already");
                problems.push(LineProblem { line, reason });
            }
            Err(reason) => problems.push(LineProblem { line, reason }),
        }
    }
    let suite = suite.to_owned();
    if !problems.is_empty() {
        return Err(CasesError::Lines { suite, problems });
    }
    if cases.is_empty() {
        return Err(CasesError::Empty(suite));
    }
    Ok(cases)
}

/// How many cases each metric has.
pub fn scored(cases: &[Case]) -> BTreeMap<Metric, usize> {
    let mut counts = BTreeMap::new();
    for metric in cases.iter().flat_map(Case::metrics) {
        *counts.entry(*metric).or_default() += 1;
    }
    counts
}

impl Ask {
    /// What is said before the answer; none of a text.
    pub fn messages(&self) -> Option<&[Message]> {
        match self {
            Self::Answer { messages, .. }
            | Self::Choice { messages, .. }
            | Self::Reference { messages, .. } => Some(messages),
            Self::Text(_) => None,
        }
    }
}

impl Case {
    /// The metrics that the case has. They score alike: which one a gate names says which cases it means.
    pub fn metrics(&self) -> &'static [Metric] {
        match &self.ask {
            Ask::Answer { right, .. } => match right {
                Right::Expected(_) => &[Metric::ExactMatch, Metric::Accuracy],
                Right::Pattern(_) => &[Metric::RegexMatch, Metric::Accuracy],
            },
            Ask::Choice { .. } => &[Metric::Accuracy],
            Ask::Reference { .. } => &[Metric::Likelihood],
            Ask::Text(_) => &[Metric::Perplexity],
        }
    }

    /// What guessing scores.
    pub fn chance(&self) -> f64 {
        match &self.ask {
            Ask::Choice { choices, .. } => 1.0 / choices.len() as f64,
            _ => 0.0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Line {
    id: Option<Id>,
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
    expected: Option<Texts>,
    pattern: Option<String>,
    schema: Option<IgnoredAny>,
    choices: Option<Vec<String>>,
    answer: Option<String>,
    reference: Option<String>,
    text: Option<String>,
    max_tokens: Option<usize>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`expected` must be a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

fn case(text: &str, number: usize) -> Result<Case, String> {
    let mut line: Line =
        serde_json::from_str(text).map_err(|e| format!("{}; {SHAPES}", json_reason(&e)))?;
    let id = line.id.take().map(Id::text);
    if id.as_ref().is_some_and(|id| id.trim().is_empty()) {
        return Err("`id` is empty: write one, or leave it out".to_owned());
    }
    let ask = line.ask()?;
    Ok(Case {
        id: id.unwrap_or_else(|| format!("L{number}")),
        ask,
    })
}

impl Line {
    fn ask(self) -> Result<Ask, String> {
        let judge = self.judge()?;
        let generates = matches!(judge, "expected" | "pattern");
        if self.max_tokens.is_some() && !generates {
            return Err(format!(
                "has `maxTokens`, and with `{judge}` nothing is generated: leave it out"
            ));
        }
        if self.answer.is_some() && judge != "choices" {
            return Err(
                "has `answer` without `choices`: give those, too, or `expected`".to_owned(),
            );
        }
        if let Some(text) = self.text {
            if self.prompt.is_some() || self.messages.is_some() || self.system.is_some() {
                return Err("asks something beside `text`, which stands alone".to_owned());
            }
            example::content(&text).map_err(|why| format!("`text` {why}"))?;
            return Ok(Ask::Text(text));
        }
        let messages = asked(self.prompt, self.system, self.messages)?;
        let max_tokens = self.max_tokens.unwrap_or(DEFAULT_TOKENS);
        if !(1..=MAX_TOKENS).contains(&max_tokens) {
            return Err(format!(
                "`maxTokens` {max_tokens} is not from 1 to {MAX_TOKENS}"
            ));
        }
        if let Some(reference) = self.reference {
            answer("reference", &reference)?;
            return Ok(Ask::Reference {
                messages,
                reference,
            });
        }
        if let Some(choices) = self.choices {
            let answer = chosen(&choices, self.answer.as_deref())?;
            return Ok(Ask::Choice {
                messages,
                choices,
                answer,
            });
        }
        let right = match (self.expected, self.pattern) {
            (Some(expected), _) => Right::Expected(texts(expected)?),
            (None, Some(pattern)) => Right::Pattern(regex(&pattern)?),
            (None, None) => return Err(format!("has nothing to judge an answer by: {SHAPES}")),
        };
        Ok(Ask::Answer {
            messages,
            max_tokens,
            right,
        })
    }

    /// The field by which the answer is judged.
    fn judge(&self) -> Result<&'static str, String> {
        let fields = [
            ("expected", self.expected.is_some()),
            ("pattern", self.pattern.is_some()),
            ("schema", self.schema.is_some()),
            ("choices", self.choices.is_some()),
            ("reference", self.reference.is_some()),
            ("text", self.text.is_some()),
        ];
        let given = fields.iter().filter(|(_, given)| *given);
        let given: Vec<&'static str> = given.map(|(name, _)| *name).collect();
        match given[..] {
            [] => Err(format!("has nothing to judge an answer by: {SHAPES}")),
            ["schema"] => Err("`schema` is not built yet: use `expected` or `pattern`".to_owned()),
            [judge] => Ok(judge),
            _ => Err(format!(
                "has `{}`: an answer is judged by one of them",
                given.join("` and `")
            )),
        }
    }
}

/// What is said before the answer.
fn asked(
    prompt: Option<String>,
    system: Option<String>,
    messages: Option<Vec<Message>>,
) -> Result<Vec<Message>, String> {
    let message = |role, content| Message { role, content };
    let messages = match (prompt, messages) {
        (Some(prompt), None) => {
            let system = system.map(|system| message(Role::System, system));
            system
                .into_iter()
                .chain([message(Role::User, prompt)])
                .collect()
        }
        (None, Some(_)) if system.is_some() => {
            return Err(
                "has `system` beside `messages`: make it the first of them, of role system"
                    .to_owned(),
            );
        }
        (None, Some(messages)) => messages,
        (Some(_), Some(_)) => {
            return Err("has `prompt` and `messages`: ask by one of them".to_owned());
        }
        (None, None) => return Err(format!("asks nothing: {SHAPES}")),
    };
    example::prompt(&messages)?;
    Ok(messages)
}

/// Whether a text can be the assistant's turn. Templates put what ends it right behind it.
fn answer(field: &str, text: &str) -> Result<(), String> {
    example::content(text).map_err(|why| format!("`{field}` {why}"))?;
    if text.trim() != text {
        return Err(format!(
            "`{field}` has white space around \"{}\": take it off",
            text.trim()
        ));
    }
    Ok(())
}

/// The place of the right choice.
fn chosen(choices: &[String], right: Option<&str>) -> Result<usize, String> {
    if !(2..=CHOICES).contains(&choices.len()) {
        let count = choices.len();
        return Err(format!("has {count} `choices`: give 2 to {CHOICES}"));
    }
    let mut seen = HashSet::new();
    for choice in choices {
        answer("choices", choice)?;
        if !seen.insert(choice) {
            return Err(format!("has the choice \"{choice}\" twice"));
        }
    }
    let right = right.ok_or("has `choices` without `answer`: say which one is right")?;
    let place = choices.iter().position(|choice| choice == right);
    place.ok_or_else(|| format!("has the `answer` \"{right}\", which is none of its `choices`"))
}

fn texts(expected: Texts) -> Result<Vec<String>, String> {
    let texts = match expected {
        Texts::One(text) => vec![text],
        Texts::Many(texts) => texts,
    };
    if texts.is_empty() || texts.iter().any(|text| text.trim().is_empty()) {
        return Err("has an `expected` that is empty: say what is right".to_owned());
    }
    Ok(texts)
}

fn regex(pattern: &str) -> Result<Regex, String> {
    let regex = Regex::new(pattern).map_err(|e| {
        // The last line says what; those before it draw where.
        let drawn = e.to_string();
        let what = drawn.lines().last().unwrap_or_default();
        format!(
            "`pattern` does not read: {}",
            what.trim_start_matches("error: ")
        )
    })?;
    if regex.is_match("") {
        return Err(
            "`pattern` matches an answer that says nothing, too: let something be there".to_owned(),
        );
    }
    Ok(regex)
}
