//! What examples share with suites.
//!
//! After GPT-3 (Brown et al., "Language models are few-shot learners", 2020, appendix C): an example that shares a run of
//! 13 words with what a suite asks is contaminated; of a text of 8 to 12 words, all of them count as one run; and a run that
//! more than ten examples share is a form of words, not a leak. Words go without case and punctuation. Shorter texts are
//! compared whole: a prompt that an example's user says word for word is contaminated, however common it is.
//!
//! Answers differ from what GPT-3 read: an adapter is to learn forms of words. So a run of an answer counts only while one
//! example has it.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use super::cases::Case;
use super::identity::plain;
use super::words::Words;
use crate::example::{Example, Role};

/// The most characters of a shared text in a reason.
const SHOWN: usize = 120;

/// From when on an overlap is a leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Words of a run.
    pub words: usize,
    /// Words of a text that is compared by its words at all.
    pub least: usize,
    /// The most examples that may share a run of what is asked, for it to be a leak.
    pub common: usize,
    /// The most that may share a run of an answer.
    pub formula: usize,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            words: 13,
            least: 8,
            common: 10,
            formula: 1,
        }
    }
}

/// What an example shares with a suite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The suite.
    pub suite: String,
    /// The case of the suite.
    pub id: String,
    /// What they share.
    pub text: String,
    /// Whether that is the case's whole prompt.
    pub whole: bool,
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            suite, id, text, ..
        } = self;
        let shown: String = text.chars().take(SHOWN).collect();
        match self.whole {
            true => write!(f, "asks what {id} of suite {suite} asks: \"{shown}\""),
            false => write!(f, "shares words with {id} of suite {suite}: \"{shown}\""),
        }
    }
}

/// What was found in examples.
pub(super) struct Checked {
    /// Of each example, the first leak if there is one.
    pub(super) overlaps: Vec<Option<Overlap>>,
    /// Runs that were taken for forms of words.
    pub(super) common: u64,
}

/// What no example may share.
pub(super) struct Protected<'a> {
    cases: &'a [Case],
    thresholds: Thresholds,
    entries: Vec<Entry>,
    /// Whole prompts, by their plain text.
    prompts: HashMap<String, usize>,
    /// Runs of words.
    runs: HashMap<String, usize>,
    /// How many words runs have.
    lengths: BTreeSet<usize>,
}

struct Entry {
    case: usize,
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Prompt,
    Asked,
    Answered,
}

impl<'a> Protected<'a> {
    pub(super) fn new(cases: &'a [Case], thresholds: Thresholds) -> Self {
        let mut protected = Self {
            cases,
            thresholds,
            entries: Vec::new(),
            prompts: HashMap::new(),
            runs: HashMap::new(),
            lengths: BTreeSet::new(),
        };
        for (number, case) in cases.iter().enumerate() {
            if let Some(prompt) = &case.prompt {
                protected.prompt(number, prompt);
            }
            for text in case.prompt.iter().chain(&case.texts) {
                protected.text(number, text, Kind::Asked);
            }
        }
        // After all that is asked, which counts for more where the two have words in common.
        for (number, case) in cases.iter().enumerate() {
            for text in &case.answers {
                protected.text(number, text, Kind::Answered);
            }
        }
        protected
    }

    fn prompt(&mut self, case: usize, text: &str) {
        let whole = same(text);
        if whole.is_empty() || self.prompts.contains_key(&whole) {
            return;
        }
        let entry = self.enter(case, &whole, Kind::Prompt);
        self.prompts.insert(whole, entry);
    }

    fn text(&mut self, case: usize, text: &str, kind: Kind) {
        let words = Words::of(text);
        if words.count() < self.thresholds.least.max(1) {
            return;
        }
        let length = words.count().min(self.thresholds.words);
        self.lengths.insert(length);
        for run in words.runs(length) {
            if self.runs.contains_key(run) {
                continue;
            }
            let entry = self.enter(case, run, kind);
            self.runs.insert(run.to_owned(), entry);
        }
    }

    fn enter(&mut self, case: usize, text: &str, kind: Kind) -> usize {
        let text = text.to_owned();
        self.entries.push(Entry { case, text, kind });
        self.entries.len() - 1
    }

    /// What each example shares that is a leak, given all of them.
    pub(super) fn check(&self, examples: &[&Example]) -> Checked {
        let shared: Vec<BTreeSet<usize>> = examples.iter().map(|e| self.shared(e)).collect();
        let mut counts = vec![0_usize; self.entries.len()];
        for entry in shared.iter().flatten() {
            counts[*entry] += 1;
        }
        let leaks = |entry: usize| counts[entry] <= self.most(self.entries[entry].kind);
        let overlap = |entries: &BTreeSet<usize>| {
            let first = entries.iter().find(|entry| leaks(**entry))?;
            Some(self.overlap(*first))
        };
        let common = (0..counts.len()).filter(|entry| !leaks(*entry)).count();
        Checked {
            overlaps: shared.iter().map(overlap).collect(),
            common: common as u64,
        }
    }

    /// The entries that an example has.
    fn shared(&self, example: &Example) -> BTreeSet<usize> {
        let mut shared = BTreeSet::new();
        for message in &example.messages {
            if message.role == Role::User {
                shared.extend(self.prompts.get(&same(&message.content)).copied());
            }
            let words = Words::of(&message.content);
            for length in &self.lengths {
                let known = words.runs(*length).filter_map(|run| self.runs.get(run));
                shared.extend(known.copied());
            }
        }
        shared
    }

    /// How many examples may share an entry for it to be a leak.
    fn most(&self, kind: Kind) -> usize {
        match kind {
            Kind::Prompt => usize::MAX,
            Kind::Asked => self.thresholds.common,
            Kind::Answered => self.thresholds.formula,
        }
    }

    fn overlap(&self, entry: usize) -> Overlap {
        let Entry { case, text, kind } = &self.entries[entry];
        let Case { suite, id, .. } = &self.cases[*case];
        Overlap {
            suite: suite.clone(),
            id: id.clone(),
            text: text.clone(),
            whole: *kind == Kind::Prompt,
        }
    }
}

/// Equal for prompts that differ in case and white space only.
fn same(text: &str) -> String {
    plain(text).to_lowercase()
}
