use serde::{Deserialize, Serialize};

use crate::json::exact;
use crate::{ModelError, Projection};

/// The shape of an adapter: to `x W` of a linear layer it adds `alpha / rank * x Aᵀ Bᵀ` (Hu et al., 2021), where `A` is
/// `[rank, inputs]` and `B` is `[outputs, rank]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoraConfig {
    /// Rows of `A`, columns of `B`.
    pub rank: usize,
    /// With the rank, what the addition is scaled by.
    #[serde(with = "exact")]
    pub alpha: f64,
    /// The share of an adapter's inputs that is left out of each step of its training; none of them when it serves.
    #[serde(with = "exact")]
    pub dropout: f64,
    /// The linear layers that are adapted, in all layers, by the ends of their names as in PEFT: `q_proj`, `k_proj`,
    /// `v_proj`, `o_proj`, `gate_proj`, `up_proj`, `down_proj`. [`crate::Decoder::projections`] has the whole names.
    pub targets: Vec<String>,
}

impl Default for LoraConfig {
    /// PEFT's own: rank 8, alpha 8, no dropout, queries and values.
    fn default() -> Self {
        Self {
            rank: 8,
            alpha: 8.0,
            dropout: 0.0,
            targets: vec!["q_proj".to_owned(), "v_proj".to_owned()],
        }
    }
}

impl LoraConfig {
    /// What `x Aᵀ Bᵀ` is multiplied by.
    pub fn scale(&self) -> f32 {
        (self.alpha / self.rank as f64) as f32
    }

    /// Refuses shapes that mean nothing, and targets that a model with these linear layers does not have. It needs no
    /// weights, so it can be asked before any work.
    ///
    /// # Errors
    /// [`ModelError::Setting`] for a rank of 0, an alpha that is not above 0, a dropout outside `[0, 1)`, or no
    /// targets; [`ModelError::Target`] for a target that no layer has.
    pub fn check(&self, projections: &[Projection]) -> Result<(), ModelError> {
        self.chosen(projections).map(|_| ())
    }

    /// The largest rank that adds anything to each of the targets: the smaller side of the smallest of their layers.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn largest_rank(&self, projections: &[Projection]) -> Result<usize, ModelError> {
        let chosen = self.chosen(projections)?.into_iter();
        let sides = chosen.map(|place| projections[place].inputs.min(projections[place].outputs));
        Ok(sides.min().unwrap_or(0))
    }

    /// The places of the linear layers that are adapted.
    pub(crate) fn chosen(&self, projections: &[Projection]) -> Result<Vec<usize>, ModelError> {
        let refuse = |field, value: String, expected| {
            Err(ModelError::Setting {
                field,
                value,
                expected,
            })
        };
        if self.rank == 0 {
            return refuse("rank", "0".to_owned(), "1 or more");
        }
        if !(self.alpha.is_finite() && self.alpha > 0.0) {
            return refuse("alpha", self.alpha.to_string(), "a number above 0");
        }
        if !(0.0..1.0).contains(&self.dropout) {
            return refuse("dropout", self.dropout.to_string(), "0 or more, below 1");
        }
        if self.targets.is_empty() {
            return refuse(
                "targets",
                "of none".to_owned(),
                "at least one linear layer, such as q_proj",
            );
        }
        let unknown = |target: &&String| !projections.iter().any(|p| is_target(p, target));
        if let Some(target) = self.targets.iter().find(unknown) {
            return Err(ModelError::Target {
                target: target.clone(),
                targets: last_names(projections).join(", "),
            });
        }
        let chosen = projections.iter().enumerate().filter(|(_, projection)| {
            let mut targets = self.targets.iter();
            targets.any(|target| is_target(projection, target))
        });
        Ok(chosen.map(|(place, _)| place).collect())
    }
}

/// Whether PEFT would adapt the layer: its name is the target, or ends with it after a dot.
fn is_target(projection: &Projection, target: &str) -> bool {
    let before = projection.name.strip_suffix(target);
    before.is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

fn last_names(projections: &[Projection]) -> Vec<&str> {
    let mut names = Vec::new();
    for projection in projections {
        let name = projection.name.rsplit('.').next().unwrap_or_default();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn projections() -> Vec<Projection> {
        let parts = ["self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj"];
        (0..12)
            .flat_map(|layer| {
                parts.map(|part| Projection {
                    name: format!("model.layers.{layer}.{part}"),
                    inputs: 4,
                    outputs: 2,
                })
            })
            .collect()
    }

    fn of(targets: &[&str]) -> LoraConfig {
        LoraConfig {
            targets: targets.iter().map(|t| (*t).to_owned()).collect(),
            ..LoraConfig::default()
        }
    }

    #[test]
    fn targets_are_ends_of_names_as_in_peft() {
        let chosen = |targets: &[&str]| of(targets).chosen(&projections()).unwrap();
        let all = chosen(&["q_proj", "up_proj", "q_proj"]);
        assert_eq!((all.len(), &all[..4]), (24, [0, 2, 3, 5].as_slice()));
        assert_eq!(chosen(&["1.self_attn.k_proj"]), [4]);
        assert_eq!(chosen(&["model.layers.11.mlp.up_proj"]), [35]);
    }

    #[test]
    fn a_rank_beyond_the_smallest_target_adds_nothing() {
        let mut projections = projections();
        projections[4].outputs = 9;
        assert_eq!(of(&["k_proj"]).largest_rank(&projections).unwrap(), 2);
        assert_eq!(
            of(&["1.self_attn.k_proj"])
                .largest_rank(&projections)
                .unwrap(),
            4
        );
        assert!(of(&["v_proj"]).largest_rank(&projections).is_err());
    }

    #[test]
    fn what_means_nothing_is_refused_by_name() {
        let with = |change: fn(&mut LoraConfig)| {
            let mut config = of(&["q_proj"]);
            change(&mut config);
            config
        };
        for (config, parts) in [
            (of(&["v_proj"]), ["\"v_proj\"", "q_proj, k_proj, up_proj"]),
            (of(&["_proj"]), ["\"_proj\"", "q_proj, k_proj, up_proj"]),
            (of(&[]), ["targets of none", "at least one"]),
            (with(|c| c.rank = 0), ["rank 0", "1 or more"]),
            (with(|c| c.alpha = f64::NAN), ["alpha NaN", "above 0"]),
            (with(|c| c.alpha = 0.0), ["alpha 0", "above 0"]),
            (with(|c| c.dropout = 1.0), ["dropout 1", "below 1"]),
        ] {
            let message = config.check(&projections()).unwrap_err().to_string();
            for part in parts {
                assert!(message.contains(part), "\"{part}\" is not in: {message}");
            }
        }
    }

    #[test]
    fn numbers_come_back_from_json_to_the_bit() {
        let config = LoraConfig {
            alpha: 0.1 + 0.2,
            dropout: 1.0 / 3.0,
            ..LoraConfig::default()
        };
        let json = serde_json::to_string(&config).unwrap();
        assert!(json.contains("\"alpha\":\"0.30000000000000004\""), "{json}");
        let back: LoraConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(back, config);
    }
}
