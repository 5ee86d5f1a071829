use loci_digest::{Digest, Hasher};

use crate::{Decoder, Message, ModelError};

/// Who is learned from.
const ASSISTANT: &str = "assistant";

/// A text to learn from: its tokens, and which of them are to be predicted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    tokens: Vec<u32>,
    targets: Vec<bool>,
}

impl Example {
    /// Tokens, of which those marked in `targets` are learned, each from all that come before it. What comes after
    /// the last target is left out, because nothing is learned from it.
    ///
    /// # Errors
    /// [`ModelError::Example`] when there are not as many marks as tokens, when none is a target, or when the first
    /// token is one.
    pub fn new(mut tokens: Vec<u32>, mut targets: Vec<bool>) -> Result<Self, ModelError> {
        let refuse = |reason: String| Err(ModelError::Example(reason));
        if tokens.len() != targets.len() {
            let (tokens, marks) = (tokens.len(), targets.len());
            return refuse(format!("it has {tokens} tokens and marks for {marks}"));
        }
        let Some(last) = targets.iter().rposition(|target| *target) else {
            let reason = "no token is a target, so that there is nothing to learn; a chat needs a turn of the assistant";
            return refuse(reason.to_owned());
        };
        if targets[0] {
            let reason = "its first token is a target, and nothing comes before it; begin with the model's own mark, or an end of text";
            return refuse(reason.to_owned());
        }
        tokens.truncate(last + 1);
        targets.truncate(last + 1);
        Ok(Self { tokens, targets })
    }

    /// A chat of which each turn of the assistant is learned, with the token that ends the turn. Where turns begin
    /// and end is found by rendering the chat up to there by the model's own template; training thus sees each turn
    /// after exactly the tokens that serving sends.
    ///
    /// # Errors
    /// [`ModelError::Chat`] when the template refuses the chat; [`ModelError::Example`] when a turn does not stand in
    /// the whole as it stands alone, when no token of [`crate::DecoderIdentity::ends`] ends it, or when no turn is
    /// the assistant's.
    pub fn chat(decoder: &Decoder, messages: &[Message]) -> Result<Self, ModelError> {
        Self::learned(decoder, messages, 0)
    }

    /// A chat of which the last turn alone is learned, which is the assistant's: those before it are read.
    ///
    /// # Errors
    /// As [`Self::chat`].
    pub fn answer(decoder: &Decoder, messages: &[Message]) -> Result<Self, ModelError> {
        Self::learned(decoder, messages, messages.len().saturating_sub(1))
    }

    /// Learned are the turns of the assistant from the one at `first` on.
    fn learned(decoder: &Decoder, messages: &[Message], first: usize) -> Result<Self, ModelError> {
        let whole = decoder.chat_tokens(messages, false)?;
        let mut targets = vec![false; whole.len()];
        for (i, message) in messages.iter().enumerate().skip(first) {
            if message.role != ASSISTANT {
                continue;
            }
            let refuse = |reason: &str| {
                let turn = i + 1;
                Err(ModelError::Example(format!("turn {turn}: {reason}")))
            };
            let before = decoder.chat_tokens(&messages[..i], true)?;
            let through = decoder.chat_tokens(&messages[..=i], false)?;
            if !through.starts_with(&before) {
                return refuse(
                    "the model's template does not write the answer right after the prompt to it (or one token spans both), so that where it begins cannot be told; take off white space around the answer, or write out prompt and answer",
                );
            }
            if !whole.starts_with(&through) {
                return refuse(
                    "the model's template writes the turn otherwise when others follow, so that it cannot be told from them; make an example of each answer, the last turn of its chat",
                );
            }
            let ends = &decoder.identity().ends;
            let answer = &through[before.len()..];
            let Some(end) = answer.iter().rposition(|token| ends.contains(token)) else {
                return refuse(
                    "the model's template ends it with no token that ends a text for the model, so that it would never learn to stop; name that token in eos_token_id of generation_config.json",
                );
            };
            targets[before.len()..=before.len() + end].fill(true);
        }
        Self::new(whole, targets)
    }

    /// Its tokens, up to the last target.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Which of the tokens are learned.
    pub fn targets(&self) -> &[bool] {
        &self.targets
    }

    /// How many tokens are learned.
    pub fn count(&self) -> usize {
        self.targets.iter().filter(|target| **target).count()
    }
}

/// The digest of examples in their order.
pub(super) fn digest(examples: &[Example]) -> Digest {
    let mut hasher = Hasher::default();
    for example in examples {
        hasher.update((example.tokens.len() as u64).to_le_bytes());
        for (token, target) in example.tokens.iter().zip(&example.targets) {
            hasher.update(token.to_le_bytes());
            hasher.update([u8::from(*target)]);
        }
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_ends_with_its_last_target() {
        let example = Example::new(vec![1, 2, 3, 4], vec![false, true, true, false]).unwrap();
        assert_eq!(example.tokens(), [1, 2, 3]);
        assert_eq!(
            (example.targets(), example.count()),
            ([false, true, true].as_slice(), 2)
        );
    }

    #[test]
    fn what_cannot_be_learned_is_refused() {
        for (tokens, targets, part) in [
            (vec![], vec![], "nothing to learn"),
            (vec![1, 2], vec![false, false], "nothing to learn"),
            (vec![1, 2], vec![true, false], "first token"),
            (vec![1, 2], vec![true], "2 tokens and marks for 1"),
        ] {
            let message = Example::new(tokens, targets).unwrap_err().to_string();
            assert!(message.contains(part), "\"{part}\" is not in: {message}");
        }
    }

    #[test]
    fn the_digest_tells_tokens_marks_and_their_borders() {
        let example = |tokens: &[u32], targets: &[bool]| {
            Example::new(tokens.to_vec(), targets.to_vec()).unwrap()
        };
        let sets = [
            vec![example(&[1, 2, 3], &[false, true, true])],
            vec![example(&[1, 2, 3], &[false, false, true])],
            vec![example(&[1, 2, 4], &[false, true, true])],
            vec![example(&[1, 2, 3], &[false, true, true]); 2],
            vec![],
        ];
        for (i, set) in sets.iter().enumerate() {
            assert_eq!(digest(set), digest(&set.clone()));
            assert!(sets[..i].iter().all(|other| digest(other) != digest(set)));
        }
    }
}
