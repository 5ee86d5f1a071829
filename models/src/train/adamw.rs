//! AdamW (Loshchilov and Hutter, 2019), in the order of torch's operations.

use super::TrainingSettings;

/// The means of gradients and of their squares, for each number that is trained.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub first: Vec<f32>,
    pub second: Vec<f32>,
}

impl Moments {
    pub fn new(len: usize) -> Self {
        Self {
            first: vec![0.0; len],
            second: vec![0.0; len],
        }
    }

    /// Step `step`, the first being 0, with gradients that are first multiplied by `scale`.
    pub fn step(
        &mut self,
        values: &mut [f32],
        gradients: &[f32],
        scale: f32,
        settings: &TrainingSettings,
        rate: f64,
        step: usize,
    ) {
        let TrainingSettings {
            beta1,
            beta2,
            epsilon,
            weight_decay,
            ..
        } = *settings;
        let count = step as f64 + 1.0;
        let size = (rate / (1.0 - beta1.powf(count))) as f32;
        let root = (1.0 - beta2.powf(count)).sqrt() as f32;
        let decay = (1.0 - rate * weight_decay) as f32;
        let (keep1, new1) = (beta1 as f32, (1.0 - beta1) as f32);
        let (keep2, new2) = (beta2 as f32, (1.0 - beta2) as f32);
        let epsilon = epsilon as f32;
        let moments = self.first.iter_mut().zip(&mut self.second);
        for ((value, gradient), (first, second)) in values.iter_mut().zip(gradients).zip(moments) {
            let gradient = gradient * scale;
            *first = keep1 * *first + new1 * gradient;
            *second = keep2 * *second + new2 * gradient * gradient;
            let below = second.sqrt() / root + epsilon;
            *value = *value * decay - size * (*first / below);
        }
    }
}

/// The norm of all gradients together.
pub(super) fn norm(gradients: &[f32]) -> f64 {
    let squares = gradients.iter().map(|g| f64::from(*g) * f64::from(*g));
    squares.sum::<f64>().sqrt()
}

/// What gradients of this norm are multiplied by, so that it becomes `max` at most.
pub(super) fn clipping(norm: f64, max: f64) -> f32 {
    // torch's clip_grad_norm_ adds the same, against a norm of 0.
    (max / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch.optim.AdamW's single-tensor form, in f64.
    #[test]
    fn steps_are_those_of_the_definition() {
        let settings = TrainingSettings {
            weight_decay: 0.1,
            ..TrainingSettings::default()
        };
        let gradient = |step: usize, i: usize| ((step * 7 + i * 3) % 5) as f64 / 2.0 - 1.0;
        let mut values = vec![0.5f32, -0.25, 0.0];
        let mut moments = Moments::new(3);
        let (mut p, mut m, mut v) = ([0.5, -0.25, 0.0], [0.0; 3], [0.0; 3]);
        for step in 0..20 {
            let rate = 0.01 * (step + 1) as f64;
            let gradients: Vec<f32> = (0..3).map(|i| gradient(step, i) as f32 * 2.0).collect();
            moments.step(&mut values, &gradients, 0.5, &settings, rate, step);
            let count = (step + 1) as i32;
            for i in 0..3 {
                let g = gradient(step, i);
                p[i] *= 1.0 - rate * 0.1;
                m[i] = 0.9 * m[i] + 0.1 * g;
                v[i] = 0.999 * v[i] + 0.001 * g * g;
                let (one, two) = (1.0 - 0.9f64.powi(count), 1.0 - 0.999f64.powi(count));
                let below = f64::sqrt(v[i]) / f64::sqrt(two) + 1e-8;
                p[i] -= rate / one * m[i] / below;
                assert!((f64::from(values[i]) - p[i]).abs() < 1e-5, "{step} {i}");
            }
        }
    }

    #[test]
    fn gradients_are_scaled_down_to_a_norm_and_never_up() {
        let gradients = [3.0, 4.0];
        assert_eq!(norm(&gradients), 5.0);
        assert!((clipping(5.0, 1.0) - 0.2).abs() < 1e-6);
        assert_eq!((clipping(0.5, 1.0), clipping(0.0, 1.0)), (1.0, 1.0));
    }
}
