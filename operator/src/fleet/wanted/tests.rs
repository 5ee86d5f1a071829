use super::*;

fn replica(name: &str, ready: bool, report: Option<(Option<&str>, &[&str])>) -> Replica {
    let report = report.map(|(serving, prepared)| Report {
        serving: serving.map(str::to_owned),
        prepared: prepared.iter().map(|s| (*s).to_owned()).collect(),
        failures: BTreeMap::new(),
    });
    Replica {
        name: name.to_owned(),
        ready,
        report,
    }
}

#[test]
fn a_release_is_everywhere_when_every_replica_that_queries_reach_has_it() {
    let old = |name| replica(name, true, Some((Some("r-1"), &[])));
    let both = |name| replica(name, true, Some((Some("r-1"), &["r-2"])));
    assert_eq!(
        standing("r-2", &[both("a"), both("b")]),
        Standing::Everywhere
    );
    assert_eq!(
        standing("r-2", &[both("a"), old("b")]),
        Standing::Underway("b".to_owned())
    );
    assert_eq!(
        standing("r-1", &[both("a"), old("b")]),
        Standing::Everywhere
    );
    // Starting: not waited for. Silent though ready: waited for.
    let starting = replica("c", false, None);
    assert_eq!(
        standing("r-2", &[both("a"), starting.clone()]),
        Standing::Everywhere
    );
    let silent = replica("c", true, None);
    assert!(matches!(
        standing("r-2", &[both("a"), silent]),
        Standing::Underway(_)
    ));
    assert!(matches!(
        standing("r-2", &[starting]),
        Standing::Underway(_)
    ));
    assert!(matches!(standing("r-2", &[]), Standing::Underway(_)));
}

#[test]
fn a_failure_counts_once_nobody_is_at_it() {
    let mut failed = replica("a", true, Some((Some("r-1"), &[])));
    let why = ("r-2".to_owned(), "no space".to_owned());
    failed.report.as_mut().unwrap().failures.extend([why]);
    let done = replica("b", true, Some((Some("r-1"), &["r-2"])));
    let busy = replica("c", true, Some((Some("r-1"), &[])));
    let all = [failed.clone(), done.clone(), busy];
    assert_eq!(standing("r-2", &all), Standing::Underway("c".to_owned()));
    assert_eq!(
        standing("r-2", &[failed, done]),
        Standing::Failed("a: no space".to_owned())
    );
}

#[test]
fn who_answers_chats_elsewhere_has_a_release_first() {
    let old = |name| replica(name, true, Some((Some("r-1"), &[])));
    let both = |name| replica(name, true, Some((Some("r-1"), &["r-2"])));
    let stands = |replicas: &[Replica], agents: &[Replica]| standing_with("r-2", replicas, agents);
    assert_eq!(stands(&[both("a")], &[]), Standing::Everywhere);
    assert_eq!(stands(&[both("a")], &[both("v")]), Standing::Everywhere);
    let waits = |who: &str| Standing::Underway(who.to_owned());
    assert_eq!(stands(&[both("a")], &[both("v"), old("w")]), waits("w"));
    assert_eq!(stands(&[old("a")], &[both("v")]), waits("a"));
    assert!(matches!(stands(&[], &[both("v")]), Standing::Underway(_)));
    let mut failed = old("v");
    let why = ("r-2".to_owned(), "another rank".to_owned());
    failed.report.as_mut().unwrap().failures.extend([why]);
    assert_eq!(
        stands(&[old("a")], &[failed]),
        Standing::Failed("v: another rank".to_owned())
    );
}

#[test]
fn a_release_is_the_same_wherever_it_is_to_be_had() {
    let wanted: Wanted = serde_json::from_value(serde_json::json!({
        "revision": Digest::of("r"), "model": "hf://org/model@main", "url": "http://a", "key": "1",
        "base": "hf://org/base@main",
        "adapters": {"a": {"manifest": Digest::of("m"), "adapter": Digest::of("a"), "url": "http://a", "key": "2"}},
    }))
    .unwrap();
    let mut moved = wanted.clone();
    (moved.url, moved.key) = ("http://b".to_owned(), "3".to_owned());
    moved.adapters.get_mut("a").unwrap().url = "http://b".to_owned();
    assert!(wanted.is_as(&moved) && wanted != moved);
    let service = WantedService {
        url: "http://support-vllm.agents.svc:8000".to_owned(),
        model: "base".to_owned(),
    };
    let served = moved.clone().served_by(Some(&service));
    assert!(!wanted.is_as(&served) && wanted.is_as(&served.served_by(None)));
    moved.adapters.get_mut("a").unwrap().adapter = Digest::of("b");
    assert!(!wanted.is_as(&moved));
    // Without adapters nobody chats.
    moved.base = None;
    assert_eq!(moved.served_by(Some(&service)).service, None);
}

#[test]
fn replicas_that_differ_serve_no_one_release() {
    let on = |name, release| replica(name, true, Some((release, &[])));
    assert_eq!(
        serving(&[on("a", Some("r-1")), on("b", Some("r-1"))]).as_deref(),
        Some("r-1")
    );
    assert_eq!(serving(&[on("a", Some("r-1")), on("b", Some("r-2"))]), None);
    assert_eq!(
        serving(&[on("a", Some("r-1")), on("b", None)]).as_deref(),
        Some("r-1")
    );
    assert_eq!(
        serving(&[on("a", Some("r-1")), replica("b", true, None)]),
        None
    );
    assert_eq!(serving(&[]), None);
    // Loaded, but not ready yet: no query would reach it.
    assert_eq!(
        serving(&[replica("a", false, Some((Some("r-1"), &[])))]),
        None
    );
}
