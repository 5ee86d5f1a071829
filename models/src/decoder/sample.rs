//! From logits to the next token.

use std::cmp::Ordering;

use crate::ModelError;
use crate::random::Draws;

/// How tokens are chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Logits are divided by it: below 1 the likely becomes likelier. At 0 the likeliest token is taken.
    pub temperature: f32,
    /// Only the likeliest tokens that together have this probability are drawn from; 1 for all.
    pub top_p: f32,
    /// Only so many of the likeliest tokens are drawn from.
    pub top_k: Option<usize>,
    /// The same seed gives the same text, for the same build, processor features and threads.
    pub seed: u64,
}

impl Default for Sampling {
    /// The likeliest token, always.
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_p: 1.0,
            top_k: None,
            seed: 0,
        }
    }
}

impl Sampling {
    fn check(&self) -> Result<(), ModelError> {
        let refuse = |field, value: String, expected| {
            Err(ModelError::Setting {
                field,
                value,
                expected,
            })
        };
        let Self {
            temperature, top_p, ..
        } = self;
        if !(temperature.is_finite() && *temperature >= 0.0) {
            return refuse("temperature", temperature.to_string(), "0 or more");
        }
        if !(*top_p > 0.0 && *top_p <= 1.0) {
            return refuse("top_p", top_p.to_string(), "above 0 and at most 1");
        }
        if self.top_k == Some(0) {
            return refuse("top_k", "0".to_owned(), "1 or more, or none");
        }
        Ok(())
    }
}

/// Chooses the tokens of one text.
#[derive(Debug)]
pub(super) struct Sampler {
    sampling: Sampling,
    draws: Draws,
}

/// A token and how likely it is, relative to the others.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    id: u32,
    weight: f64,
}

impl Candidate {
    /// The likelier first; of equals, the one with the lower id.
    fn order(a: &Self, b: &Self) -> Ordering {
        b.weight.total_cmp(&a.weight).then(a.id.cmp(&b.id))
    }
}

impl Sampler {
    pub fn new(sampling: &Sampling) -> Result<Self, ModelError> {
        sampling.check()?;
        Ok(Self {
            sampling: sampling.clone(),
            draws: Draws::new(sampling.seed),
        })
    }

    pub fn pick(&mut self, logits: &[f32]) -> Result<u32, ModelError> {
        if !logits.iter().all(|v| v.is_finite()) {
            let reason = "the weights yield logits that are not finite";
            return Err(ModelError::Compute(reason.to_owned()));
        }
        let best = logits.iter().enumerate().fold(
            0,
            |best, (id, v)| {
                if *v > logits[best] { id } else { best }
            },
        );
        if self.sampling.temperature == 0.0 {
            return Ok(best as u32);
        }
        let temperature = f64::from(self.sampling.temperature);
        let max = f64::from(logits[best]);
        let candidate = |(id, v): (usize, &f32)| Candidate {
            id: id as u32,
            weight: ((f64::from(*v) - max) / temperature).exp(),
        };
        let mut candidates: Vec<Candidate> = logits.iter().enumerate().map(candidate).collect();
        self.narrow(&mut candidates);
        Ok(self.draw(&candidates).unwrap_or(best as u32))
    }

    /// Leaves the candidates that `top_k`, then `top_p` allow.
    fn narrow(&self, candidates: &mut Vec<Candidate>) {
        if let Some(count) = self.sampling.top_k.filter(|k| *k < candidates.len()) {
            candidates.select_nth_unstable_by(count, Candidate::order);
            candidates.truncate(count);
            candidates.sort_unstable_by(Candidate::order);
        }
        if self.sampling.top_p < 1.0 {
            let total: f64 = candidates.iter().map(|c| c.weight).sum();
            let count = nucleus(candidates, f64::from(self.sampling.top_p) * total);
            candidates.truncate(count);
        }
    }

    fn draw(&mut self, candidates: &[Candidate]) -> Option<u32> {
        let total: f64 = candidates.iter().map(|c| c.weight).sum();
        let mut rest = self.draws.uniform() * total;
        let drawn = candidates.iter().find(|candidate| {
            rest -= candidate.weight;
            rest < 0.0
        });
        drawn.map(|candidate| candidate.id)
    }
}

/// Puts the likeliest candidates whose weights reach `mass` first, and counts them. Only as many are sorted as that
/// may take: a vocabulary is long, and a nucleus is mostly short.
fn nucleus(candidates: &mut [Candidate], mass: f64) -> usize {
    let mut sorted = candidates.len().min(64);
    loop {
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted, Candidate::order);
        }
        candidates[..sorted].sort_unstable_by(Candidate::order);
        let mut sum = 0.0;
        let reached = candidates[..sorted].iter().position(|candidate| {
            sum += candidate.weight;
            sum >= mass
        });
        match reached {
            Some(last) => return last + 1,
            None if sorted == candidates.len() => return sorted,
            None => sorted = candidates.len().min(8 * sorted),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(sampling: &Sampling, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(sampling).unwrap();
        (0..count).map(|_| sampler.pick(logits).unwrap()).collect()
    }

    fn at(temperature: f32) -> Sampling {
        Sampling {
            temperature,
            seed: 7,
            ..Sampling::default()
        }
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        assert_eq!(
            draws(&Sampling::default(), &[0.5, 2.0, -1.0, 2.0], 3),
            [1; 3]
        );
    }

    #[test]
    fn frequencies_are_the_probabilities() {
        let logits = [0.6f32.ln(), 0.3f32.ln(), 0.1f32.ln()];
        for (temperature, want) in [(1.0, [0.6, 0.3, 0.1]), (0.5, [0.7826, 0.1957, 0.0217])] {
            let drawn = draws(&at(temperature), &logits, 20_000);
            for (id, want) in want.iter().enumerate() {
                let share = drawn.iter().filter(|d| **d == id as u32).count() as f64 / 20_000.0;
                assert!((share - want).abs() < 0.012, "{temperature} {id}: {share}");
            }
        }
    }

    #[test]
    fn a_seed_gives_the_same_tokens_and_another_gives_others() {
        let logits: Vec<f32> = (0..500).map(|i| (i as f32 * 0.7).sin()).collect();
        let other = Sampling { seed: 8, ..at(1.0) };
        let first = draws(&at(1.0), &logits, 50);
        assert_eq!(first, draws(&at(1.0), &logits, 50));
        assert_ne!(first, draws(&other, &logits, 50));
        // The generator's published values for seed 0, so that seeds keep their meaning.
        let mut sampler = Sampler::new(&Sampling::default()).unwrap();
        let want = 0xe220_a839_7b1d_cdaf_u64 >> 11;
        assert_eq!(sampler.draws.uniform(), want as f64 / (1u64 << 53) as f64);
    }

    #[test]
    fn top_k_and_top_p_leave_the_likeliest() {
        let logits: Vec<f32> = (0..3000)
            .map(|i| ((i * 37) % 3000) as f32 / 300.0)
            .collect();
        let mut order: Vec<usize> = (0..3000).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let few = Sampling {
            top_k: Some(5),
            ..at(50.0)
        };
        let drawn: Vec<usize> = draws(&few, &logits, 300)
            .iter()
            .map(|d| *d as usize)
            .collect();
        assert!(order[..5].iter().all(|id| drawn.contains(id)));
        assert!(drawn.iter().all(|id| order[..5].contains(id)));
        let total: f64 = logits.iter().map(|v| f64::from(*v).exp()).sum();
        let mut sum = 0.0;
        let within = order.iter().position(|&id| {
            sum += f64::from(logits[id]).exp();
            sum >= 0.9 * total
        });
        let within = within.unwrap() + 1;
        assert!(
            within > 64,
            "the nucleus must outgrow the first sorted part: {within}"
        );
        let mut candidates: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .map(|(id, v)| Candidate {
                id: id as u32,
                weight: f64::from(*v).exp(),
            })
            .collect();
        let count = nucleus(&mut candidates, 0.9 * total);
        let ids: Vec<usize> = candidates[..count].iter().map(|c| c.id as usize).collect();
        assert_eq!(ids, order[..within]);
    }

    #[test]
    fn settings_that_mean_nothing_are_refused_by_name() {
        for (sampling, name) in [
            (at(-1.0), "temperature -1"),
            (at(f32::NAN), "temperature NaN"),
            (
                Sampling {
                    top_p: 0.0,
                    ..at(1.0)
                },
                "top_p 0",
            ),
            (
                Sampling {
                    top_k: Some(0),
                    ..at(1.0)
                },
                "top_k 0",
            ),
        ] {
            let message = Sampler::new(&sampling).unwrap_err().to_string();
            assert!(message.contains(name), "{message}");
        }
        let message = Sampler::new(&at(1.0)).unwrap().pick(&[0.0, f32::NAN]);
        assert!(message.unwrap_err().to_string().contains("not finite"));
    }
}
