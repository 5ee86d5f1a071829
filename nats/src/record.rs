//! Where an item stands, and what may change that. Pure: the ledger stores a record by compare-and-swap, so of two who
//! change it at once one has to look again.

use loci_bus::{BusError, Cancelled, Outcome, Result, WorkItem, wire};
use serde::{Deserialize, Serialize};

/// One item from its publication on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    pub(crate) id: String,
    /// Unlike that of any other publication, of this id too.
    pub(crate) publication: String,
    /// The class of workers that may do it.
    pub(crate) class: String,
    /// Of the current delivery, or of the next one while it waits.
    pub(crate) attempt: u32,
    pub(crate) fence: u64,
    #[serde(default)]
    pub(crate) redeliveries: u32,
    /// The highest term of those who published, cancelled or redelivered it.
    #[serde(default)]
    pub(crate) term: u64,
    pub(crate) state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum State {
    Waiting,
    Held {
        /// Where the delivery is acknowledged, by its worker or in its name.
        reply: String,
        #[serde(default)]
        cancelled: bool,
    },
    Finished {
        outcome: Outcome,
    },
}

impl wire::Message for Record {
    const KIND: &'static str = "ItemRecord";
}

/// What a delivery means to the worker that got it.
#[derive(Debug, PartialEq)]
pub(crate) enum Delivery {
    /// It holds the item once this is recorded.
    Hold(Record),
    /// The item ends without it.
    End(Record),
    /// The item has ended, or has been published anew.
    Stale,
}

/// What an outcome means.
#[derive(Debug, PartialEq)]
pub(crate) enum Ending {
    /// It counts once this is recorded.
    Counts(Record),
    /// It was recorded before: the answer to that had been lost.
    Counted,
    /// The attempt has lost the item.
    Stale,
}

/// How an attempt ends without an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Back {
    /// Its worker is gone, or taken to be.
    Lost,
    /// Its worker gave it back on purpose.
    Given,
}

impl Record {
    pub(crate) fn new(item: &WorkItem, publication: String) -> Self {
        Self {
            id: item.id.clone(),
            publication,
            class: item.class.clone(),
            attempt: item.attempt,
            fence: item.fence,
            redeliveries: 0,
            term: item.term,
            state: State::Waiting,
        }
    }

    pub(crate) fn live(&self) -> bool {
        !matches!(self.state, State::Finished { .. })
    }

    /// Whether this is the end of the publication.
    pub(crate) fn ends(&self, publication: &str) -> bool {
        !self.live() && self.publication == publication
    }

    /// The record as it is for a planner of this term.
    ///
    /// # Errors
    /// [`BusError::Superseded`] when the term is over.
    pub(crate) fn under(&self, term: u64) -> Result<Self> {
        if term < self.term {
            return Err(BusError::Superseded {
                id: self.id.clone(),
                term,
                seen: self.term,
            });
        }
        Ok(Self {
            term,
            ..self.clone()
        })
    }

    /// Whether this attempt of this publication holds the item, and if so whether it is to stop.
    pub(crate) fn held_by(&self, publication: &str, attempt: u32) -> Option<bool> {
        match self.state {
            State::Held { cancelled, .. }
                if self.publication == publication && self.attempt == attempt =>
            {
                Some(cancelled)
            }
            _ => None,
        }
    }

    /// A message of `publication` has been delivered. Delivered while another attempt holds the item, that one has been
    /// silent for too long.
    pub(crate) fn deliver(&self, publication: &str, reply: &str) -> Delivery {
        if self.publication != publication {
            return Delivery::Stale;
        }
        let waiting = match &self.state {
            State::Finished { .. } => return Delivery::Stale,
            State::Held {
                cancelled: true, ..
            } => return Delivery::End(self.ended(Outcome::Cancelled)),
            State::Held { .. } => self.next_attempt(Back::Lost),
            State::Waiting => self.clone(),
        };
        let state = State::Held {
            reply: reply.to_owned(),
            cancelled: false,
        };
        Delivery::Hold(Self { state, ..waiting })
    }

    /// Gives the item back in the name of an attempt; none when that attempt does not hold it.
    pub(crate) fn give_back(&self, attempt: u32, back: Back) -> Option<Self> {
        match self.held_by(&self.publication, attempt)? {
            true => Some(self.ended(Outcome::Cancelled)),
            false => Some(self.next_attempt(back)),
        }
    }

    pub(crate) fn cancel(&self) -> (Cancelled, Option<Self>) {
        match &self.state {
            State::Finished { .. } => (Cancelled::NotLive, None),
            State::Waiting => (Cancelled::Queued, Some(self.ended(Outcome::Cancelled))),
            State::Held {
                cancelled: true, ..
            } => (Cancelled::Running, None),
            State::Held { reply, .. } => {
                let state = State::Held {
                    reply: reply.clone(),
                    cancelled: true,
                };
                (
                    Cancelled::Running,
                    Some(Self {
                        state,
                        ..self.clone()
                    }),
                )
            }
        }
    }

    pub(crate) fn finish(&self, publication: &str, attempt: u32, outcome: &Outcome) -> Ending {
        let same = self.publication == publication && self.attempt == attempt;
        match &self.state {
            State::Held { .. } if same => Ending::Counts(self.ended(outcome.clone())),
            State::Finished { outcome: recorded } if same && recorded == outcome => Ending::Counted,
            _ => Ending::Stale,
        }
    }

    fn next_attempt(&self, back: Back) -> Self {
        let lost = u32::from(back == Back::Lost);
        Self {
            attempt: self.attempt.saturating_add(1),
            fence: self.fence.saturating_add(1),
            redeliveries: self.redeliveries.saturating_add(lost),
            state: State::Waiting,
            ..self.clone()
        }
    }

    fn ended(&self, outcome: Outcome) -> Self {
        Self {
            state: State::Finished { outcome },
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use loci_bus::{Priority, WorkItem};

    use super::*;

    fn waiting() -> Record {
        let item = WorkItem {
            id: "a".to_owned(),
            pipeline: "agents/support".to_owned(),
            run: "support-1".to_owned(),
            step: "embed".to_owned(),
            attempt: 1,
            fence: 10,
            priority: Priority::P1,
            class: "cpu".to_owned(),
            payload: serde_json::Value::Null,
            term: 5,
            traceparent: None,
        };
        Record::new(&item, "p1".to_owned())
    }

    /// All records that can come of `start` within some steps.
    fn reachable(start: Record, steps: usize) -> Vec<Record> {
        let mut found = vec![start];
        let mut from = 0;
        for _ in 0..steps {
            let until = found.len();
            for i in from..until {
                let record = found[i].clone();
                let mut next = vec![record.cancel().1];
                for attempt in 1..=3 {
                    next.push(record.give_back(attempt, Back::Lost));
                    next.push(record.give_back(attempt, Back::Given));
                    for outcome in [Outcome::Cancelled, Outcome::Done { output: 1.into() }] {
                        next.push(match record.finish("p1", attempt, &outcome) {
                            Ending::Counts(record) => Some(record),
                            _ => None,
                        });
                    }
                }
                next.push(match record.deliver("p1", "reply") {
                    Delivery::Hold(record) | Delivery::End(record) => Some(record),
                    Delivery::Stale => None,
                });
                for record in next.into_iter().flatten() {
                    if !found.contains(&record) {
                        found.push(record);
                    }
                }
            }
            from = until;
        }
        found
    }

    #[test]
    fn a_term_that_is_over_is_refused_by_name_and_a_later_one_stays() {
        let record = waiting();
        let refused = record.under(4).unwrap_err();
        assert!(matches!(
            refused,
            BusError::Superseded {
                term: 4,
                seen: 5,
                ..
            }
        ));
        assert_eq!(record.under(5).unwrap(), record);
        let later = record.under(6).unwrap();
        assert!(later.under(5).is_err());
        assert_eq!(later.cancel().1.unwrap().term, 6);
    }

    #[test]
    fn a_record_of_a_build_without_terms_can_be_read() {
        let mut json = serde_json::to_value(waiting()).unwrap();
        json.as_object_mut().unwrap().remove("term");
        assert_eq!(serde_json::from_value::<Record>(json).unwrap().term, 0);
    }

    #[test]
    fn whatever_happens_one_attempt_holds_the_item_and_the_end_is_the_end() {
        let all = reachable(waiting(), 8);
        assert!(all.len() > 20, "{}", all.len());
        for record in &all {
            let holders = (0..20).filter(|n| record.held_by("p1", *n).is_some());
            assert!(holders.count() <= 1);
            assert_eq!(record.fence - 10, u64::from(record.attempt - 1));
            assert!(record.redeliveries < record.attempt);
            assert_eq!(record.term, 5);
            assert_eq!(record.held_by("p2", record.attempt), None);
            assert_eq!(record.deliver("p2", "reply"), Delivery::Stale);
            let other = Outcome::Done { output: 2.into() };
            assert_eq!(record.finish("p2", record.attempt, &other), Ending::Stale);
            assert_eq!(
                record.finish("p1", record.attempt + 1, &other),
                Ending::Stale
            );
            if let State::Finished { outcome } = &record.state {
                assert_eq!(record.deliver("p1", "reply"), Delivery::Stale);
                assert_eq!(record.cancel(), (Cancelled::NotLive, None));
                assert_eq!(record.give_back(record.attempt, Back::Lost), None);
                assert_eq!(record.finish("p1", record.attempt, &other), Ending::Stale);
                assert_eq!(
                    record.finish("p1", record.attempt, outcome),
                    Ending::Counted
                );
            }
            if record.held_by("p1", record.attempt) == Some(true) {
                let Delivery::End(ended) = record.deliver("p1", "reply") else {
                    panic!("a cancelled item was delivered: {record:?}");
                };
                let given = record.give_back(record.attempt, Back::Given);
                assert_eq!(given, Some(ended));
            }
        }
    }

    #[test]
    fn what_is_given_back_is_the_next_attempt_and_no_loss() {
        let Delivery::Hold(held) = waiting().deliver("p1", "reply") else {
            panic!("it is not delivered");
        };
        let [lost, given] = [Back::Lost, Back::Given].map(|back| held.give_back(1, back).unwrap());
        assert_eq!((lost.attempt, lost.redeliveries), (2, 1));
        assert_eq!((given.attempt, given.fence, given.redeliveries), (2, 11, 0));
        assert_eq!(
            (held.give_back(2, Back::Given), given.state),
            (None, State::Waiting)
        );
    }
}
