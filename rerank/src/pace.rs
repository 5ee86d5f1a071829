//! What comparing a passage costs, measured all the time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::FEWEST;

/// The share of a new measurement in the estimate.
const NEW: f64 = 0.2;

/// The share of the time that is planned with: passages differ, and who does not finish has gained nothing.
const PLANNED: f64 = 0.8;

/// What the estimate falls to with each query that was not tried for it, so that one slow moment is not believed for
/// ever.
const DOUBT: f64 = 0.98;

/// A moving estimate of what one passage costs. All queries share it.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Estimate>);

#[derive(Debug, Default)]
struct Estimate {
    cost: Option<f64>,
    /// The most time that a query had.
    most: f64,
}

impl Pace {
    /// How many passages fit into `left`: any number, as long as nothing has been measured.
    pub fn fitting(&self, left: Duration) -> usize {
        let left = left.as_secs_f64();
        let mut estimate = self.lock();
        estimate.most = estimate.most.max(left);
        match estimate.cost {
            Some(cost) if cost > 0.0 => (left * PLANNED / cost) as usize,
            _ => usize::MAX,
        }
    }

    /// What a passage costs by the estimate.
    pub fn cost(&self) -> Duration {
        let cost = self.lock().cost.unwrap_or_default();
        Duration::try_from_secs_f64(cost).unwrap_or(Duration::MAX)
    }

    /// So many passages took so long; when none was done, the first one had taken longer.
    pub fn took(&self, time: Duration, passages: usize) {
        let new = time.as_secs_f64() / passages.max(1) as f64;
        let cost = &mut self.lock().cost;
        *cost = Some(cost.map_or(new, |old| old + NEW * (new - old)));
    }

    /// A query went without. That is the estimate's doing only where no query has the time by it.
    pub fn missed(&self) {
        let estimate = &mut *self.lock();
        let planned = estimate.most * PLANNED;
        if let Some(cost) = &mut estimate.cost
            && planned / *cost < FEWEST as f64
        {
            *cost *= DOUBT;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Estimate> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn what_fits_goes_by_what_it_cost() {
        let pace = Pace::default();
        assert_eq!(pace.fitting(MS(1)), usize::MAX);
        pace.took(MS(100), 10);
        assert_eq!(pace.cost(), MS(10));
        assert_eq!((pace.fitting(MS(101)), pace.fitting(MS(24))), (8, 1));
        // A slower time moves it by a fifth of the way.
        pace.took(MS(200), 10);
        assert_eq!(pace.cost(), MS(12));
        for _ in 0..100 {
            pace.took(MS(50), 10);
        }
        assert!(pace.cost() < MS(6), "{:?}", pace.cost());
    }

    #[test]
    fn a_slow_moment_is_not_believed_for_ever() {
        let pace = Pace::default();
        pace.took(MS(900), 0);
        assert_eq!(pace.fitting(MS(50)), 0);
        let mut queries = 0;
        while pace.fitting(MS(50)) < 2 {
            pace.missed();
            queries += 1;
        }
        assert!((100..400).contains(&queries), "{queries}");
    }

    #[test]
    fn queries_without_time_say_nothing_of_the_cost() {
        let pace = Pace::default();
        pace.took(MS(100), 10);
        assert_eq!(pace.fitting(MS(101)), 8);
        for _ in 0..500 {
            assert_eq!(pace.fitting(MS(0)), 0);
            pace.missed();
        }
        assert_eq!(pace.fitting(MS(101)), 8);
    }
}
