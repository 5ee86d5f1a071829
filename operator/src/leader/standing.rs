//! Whether this process may write, at this moment.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

/// Where this process stands. Cheap to clone; all clones are the same.
#[derive(Clone, Debug)]
pub struct Standing(Arc<watch::Sender<Position>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    /// There is no election.
    Alone,
    Standby,
    Leads {
        term: u64,
        until: Instant,
    },
    Over,
}

/// Why this process may not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotLeading {
    /// It does not lead yet.
    #[error("refused: this operator stands by, another leads")]
    Standby,
    /// Its deadline has passed.
    #[error(
        "refused: this operator led term {term}, but has not renewed its Lease in time and may have a successor"
    )]
    Late {
        /// The term that it led.
        term: u64,
    },
    /// It has given up.
    #[error("refused: this operator leads no more")]
    Over,
}

impl Standing {
    /// At the beginning: with an election nobody leads.
    pub fn new(election: bool) -> Self {
        let position = match election {
            true => Position::Standby,
            false => Position::Alone,
        };
        Self(Arc::new(watch::Sender::new(position)))
    }

    /// Whether this process may write now.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), NotLeading> {
        match *self.0.borrow() {
            Position::Alone => Ok(()),
            Position::Leads { until, .. } if Instant::now() < until => Ok(()),
            Position::Leads { term, .. } => Err(NotLeading::Late { term }),
            Position::Standby => Err(NotLeading::Standby),
            Position::Over => Err(NotLeading::Over),
        }
    }

    /// The term that this process leads now; 0 without an election.
    pub fn term(&self) -> Option<u64> {
        match *self.0.borrow() {
            Position::Alone => Some(0),
            Position::Leads { term, until } if Instant::now() < until => Some(term),
            _ => None,
        }
    }

    /// Waits until this process leads; gives the term, 0 without an election.
    pub async fn leads(&self) -> u64 {
        let term = |position: &Position| match position {
            Position::Alone => Some(0),
            Position::Leads { term, .. } => Some(*term),
            Position::Standby | Position::Over => None,
        };
        let mut positions = self.0.subscribe();
        loop {
            let term = term(&positions.borrow_and_update());
            match term {
                Some(term) => return term,
                None if positions.changed().await.is_ok() => {}
                // The sender is this value's own.
                None => std::future::pending().await,
            }
        }
    }

    /// It leads until then. True when it did not before.
    pub(super) fn lead(&self, term: u64, until: Instant) -> bool {
        self.0.send_if_modified(|position| {
            let begins = *position == Position::Standby;
            if *position != Position::Over {
                *position = Position::Leads { term, until };
            }
            begins
        })
    }

    /// It leads no more, and never again.
    pub(super) fn end(&self) {
        self.0.send_replace(Position::Over);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn it_may_write_from_its_election_to_its_deadline_and_never_again() {
        let standing = Standing::new(true);
        assert_eq!(standing.check(), Err(NotLeading::Standby));
        let other = standing.clone();
        let led = tokio::spawn(async move { other.leads().await });
        assert!(standing.lead(7, Instant::now() + Duration::from_secs(60)));
        assert_eq!((standing.check(), standing.term()), (Ok(()), Some(7)));
        assert_eq!(led.await.unwrap(), 7);
        assert!(!standing.lead(7, Instant::now()));
        assert_eq!(standing.check(), Err(NotLeading::Late { term: 7 }));
        assert_eq!(standing.term(), None);
        standing.end();
        standing.lead(7, Instant::now() + Duration::from_secs(60));
        assert_eq!(standing.check(), Err(NotLeading::Over));
    }

    #[tokio::test]
    async fn without_an_election_it_leads_alone() {
        let standing = Standing::new(false);
        assert_eq!(standing.check(), Ok(()));
        assert_eq!(standing.leads().await, 0);
    }
}
