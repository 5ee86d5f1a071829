//! What the answers have to be: every vector compared with every question, and how many of the best an answer has.

use std::thread;

use anyhow::{Context, Result, bail};

/// Vectors of passages and questions, row by row.
pub struct Vectors {
    pub dimensions: usize,
    pub passages: Vec<f32>,
    pub questions: Vec<f32>,
}

/// The best of one question among the passages of one filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Best {
    /// How many there are: k, or all that pass.
    pub count: usize,
    /// The score of the last of them. Whatever has it, too, is as good: texts that a tokenizer takes for one another have
    /// the same vector.
    pub score: f32,
}

impl Vectors {
    fn question(&self, number: usize) -> &[f32] {
        &self.questions[number * self.dimensions..][..self.dimensions]
    }

    fn score(&self, question: usize, row: usize) -> f32 {
        let passage = &self.passages[row * self.dimensions..][..self.dimensions];
        dot(self.question(question), passage)
    }

    /// By question, and then by filter: the best `k`. `passing` tells of each filter which rows pass. On all processors.
    ///
    /// # Errors
    /// When a thread cannot be had.
    pub fn best(
        &self,
        k: usize,
        passing: &[Vec<bool>],
        done: impl Fn() + Sync,
    ) -> Result<Vec<Vec<Best>>> {
        let questions = self.questions.len() / self.dimensions;
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let mut found = vec![Vec::new(); questions];
        let share = questions.div_ceil(threads).max(1);
        thread::scope(|scope| -> Result<()> {
            let mut running = Vec::new();
            for (part, found) in found.chunks_mut(share).enumerate() {
                let (done, first) = (&done, part * share);
                let work = move || {
                    for (i, found) in found.iter_mut().enumerate() {
                        *found = self.of_question(first + i, k, passing);
                        done();
                    }
                };
                running.push(thread::Builder::new().spawn_scoped(scope, work)?);
            }
            let all = running.into_iter().map(|thread| thread.join());
            let all = all.collect::<Result<Vec<()>, _>>();
            all.ok().context("the exact search broke off")?;
            Ok(())
        })?;
        Ok(found)
    }

    fn of_question(&self, question: usize, k: usize, passing: &[Vec<bool>]) -> Vec<Best> {
        let rows = self.passages.len() / self.dimensions;
        let scores: Vec<f32> = (0..rows).map(|row| self.score(question, row)).collect();
        let of_filter = |passing: &Vec<bool>| {
            let scores = scores.iter().zip(passing).filter(|(_, passes)| **passes);
            best_of(scores.map(|(score, _)| *score).collect(), k)
        };
        passing.iter().map(of_filter).collect()
    }

    /// The share of the best that an answer has.
    ///
    /// # Errors
    /// When it has a row that does not pass, or the same twice: then it is no answer.
    pub fn recall(
        &self,
        question: usize,
        answer: &[usize],
        best: Best,
        passing: &[bool],
    ) -> Result<f64> {
        let mut rows = answer.to_vec();
        rows.sort_unstable();
        rows.dedup();
        if rows.len() < answer.len() {
            bail!("a passage is in one answer twice");
        }
        if let Some(row) = rows
            .iter()
            .find(|row| !passing.get(**row).is_some_and(|p| *p))
        {
            bail!("passage {row} is in an answer and does not pass the filter");
        }
        let good = rows
            .iter()
            .filter(|row| self.score(question, **row) >= best.score);
        Ok(match best.count {
            0 => 1.0,
            count => good.count().min(count) as f64 / count as f64,
        })
    }
}

fn best_of(mut scores: Vec<f32>, k: usize) -> Best {
    let count = k.min(scores.len());
    let score = match count {
        0 => f32::INFINITY,
        _ => {
            *scores
                .select_nth_unstable_by(count - 1, |a, b| b.total_cmp(a))
                .1
        }
    };
    Best { count, score }
}

/// The inner product, in as many running sums as a compiler keeps in registers.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut sums = [0.0f32; LANES];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..LANES {
            sums[i] += a[i] * b[i];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vectors() -> Vectors {
        // Passages on a line; the question points along it. The last two are the same.
        Vectors {
            dimensions: 2,
            passages: vec![1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0, 0.0, 4.0, 0.0],
            questions: vec![1.0, 0.0, -1.0, 0.0],
        }
    }

    #[test]
    fn the_best_are_those_with_the_highest_scores_that_pass() {
        let all = vec![true; 5];
        let low = vec![true, true, false, false, false];
        let none = vec![false; 5];
        let found = vectors().best(3, &[all, low, none], || {}).unwrap();
        let best = |count, score| Best { count, score };
        assert_eq!(
            found[0],
            [best(3, 3.0), best(2, 1.0), best(0, f32::INFINITY)]
        );
        assert_eq!(found[1][0], best(3, -3.0));
    }

    #[test]
    fn recall_counts_what_is_as_good_and_refuses_what_is_no_answer() {
        let (vectors, all) = (vectors(), [true; 5]);
        let best = Best {
            count: 1,
            score: 4.0,
        };
        let recall = |answer: &[usize]| vectors.recall(0, answer, best, &all);
        assert_eq!(recall(&[3]).unwrap(), 1.0);
        assert_eq!(recall(&[4]).unwrap(), 1.0);
        assert_eq!(recall(&[3, 4]).unwrap(), 1.0);
        assert_eq!(recall(&[0]).unwrap(), 0.0);
        assert_eq!(recall(&[]).unwrap(), 0.0);
        assert!(recall(&[3, 3]).unwrap_err().to_string().contains("twice"));
        assert!(recall(&[5]).is_err());
        let some = [true, true, true, false, true];
        assert!(vectors.recall(0, &[3], best, &some).is_err());
        let two = Best {
            count: 2,
            score: 3.0,
        };
        assert_eq!(vectors.recall(0, &[3, 0], two, &all).unwrap(), 0.5);
    }

    #[test]
    fn inner_products_of_any_length() {
        for length in [0, 1, 16, 33] {
            let a = vec![2.0; length];
            let b: Vec<f32> = (0..length).map(|i| i as f32).collect();
            let wanted: f32 = b.iter().map(|x| 2.0 * x).sum();
            assert_eq!(dot(&a, &b), wanted, "{length}");
        }
    }
}
