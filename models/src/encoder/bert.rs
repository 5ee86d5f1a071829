//! The BERT encoder (Devlin et al., 2018) over packed sequences.

use std::sync::Arc;

use burn::tensor::{Device, Tensor, TensorData};

use super::Pooling;
use super::config::BertConfig;
use crate::ModelError;
use crate::kernels::{self, LayerNorm};
use crate::matrix::transpose;
use crate::weights::Weights;

/// The network with its weights on a device.
#[derive(Debug)]
pub(super) struct Bert {
    words: Tensor<2>,
    /// Position embeddings, to which the embedding of token type 0 is added.
    positions: Tensor<2>,
    norm: LayerNorm,
    layers: Vec<Layer>,
    heads: usize,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    attended: Linear,
    attention_norm: LayerNorm,
    widen: Linear,
    narrow: Linear,
    output_norm: LayerNorm,
}

/// `x weight + bias`; the weight is `[in, out]`, the transpose of the file's, so that products need no packing.
#[derive(Debug)]
struct Linear {
    weight: Tensor<2>,
    bias: Tensor<1>,
}

impl Bert {
    pub fn load(
        config: &BertConfig,
        weights: &mut Weights,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let prefix = if weights.contains("bert.embeddings.word_embeddings.weight") {
            "bert."
        } else {
            ""
        };
        refuse_further_layers(config, weights, prefix)?;
        let mut loader = Loader {
            config,
            weights,
            device,
        };
        let hidden = config.hidden_size;
        let name = |part: &str| format!("{prefix}embeddings.{part}");
        let mut positions = loader.read(
            &name("position_embeddings.weight"),
            &[config.max_position_embeddings, hidden],
        )?;
        let types = loader.read(
            &name("token_type_embeddings.weight"),
            &[config.type_vocab_size, hidden],
        )?;
        for row in positions.chunks_exact_mut(hidden) {
            row.iter_mut()
                .zip(&types)
                .for_each(|(position, kind)| *position += kind);
        }
        let words = loader.read(
            &name("word_embeddings.weight"),
            &[config.vocab_size, hidden],
        )?;
        Ok(Self {
            words: Tensor::from_data(TensorData::new(words, [config.vocab_size, hidden]), device),
            positions: Tensor::from_data(
                TensorData::new(positions, [config.max_position_embeddings, hidden]),
                device,
            ),
            norm: loader.norm(&name("LayerNorm"))?,
            layers: (0..config.num_hidden_layers)
                .map(|i| loader.layer(&format!("{prefix}encoder.layer.{i}")))
                .collect::<Result<_, _>>()?,
            heads: config.num_attention_heads,
        })
    }

    /// One vector for each sequence of token `ids`, which follow one another without padding: `[sequences, hidden]`.
    pub fn forward(
        &self,
        ids: Arc<[u32]>,
        lengths: Arc<[usize]>,
        pooling: Pooling,
        unit: bool,
    ) -> Tensor<2> {
        let mut x = kernels::embed_tokens(
            &self.words,
            &self.positions,
            &self.norm,
            ids,
            lengths.clone(),
        );
        for layer in &self.layers {
            x = layer.forward(x, self.heads, lengths.clone());
        }
        kernels::pool(x, pooling, unit, lengths)
    }
}

impl Layer {
    fn forward(&self, x: Tensor<2>, heads: usize, lengths: Arc<[usize]>) -> Tensor<2> {
        let qkv = x.clone().matmul(self.qkv.weight.clone());
        let mixed = kernels::attention(qkv, &self.qkv.bias, heads, lengths);
        let attended = mixed.matmul(self.attended.weight.clone());
        let x = kernels::bias_residual_norm(attended, &self.attended.bias, x, &self.attention_norm);
        let wide = kernels::bias_gelu(
            x.clone().matmul(self.widen.weight.clone()),
            &self.widen.bias,
        );
        let narrow = wide.matmul(self.narrow.weight.clone());
        kernels::bias_residual_norm(narrow, &self.narrow.bias, x, &self.output_norm)
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

struct Loader<'a> {
    config: &'a BertConfig,
    weights: &'a mut Weights,
    device: &'a Device,
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
        let width = names.len() * output;
        let mut weight = vec![0.0; input * width];
        let mut bias = Vec::with_capacity(width);
        for (i, name) in names.iter().enumerate() {
            let part = self.read(&format!("{name}.weight"), &[output, input])?;
            transpose(&part, input, &mut weight, width, i * output);
            bias.extend(self.read(&format!("{name}.bias"), &[output])?);
        }
        Ok(Linear {
            weight: Tensor::from_data(TensorData::new(weight, [input, width]), self.device),
            bias: self.vector(bias),
        })
    }

    /// The first BERT checkpoints call scale and shift gamma and beta, later ones weight and bias.
    fn norm(&mut self, name: &str) -> Result<LayerNorm, ModelError> {
        let old = self.weights.contains(&format!("{name}.gamma"));
        let [gamma, beta] = if old {
            ["gamma", "beta"]
        } else {
            ["weight", "bias"]
        };
        let shape = [self.config.hidden_size];
        let gamma = self.read(&format!("{name}.{gamma}"), &shape)?;
        let beta = self.read(&format!("{name}.{beta}"), &shape)?;
        let epsilon = self.config.layer_norm_eps;
        Ok(LayerNorm {
            gamma: self.vector(gamma),
            beta: self.vector(beta),
            epsilon,
        })
    }

    fn vector(&self, values: Vec<f32>) -> Tensor<1> {
        let length = values.len();
        Tensor::from_data(TensorData::new(values, [length]), self.device)
    }
}
