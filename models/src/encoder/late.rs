//! Late interaction (ColBERT: Khattab and Zaharia, 2020): a vector for each token, compared token by token.

use std::ops::ControlFlow;

use super::batch::pack;
use super::bert::to_unit;
use super::{EmbedProgress, Encoder, Role, WINDOW, of_each};
use crate::ModelError;
use crate::kernels::product::{View, product_alone};

/// The vectors of the tokens of some texts.
#[derive(Clone, Debug)]
pub struct TokenVectors {
    texts: Vec<Vec<f32>>,
    /// Length of a vector.
    pub dimensions: usize,
    /// Tokens computed, special tokens and prompts included.
    pub tokens: usize,
    /// How many texts were longer than the model's limit and lost their end.
    pub truncated: usize,
}

impl TokenVectors {
    /// The vectors of a text by its place among the texts, row-major, tokens x dimensions, each of unit length; nothing
    /// beyond the last text.
    pub fn of(&self, text: usize) -> &[f32] {
        self.texts.get(text).map_or(&[], Vec::as_slice)
    }

    /// How many texts.
    pub fn len(&self) -> usize {
        self.texts.len()
    }

    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }
}

impl Encoder {
    /// The final hidden states of the tokens of `texts`, each text after the prompt of its `role`, scaled to unit length.
    /// Special tokens have none; those of the prompt do. `progress` is called after each batch and stops the work by
    /// `Break`. Takes 4 bytes x dimensions for each token.
    ///
    /// A text's vectors are the same to the bit whatever it is batched with, as those of [`Encoder::embed`].
    ///
    /// # Errors
    /// As [`Encoder::embed`].
    pub fn token_vectors(
        &self,
        texts: &[&str],
        role: Role,
        progress: &mut dyn FnMut(EmbedProgress) -> ControlFlow<()>,
    ) -> Result<TokenVectors, ModelError> {
        let dimensions = self.dimensions();
        let mut all = TokenVectors {
            texts: vec![Vec::new(); texts.len()],
            dimensions,
            tokens: 0,
            truncated: 0,
        };
        let mut done = EmbedProgress::default();
        for (window, out) in texts.chunks(WINDOW).zip(all.texts.chunks_mut(WINDOW)) {
            let marked = of_each(window, |text| {
                self.tokenizer.marked(&self.prompted(text, role))
            })?;
            let (tokens, own): (Vec<_>, Vec<_>) = marked.into_iter().unzip();
            all.truncated += tokens.iter().filter(|text| text.truncated).count();
            self.network.run(
                &pack(&tokens),
                &|bert, batch, team, work| bert.hidden(batch.sequences(), team, work),
                &mut |batch, hidden| {
                    let mut rows = hidden.chunks_exact(dimensions);
                    for &text in &batch.texts {
                        // As many rows as the text has tokens: the next text's come behind them.
                        let rows = rows.by_ref().take(own[text].len());
                        out[text] = unit_rows(rows.zip(&own[text]), dimensions);
                    }
                    done.add(batch);
                    Ok(progress(done))
                },
            )?;
        }
        all.tokens = done.tokens;
        Ok(all)
    }
}

/// The rows that are a text's own, one after another, each of unit length.
fn unit_rows<'a>(rows: impl Iterator<Item = (&'a [f32], &'a bool)>, dimensions: usize) -> Vec<f32> {
    let own = rows.filter(|(_, own)| **own).map(|(row, _)| row);
    let mut unit: Vec<f32> = own.flatten().copied().collect();
    unit.chunks_exact_mut(dimensions).for_each(to_unit);
    unit
}

/// How well a passage fits a query (MaxSim): the sum, over the tokens of the query, of the largest inner product with a
/// token of the passage. Of unit vectors it lies within plus and minus the number of the query's tokens. A passage
/// without tokens has the least that there is.
///
/// Both are row-major, tokens x `dimensions`; what is beyond the last whole row is not read.
pub fn max_sim(query: &[f32], passage: &[f32], dimensions: usize) -> f32 {
    let width = dimensions.max(1);
    let (asked, said) = (query.len() / width, passage.len() / width);
    if asked == 0 || said == 0 {
        return -(asked as f32);
    }
    let (query, passage) = (&query[..asked * width], &passage[..said * width]);
    let mut products = vec![0.0; said * asked];
    let query = View::new(query, asked, width).transposed();
    product_alone(&mut products, View::new(passage, said, width), query);
    let mut best = vec![f32::NEG_INFINITY; asked];
    for row in products.chunks_exact(asked) {
        best.iter_mut().zip(row).for_each(|(b, v)| *b = b.max(*v));
    }
    best.iter().sum()
}
