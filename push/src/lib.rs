//! Documents that are given rather than fetched: the log of each push source.
//!
//! A [`PushLog`] is a row of numbered commits in the store, each a document there that is created and never replaced. What
//! a commit changes is decided by [`decide`], a pure function of the state before it. Content is a blob, stored before the commit that
//! names it; a commit is durable before its writers are answered. Who finds the next number taken reads what is there and
//! decides anew, so that several processes may write. From time to time the state is saved whole, the `head` says through
//! which commit, and the commits before it are deleted.
//!
//! A crash leaves: content that nothing names (garbage), a commit whose writer was not answered (it counts; repeating it
//! changes nothing), or commits that the head covers already (not read, and deleted by the next one who saves).

mod change;
mod decide;
mod error;
mod log;
mod name;
mod state;
mod tail;

pub use change::{Change, Condition, Document, Written};
pub use decide::{Backlog, Bounds, Decided, decide};
pub use error::{PushError, Refused};
pub use log::{Outcome, PushLog};
pub use name::{MAX_ID_BYTES, check_id, forget, is_name};
pub use state::{Kept, Op, State};
