//! What to do about the Lease, decided from what was seen of it and when. Pure: values in, a decision out.
//!
//! Clocks of other machines are not believed. A holder counts as gone when this process has not seen the Lease change
//! for its whole duration, by a clock of its own that nobody sets. A leader counts its own deadline, which is shorter,
//! from the moment before it asked for its last renewal: so it has stopped before any other can have seen enough.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

/// 2026-01-01. Terms of a new Lease begin with the seconds since, so that they are higher than those of one that was
/// deleted: a leader may change once a second for that.
const EPOCH: i64 = 1_767_225_600;

/// How fast a leader is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait for a holder that is silent; whole seconds.
    pub duration: Duration,
    /// How long a leader goes on without a renewal.
    pub renew_deadline: Duration,
    /// How often it renews. Others look twice as often.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// Whether a leader of this timing stops before another begins.
    ///
    /// # Errors
    /// Which part has to be longer or shorter.
    pub fn check(self) -> Result<Self, &'static str> {
        let Self {
            duration,
            renew_deadline,
            retry,
        } = self;
        if duration.is_zero() || duration.subsec_nanos() != 0 {
            return Err("the duration of the Lease has to be whole seconds, at least one");
        }
        if i32::try_from(duration.as_secs()).is_err() {
            return Err("the duration of the Lease is too long");
        }
        if renew_deadline >= duration {
            return Err("the renew deadline has to be shorter than the duration of the Lease");
        }
        if retry.is_zero() || retry * 2 > renew_deadline {
            return Err("the renew deadline has to be at least twice the retry period");
        }
        Ok(self)
    }
}

/// What to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Read the Lease.
    Look,
    /// Create it so.
    Create(LeaseSpec),
    /// Write it so, over the version that was seen.
    Write(Box<Lease>),
    /// Nothing before then.
    Wait(Instant),
    /// This process has led and leads no more.
    Lost(Lost),
}

/// Why a leader leads no more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lost {
    /// It did not get through to the API server, or stood still.
    #[error("it was not renewed within {} s", .0.as_secs_f32())]
    Late(Duration),
    /// Somebody else holds the Lease.
    #[error("it is held by {0}")]
    Taken(String),
    /// The Lease was given back or deleted by somebody else.
    #[error("somebody has emptied or deleted it")]
    Gone,
}

/// One who stands for election.
#[derive(Debug)]
pub struct Elector {
    identity: String,
    timing: Timing,
    view: View,
    /// The spec that was seen last, and since when it is so.
    last: Option<(LeaseSpec, Instant)>,
    /// Its version: a renewal by a clock that stands still changes nothing else.
    version: Option<String>,
    /// Nothing is asked before.
    rest: Option<Instant>,
    held: Option<Held>,
}

/// What is known of the Lease.
#[derive(Debug)]
enum View {
    Unknown,
    Absent,
    There(Box<Lease>),
}

/// This process leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Its term.
    pub term: u64,
    /// It leads until then, if it does not renew.
    pub until: Instant,
    renew: Instant,
}

impl Elector {
    pub fn new(identity: &str, timing: Timing) -> Self {
        Self {
            identity: identity.to_owned(),
            timing,
            view: View::Unknown,
            last: None,
            version: None,
            rest: None,
            held: None,
        }
    }

    /// Whether this process leads, as it was asked last.
    pub fn held(&self) -> Option<Held> {
        self.held
    }

    /// Who held the Lease when it was seen last.
    pub fn holder(&self) -> Option<&str> {
        self.last.as_ref().and_then(|(spec, _)| holder(spec))
    }

    /// What to do now. `wall` is what people read in the Lease; nothing is decided by it.
    pub fn next(&mut self, now: Instant, wall: Timestamp) -> Step {
        if let Some(held) = self.held
            && now >= held.until
        {
            return Step::Lost(Lost::Late(self.timing.renew_deadline));
        }
        if let Some(rest) = self.rest.filter(|rest| now < *rest) {
            return Step::Wait(rest);
        }
        self.rest = None;
        match self.held {
            Some(held) => self.lead(held, now, wall),
            None => self.stand(now, wall),
        }
    }

    fn lead(&self, held: Held, now: Instant, wall: Timestamp) -> Step {
        let lease = match &self.view {
            View::Unknown => return Step::Look,
            View::Absent => return Step::Lost(Lost::Gone),
            View::There(lease) => lease,
        };
        let spec = lease.spec.clone().unwrap_or_default();
        match holder(&spec) {
            Some(other) if other != self.identity => Step::Lost(Lost::Taken(other.to_owned())),
            Some(_) if term(&spec) == Some(held.term) => match now >= held.renew {
                true => self.write(lease, self.renewed(spec, wall)),
                false => Step::Wait(held.renew),
            },
            _ => Step::Lost(Lost::Gone),
        }
    }

    fn stand(&mut self, now: Instant, wall: Timestamp) -> Step {
        let lease = match &self.view {
            View::Unknown => return Step::Look,
            View::Absent => return Step::Create(self.taken(None, wall)),
            View::There(lease) => lease,
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let free = match holder(&spec) {
            None => now,
            // The answer to the write that took it was lost.
            Some(own) if own == self.identity => {
                return self.write(lease, self.renewed(spec, wall));
            }
            Some(_) => self.expires(&spec, now),
        };
        if now >= free {
            return self.write(lease, self.taken(Some(&spec), wall));
        }
        let again = free.min(now + self.timing.retry / 2);
        self.view = View::Unknown;
        self.rest = Some(again);
        Step::Wait(again)
    }

    fn expires(&self, spec: &LeaseSpec, now: Instant) -> Instant {
        let said = spec.lease_duration_seconds.unwrap_or_default();
        let duration = match u64::try_from(said) {
            Ok(seconds) if seconds > 0 => Duration::from_secs(seconds),
            _ => self.timing.duration,
        };
        self.last.as_ref().map_or(now, |(_, since)| *since) + duration
    }

    fn write(&self, lease: &Lease, spec: LeaseSpec) -> Step {
        let mut lease = lease.clone();
        lease.metadata.managed_fields = None;
        lease.spec = Some(spec);
        Step::Write(Box::new(lease))
    }

    fn taken(&self, before: Option<&LeaseSpec>, wall: Timestamp) -> LeaseSpec {
        let first = i32::try_from(wall.as_second() - EPOCH).unwrap_or(0).max(1);
        let before = before.and_then(|spec| spec.lease_transitions);
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            acquire_time: Some(MicroTime(wall)),
            lease_transitions: Some(before.map_or(first, |n| n.saturating_add(1))),
            ..LeaseSpec::default()
        };
        self.renewed(spec, wall)
    }

    fn renewed(&self, spec: LeaseSpec, wall: Timestamp) -> LeaseSpec {
        let seconds = i32::try_from(self.timing.duration.as_secs()).unwrap_or(i32::MAX);
        LeaseSpec {
            lease_duration_seconds: Some(seconds),
            renew_time: Some(MicroTime(wall)),
            ..spec
        }
    }

    /// The Lease was read: `now` is after the answer.
    pub fn saw(&mut self, now: Instant, lease: Option<Lease>) {
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let version = lease.as_ref();
        let version = version.and_then(|lease| lease.metadata.resource_version.clone());
        let same = self.last.as_ref().map(|(spec, _)| spec) == spec.as_ref();
        if !same || self.version != version {
            self.last = spec.map(|spec| (spec, now));
            self.version = version;
        }
        self.view = lease.map_or(View::Absent, |lease| View::There(Box::new(lease)));
    }

    /// What was to be created or written is written: asked for at `asked`, known at `now`.
    pub fn wrote(&mut self, asked: Instant, now: Instant, lease: Lease) {
        let until = asked + self.timing.renew_deadline;
        let spec = lease.spec.clone().unwrap_or_default();
        let term = term(&spec).unwrap_or_default();
        self.saw(asked, Some(lease));
        // An answer that took too long to begin with begins nothing: the next write does.
        if self.held.is_some() || now < until {
            self.held = Some(Held {
                term,
                until,
                renew: asked + self.timing.retry,
            });
        }
    }

    /// The API server has refused a write: the Lease is not as it was seen.
    pub fn refused(&mut self, now: Instant) {
        self.view = View::Unknown;
        self.rest = Some(now + self.timing.retry / 8);
    }

    /// The API server did not answer, or refuses.
    pub fn failed(&mut self, now: Instant) {
        self.rest = Some(now + self.timing.retry / 2);
    }

    /// The Lease as it is given back; none when there is nothing to give.
    pub fn released(&self, now: Instant, wall: Timestamp) -> Option<Box<Lease>> {
        let held = self.held.filter(|held| now < held.until)?;
        let View::There(lease) = &self.view else {
            return None;
        };
        let spec = lease.spec.clone().unwrap_or_default();
        let ours = holder(&spec) == Some(&self.identity) && term(&spec) == Some(held.term);
        let spec = LeaseSpec {
            holder_identity: None,
            ..self.renewed(spec, wall)
        };
        match self.write(lease, spec) {
            Step::Write(lease) if ours => Some(lease),
            _ => None,
        }
    }
}

fn holder(spec: &LeaseSpec) -> Option<&str> {
    spec.holder_identity.as_deref().filter(|h| !h.is_empty())
}

fn term(spec: &LeaseSpec) -> Option<u64> {
    u64::try_from(spec.lease_transitions?).ok()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
