//! The plan of one pipeline.

use jiff::Timestamp;

use crate::action::{Action, Decision};
use crate::clock::earliest;
use crate::view::View;
use crate::world::World;
use crate::{history, rollout, runs, sources, status};

/// Actions as they come together.
#[derive(Default)]
pub(crate) struct Draft {
    pub actions: Vec<Action>,
    pub wake_at: Option<Timestamp>,
    /// Money is set aside by an action.
    books: bool,
}

impl Draft {
    /// Whether money may be set aside: once in a plan, since only the next one sees what is left.
    pub fn book(&mut self) -> bool {
        !std::mem::replace(&mut self.books, true)
    }

    pub fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Ask again at `time` at the latest.
    pub fn wake(&mut self, time: Option<Timestamp>) {
        self.wake_at = earliest(self.wake_at, time);
    }
}

/// What is to be done for a pipeline at `now`.
///
/// The same world gives the same decision. Apply its status and its actions, then ask again, until
/// there are no actions.
pub fn plan(now: Timestamp, world: &World) -> Decision {
    let view = View::new(now, world);
    let mut draft = Draft::default();
    rollout::plan(&view, &mut draft);
    runs::plan(&view, &mut draft);
    sources::plan(&view, &mut draft);
    history::plan(&view, &mut draft);
    let status = status::status(&view, &mut draft);
    Decision {
        actions: draft.actions,
        status,
        wake_at: draft.wake_at,
    }
}
