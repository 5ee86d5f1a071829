//! What a conversation must be to be learnt from, or to be asked.

use super::{EXAMPLE_BYTES, Example, MESSAGES, Message, Role};

/// What marks turns in the chat templates of the field, besides names between `<|` and `|>`.
const MARKS: [&str; 5] = [
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<start_of_turn>",
    "<end_of_turn>",
];

/// The conversation, when it can be used.
pub(super) fn conversation(messages: Vec<Message>) -> Result<Example, String> {
    let turns = turns(&messages)?;
    if turns == 0 || !turns.is_multiple_of(2) {
        return Err(
            "does not end with a message of assistant: only what the assistant says is learnt"
                .to_owned(),
        );
    }
    contents(&messages)?;
    Ok(Example { messages })
}

/// Whether the messages can be asked: the next turn is the assistant's.
pub(crate) fn prompt(messages: &[Message]) -> Result<(), String> {
    if turns(messages)?.is_multiple_of(2) {
        return Err("does not end with a message of user: nothing is asked".to_owned());
    }
    contents(messages)
}

/// A pair as a conversation.
pub(super) fn pair(
    system: Option<String>,
    prompt: String,
    response: String,
) -> Result<Example, String> {
    let message = |role, content| Message { role, content };
    let mut messages = Vec::with_capacity(3);
    messages.extend(system.map(|system| message(Role::System, system)));
    messages.push(message(Role::User, prompt));
    messages.push(message(Role::Assistant, response));
    conversation(messages)
}

/// How many turns user and assistant take.
fn turns(messages: &[Message]) -> Result<usize, String> {
    if messages.len() > MESSAGES {
        return Err(format!(
            "has {} messages, more than the {MESSAGES} that an example may have: split it",
            messages.len()
        ));
    }
    let bytes: usize = messages.iter().map(|m| m.content.len()).sum();
    if bytes > EXAMPLE_BYTES {
        return Err(format!(
            "says {bytes} bytes, more than the {EXAMPLE_BYTES} that an example may have: shorten it"
        ));
    }
    let turns = match messages {
        [first, turns @ ..] if first.role == Role::System => turns,
        turns => turns,
    };
    let before = messages.len() - turns.len();
    for (i, message) in turns.iter().enumerate() {
        let due = if i.is_multiple_of(2) {
            Role::User
        } else {
            Role::Assistant
        };
        if message.role != due {
            return Err(format!(
                "message {} is of {} where one of {} is due: a system message may come first, then user and assistant take turns",
                before + i + 1,
                message.role.as_str(),
                due.as_str()
            ));
        }
    }
    Ok(turns.len())
}

fn contents(messages: &[Message]) -> Result<(), String> {
    for (i, message) in messages.iter().enumerate() {
        content(&message.content).map_err(|why| format!("message {} {why}", i + 1))?;
    }
    Ok(())
}

/// Whether the text can stand in a conversation.
pub(crate) fn content(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("is empty".to_owned());
    }
    if let Some(mark) = mark(text) {
        return Err(format!(
            "holds {mark}, which marks turns in chat templates, so that text could pass for a turn: write it otherwise"
        ));
    }
    if let Some(hidden) = text.chars().find(|c| is_hidden(*c)) {
        return Err(format!(
            "holds the character U+{:04X}, which nobody sees: take it out",
            u32::from(hidden)
        ));
    }
    Ok(())
}

/// The first mark of a turn.
fn mark(text: &str) -> Option<&str> {
    let known = MARKS.into_iter().find(|mark| text.contains(mark));
    let mut starts = text.match_indices("<|");
    known.or_else(|| starts.find_map(|(start, _)| token(&text[start..])))
}

/// The special token that the text begins with: `<|im_start|>` and kin.
fn token(text: &str) -> Option<&str> {
    let of_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.:".contains(byte);
    let name = text.bytes().skip(2).take_while(of_name).count();
    let end = 2 + name;
    (name > 0 && text[end..].starts_with("|>")).then(|| &text[..end + 2])
}

/// Control characters other than those of white space, overrides of the direction of writing, and tags.
pub(super) fn is_hidden(c: char) -> bool {
    match c {
        '\n' | '\r' | '\t' => false,
        '\u{202d}' | '\u{202e}' | '\u{e0000}'..='\u{e007f}' => true,
        c => c.is_control(),
    }
}
