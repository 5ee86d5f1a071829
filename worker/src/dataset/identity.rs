//! What makes two examples the same, and which of them are held out.

use loci_digest::{Digest, Hasher};

use crate::example::{Example, Message, Role};

/// With each run of white space as one space, and none at the ends.
pub(super) fn plain(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The digest of all that an example says, whatever its white space.
pub(super) fn identity(example: &Example) -> Digest {
    digest("loci/example/v1", example.messages.iter())
}

/// Whether an example is among the `percent` of a hundred that are held out. That depends on what is asked alone: all that
/// user and assistant say before the last answer. So two answers to one question are never parted, other examples move
/// nothing, and a larger share only adds.
pub(super) fn held_out(example: &Example, percent: u8) -> bool {
    let before = example.messages.split_last();
    let before = before.map_or(&[][..], |(_, before)| before);
    let asked = before.iter().filter(|m| m.role != Role::System);
    let digest = digest("loci/held-out/v1", asked);
    let head = digest.as_bytes().iter().take(8);
    let head = head.fold(0_u64, |n, byte| (n << 8) | u64::from(*byte));
    (u128::from(head) * 100) >> 64 < u128::from(percent)
}

fn digest<'a>(label: &str, messages: impl Iterator<Item = &'a Message>) -> Digest {
    let mut hasher = Hasher::default();
    hasher.update(label);
    for message in messages {
        let text = plain(&message.content);
        hasher
            .update(message.role.as_str())
            .update((text.len() as u64).to_le_bytes())
            .update(text);
    }
    hasher.finish()
}
