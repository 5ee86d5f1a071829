//! Markdown runbooks: the front matter says what the text answers.
//!
//! | front matter | examples |
//! |---|---|
//! | `prompt`: a text, or a list of them | each prompt, answered by the text without its title; `answer` narrows that to the section of this heading |
//! | `examples: sections` | each section of the second level: its heading asks, what stands below it answers |
//! | `examples`: a list | each item by itself, as a line of JSON Lines |
//! | `system` | a system message before each of them that has none |
//!
//! Whatever else the front matter says is for people.

use std::fmt;
use std::ops::Range;

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};
use serde::de::{self, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_saphyr::{Location, MessageFormatter, Spanned, UserMessageFormatter};

use super::{Examples, Made, PROMPTS, RUNBOOK_BYTES, check, lines};
use crate::document::front_matter;

const NOTHING: &str = "does not say what it answers: begin it with front matter that has `prompt` or `examples`, or exclude it from the source";

/// The line, where one is to blame, and the reason.
type Refusal = (Option<usize>, String);

#[derive(Deserialize)]
struct FrontMatter {
    system: Option<String>,
    prompt: Option<Spanned<Texts>>,
    answer: Option<Spanned<String>>,
    examples: Option<Spanned<Given>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "`prompt` must be a text or a list of texts")]
enum Texts {
    One(String),
    Many(Vec<String>),
}

/// `examples`.
enum Given {
    Sections,
    Each(Vec<Spanned<Value>>),
}

pub(super) fn parse(bytes: &[u8], document: &str) -> Examples {
    let mut runbook = Runbook {
        document,
        examples: Examples::default(),
    };
    if let Err((line, reason)) = runbook.read(bytes) {
        runbook.examples.refuse(document, line, &reason);
    }
    runbook.examples
}

struct Runbook<'a> {
    document: &'a str,
    examples: Examples,
}

impl Runbook<'_> {
    fn read(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        if bytes.len() > RUNBOOK_BYTES {
            let reason = format!(
                "is {} bytes, more than the {RUNBOOK_BYTES} that a runbook may have: split it",
                bytes.len()
            );
            return Err((None, reason));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = newlines(&bytes[..e.valid_up_to()]) + 1;
            (
                Some(line),
                "is not valid UTF-8: convert it to UTF-8".to_owned(),
            )
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let (yaml, start) = front_matter(text).ok_or_else(|| (None, NOTHING.to_owned()))?;
        let matter = FrontMatter::read(yaml)?;
        if matter.prompt.is_none() && matter.examples.is_none() {
            return Err((None, NOTHING.to_owned()));
        }
        let body = Body::new(&text[start..], newlines(&text.as_bytes()[..start]));
        let system = matter.system.as_deref();
        match (matter.prompt, matter.answer) {
            (Some(prompt), answer) => self.prompts(system, prompt, answer, &body)?,
            (None, Some(answer)) => {
                let reason = "`answer` says which section answers `prompt`, and there is none";
                return Err((Some(line(answer.referenced)), reason.to_owned()));
            }
            (None, None) => {}
        }
        match matter.examples.map(|given| given.value) {
            Some(Given::Sections) => self.sections(system, &body),
            Some(Given::Each(items)) => self.each(system, items),
            None => {}
        }
        Ok(())
    }

    /// Prompts that the text answers, or a section of it.
    fn prompts(
        &mut self,
        system: Option<&str>,
        prompt: Spanned<Texts>,
        answer: Option<Spanned<String>>,
        body: &Body<'_>,
    ) -> Result<(), Refusal> {
        let line_of_prompt = line(prompt.referenced);
        let prompts = match prompt.value {
            Texts::One(prompt) => vec![prompt],
            Texts::Many(prompts) => prompts,
        };
        if prompts.is_empty() || prompts.len() > PROMPTS {
            let reason = format!(
                "`prompt` has {} texts: give 1 to {PROMPTS}, or several runbooks",
                prompts.len()
            );
            return Err((Some(line_of_prompt), reason));
        }
        let text = match &answer {
            Some(heading) => body
                .section(&heading.value)
                .map_err(|reason| (Some(line(heading.referenced)), reason))?,
            None => body.without_title(),
        };
        for prompt in prompts {
            let made = check::pair(system.map(str::to_owned), prompt, text.to_owned());
            self.take(line_of_prompt, made.map(Made::nameless));
        }
        Ok(())
    }

    fn sections(&mut self, system: Option<&str>, body: &Body<'_>) {
        let (mut any, system) = (false, system.map(str::to_owned));
        for (i, heading) in body.headings.iter().enumerate() {
            if heading.level == 2 {
                any = true;
                let answer = body.below(i).to_owned();
                let made = check::pair(system.clone(), heading.text.clone(), answer);
                self.take(heading.line, made.map(Made::nameless));
            }
        }
        if !any {
            let reason = "has no section of the second level (`## …`), which `examples: sections` makes examples of";
            self.examples.refuse(self.document, None, reason);
        }
    }

    fn each(&mut self, system: Option<&str>, items: Vec<Spanned<Value>>) {
        for item in items {
            let read = serde_json::from_value::<lines::Line>(item.value);
            let made = read.map_err(|e| format!("is no example: {e}"));
            let made = made.and_then(|read| read.example(system));
            self.take(line(item.referenced), made);
        }
    }

    fn take(&mut self, line: usize, made: Result<Made, String>) {
        self.examples.take(self.document, line, made);
    }
}

impl Made {
    fn nameless(example: super::Example) -> Self {
        Self { id: None, example }
    }
}

impl FrontMatter {
    fn read(yaml: &str) -> Result<Self, Refusal> {
        if yaml.trim().is_empty() {
            return Err((None, NOTHING.to_owned()));
        }
        let options = serde_saphyr::options! {
            with_snippet: false,
            budget: serde_saphyr::budget! { max_depth: 32, max_nodes: 100_000, max_aliases: 100, max_anchors: 100 },
            alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 10_000 },
        };
        serde_saphyr::from_str_with_options(yaml, options).map_err(|error| {
            let reason = UserMessageFormatter.format_message(&error);
            let reason = reason.lines().next().unwrap_or_default();
            (
                error.location().map(line),
                format!("its front matter does not read: {reason}"),
            )
        })
    }
}

/// The line of the file: the front matter begins on its second.
fn line(location: Location) -> usize {
    usize::try_from(location.line()).unwrap_or(usize::MAX - 1) + 1
}

fn newlines(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GivenVisitor)
    }
}

struct GivenVisitor;

impl<'de> Visitor<'de> for GivenVisitor {
    type Value = Given;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`sections`, or a list of examples")
    }

    fn visit_str<E: de::Error>(self, v: &str) -> Result<Given, E> {
        match v {
            "sections" => Ok(Given::Sections),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Given, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Given::Each(items))
    }
}

/// The text below the front matter.
struct Body<'a> {
    text: &'a str,
    /// Those that stand by themselves, not in quotations or lists.
    headings: Vec<Heading>,
}

struct Heading {
    level: u8,
    text: String,
    /// Of the file.
    line: usize,
    range: Range<usize>,
}

/// The last heading goes on.
fn say(headings: &mut [Heading], text: &str) {
    if let Some(heading) = headings.last_mut() {
        heading.text.push_str(text);
    }
}

impl<'a> Body<'a> {
    /// Of a text before which the file has so many lines.
    fn new(text: &'a str, lines_before: usize) -> Self {
        let mut headings: Vec<Heading> = Vec::new();
        let (mut depth, mut seen, mut line) = (0_usize, 0, lines_before + 1);
        let mut open = false;
        for (event, range) in Parser::new_ext(text, Options::ENABLE_TABLES).into_offset_iter() {
            match event {
                Event::Start(Tag::Heading { level, .. }) if depth == 0 => {
                    line += newlines(&text.as_bytes()[seen..range.start]);
                    seen = range.start;
                    headings.push(Heading {
                        level: level as u8,
                        text: String::new(),
                        line,
                        range,
                    });
                    (depth, open) = (1, true);
                }
                Event::Start(_) => depth += 1,
                Event::End(end) => {
                    depth = depth.saturating_sub(1);
                    open &= !matches!(end, TagEnd::Heading(_));
                }
                Event::Text(run) | Event::Code(run) if open => say(&mut headings, &run),
                Event::SoftBreak | Event::HardBreak if open => say(&mut headings, " "),
                _ => {}
            }
        }
        Self { text, headings }
    }

    /// All of it but a title that it begins with.
    fn without_title(&self) -> &'a str {
        let title = self
            .headings
            .first()
            .filter(|first| first.level == 1 && self.text[..first.range.start].trim().is_empty());
        self.text[title.map_or(0, |title| title.range.end)..].trim()
    }

    /// What stands below a heading, up to the next that is not below it.
    fn below(&self, index: usize) -> &'a str {
        let Some((heading, rest)) = self.headings[index..].split_first() else {
            return "";
        };
        let next = rest.iter().find(|next| next.level <= heading.level);
        let end = next.map_or(self.text.len(), |next| next.range.start);
        self.text[heading.range.end..end].trim()
    }

    fn section(&self, wanted: &str) -> Result<&'a str, String> {
        let found = self.headings.iter().position(|h| h.text == wanted.trim());
        found.map(|index| self.below(index)).ok_or_else(|| {
            let all: Vec<&str> = self.headings.iter().map(|h| h.text.as_str()).collect();
            format!(
                "no section is called \"{}\": its headings are {}",
                wanted.trim(),
                all.join(", ")
            )
        })
    }
}
