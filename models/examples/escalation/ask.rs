//! Tickets put to the model, many at once.

use std::ops::ControlFlow;

use indicatif::ProgressBar;
use loci_models::{Adapter, Decoder, Generation, ModelError, Prompt};

/// Prompts, and tokens of prompts, that are in memory at once: some 400 MB for a model of 135M parameters.
const PROMPTS: usize = 32;
const TOKENS: usize = 8192;

/// The answers to prompts, the likeliest token at a time.
pub fn answers(
    decoder: &Decoder,
    adapter: Option<&Adapter>,
    prompts: &[Vec<u32>],
    options: &Generation,
    bar: &ProgressBar,
) -> Result<Vec<String>, ModelError> {
    let mut answers = Vec::with_capacity(prompts.len());
    let mut rest = prompts;
    while !rest.is_empty() {
        let (batch, further) = rest.split_at(fitting(rest));
        let asked: Vec<Prompt<'_>> = batch
            .iter()
            .map(|tokens| Prompt {
                tokens,
                options,
                adapter,
            })
            .collect();
        let written = decoder.generate(&asked, &mut |_| ControlFlow::Continue(()))?;
        answers.extend(written.into_iter().map(|one| one.text));
        bar.inc(batch.len() as u64);
        rest = further;
    }
    Ok(answers)
}

/// How many of the first prompts are asked together: caches have room for the longest of them each.
fn fitting(prompts: &[Vec<u32>]) -> usize {
    let mut longest = 0;
    let fits = |(place, prompt): &(usize, &Vec<u32>)| {
        longest = longest.max(prompt.len());
        longest * (place + 1) <= TOKENS
    };
    let numbered = prompts.iter().take(PROMPTS).enumerate();
    numbered.take_while(fits).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_by_prompts_and_by_tokens() {
        let of = |lengths: &[usize]| -> Vec<Vec<u32>> {
            lengths.iter().map(|length| vec![1; *length]).collect()
        };
        assert_eq!(fitting(&of(&[10; 100])), PROMPTS);
        assert_eq!(fitting(&of(&[1000; 100])), 8);
        assert_eq!(fitting(&of(&[10, 10, 4000, 10])), 2);
        assert_eq!(fitting(&of(&[10_000, 1])), 1);
    }
}
