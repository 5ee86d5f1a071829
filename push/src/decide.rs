//! Which changes are made: a pure function.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use loci_digest::Digest;

use crate::change::{Change, Written};
use crate::error::Refused;
use crate::state::{Op, State};

/// How much a source takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Documents.
    pub documents: usize,
    /// Documents that differ from what was last indexed.
    pub pending: usize,
}

/// What differs from what was last indexed.
#[derive(Clone, Debug, Default)]
pub struct Backlog {
    indexed: Arc<BTreeMap<String, Digest>>,
    pending: BTreeSet<String>,
}

impl Backlog {
    /// Of `state`, when documents of these versions are indexed.
    pub fn new(state: &State, indexed: Arc<BTreeMap<String, Digest>>) -> Self {
        let differs = |id: &&String| state.version(id) != indexed.get(*id).copied();
        let ids = state.documents.keys().chain(indexed.keys());
        let pending = ids.filter(differs).cloned().collect();
        Self { indexed, pending }
    }

    /// The versions that are indexed.
    pub fn indexed(&self) -> &Arc<BTreeMap<String, Digest>> {
        &self.indexed
    }

    /// How many documents differ.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    fn differs(&self, id: &str, version: Option<Digest>) -> bool {
        version != self.indexed.get(id).copied()
    }

    /// A document has this version from now on.
    pub(crate) fn note(&mut self, id: &str, version: Option<Digest>) {
        match self.differs(id, version) {
            true => _ = self.pending.insert(id.to_owned()),
            false => _ = self.pending.remove(id),
        }
    }
}

/// What is to be written, and what each change comes to once it is.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Decided {
    /// The changes to be made, in their order.
    pub ops: Vec<Op>,
    /// An answer for each change.
    pub answers: Vec<Result<Written, Refused>>,
}

/// Decides on changes one after the other: each sees what those before it made.
pub fn decide<'a>(
    state: &'a State,
    backlog: &'a Backlog,
    bounds: Bounds,
    changes: impl IntoIterator<Item = &'a Change>,
) -> Decided {
    let mut draft = Draft {
        state,
        backlog,
        bounds,
        over: HashMap::new(),
        documents: state.documents.len(),
        pending: backlog.pending(),
    };
    let mut decided = Decided::default();
    for change in changes {
        let answer = draft.one(change);
        if answer.as_ref().is_ok_and(Written::changed) {
            decided.ops.push(Op {
                id: change.id.clone(),
                put: change.to.clone(),
            });
        }
        decided.answers.push(answer);
    }
    decided
}

struct Draft<'a> {
    state: &'a State,
    backlog: &'a Backlog,
    bounds: Bounds,
    /// Versions after the changes so far.
    over: HashMap<&'a str, Option<Digest>>,
    documents: usize,
    pending: usize,
}

impl<'a> Draft<'a> {
    fn one(&mut self, change: &'a Change) -> Result<Written, Refused> {
        let id = change.id.as_str();
        let known = self.over.get(id).copied();
        let before = known.unwrap_or_else(|| self.state.version(id));
        if !change.condition.holds(before.as_ref()) {
            return Err(Refused::Condition { current: before });
        }
        let version = change.to.as_ref().map(|document| document.version());
        let written = Written { before, version };
        if !written.changed() {
            return Ok(written);
        }
        let documents =
            self.documents + usize::from(version.is_some()) - usize::from(before.is_some());
        if documents > self.bounds.documents && documents > self.documents {
            return Err(Refused::Documents {
                limit: self.bounds.documents,
            });
        }
        let counts = |version| usize::from(self.backlog.differs(id, version));
        let pending = self.pending + counts(version) - counts(before);
        if pending > self.bounds.pending && pending > self.pending {
            return Err(Refused::Backlog {
                pending: self.pending,
                limit: self.bounds.pending,
            });
        }
        (self.documents, self.pending) = (documents, pending);
        self.over.insert(id, version);
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Condition, Document};

    const ROOMY: Bounds = Bounds {
        documents: 100,
        pending: 100,
    };

    fn document(text: &str) -> Document {
        Document {
            content: Digest::of(text),
            bytes: text.len() as u64,
            media_type: "text/plain".to_owned(),
            uri: None,
            metadata: BTreeMap::new(),
        }
    }

    fn put(id: &str, text: &str) -> Change {
        Change {
            id: id.to_owned(),
            to: Some(document(text)),
            condition: Condition::Always,
        }
    }

    fn delete(id: &str) -> Change {
        Change {
            to: None,
            ..put(id, "")
        }
    }

    /// The state after these, and what is pending when nothing is indexed.
    fn after(changes: &[Change]) -> (State, Backlog) {
        let mut state = State::default();
        let decided = decide(&state, &Backlog::default(), ROOMY, changes);
        decided.ops.into_iter().for_each(|op| state.apply(op));
        let backlog = Backlog::new(&state, Arc::default());
        (state, backlog)
    }

    #[test]
    fn what_changes_nothing_writes_nothing() {
        let (state, backlog) = after(&[put("a", "one")]);
        let again = [put("a", "one"), delete("absent")];
        let decided = decide(&state, &backlog, ROOMY, &again);
        assert_eq!(decided.ops, []);
        let changed: Vec<bool> = decided
            .answers
            .iter()
            .map(|a| a.as_ref().unwrap().changed())
            .collect();
        assert_eq!(changed, [false, false]);
        let mut spoken_of = put("a", "one");
        let said = [("team".to_owned(), "blue".to_owned())];
        spoken_of.to.as_mut().unwrap().metadata = said.into();
        let decided = decide(&state, &backlog, ROOMY, [&spoken_of]);
        assert!(decided.answers[0].as_ref().unwrap().changed());
    }

    #[test]
    fn each_change_sees_those_before_it() {
        let changes = [
            put("a", "one"),
            put("a", "two"),
            delete("a"),
            put("a", "two"),
        ];
        let decided = decide(&State::default(), &Backlog::default(), ROOMY, &changes);
        assert_eq!(decided.ops.len(), 4);
        let befores: Vec<_> = decided
            .answers
            .iter()
            .map(|a| a.as_ref().unwrap().before)
            .collect();
        let (one, two) = (document("one").version(), document("two").version());
        assert_eq!(befores, [None, Some(one), Some(two), None]);
    }

    #[test]
    fn conditions_are_of_the_version_at_that_moment() {
        let (state, backlog) = after(&[put("a", "one")]);
        let version = document("one").version();
        let with = |id: &str, condition: Condition| Change {
            condition,
            ..put(id, "two")
        };
        let of = |version: Digest| Condition::Version(vec![version.to_string()]);
        for (change, made) in [
            (with("a", Condition::Absent), false),
            (with("a", Condition::Present), true),
            (with("a", of(version)), true),
            (with("a", of(Digest::of("other"))), false),
            (with("b", Condition::Absent), true),
            (with("b", Condition::Present), false),
            (with("b", of(version)), false),
        ] {
            let decided = decide(&state, &backlog, ROOMY, [&change]);
            assert_eq!(decided.answers[0].is_ok(), made, "{change:?}");
        }
        // Of two that create the same, one does.
        let both = [with("b", Condition::Absent), with("b", Condition::Absent)];
        let decided = decide(&state, &backlog, ROOMY, &both);
        assert!(decided.answers[0].is_ok() && decided.answers[1].is_err());
    }

    #[test]
    fn what_is_full_takes_changes_that_make_nothing_fuller() {
        let (state, _) = after(&[put("a", "one"), put("b", "one")]);
        let indexed = Arc::new([("a".to_owned(), document("one").version())].into());
        let backlog = Backlog::new(&state, indexed);
        assert_eq!(backlog.pending(), 1);
        let full = |documents, pending| Bounds { documents, pending };
        let refused = |bounds, change: Change| {
            let decided = decide(&state, &backlog, bounds, [&change]);
            decided.answers.into_iter().next().unwrap().err()
        };
        let limit = 2;
        assert_eq!(
            refused(full(2, 100), put("c", "one")),
            Some(Refused::Documents { limit })
        );
        assert_eq!(refused(full(2, 100), put("a", "two")), None);
        assert_eq!(refused(full(1, 100), delete("a")), None);
        // `b` is pending already, and `a` would be.
        assert_eq!(refused(full(100, 1), put("b", "two")), None);
        assert_eq!(refused(full(100, 1), delete("b")), None);
        let backlog = Some(Refused::Backlog {
            pending: 1,
            limit: 1,
        });
        assert_eq!(refused(full(100, 1), put("a", "two")), backlog);
        assert_eq!(refused(full(100, 1), delete("a")), backlog);
    }

    #[test]
    fn the_backlog_follows_each_change() {
        let (mut state, _) = after(&[put("a", "one"), put("b", "one")]);
        let indexed: Arc<BTreeMap<_, _>> = Arc::new(
            [
                ("a".to_owned(), document("one").version()),
                ("gone".to_owned(), document("one").version()),
            ]
            .into(),
        );
        let mut backlog = Backlog::new(&state, indexed.clone());
        for change in [
            put("a", "two"),
            put("a", "one"),
            delete("b"),
            put("gone", "one"),
            put("c", "one"),
        ] {
            let decided = decide(&state, &backlog, ROOMY, [&change]);
            for op in decided.ops {
                let id = op.id.clone();
                state.apply(op);
                backlog.note(&id, state.version(&id));
            }
            let anew = Backlog::new(&state, indexed.clone());
            assert_eq!(backlog.pending, anew.pending, "{change:?}");
        }
        assert_eq!(backlog.pending(), 1);
    }
}
