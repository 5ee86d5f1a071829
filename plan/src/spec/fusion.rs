//! How searches make one score of two.

use loci_crds::pipeline::FusionSpec;
pub use loci_crds::pipeline::Normalization;
use serde::{Deserialize, Serialize};

use super::fields::Fields;

/// How searches make one score of those by vector and by words.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fusion {
    /// How the scores are brought to one scale.
    pub normalization: Normalization,
    /// What the score by vector weighs, from 0 to 1; that by words has the rest.
    pub dense_weight: f64,
}

impl Default for Fusion {
    fn default() -> Self {
        Self {
            normalization: Normalization::default(),
            dense_weight: 0.5,
        }
    }
}

impl Fusion {
    /// Whether it is what a pipeline has that says nothing.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Fields {
    pub(super) fn fusion(&mut self, spec: Option<&FusionSpec>) -> Fusion {
        let default = Fusion::default();
        let Some(spec) = spec else { return default };
        let field = "spec.index.fusion.denseWeight".to_owned();
        let weight = self.fraction(field, spec.dense_weight.as_ref());
        Fusion {
            normalization: spec.normalization.unwrap_or_default(),
            dense_weight: weight.unwrap_or(default.dense_weight),
        }
    }
}
