//! Which adapters a vLLM has and is to have, and what to do next. No clock and no requests.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use loci_digest::Digest;
use loci_recall::adapter_name;
use tokio::time::Instant;

use crate::fleet::{Report, Wanted, WantedAdapter};
use crate::goal::Goal;

/// The pauses after an adapter that could not be loaded.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// The pause after one that could not be unloaded.
const AGAIN: Duration = Duration::from_secs(60);

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Load, or ask once more what is loaded already.
    Load(String, WantedAdapter),
    Unload(String),
}

struct Failed {
    manifest: Digest,
    pause: Duration,
    again: Instant,
    why: String,
}

/// What is known of a vLLM's adapters, by the names that it knows them by.
pub struct Ledger {
    /// How long chats may go on with an adapter of a release that is not wanted any more.
    drain: Duration,
    /// Those it has that this program loaded, by their manifests; none while it does not answer.
    there: Option<BTreeMap<String, Digest>>,
    /// Those whose answers are right, by their manifests.
    verified: BTreeMap<String, Digest>,
    failed: BTreeMap<String, Failed>,
    /// Until when others stay.
    leaving: BTreeMap<String, Instant>,
}

/// The adapters of a release by the names that vLLM is to know them by.
fn named(wanted: &Wanted) -> impl Iterator<Item = (String, &WantedAdapter)> {
    let adapters = wanted.adapters.iter();
    adapters.map(|(name, adapter)| (adapter_name(name, adapter.adapter), adapter))
}

impl Ledger {
    /// Nothing is known yet.
    pub fn new(drain: Duration) -> Self {
        Self {
            drain,
            there: None,
            verified: BTreeMap::new(),
            failed: BTreeMap::new(),
            leaving: BTreeMap::new(),
        }
    }

    /// Takes in what vLLM has; none when it does not answer. What it has lost is to be loaded once more.
    pub fn saw(&mut self, there: Option<BTreeMap<String, Digest>>) {
        if let Some(there) = &there {
            self.verified
                .retain(|name, manifest| there.get(name) == Some(&*manifest));
        }
        self.there = there;
    }

    /// What to do now: what is to answer comes first, then what may follow it, then what is not wanted any more.
    pub fn next(&mut self, goal: &Goal, now: Instant) -> Option<Task> {
        let there = self.there.clone()?;
        let wanted: BTreeMap<String, &WantedAdapter> =
            goal.releases.values().flat_map(named).collect();
        let same = |name: &String, manifest| wanted.get(name).map(|w| w.manifest) == Some(manifest);
        self.failed.retain(|name, f| same(name, f.manifest));
        self.verified
            .retain(|name, manifest| !wanted.contains_key(name) || same(name, *manifest));
        self.leaving
            .retain(|name, _| there.contains_key(name) && !wanted.contains_key(name));
        self.load(goal, now).or_else(|| {
            // A goal that was not read yet is no reason to unload anything.
            if *goal == Goal::default() {
                return None;
            }
            let mut others = there.keys().filter(|name| !wanted.contains_key(*name));
            let due = others.find(|name| {
                let until = self.leaving.entry((*name).clone());
                *until.or_insert(now + self.drain) <= now
            });
            due.cloned().map(Task::Unload)
        })
    }

    fn load(&self, goal: &Goal, now: Instant) -> Option<Task> {
        let mut releases: Vec<_> = goal.releases.iter().collect();
        releases.sort_by_key(|(name, _)| goal.desired.as_ref() != Some(*name));
        let adapters = releases.into_iter().flat_map(|(_, wanted)| named(wanted));
        let mut missing = adapters.filter(|(name, _)| {
            !self.verified.contains_key(name)
                && self.failed.get(name).is_none_or(|f| f.again <= now)
        });
        let (name, adapter) = missing.next()?;
        Some(Task::Load(name, adapter.clone()))
    }

    /// An adapter was loaded and says what it should; or why not.
    pub fn loaded(
        &mut self,
        name: String,
        manifest: Digest,
        result: Result<(), String>,
        now: Instant,
    ) {
        let Err(why) = result else {
            self.failed.remove(&name);
            self.verified.insert(name, manifest);
            return;
        };
        let before = self.failed.get(&name).map(|f| f.pause);
        let pause = before.map_or(PAUSES.0, |pause| (pause * 2).min(PAUSES.1));
        let failed = Failed {
            manifest,
            pause,
            again: now + pause,
            why,
        };
        self.failed.insert(name, failed);
    }

    /// An adapter could not be unloaded.
    pub fn stays(&mut self, name: String, now: Instant) {
        self.leaving.insert(name, now + AGAIN);
    }

    /// The manifests of what vLLM has and of what is wanted: their files stay.
    pub fn kept(&self, goal: &Goal) -> BTreeSet<Digest> {
        let wanted = goal.releases.values().flat_map(named);
        let wanted = wanted.map(|(_, adapter)| adapter.manifest);
        let there = self.there.iter().flat_map(BTreeMap::values).copied();
        wanted.chain(there).collect()
    }

    /// How the releases stand: one is loaded when all its adapters are. While vLLM does not answer, nothing is said of
    /// any.
    pub fn report(&self, goal: &Goal) -> Report {
        let mut report = Report::default();
        if self.there.is_none() {
            return report;
        }
        for (release, wanted) in &goal.releases {
            let missing = named(wanted).filter(|(name, _)| !self.verified.contains_key(name));
            let missing: Vec<String> = missing.map(|(name, _)| name).collect();
            let why = |name: &String| Some(format!("{name}: {}", self.failed.get(name)?.why));
            let failures: Vec<String> = missing.iter().filter_map(why).collect();
            if missing.is_empty() && goal.desired.as_ref() == Some(release) {
                report.serving = Some(release.clone());
            } else if missing.is_empty() {
                report.prepared.insert(release.clone());
            } else if !failures.is_empty() {
                report.failures.insert(release.clone(), failures.join("; "));
            }
        }
        report
    }
}

#[cfg(test)]
mod tests {
    use super::super::made::{goal, manifest, name, wanted};
    use super::*;

    const DRAIN: Duration = Duration::from_secs(600);

    fn has(values: &[&str]) -> Option<BTreeMap<String, Digest>> {
        let named = |value: &&str| (name(value), wanted(&manifest(value)).manifest);
        Some(values.iter().map(named).collect())
    }

    fn load(value: &str) -> Option<Task> {
        Some(Task::Load(name(value), wanted(&manifest(value))))
    }

    fn good(ledger: &mut Ledger, value: &str, now: Instant) {
        ledger.loaded(name(value), wanted(&manifest(value)).manifest, Ok(()), now);
    }

    #[test]
    fn what_answers_comes_first_and_nothing_is_done_while_vllm_is_away() {
        let (mut ledger, now) = (Ledger::new(DRAIN), Instant::now());
        let goal = goal(Some("two"), &[("one", "-1"), ("two", "-2")]);
        assert_eq!(ledger.next(&goal, now), None);
        assert_eq!(ledger.report(&goal), Report::default());
        ledger.saw(has(&[]));
        assert_eq!(ledger.next(&goal, now), load("-2"));
        good(&mut ledger, "-2", now);
        ledger.saw(has(&["-2"]));
        let report = ledger.report(&goal);
        assert_eq!(report.serving.as_deref(), Some("two"));
        assert!(report.prepared.is_empty());
        assert_eq!(ledger.next(&goal, now), load("-1"));
        good(&mut ledger, "-1", now);
        ledger.saw(has(&["-1", "-2"]));
        assert!(ledger.report(&goal).prepared.contains("one"));
        assert_eq!(ledger.next(&goal, now), None);
        // It started anew.
        ledger.saw(None);
        assert_eq!(ledger.report(&goal), Report::default());
        ledger.saw(has(&[]));
        assert_eq!(ledger.next(&goal, now), load("-2"));
        assert_eq!(ledger.report(&goal).serving, None);
    }

    #[test]
    fn what_fails_is_told_and_tried_again_with_growing_pauses() {
        let (mut ledger, mut now) = (Ledger::new(DRAIN), Instant::now());
        let goal = goal(Some("one"), &[("one", "-1"), ("two", "-2")]);
        ledger.saw(has(&[]));
        let mut waited = Vec::new();
        for _ in 0..7 {
            assert_eq!(ledger.next(&goal, now), load("-1"));
            let digest = wanted(&manifest("-1")).manifest;
            ledger.loaded(name("-1"), digest, Err("no room".to_owned()), now);
            let since = now;
            while ledger.next(&goal, now) != load("-1") {
                now += Duration::from_secs(1);
            }
            waited.push((now - since).as_secs());
        }
        assert_eq!(waited, [2, 4, 8, 16, 32, 60, 60]);
        let report = ledger.report(&goal);
        let told = format!("{}: no room", name("-1"));
        assert_eq!(report.failures.get("one"), Some(&told));
        assert!(
            !report.failures.contains_key("two"),
            "it is only not there yet"
        );
        // Another adapter by the name is tried at once.
        let again = super::super::made::goal(Some("one"), &[("one", "-3")]);
        assert_eq!(ledger.next(&again, now), load("-3"));
        good(&mut ledger, "-3", now);
        assert_eq!(ledger.report(&again).failures.len(), 0);
    }

    #[test]
    fn what_is_not_wanted_goes_after_its_chats_and_not_before_the_goal_is_known() {
        let (mut ledger, start) = (Ledger::new(DRAIN), Instant::now());
        let (old, both) = (
            goal(Some("one"), &[("one", "-1")]),
            goal(Some("two"), &[("one", "-1"), ("two", "-2")]),
        );
        let new = goal(Some("two"), &[("two", "-2")]);
        ledger.saw(has(&["-1", "-2"]));
        let late = start + DRAIN * 10;
        assert_eq!(ledger.next(&Goal::default(), start), None);
        assert_eq!(ledger.next(&Goal::default(), late), None);
        good(&mut ledger, "-1", start);
        good(&mut ledger, "-2", start);
        assert_eq!(ledger.next(&both, late), None);
        assert_eq!(ledger.next(&new, late), None);
        let nearly = late + DRAIN - Duration::from_secs(1);
        assert_eq!(ledger.next(&new, nearly), None);
        // It comes back in time, and then goes once more.
        assert_eq!(ledger.next(&both, nearly), None);
        assert_eq!(ledger.next(&new, late + DRAIN), None);
        let due = late + DRAIN * 2;
        assert_eq!(ledger.next(&new, due), Some(Task::Unload(name("-1"))));
        ledger.stays(name("-1"), due);
        assert_eq!(ledger.next(&new, due), None);
        let again = due + AGAIN;
        assert_eq!(ledger.next(&new, again), Some(Task::Unload(name("-1"))));
        assert_eq!(ledger.kept(&new).len(), 2, "its files are still in use");
        ledger.saw(has(&["-2"]));
        assert_eq!(ledger.next(&new, again), None);
        assert_eq!(ledger.kept(&new).len(), 1);
        assert_eq!(ledger.kept(&old).len(), 2);
    }

    #[test]
    fn releases_without_adapters_are_loaded_by_themselves() {
        let mut ledger = Ledger::new(DRAIN);
        let mut goal = goal(Some("one"), &[("one", "-1")]);
        goal.releases.get_mut("one").unwrap().adapters.clear();
        ledger.saw(has(&[]));
        assert_eq!(ledger.next(&goal, Instant::now()), None);
        assert_eq!(ledger.report(&goal).serving.as_deref(), Some("one"));
    }
}
