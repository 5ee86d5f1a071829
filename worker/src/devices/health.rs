//! What a worker does when its device fails.

/// Failures in a row after which a worker does no more.
const MOST: u32 = 2;

/// The attempt at an item from which on its failures are told: an item that no device can do must not take one worker
/// after another with it.
const TOLD: u32 = 5;

/// How often a device has failed since it last did something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    in_a_row: u32,
}

/// What becomes of the item that was at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// It is due again after a pause, here or elsewhere.
    Later,
    /// It is due again at once, for another worker.
    AtOnce,
    /// It ends as failed, which whoever planned it counts.
    Told,
}

/// What follows a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct After {
    /// Of the item.
    pub item: Item,
    /// Whether the worker takes no more, and lets go of all that it has.
    pub drains: bool,
}

impl Health {
    /// The device failed in an attempt at an item, of this number.
    pub fn failed(&mut self, attempt: u32) -> After {
        self.in_a_row = self.in_a_row.saturating_add(1);
        let drains = self.in_a_row >= MOST;
        let item = match drains {
            _ if attempt >= TOLD => Item::Told,
            true => Item::AtOnce,
            false => Item::Later,
        };
        After { item, drains }
    }

    /// The device did what it was asked for.
    pub fn worked(&mut self) {
        self.in_a_row = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of a queue of items, each `true` where no device can do it, when workers with these devices (`true`:
    /// broken) take them in turn.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Day {
        done: usize,
        told: usize,
        drained: usize,
        waiting: usize,
    }

    fn simulate(items: &[bool], devices: &[bool]) -> Day {
        let mut queue: std::collections::VecDeque<(bool, u32)> =
            items.iter().map(|poison| (*poison, 1)).collect();
        let mut fleet: Vec<(bool, Health, bool)> = devices
            .iter()
            .map(|broken| (*broken, Health::default(), true))
            .collect();
        let mut day = Day::default();
        for turn in 0..10_000 {
            let count = fleet.len();
            let (broken, health, there) = &mut fleet[turn % count];
            if !*there {
                continue;
            }
            let Some((poison, attempt)) = queue.pop_front() else {
                break;
            };
            if !*broken && !poison {
                health.worked();
                day.done += 1;
                continue;
            }
            let after = health.failed(attempt);
            *there = !after.drains;
            day.drained += usize::from(after.drains);
            match after.item {
                Item::Told => day.told += 1,
                Item::AtOnce => queue.push_front((poison, attempt + 1)),
                Item::Later => queue.push_back((poison, attempt + 1)),
            }
        }
        day.waiting = queue.len();
        day
    }

    #[test]
    fn the_second_failure_in_a_row_drains_and_success_forgives_the_first() {
        let mut health = Health::default();
        let first = After {
            item: Item::Later,
            drains: false,
        };
        assert_eq!(health.failed(1), first);
        health.worked();
        assert_eq!(health.failed(1), first);
        let second = After {
            item: Item::AtOnce,
            drains: true,
        };
        assert_eq!(health.failed(2), second);
        // Whatever comes in meanwhile, of another slot.
        assert_eq!(health.failed(1), second);
    }

    #[test]
    fn of_a_fleet_the_broken_worker_drains_and_the_others_do_all_the_work() {
        let day = simulate(&[false; 40], &[false, true, false]);
        let expected = Day {
            done: 40,
            told: 0,
            drained: 1,
            waiting: 0,
        };
        assert_eq!(day, expected);
        // Alone, it loses nothing: all of it waits.
        let day = simulate(&[false; 40], &[true]);
        let expected = Day {
            waiting: 40,
            drained: 1,
            ..Day::default()
        };
        assert_eq!(day, expected);
    }

    #[test]
    fn an_item_that_no_device_can_do_ends_as_failed_before_the_fleet_does() {
        let mut items = vec![false; 40];
        items[7] = true;
        let day = simulate(&items, &[false; 4]);
        assert_eq!((day.done, day.told, day.waiting), (39, 1, 0));
        assert!(day.drained < 4, "{day:?}");
    }
}
