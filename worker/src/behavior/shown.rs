//! Cases as they are asked with what an index finds for them.

use loci_index::Hit;

use super::ask::AskError;
use super::cases::{Ask, Case};
use crate::passages::Inserter;

/// The case with passages before its last question, and how many there are. A text that is asked nothing has none.
pub(crate) fn shown(
    inserter: &Inserter<'_>,
    case: &Case,
    hits: &[Hit],
) -> Result<(Case, usize), AskError> {
    let Some(asked) = case.ask.messages() else {
        return Ok((case.clone(), 0));
    };
    let most = match &case.ask {
        Ask::Answer { max_tokens, .. } => Some(*max_tokens),
        _ => None,
    };
    let put = inserter.put(asked, hits, most, |_| Ok(true));
    let put = put.map_err(|e| AskError::Case {
        id: case.id.clone(),
        reason: e.to_string(),
    })?;
    let mut case = case.clone();
    match &mut case.ask {
        Ask::Answer {
            messages,
            max_tokens,
            ..
        } => {
            *messages = put.messages;
            // As in serving, an answer that is to be longer than half of what a chat may have is cut.
            *max_tokens = put.left.map_or(*max_tokens, |left| left.min(*max_tokens));
        }
        Ask::Choice { messages, .. } | Ask::Reference { messages, .. } => *messages = put.messages,
        Ask::Text(_) => {}
    }
    Ok((case, put.passages))
}
