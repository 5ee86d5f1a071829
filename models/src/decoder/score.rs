//! How likely given continuations are.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use loci_digest::Digest;
use rayon::prelude::*;

use super::cache::Cache;
use super::{Decoder, TOKENS, Text, adapters};
use crate::kernels::decoder::log_sum_exp;
use crate::lora::Routes;
use crate::{Adapter, ModelError};

/// Rows of logits held at once.
const ROWS: usize = 256;

/// Tokens held at once in the caches of continuations.
const HELD: usize = 4 * TOKENS;

/// A text, and tokens that may follow it.
#[derive(Clone, Copy, Debug)]
pub struct Continuation<'a> {
    /// The tokens of the text.
    pub prompt: &'a [u32],
    /// The tokens that follow.
    pub tokens: &'a [u32],
    /// The adapter by which both are read, if by one. Continuations of one call may have different ones.
    pub adapter: Option<&'a Adapter>,
}

/// A prompt with those of the continuations that begin with it, by the same adapter.
struct Group<'a> {
    prompt: Text<'a>,
    items: Vec<usize>,
}

/// A token whose probability is asked for.
struct Wanted {
    /// The row of what the last layer says of the token before it.
    row: usize,
    token: u32,
    /// Which continuation it is of, and where in it.
    item: usize,
    at: usize,
}

impl Decoder {
    /// The natural logarithm of the probability of each token of each continuation, given its prompt and the tokens
    /// before it. Continuations of the same prompt share its computation.
    ///
    /// # Errors
    /// When a prompt has no tokens, a text has more than the context or one that is not in the vocabulary, an adapter
    /// is another model's, or the weights yield logits that are not finite.
    pub fn log_probabilities(
        &self,
        continuations: &[Continuation<'_>],
    ) -> Result<Vec<Vec<f32>>, ModelError> {
        let mut out = Vec::with_capacity(continuations.len());
        for Continuation {
            prompt,
            tokens,
            adapter,
        } in continuations
        {
            self.check(prompt)?;
            self.check(&[*prompt, *tokens].concat())?;
            self.check_adapter(*adapter)?;
            out.push(vec![0.0; tokens.len()]);
        }
        let groups = groups(continuations);
        let mut rest = groups.as_slice();
        while !rest.is_empty() {
            let mut tokens = 0;
            let fitting = rest.iter().take_while(|group| {
                tokens += group.prompt.tokens.len();
                tokens <= TOKENS
            });
            let count = fitting.count().max(1);
            let (batch, further) = rest.split_at(count);
            self.score(batch, continuations, &mut out)?;
            rest = further;
        }
        Ok(out)
    }

    fn score(
        &self,
        groups: &[Group<'_>],
        continuations: &[Continuation<'_>],
        out: &mut [Vec<f32>],
    ) -> Result<(), ModelError> {
        let prompts: Vec<Text<'_>> = groups.iter().map(|group| group.prompt).collect();
        let members: Vec<(usize, usize)> = groups
            .iter()
            .enumerate()
            .flat_map(|(row, group)| group.items.iter().map(move |&item| (row, item)))
            .collect();
        let lengths = members.iter().map(|&(_, item)| {
            let Continuation { prompt, tokens, .. } = continuations[item];
            prompt.len() + tokens.len()
        });
        let room = lengths.max().unwrap_or(0);
        let mut cache = self.cache(prompts.len(), room);
        let lasts = self.prefill(&prompts, &mut cache);
        let firsts = members.iter().filter_map(|&(row, item)| {
            let token = *continuations[item].tokens.first()?;
            let at = 0;
            Some(Wanted {
                row,
                token,
                item,
                at,
            })
        });
        self.collect(lasts, &firsts.collect::<Vec<_>>(), out)?;
        let adapters = adapters(&prompts);
        for part in members.chunks((HELD / room.max(1)).max(1)) {
            self.score_further(part, &cache, &adapters, continuations, out)?;
        }
        Ok(())
    }

    /// The probabilities of all tokens after the first, of continuations that each go on from a sequence of the cache.
    fn score_further(
        &self,
        members: &[(usize, usize)],
        cache: &Cache,
        adapters: &[Option<&Adapter>],
        continuations: &[Continuation<'_>],
        out: &mut [Vec<f32>],
    ) -> Result<(), ModelError> {
        let (mut of, mut new) = (Vec::new(), Vec::new());
        let (mut ids, mut wanted) = (Vec::new(), Vec::new());
        for &(row, item) in members {
            let tokens = continuations[item].tokens;
            let Some((_, read)) = tokens.split_last().filter(|(_, read)| !read.is_empty()) else {
                continue;
            };
            wanted.extend(tokens[1..].iter().enumerate().map(|(i, &token)| Wanted {
                row: ids.len() + i,
                token,
                item,
                at: i + 1,
            }));
            of.push(row);
            new.push(read.len());
            ids.extend_from_slice(read);
        }
        if ids.is_empty() {
            return Ok(());
        }
        let own: Vec<Option<&Adapter>> = of.iter().map(|&row| adapters[row]).collect();
        let routes = Routes::new(&own, &new);
        let hidden = self.forward(&ids, &new, &routes, &mut cache.fork(&of));
        self.collect(hidden, &wanted, out)
    }

    /// Puts the probabilities of wanted tokens, which are in the order of their rows, where they belong.
    fn collect(
        &self,
        hidden: Tensor<2>,
        wanted: &[Wanted],
        out: &mut [Vec<f32>],
    ) -> Result<(), ModelError> {
        let [count, _] = hidden.dims();
        let vocabulary = self.config.vocabulary;
        let mut rest = wanted;
        for start in (0..count).step_by(ROWS) {
            let end = count.min(start + ROWS);
            let rows = hidden.clone().narrow(0, start, end - start);
            let logits = self.read_logits(rows)?;
            let sums: Vec<f32> = logits.par_chunks(vocabulary).map(log_sum_exp).collect();
            if !sums.iter().all(|sum| sum.is_finite()) {
                let reason = "the weights yield logits that are not finite";
                return Err(ModelError::Compute(reason.to_owned()));
            }
            let (here, further) = rest.split_at(rest.partition_point(|wanted| wanted.row < end));
            for wanted in here {
                let row = wanted.row - start;
                let logit = logits[row * vocabulary + wanted.token as usize];
                out[wanted.item][wanted.at] = logit - sums[row];
            }
            rest = further;
        }
        Ok(())
    }
}

/// The continuations by their prompts and adapters, the longest prompts first.
fn groups<'a>(continuations: &[Continuation<'a>]) -> Vec<Group<'a>> {
    let mut by_prompt: BTreeMap<(&[u32], Option<Digest>), Group<'a>> = BTreeMap::new();
    for (item, continuation) in continuations.iter().enumerate() {
        let Continuation {
            prompt, adapter, ..
        } = *continuation;
        let group = by_prompt.entry((prompt, adapter.map(Adapter::digest)));
        let group = group.or_insert_with(|| Group {
            prompt: Text {
                tokens: prompt,
                adapter,
            },
            items: Vec::new(),
        });
        group.items.push(item);
    }
    let mut groups: Vec<Group<'_>> = by_prompt.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.prompt.tokens.len()));
    groups
}
