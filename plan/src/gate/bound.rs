//! Bounds of a mean loss over paired questions.
//!
//! Losses lie in [-1, 1] and most are 0, so that a t interval is far too sure of itself when few
//! questions differ. The bounds are Bonett and Price's adjusted Wald interval for a difference of paired
//! proportions ("Adjusted Wald confidence interval for a difference of binomial proportions based on
//! paired data", J. Educ. Behav. Stat. 37(4), 2012, 479-488), written for any bounded loss: one question
//! that is wholly lost and one that is wholly won are added to the n that were seen,
//!
//! m = Σd / (n + 2), s² = (Σd² + 2) / (n + 2) - m², bounds = m ± z √(s² / (n + 2)), z = 1.6449.
//!
//! For losses of -1, 0, 1 this is their interval; smaller ones have less variance than it allows for.
//! No draw and no iteration: the same scores give the same bounds.

/// The 95 % quantile of the normal distribution.
const Z_95: f64 = 1.644_853_626_951_472_2;

/// Its 80 % quantile.
const Z_80: f64 = 0.841_621_233_572_914_2;

/// One-sided 95 % bounds of a mean loss; each is passed by chance in one of twenty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// The loss is hardly less.
    pub lower: f64,
    /// The loss is hardly more.
    pub upper: f64,
}

/// The bounds of the mean of `losses`, each from -1 to 1.
pub fn bounds(losses: &[f64]) -> Bounds {
    let n = losses.len() as f64 + 2.0;
    let mean = losses.iter().sum::<f64>() / n;
    let square = (losses.iter().map(|l| l * l).sum::<f64>() + 2.0) / n;
    let half = Z_95 * ((square - mean * mean).max(0.0) / n).sqrt();
    Bounds {
        lower: mean - half,
        upper: mean + half,
    }
}

/// The regression that a suite can tell: the least margin with which a candidate that is as good as the
/// serving release passes four times of five, when `discordance` is the share of questions on which the
/// two differ. A loss that far beyond the margin fails as often.
pub fn detectable_effect(questions: usize, discordance: f64) -> f64 {
    let n = questions as f64;
    let added = ((n * discordance + 2.0) / (n + 2.0) / (n + 2.0)).sqrt();
    let drawn = if questions == 0 {
        0.0
    } else {
        (discordance / n).sqrt() * n / (n + 2.0)
    };
    (Z_95 * added + Z_80 * drawn).min(1.0)
}

/// The largest share of lost questions of which a suite of this size sees none in one of twenty: the
/// exact bound that the rule of three approximates.
pub fn unseen_loss(questions: usize) -> f64 {
    if questions == 0 {
        1.0
    } else {
        1.0 - 0.05_f64.powf(1.0 / questions as f64)
    }
}
