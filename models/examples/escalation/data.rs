//! The example's data: what is trained on, the runbook, and the suite.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use loci_models::Message;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Turns of a chat.
pub type Chat = Vec<Message>;

/// A case of the suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Its number and the facts that it states.
    pub id: String,
    /// The system message that it is asked with.
    pub system: String,
    /// The ticket.
    pub prompt: String,
    /// The line that answers it.
    pub expected: String,
}

/// A section of the runbook, of the second level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// Its heading.
    pub heading: String,
    /// What stands below it.
    pub text: String,
}

/// All that is trained on and asked.
#[derive(Clone, Debug)]
pub struct Story {
    /// What is trained on; the assistant has the last word.
    pub examples: Vec<Chat>,
    /// The runbook, without its front matter.
    pub protocol: String,
    /// Its sections.
    pub sections: Vec<Section>,
    /// The suite.
    pub cases: Vec<Case>,
}

/// A line of the tickets.
#[derive(Deserialize)]
struct Ticket {
    messages: Chat,
}

/// An example of the runbook's front matter.
#[derive(Deserialize)]
struct Worked {
    prompt: String,
    response: String,
}

impl Story {
    /// Reads the folder of the example.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join("runbooks/triage.md");
        let runbook = text(&path)?;
        let (matter, body) = front_matter(&runbook)
            .with_context(|| format!("{}: it has no front matter", path.display()))?;
        let mut examples = worked(matter).with_context(|| path.display().to_string())?;
        let tickets: Vec<Ticket> = lines(&dir.join("runbooks/tickets.jsonl"))?;
        examples.extend(tickets.into_iter().map(|ticket| ticket.messages));
        let story = Self {
            examples,
            protocol: body.trim().to_owned(),
            sections: sections(body),
            cases: lines(&dir.join("suite.jsonl"))?,
        };
        let all = [
            story.examples.len(),
            story.sections.len(),
            story.cases.len(),
        ];
        ensure!(
            all.iter().all(|count| *count > 0),
            "{}: it has {} examples, {} sections of a runbook and {} cases, and each is needed",
            dir.display(),
            all[0],
            all[1],
            all[2]
        );
        Ok(story)
    }
}

/// A turn of a chat.
pub fn turn(role: &str, content: impl Into<String>) -> Message {
    Message {
        role: role.to_owned(),
        content: content.into(),
    }
}

/// The last thing that is said.
pub fn answer(chat: &[Message]) -> &str {
    chat.last().map_or("", |last| last.content.as_str())
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| {
        format!(
            "{}: it cannot be read; run this at the top of the repository, or name the folder by --data",
            path.display()
        )
    })
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = text(path)?;
    let numbered = text.lines().enumerate();
    let read = numbered.map(|(index, line)| {
        serde_json::from_str(line)
            .with_context(|| format!("{}, line {}", path.display(), index + 1))
    });
    read.collect()
}

fn front_matter(runbook: &str) -> Option<(&str, &str)> {
    runbook.strip_prefix("---\n")?.split_once("\n---\n")
}

/// The front matter's examples: it is written so that its system message and each item are JSON, too.
fn worked(matter: &str) -> Result<Vec<Chat>> {
    let system = matter.lines().find_map(|l| l.strip_prefix("system: "));
    let system: String = serde_json::from_str(system.context("it has no system message")?)?;
    let items = matter.lines().filter_map(|line| line.strip_prefix("- "));
    let chats = items.map(|item| -> Result<Chat> {
        let Worked { prompt, response } = serde_json::from_str(item)?;
        Ok(vec![
            turn("system", &system),
            turn("user", prompt),
            turn("assistant", response),
        ])
    });
    chats.collect()
}

fn sections(body: &str) -> Vec<Section> {
    let parts = body.split("\n## ").skip(1);
    let section = |part: &str| {
        let (heading, text) = part.split_once('\n').unwrap_or((part, ""));
        Section {
            heading: heading.trim().to_owned(),
            text: text.trim().to_owned(),
        }
    };
    parts.map(section).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn story() -> Story {
        Story::read(Path::new("../examples/escalation")).unwrap()
    }

    #[test]
    fn the_data_of_the_repository_read() {
        let story = story();
        assert_eq!((story.examples.len(), story.cases.len()), (200, 360));
        for chat in &story.examples {
            let roles: Vec<_> = chat.iter().map(|m| m.role.as_str()).collect();
            assert_eq!(roles, ["system", "user", "assistant"]);
            assert_eq!(chat[0].content, story.cases[0].system);
            assert!(answer(chat).starts_with("SEV"), "{}", answer(chat));
        }
        let headings: Vec<_> = story.sections.iter().map(|s| s.heading.as_str()).collect();
        assert!(headings.contains(&"Severity") && headings.contains(&"Team payments"));
        assert!(story.protocol.starts_with("# Triage of tickets"));
        assert!(story.sections.iter().all(|s| !s.text.contains("## ")));
    }

    #[test]
    fn what_does_not_read_is_named() {
        let error = Story::read(Path::new("nowhere")).unwrap_err();
        let message = format!("{error:#}");
        assert!(
            message.starts_with("nowhere/runbooks/triage.md"),
            "{message}"
        );
        assert!(message.contains("--data"), "{message}");
        assert!(worked("examples:\n- {}").is_err());
        assert!(worked("system: \"S\"\n- {\"prompt\": \"P\"}").is_err());
        assert_eq!(front_matter("# Title"), None);
    }
}
