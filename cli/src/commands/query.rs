//! `loci query`: asks a running server and shows the cited passages.

use anyhow::{Result, bail};
use clap::Args;
use console::{StyledObject, Term, style};
use loci_recall::wire::{RetrieveRequest, RetrieveResponse};
use serde_json::{Map, Value};

use crate::client::Client;
use crate::commands::Shared;
use crate::output::{self, Output, say};

/// Asks for the passages that answer a question
#[derive(Debug, Args)]
pub struct Query {
    #[command(flatten)]
    question: Question,
    /// The pipeline; needed when the server has several
    #[arg(long)]
    pipeline: Option<String>,
    /// The server; by default the one that `loci up` announced in --state
    #[arg(long, env = "LOCI_URL")]
    url: Option<String>,
}

/// What is asked, whoever answers.
#[derive(Debug, Args)]
pub struct Question {
    /// The question
    text: String,
    /// How many passages
    #[arg(short, long, default_value_t = 5)]
    k: u64,
    /// Only passages whose field has this value; may be given several times (all must hold)
    #[arg(long, value_name = "KEY=VALUE")]
    filter: Vec<String>,
    /// Also say how the search ran
    #[arg(long)]
    explain: bool,
    /// A file with the bearer token
    #[arg(long, env = "LOCI_TOKEN_FILE")]
    pub token_file: Option<std::path::PathBuf>,
}

impl Query {
    /// Asks and prints.
    pub async fn run(self, shared: &Shared) -> Result<()> {
        let token = self.question.token_file.clone();
        let client = Client::find(self.url, token.as_deref(), &shared.state)?;
        self.question
            .ask(&client, self.pipeline, shared.output)
            .await
    }
}

impl Question {
    /// Asks and prints.
    pub async fn ask(
        self,
        client: &Client,
        pipeline: Option<String>,
        output: Output,
    ) -> Result<()> {
        let request = RetrieveRequest {
            query: self.text,
            k: Some(self.k),
            filters: filters(&self.filter)?,
            pipeline,
            explain: Some(self.explain),
        };
        let answer = client.retrieve(&request).await?;
        match output {
            Output::Json => output::json(&answer),
            Output::Table => {
                show(&answer);
                Ok(())
            }
        }
    }
}

/// `key=value` pairs as a filter. A value is read as a number or a truth value where it is one.
fn filters(pairs: &[String]) -> Result<Option<Map<String, Value>>> {
    let mut clauses = Vec::new();
    for pair in pairs {
        let Some((key, value)) = pair.split_once('=').filter(|(k, _)| !k.is_empty()) else {
            bail!("--filter {pair}: write it as key=value, for example --filter audience=customer");
        };
        let value = match serde_json::from_str::<Value>(value) {
            Ok(v @ (Value::Bool(_) | Value::Number(_))) => v,
            _ => Value::String(value.to_owned()),
        };
        clauses.push(Map::from_iter([(key.to_owned(), value)]));
    }
    Ok(match clauses.len() {
        0 | 1 => clauses.pop(),
        _ => Some(Map::from_iter([(
            "and".to_owned(),
            serde_json::json!(clauses),
        )])),
    })
}

fn show(answer: &RetrieveResponse) {
    let width = usize::from(Term::stdout().size().1).clamp(40, 110);
    for (rank, passage) in answer.passages.iter().enumerate() {
        let c = &passage.citation;
        let title = style(format!("{}. {}", rank + 1, c.document)).bold();
        say!("{title}  {}", dim(format!("score {:.3}", passage.score)));
        if !c.headings.is_empty() {
            say!("   {}", dim(c.headings.join(" > ")));
        }
        for line in excerpt(&passage.text, width - 3, 4) {
            say!("   {line}");
        }
        say!(
            "   {}\n",
            dim(format!("{} bytes {}-{}", c.uri, c.span[0], c.span[1]))
        );
    }
    if answer.passages.is_empty() {
        say!("No passage matches.");
    }
    if let Some(rerank) = &answer.rerank {
        let said = match &rerank.reason {
            None => format!("re-ranked: the best {}", rerank.candidates),
            Some(reason) => format!("not re-ranked: {reason}"),
        };
        say!("{}", dim(said));
    }
    let t = &answer.timings;
    say!(
        "{}",
        dim(format!(
            "release {} · {:.1} ms (embedding {:.1}, search {:.1})",
            answer.release, t.total_ms, t.embed_ms, t.search_ms
        ))
    );
    if let Some(explain) = &answer.explain {
        say!(
            "{}",
            serde_json::to_string_pretty(explain).unwrap_or_default()
        );
    }
}

fn dim(text: String) -> StyledObject<String> {
    style(text).dim()
}

/// The text, wrapped at words, as `lines` lines at most.
fn excerpt(text: &str, width: usize, lines: usize) -> Vec<String> {
    let mut out = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(last) = out.last_mut() else { break };
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            if out.len() == lines {
                if let Some(last) = out.last_mut() {
                    last.push('…');
                }
                break;
            }
            out.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_read_as_a_person_means_them() {
        assert_eq!(filters(&[]).unwrap(), None);
        assert_eq!(
            filters(&["audience=customer".into()]).unwrap(),
            serde_json::json!({"audience": "customer"})
                .as_object()
                .cloned()
        );
        assert_eq!(
            filters(&["a=1".into(), "b=true".into()]).unwrap(),
            serde_json::json!({"and": [{"a": 1}, {"b": true}]})
                .as_object()
                .cloned()
        );
        assert!(filters(&["=x".into()]).is_err());
    }

    #[test]
    fn an_excerpt_wraps_at_words_and_says_when_it_is_cut() {
        assert_eq!(excerpt("one two three", 8, 5), ["one two", "three"]);
        assert_eq!(excerpt("one two three four", 5, 2), ["one", "two…"]);
    }
}
