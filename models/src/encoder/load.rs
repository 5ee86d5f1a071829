//! The network out of a weights file.

use super::bert::{Bert, Layer, LayerNorm};
use super::config::BertConfig;
use crate::ModelError;
use crate::kernels::Isa;
use crate::kernels::encoder::{LINE, Line, Linear, reserved};
use crate::weights::Weights;

pub(super) fn load(
    config: &BertConfig,
    types: usize,
    weights: &mut Weights,
    isa: Isa,
) -> Result<Bert, ModelError> {
    let prefix = prefix(weights);
    refuse_further_layers(config, weights, prefix)?;
    let packed = reserved(size(weights));
    let mut loader = Loader {
        config,
        weights,
        isa,
        packed,
    };
    let hidden = config.hidden_size;
    let name = |part: &str| format!("{prefix}embeddings.{part}");
    let positions = loader.read(
        &name("position_embeddings.weight"),
        &[config.max_position_embeddings, hidden],
    )?;
    let added = loader.read(
        &name("token_type_embeddings.weight"),
        &[config.type_vocab_size, hidden],
    )?;
    let added = added.chunks_exact(hidden).take(types);
    let rows = added.flat_map(|of_type| positions.chunks_exact(hidden).map(move |p| (p, of_type)));
    let positions: Vec<f32> = rows
        .flat_map(|(position, of_type)| position.iter().zip(of_type).map(|(p, t)| p + t))
        .collect();
    let words = loader.read(
        &name("word_embeddings.weight"),
        &[config.vocab_size, hidden],
    )?;
    Ok(Bert {
        isa,
        words: in_lines(&words, hidden),
        positions: in_lines(&positions, hidden),
        longest: config.max_position_embeddings,
        norm: loader.norm(&name("LayerNorm"))?,
        layers: (0..config.num_hidden_layers)
            .map(|i| loader.layer(&format!("{prefix}encoder.layer.{i}")))
            .collect::<Result<_, _>>()?,
        weights: loader.packed,
        heads: config.num_attention_heads,
        width: hidden,
    })
}

/// What the names of the network's tensors begin with: a model with a head has them below `bert.`.
pub(super) fn prefix(weights: &Weights) -> &'static str {
    if weights.contains("bert.embeddings.word_embeddings.weight") {
        "bert."
    } else {
        ""
    }
}

/// Weights with more layers than config.json counts are another model's: never run a part of it unnoticed.
fn refuse_further_layers(
    config: &BertConfig,
    weights: &Weights,
    prefix: &str,
) -> Result<(), ModelError> {
    let layers = config.num_hidden_layers;
    let further = format!("{prefix}encoder.layer.{layers}.");
    if weights
        .names()
        .iter()
        .any(|name| name.starts_with(&further))
    {
        let reason = format!(
            "holds a layer {layers}, and config.json has num_hidden_layers {layers}, counted from 0; weights and config.json belong to different models"
        );
        return Err(ModelError::config(weights.path(), reason));
    }
    Ok(())
}

/// Lines that the layers have in the file, about as many as they take packed. Not by config.json, which may claim anything.
fn size(weights: &Weights) -> usize {
    let names = weights.names();
    let layers = names.iter().filter(|name| name.contains("encoder.layer."));
    let elements = layers.filter_map(|name| weights.shape(name));
    elements
        .map(|shape| shape.iter().product::<usize>())
        .sum::<usize>()
        .div_ceil(LINE)
}

struct Loader<'a> {
    config: &'a BertConfig,
    weights: &'a mut Weights,
    isa: Isa,
    packed: Vec<Line>,
}

impl Loader<'_> {
    fn read(&mut self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, ModelError> {
        self.weights.read(tensor, shape)
    }

    fn layer(&mut self, prefix: &str) -> Result<Layer, ModelError> {
        let (hidden, wide) = (self.config.hidden_size, self.config.intermediate_size);
        let name = |part: &str| format!("{prefix}.{part}");
        let qkv = ["query", "key", "value"].map(|part| name(&format!("attention.self.{part}")));
        Ok(Layer {
            qkv: self.linear(&qkv, hidden, hidden)?,
            attended: self.linear(&[name("attention.output.dense")], hidden, hidden)?,
            attention_norm: self.norm(&name("attention.output.LayerNorm"))?,
            widen: self.linear(&[name("intermediate.dense")], hidden, wide)?,
            narrow: self.linear(&[name("output.dense")], wide, hidden)?,
            output_norm: self.norm(&name("output.LayerNorm"))?,
        })
    }

    /// Linear layers of the same input side by side, as one.
    fn linear(
        &mut self,
        names: &[String],
        input: usize,
        output: usize,
    ) -> Result<Linear, ModelError> {
        let mut parts = Vec::with_capacity(names.len());
        for name in names {
            let weight = self.read(&format!("{name}.weight"), &[output, input])?;
            parts.push((weight, self.read(&format!("{name}.bias"), &[output])?));
        }
        Ok(Linear::pack(self.isa, &mut self.packed, &parts, input))
    }

    /// The first BERT checkpoints call scale and shift gamma and beta, later ones weight and bias.
    fn norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        let old = self.weights.contains(&format!("{name}.gamma"));
        let [gamma, beta] = if old {
            ["gamma", "beta"]
        } else {
            ["weight", "bias"]
        };
        let hidden = self.config.hidden_size;
        let gamma = self.read(&format!("{name}.{gamma}"), &[hidden])?;
        let beta = self.read(&format!("{name}.{beta}"), &[hidden])?;
        Ok(LayerNorm {
            gamma: in_lines(&gamma, hidden),
            beta: in_lines(&beta, hidden),
            epsilon: self.config.layer_norm_eps,
        })
    }
}

/// Rows of `width` elements in whole lines, filled up with zeros.
fn in_lines(values: &[f32], width: usize) -> Vec<Line> {
    let mut lines = reserved(values.len() / width * width.div_ceil(LINE));
    for part in values.chunks_exact(width).flat_map(|row| row.chunks(LINE)) {
        let mut line = Line::ZERO;
        line.0[..part.len()].copy_from_slice(part);
        lines.push(line);
    }
    lines
}
