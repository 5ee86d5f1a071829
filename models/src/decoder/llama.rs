//! The Llama decoder (Touvron et al., 2023) over packed sequences.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::cache::Cache;
use super::config::LlamaConfig;
use super::math::{Fused, Math, product_with_rows};
use super::rope::{Rope, Rotation};
use super::tensors::Tensors;
use crate::ModelError;
use crate::lora::Routes;
use crate::matrix::transpose;

/// The network with its weights on a device.
#[derive(Debug)]
pub(crate) struct Llama {
    /// `[vocabulary, hidden]`.
    pub words: Tensor<2>,
    pub layers: Vec<Layer>,
    pub norm: RmsNorm,
    /// None where the embeddings of tokens give the logits.
    pub head: Option<Linear>,
    pub rope: Rope,
    /// Columns of a head.
    pub size: usize,
}

#[derive(Debug)]
pub(crate) struct Layer {
    pub attention_norm: RmsNorm,
    queries: Linear,
    keys: Linear,
    values: Linear,
    attended: Linear,
    pub mlp_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

/// The linear layers of a layer, in the order of [`Layer::linears`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Queries,
    Keys,
    Values,
    Attended,
    Gate,
    Up,
    Down,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 7;
}

/// `x weight`; the weight is `[in, out]`, the transpose of the file's. The name is the one that PEFT targets.
#[derive(Debug)]
pub(crate) struct Linear {
    pub name: String,
    pub weight: Tensor<2>,
}

/// Scale and epsilon of a root-mean-square norm.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    pub gamma: Tensor<1>,
    pub epsilon: f32,
}

impl Linear {
    pub fn forward<M: Math>(&self, x: Tensor<2>) -> Tensor<2> {
        M::product(x, &self.weight)
    }
}

impl Layer {
    /// `project` computes the linear layers; `attend` mixes queries, keys and values, the former two turned by their
    /// positions.
    pub fn forward<M: Math>(
        &self,
        x: Tensor<2>,
        rotation: &Rotation,
        project: impl Fn(Part, Tensor<2>) -> Tensor<2>,
        attend: impl FnOnce(Tensor<2>, Tensor<2>, Tensor<2>) -> Tensor<2>,
    ) -> Tensor<2> {
        let h = M::normalize(x.clone(), &self.attention_norm);
        let queries = M::rotate(project(Part::Queries, h.clone()), rotation);
        let keys = M::rotate(project(Part::Keys, h.clone()), rotation);
        let values = project(Part::Values, h);
        let x = x + project(Part::Attended, attend(queries, keys, values));
        let h = M::normalize(x.clone(), &self.mlp_norm);
        let gate = project(Part::Gate, h.clone());
        let wide = M::swiglu(gate, project(Part::Up, h));
        x + project(Part::Down, wide)
    }

    pub fn linear(&self, part: Part) -> &Linear {
        self.linears()[part as usize]
    }

    pub fn linears(&self) -> [&Linear; Part::COUNT] {
        [
            &self.queries,
            &self.keys,
            &self.values,
            &self.attended,
            &self.gate,
            &self.up,
            &self.down,
        ]
    }
}

impl Llama {
    pub fn load(
        config: &LlamaConfig,
        tensors: &mut dyn Tensors,
        device: &Device,
    ) -> Result<Self, ModelError> {
        let mut loader = Loader {
            config,
            tensors,
            device,
        };
        let shape = [config.vocabulary, config.hidden];
        let words = loader.tensors.read("model.embed_tokens.weight", &shape)?;
        let llama = Self {
            words: Tensor::from_data(TensorData::new(words, shape), device),
            layers: (0..config.layers)
                .map(|i| loader.layer(&format!("model.layers.{i}")))
                .collect::<Result<_, _>>()?,
            norm: loader.norm("model.norm")?,
            head: if config.tied {
                None
            } else {
                Some(loader.linear("lm_head".to_owned(), config.hidden, config.vocabulary)?)
            },
            rope: Rope::new(config.size, config.theta, &config.scaling),
            size: config.size,
        };
        refuse_surplus(tensors)?;
        Ok(llama)
    }

    /// What the last layer says of new tokens, `[tokens, hidden]`: `new[i]` of them continue sequence `i` of the cache;
    /// their ids follow one another. `routes` says which of them pass which adapter.
    pub fn forward(
        &self,
        ids: &[u32],
        new: &[usize],
        routes: &Routes<'_>,
        cache: &mut Cache,
    ) -> Tensor<2> {
        let places = cache.place(new);
        let pairs = places.past.iter().zip(new);
        let positions = pairs.flat_map(|(&past, &new)| past..past + new);
        let rotation = self.rope.rotation(positions);
        let mut x = self.embed(ids);
        for (i, layer) in self.layers.iter().enumerate() {
            let project = |part: Part, x: Tensor<2>| {
                let y = layer.linear(part).forward::<Fused>(x.clone());
                routes.add(i * Part::COUNT + part as usize, y, x)
            };
            x = layer.forward::<Fused>(x, &rotation, project, |queries, keys, values| {
                cache.attend(i, queries, keys, values, self.size, &places)
            });
        }
        cache.advance(new);
        Fused::normalize(x, &self.norm)
    }

    /// `[rows, vocabulary]` for rows of [`Self::forward`].
    pub fn logits(&self, rows: Tensor<2>) -> Tensor<2> {
        match &self.head {
            Some(head) => head.forward::<Fused>(rows),
            None => product_with_rows(rows, &self.words),
        }
    }

    /// The linear layers inside the network's layers.
    pub fn linears(&self) -> impl Iterator<Item = &Linear> {
        self.layers.iter().flat_map(Layer::linears)
    }

    pub fn embed(&self, ids: &[u32]) -> Tensor<2> {
        rows(&self.words, ids.iter().map(|&id| id as i32).collect())
    }
}

/// Some rows of a matrix.
pub(super) fn rows(matrix: &Tensor<2>, places: Vec<i32>) -> Tensor<2> {
    let count = places.len();
    let places = Tensor::<1, Int>::from_data(TensorData::new(places, [count]), &matrix.device());
    matrix.clone().select(0, places)
}

/// Weights with tensors that the configuration does not account for are another model's: never run a part unnoticed.
fn refuse_surplus(tensors: &dyn Tensors) -> Result<(), ModelError> {
    let Some(name) = tensors.surplus() else {
        return Ok(());
    };
    let reason = format!(
        "holds a tensor \"{name}\", for which the network that its configuration describes has no place; supported: Llama without biases, adapters or further layers"
    );
    Err(ModelError::config(tensors.path(), reason))
}

struct Loader<'a> {
    config: &'a LlamaConfig,
    tensors: &'a mut dyn Tensors,
    device: &'a Device,
}

impl Loader<'_> {
    fn layer(&mut self, prefix: &str) -> Result<Layer, ModelError> {
        let LlamaConfig {
            hidden,
            intermediate,
            ..
        } = *self.config;
        let (width, kept) = (self.config.width(), self.config.kept());
        let name = |part: &str| format!("{prefix}.{part}");
        Ok(Layer {
            attention_norm: self.norm(&name("input_layernorm"))?,
            queries: self.linear(name("self_attn.q_proj"), hidden, width)?,
            keys: self.linear(name("self_attn.k_proj"), hidden, kept)?,
            values: self.linear(name("self_attn.v_proj"), hidden, kept)?,
            attended: self.linear(name("self_attn.o_proj"), width, hidden)?,
            mlp_norm: self.norm(&name("post_attention_layernorm"))?,
            gate: self.linear(name("mlp.gate_proj"), hidden, intermediate)?,
            up: self.linear(name("mlp.up_proj"), hidden, intermediate)?,
            down: self.linear(name("mlp.down_proj"), intermediate, hidden)?,
        })
    }

    fn linear(&mut self, name: String, input: usize, output: usize) -> Result<Linear, ModelError> {
        let read = self
            .tensors
            .read(&format!("{name}.weight"), &[output, input])?;
        let mut weight = vec![0.0; read.len()];
        transpose(&read, input, &mut weight, output, 0);
        let data = TensorData::new(weight, [input, output]);
        Ok(Linear {
            name,
            weight: Tensor::from_data(data, self.device),
        })
    }

    fn norm(&mut self, name: &str) -> Result<RmsNorm, ModelError> {
        let hidden = self.config.hidden;
        let gamma = self.tensors.read(&format!("{name}.weight"), &[hidden])?;
        Ok(RmsNorm {
            gamma: Tensor::from_data(TensorData::new(gamma, [hidden]), self.device),
            epsilon: self.config.epsilon,
        })
    }
}

#[cfg(test)]
#[path = "llama_tests.rs"]
mod tests;
