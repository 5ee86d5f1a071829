//! What guards an adapter against forgetting where no gate of its pipeline does.

use loci_crds::adapter::Guard;
use loci_crds::behavior::BuiltinSuite;

use super::{Gate, Pipeline, Suite, SuiteData};
use crate::metrics::{Kind, Metric};

/// The suites that guard by default. No suite of a spec can have these names.
const DEFAULTS: [(&str, BuiltinSuite); 2] = [
    ("loci/ability", BuiltinSuite::Ability),
    ("loci/arithmetic", BuiltinSuite::Arithmetic),
];

/// The most that the accuracy of each may fall.
const MARGIN: f64 = 0.05;

impl Pipeline {
    /// Whether a gate keeps what the model could do before this adapter. One with `minGain` asks for what is to be learned.
    pub fn guards(&self, adapter: &str) -> bool {
        let judges = |name: &str| {
            let mut suites = self.suites.iter();
            suites.any(|s| s.name == name && s.judges(adapter))
        };
        let keeps = |gate: &&Gate| gate.max_regression.is_some() && gate.min_gain.is_none();
        let mut kept = self.gates.iter().filter(keeps);
        kept.any(|gate| judges(&gate.suite))
    }

    /// Whether that is for the suites that come with Loci to do.
    pub fn guarded_by_default(&self, adapter: &str) -> bool {
        let mut suites = self.suites.iter().filter(|s| s.judges(adapter));
        suites.any(|s| DEFAULTS.iter().any(|(name, _)| s.name == *name))
    }

    /// Has the suites that come with Loci judge the adapters that nothing else guards, unless the spec says not to.
    pub(super) fn guarded(mut self) -> Self {
        let bare = self.adapters.iter().filter(|a| a.guard == Guard::Builtin);
        let bare = bare.map(|a| a.name.clone()).filter(|a| !self.guards(a));
        let bare: Vec<String> = bare.collect();
        if bare.is_empty() {
            return self;
        }
        for (name, builtin) in DEFAULTS {
            self.suites.push(Suite {
                name: name.to_owned(),
                data: SuiteData::Builtin(builtin),
                kind: Kind::Behavior,
                adapters: bare.clone(),
                retrieved: false,
            });
            self.gates.push(Gate {
                suite: name.to_owned(),
                metric: Metric::Accuracy,
                floor: None,
                max_regression: Some(MARGIN),
                min_gain: None,
            });
        }
        self
    }
}
