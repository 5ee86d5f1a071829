//! The layout of PEFT: `adapter_config.json` and `adapter_model.safetensors`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::adapter::Delta;
use super::config::LoraConfig;
use crate::json::read_json;
use crate::weights::{Named, Weights, to_safetensors};
use crate::{Decoder, ModelError, Projection};

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

pub(super) const FILES: [&str; 2] = [CONFIG, WEIGHTS];

/// Fields of `adapter_config.json` that are read here, or that change nothing in an adapter once it is trained. Any
/// other must be as good as absent.
const KNOWN: [&str; 18] = [
    "peft_type",
    "task_type",
    "r",
    "lora_alpha",
    "lora_dropout",
    "target_modules",
    "bias",
    "init_lora_weights",
    "auto_mapping",
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "megatron_core",
    "qalora_group_size",
    "eva_config",
    "layers_pattern",
    "ensure_weight_tying",
];

/// The name under which PEFT stores `A` of a linear layer.
pub(crate) fn tensor_a(projection: &str) -> String {
    format!("base_model.model.{projection}.lora_A.weight")
}

/// The name under which PEFT stores `B` of a linear layer.
pub(crate) fn tensor_b(projection: &str) -> String {
    format!("base_model.model.{projection}.lora_B.weight")
}

pub(super) fn write<'a>(
    config: &LoraConfig,
    deltas: impl Iterator<Item = &'a Delta>,
) -> Result<Vec<(&'static str, Vec<u8>)>, ModelError> {
    let tensors = deltas.flat_map(|delta| {
        let (a, b) = ([delta.rank, delta.inputs], [delta.outputs, delta.rank]);
        [
            Named::new(tensor_a(&delta.name), a, &delta.a),
            Named::new(tensor_b(&delta.name), b, &delta.b),
        ]
    });
    // transformers and PEFT write this, and some readers ask for it.
    let weights = to_safetensors(tensors.collect(), "format", "pt".to_owned())?;
    let json = serde_json::to_vec_pretty(&written(config));
    let json = json.map_err(|e| ModelError::Compute(format!("{CONFIG} cannot be written: {e}")))?;
    Ok(vec![(CONFIG, json), (WEIGHTS, weights)])
}

/// The fields that every version of PEFT has.
fn written(config: &LoraConfig) -> Value {
    let alpha = if config.alpha.fract() == 0.0 && config.alpha < 1e15 {
        json!(config.alpha as u64)
    } else {
        json!(config.alpha)
    };
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": null,
        "revision": null,
        "inference_mode": true,
        "r": config.rank,
        "lora_alpha": alpha,
        "lora_dropout": config.dropout,
        "target_modules": config.targets,
        "bias": "none",
        "fan_in_fan_out": false,
        "init_lora_weights": true,
        "layers_to_transform": null,
        "layers_pattern": null,
        "modules_to_save": null,
        "rank_pattern": {},
        "alpha_pattern": {},
        "use_rslora": false,
        "use_dora": false,
    })
}

/// What an adapter has, by the places of the model's linear layers.
type Deltas = Vec<Option<Arc<Delta>>>;

pub(super) fn read(dir: &Path, decoder: &Decoder) -> Result<(LoraConfig, Deltas), ModelError> {
    let path = dir.join(CONFIG);
    let config = read_config(&path)?;
    let projections = decoder.projections();
    let chosen = config.chosen(&projections);
    let chosen = chosen.map_err(|e| ModelError::config(&path, e.to_string()))?;
    let mut file = Weights::open(&dir.join(WEIGHTS))?;
    let mut rest = file.names();
    let mut deltas: Deltas = vec![None; projections.len()];
    for place in chosen {
        let projection = &projections[place];
        let delta = read_delta(&mut file, &mut rest, &config, projection)?;
        deltas[place] = Some(Arc::new(delta));
    }
    if let Some(name) = rest.first() {
        let reason = format!(
            "holds a tensor \"{name}\", which {CONFIG} and the model do not account for; supported: lora_A and lora_B of the target modules"
        );
        return Err(ModelError::config(file.path(), reason));
    }
    Ok((config, deltas))
}

fn read_delta(
    file: &mut Weights,
    rest: &mut BTreeSet<String>,
    config: &LoraConfig,
    projection: &Projection,
) -> Result<Delta, ModelError> {
    let mut tensor = |name: String, shape: [usize; 2]| -> Result<Vec<f32>, ModelError> {
        rest.remove(&name);
        let refuse = |reason: String| Err(ModelError::config(file.path(), reason));
        match file.shape(&name) {
            None => {
                return refuse(format!(
                    "no tensor \"{name}\", which {CONFIG} implies for this model"
                ));
            }
            Some(got) if got != shape => {
                return refuse(format!(
                    "tensor \"{name}\" has shape {got:?}, and {CONFIG} and the model imply {shape:?}; the adapter belongs to another model, or to another rank"
                ));
            }
            Some(_) => {}
        }
        let values = file.read(&name, &shape)?;
        if values.iter().all(|v| v.is_finite()) {
            return Ok(values);
        }
        let reason = format!("tensor \"{name}\" has values that are not finite");
        Err(ModelError::config(file.path(), reason))
    };
    let a = tensor(tensor_a(&projection.name), [config.rank, projection.inputs])?;
    let b = tensor(
        tensor_b(&projection.name),
        [projection.outputs, config.rank],
    )?;
    Ok(Delta::new(projection, config, a, b))
}

fn read_config(path: &Path) -> Result<LoraConfig, ModelError> {
    let fields: Map<String, Value> = read_json(path, "the shape of the adapter")?;
    refuse_what_is_not_supported(&fields, path)?;
    let missing = |field: &str, what: &str| {
        ModelError::config(path, format!("{field} must be {what}, as PEFT writes it"))
    };
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let rank = field("r").as_u64().and_then(|r| usize::try_from(r).ok());
    let names = field("target_modules").as_array().and_then(|names| {
        let names = names.iter().map(|name| name.as_str().map(str::to_owned));
        names.collect::<Option<Vec<String>>>()
    });
    let dropout = match field("lora_dropout") {
        Value::Null => Some(0.0),
        dropout => dropout.as_f64(),
    };
    let alpha = field("lora_alpha").as_f64();
    Ok(LoraConfig {
        rank: rank.ok_or_else(|| missing("r", "a whole number"))?,
        alpha: alpha.ok_or_else(|| missing("lora_alpha", "a number"))?,
        dropout: dropout.ok_or_else(|| missing("lora_dropout", "a number"))?,
        targets: names.ok_or_else(|| missing("target_modules", "a list of names"))?,
    })
}

fn refuse_what_is_not_supported(
    fields: &Map<String, Value>,
    path: &Path,
) -> Result<(), ModelError> {
    let field = |name: &str| fields.get(name).unwrap_or(&Value::Null);
    let refuse = |name: &str, supported| {
        let value = field(name).to_string();
        Err(ModelError::unsupported(path, name, value, supported))
    };
    if field("peft_type") != "LORA" {
        return refuse("peft_type", "\"LORA\"");
    }
    if !is_off(field("task_type")) && field("task_type") != "CAUSAL_LM" {
        return refuse("task_type", "\"CAUSAL_LM\"");
    }
    if !is_off(field("bias")) && field("bias") != "none" {
        return refuse("bias", "\"none\"");
    }
    // Others change the base's weights before they train, so that the adapter fits no base as it is published.
    let starts = ["gaussian", "orthogonal", "eva"];
    let start = field("init_lora_weights");
    if start.is_string() && !starts.iter().any(|known| start == known) {
        let supported = "true, false, \"gaussian\", \"orthogonal\", \"eva\"";
        return refuse("init_lora_weights", supported);
    }
    let unknown = |name: &str, value: &Value| !KNOWN.contains(&name) && !is_off(value);
    let mut names = fields.iter();
    match names.find(|(name, value)| unknown(name, value)) {
        Some((name, _)) => refuse(name, "null, false or empty"),
        None => Ok(()),
    }
}

/// Whether a field says no more than a missing one.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
