//! A decoder's weights, read where they lie.

use crate::ModelError;
use crate::decoder::llama::{Llama, Part, RmsNorm};
use crate::kernels::train::Weight;

#[derive(Debug)]
pub(super) struct Network {
    /// `[vocabulary, hidden]`.
    pub words: Weight,
    pub layers: Vec<Layer>,
    pub norm: Norm,
    /// `[hidden, vocabulary]`, where the embeddings of tokens do not give the logits.
    pub head: Option<Weight>,
    /// Columns of a head.
    pub size: usize,
}

#[derive(Debug)]
pub(super) struct Layer {
    pub attention_norm: Norm,
    pub mlp_norm: Norm,
    /// `[inputs, outputs]`, in the order of [`Part`].
    linears: Vec<Weight>,
}

#[derive(Debug)]
pub(super) struct Norm {
    pub gamma: Weight,
    pub epsilon: f32,
}

impl Layer {
    pub fn linear(&self, part: Part) -> &Weight {
        &self.linears[part as usize]
    }
}

impl Norm {
    fn of(norm: &RmsNorm) -> Result<Self, ModelError> {
        Ok(Self {
            gamma: Weight::of_row(&norm.gamma)?,
            epsilon: norm.epsilon,
        })
    }
}

impl Network {
    /// Shares the weights; refuses those on another device than the CPU.
    pub fn of(llama: &Llama) -> Result<Self, ModelError> {
        let layers = llama.layers.iter().map(|layer| {
            let linears = layer.linears();
            let linears = linears.into_iter().map(|linear| Weight::of(&linear.weight));
            Ok(Layer {
                attention_norm: Norm::of(&layer.attention_norm)?,
                mlp_norm: Norm::of(&layer.mlp_norm)?,
                linears: linears.collect::<Result<_, ModelError>>()?,
            })
        });
        let head = llama.head.as_ref();
        Ok(Self {
            words: Weight::of(&llama.words)?,
            layers: layers.collect::<Result<_, ModelError>>()?,
            norm: Norm::of(&llama.norm)?,
            head: head.map(|head| Weight::of(&head.weight)).transpose()?,
            size: llama.size,
        })
    }

    pub fn hidden(&self) -> usize {
        self.words.columns()
    }

    pub fn vocabulary(&self) -> usize {
        self.words.rows()
    }
}
