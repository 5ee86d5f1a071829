//! Who listens, and what they have not heard yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::{StreamExt, stream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::{Event, Events, Progress};

/// The listeners. One that is gone is forgotten at the next event.
#[derive(Default)]
pub struct Listeners {
    all: Vec<Listener>,
}

struct Listener {
    notices: UnboundedSender<Notice>,
    latest: Latest,
}

enum Notice {
    Event(Event),
    /// There is progress of this item and attempt in [`Latest`].
    Progress(Attempt),
}

type Attempt = (String, u32);

/// Progress not heard yet: one per attempt, however slow the listener is.
#[derive(Clone, Default)]
struct Latest(Arc<Mutex<HashMap<Attempt, Progress>>>);

impl Latest {
    fn lock(&self) -> MutexGuard<'_, HashMap<Attempt, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    /// A new listener; it hears what is sent from now on.
    pub fn add(&mut self) -> Events {
        let (notices, receiver) = unbounded_channel();
        let latest = Latest::default();
        self.all.push(Listener {
            notices,
            latest: latest.clone(),
        });
        listen(receiver, latest)
    }

    /// Ends what they hear.
    pub fn close(&mut self) {
        self.all.clear();
    }

    /// Tells all listeners. Never waits for one.
    pub fn send(&mut self, event: &Event) {
        self.all.retain(|listener| listener.tell(event.clone()));
    }
}

impl Listener {
    /// False when nobody listens any more.
    fn tell(&self, event: Event) -> bool {
        let notice = match event {
            Event::Progress(progress) => {
                let attempt = (progress.id.clone(), progress.attempt);
                if self
                    .latest
                    .lock()
                    .insert(attempt.clone(), progress)
                    .is_some()
                {
                    return !self.notices.is_closed();
                }
                Notice::Progress(attempt)
            }
            event => Notice::Event(event),
        };
        self.notices.send(notice).is_ok()
    }
}

fn listen(receiver: UnboundedReceiver<Notice>, latest: Latest) -> Events {
    stream::unfold((receiver, latest), |(mut receiver, latest)| async move {
        loop {
            let event = match receiver.recv().await? {
                Notice::Event(event) => Some(event),
                Notice::Progress(attempt) => latest.lock().remove(&attempt).map(Event::Progress),
            };
            if let Some(event) = event {
                return Some((event, (receiver, latest)));
            }
        }
    })
    .boxed()
}
