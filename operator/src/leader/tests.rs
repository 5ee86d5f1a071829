use super::*;

const TIMING: Timing = Timing {
    duration: Duration::from_secs(15),
    renew_deadline: Duration::from_secs(10),
    retry: Duration::from_secs(2),
};

/// The API server's part: one Lease, changed by compare-and-swap.
#[derive(Default)]
struct Server {
    lease: Option<Lease>,
    version: u64,
}

impl Server {
    fn put(&mut self, mut lease: Lease) -> Result<Lease, ()> {
        let now = self.lease.as_ref().map(|l| &l.metadata.resource_version);
        if now.is_some_and(|now| *now != lease.metadata.resource_version) {
            return Err(());
        }
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        self.lease = Some(lease.clone());
        Ok(lease)
    }

    /// Does what `who` wants, as long as it wants something of the API server. True when it leads then.
    fn serve(&mut self, who: &mut Elector, now: Instant, wall: Timestamp) -> bool {
        loop {
            let lease = match who.next(now, wall) {
                Step::Wait(_) => return true_if_leads(who, now),
                Step::Lost(_) => return false,
                Step::Look => {
                    who.saw(now, self.lease.clone());
                    continue;
                }
                Step::Create(spec) => Lease {
                    spec: Some(spec),
                    ..Lease::default()
                },
                Step::Write(lease) => *lease,
            };
            match self.put(lease) {
                Ok(lease) => who.wrote(now, now, lease),
                Err(()) => who.refused(now),
            }
        }
    }

    fn term(&self) -> i32 {
        let spec = self.lease.as_ref().unwrap().spec.as_ref().unwrap();
        spec.lease_transitions.unwrap()
    }
}

fn true_if_leads(who: &Elector, now: Instant) -> bool {
    who.held().is_some_and(|held| now < held.until)
}

fn seconds(n: f64) -> Duration {
    Duration::from_secs_f64(n)
}

fn wall() -> Timestamp {
    "2026-11-27T08:00:00Z".parse().unwrap()
}

#[test]
fn one_of_two_leads_and_goes_on_leading() {
    let (mut server, start) = (Server::default(), Instant::now());
    let (mut a, mut b) = (Elector::new("a", TIMING), Elector::new("b", TIMING));
    let mut leads = Vec::new();
    for n in 0..600 {
        let now = start + seconds(0.1 * f64::from(n));
        let pair = (
            server.serve(&mut a, now, wall()),
            server.serve(&mut b, now, wall()),
        );
        leads.push(pair);
    }
    assert!(leads.iter().all(|pair| *pair == (true, false)), "{leads:?}");
    assert_eq!(b.holder(), Some("a"));
}

#[test]
fn a_silent_leader_stops_before_another_begins_whatever_their_clocks_say() {
    // The other's clock is a day ahead, or behind, or right: nothing is decided by it.
    for skew in [86_400, -86_400, 0] {
        let other: Timestamp = wall() + jiff::SignedDuration::from_secs(skew);
        let (mut server, start) = (Server::default(), Instant::now());
        let (mut a, mut b) = (Elector::new("a", TIMING), Elector::new("b", TIMING));
        let mut handed_over = None;
        for n in 0..400 {
            let now = start + seconds(0.1 * f64::from(n));
            // From the 10th second on `a` does not get through.
            let a_leads = match n < 100 {
                true => server.serve(&mut a, now, wall()),
                false => true_if_leads(&a, now),
            };
            let b_leads = server.serve(&mut b, now, other);
            assert!(!(a_leads && b_leads), "both lead after {:?}", now - start);
            if b_leads && handed_over.is_none() {
                handed_over = Some(now - start);
                assert!(matches!(a.next(now, wall()), Step::Lost(Lost::Late(_))));
            }
        }
        let handed_over = handed_over.expect("the other leads in the end");
        assert!(handed_over < seconds(10.0 + 15.0 + 1.1), "{handed_over:?}");
    }
}

#[test]
fn terms_rise_with_each_leader_and_after_the_lease_is_deleted() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Elector::new("a", TIMING);
    assert!(server.serve(&mut a, start, wall()));
    let first = server.term();
    assert_eq!(a.held().unwrap().term, u64::try_from(first).unwrap());
    let given = *a.released(start, wall()).unwrap();
    assert_eq!(given.spec.as_ref().unwrap().holder_identity, None);
    server.put(given).unwrap();

    // Given back, it is taken without a wait.
    let mut b = Elector::new("b", TIMING);
    assert!(server.serve(&mut b, start, wall()));
    assert_eq!(server.term(), first + 1);

    server.lease = None;
    let mut c = Elector::new("c", TIMING);
    let later = wall() + jiff::SignedDuration::from_secs(60);
    assert!(server.serve(&mut c, start, later));
    assert!(server.term() > first + 1);
    let now = start + TIMING.retry;
    server.serve(&mut b, now, wall());
    let now = now + TIMING.retry / 4;
    assert!(!server.serve(&mut b, now, wall()));
    assert_eq!(b.next(now, wall()), Step::Lost(Lost::Taken("c".to_owned())));
}

#[test]
fn who_woke_after_its_deadline_has_lost_before_it_asks_anybody() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Elector::new("a", TIMING);
    assert!(server.serve(&mut a, start, wall()));
    assert!(matches!(
        a.next(start + seconds(10.0), wall()),
        Step::Lost(Lost::Late(_))
    ));
    assert_eq!(a.released(start + seconds(10.0), wall()), None);
}

#[test]
fn an_answer_that_was_lost_or_came_too_late_makes_no_leader_but_the_next_does() {
    let (mut server, start) = (Server::default(), Instant::now());
    let mut a = Elector::new("a", TIMING);
    assert_eq!(a.next(start, wall()), Step::Look);
    a.saw(start, None);
    let Step::Create(spec) = a.next(start, wall()) else {
        panic!("it has to be created");
    };
    let lease = Lease {
        spec: Some(spec),
        ..Lease::default()
    };
    let made = server.put(lease).unwrap();
    let woke = start + seconds(30.0);
    a.wrote(start, woke, made);
    assert_eq!(a.held(), None);
    assert!(server.serve(&mut a, woke, wall()));

    // The same when nobody heard the answer at all.
    let mut server = Server::default();
    let mut b = Elector::new("b", TIMING);
    b.saw(start, None);
    let Step::Create(spec) = b.next(start, wall()) else {
        panic!("it has to be created");
    };
    let term = spec.lease_transitions;
    let lease = Lease {
        spec: Some(spec),
        ..Lease::default()
    };
    server.put(lease).unwrap();
    b.failed(start);
    // It tries to create it once more, is refused, and finds that the Lease is its own.
    assert!(!server.serve(&mut b, start + TIMING.retry, wall()));
    assert!(server.serve(&mut b, start + TIMING.retry * 2, wall()));
    assert_eq!(Some(server.term()), term);
}

#[test]
fn a_leader_that_is_robbed_or_whose_lease_is_emptied_leads_no_more() {
    for holder in [Some("b"), None] {
        let (mut server, start) = (Server::default(), Instant::now());
        let mut a = Elector::new("a", TIMING);
        assert!(server.serve(&mut a, start, wall()));
        let mut lease = server.lease.clone().unwrap();
        lease.spec.as_mut().unwrap().holder_identity = holder.map(str::to_owned);
        server.put(lease).unwrap();
        let now = start + TIMING.retry;
        server.serve(&mut a, now, wall());
        let now = now + TIMING.retry / 4;
        assert!(!server.serve(&mut a, now, wall()));
        let lost = match holder {
            Some(other) => Lost::Taken(other.to_owned()),
            None => Lost::Gone,
        };
        assert_eq!(a.next(now, wall()), Step::Lost(lost));
    }
}

#[test]
fn a_timing_by_which_two_could_lead_is_refused() {
    let with = |duration: f64, renew_deadline: f64, retry: f64| {
        let timing = Timing {
            duration: seconds(duration),
            renew_deadline: seconds(renew_deadline),
            retry: seconds(retry),
        };
        timing.check().is_ok()
    };
    assert!(Timing::default().check().is_ok());
    assert!(with(2.0, 1.0, 0.2));
    assert!(!with(15.0, 15.0, 2.0));
    assert!(!with(1.5, 1.0, 0.2));
    assert!(!with(0.0, 0.0, 0.0));
    assert!(!with(15.0, 10.0, 6.0));
}
