use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{EventKind, ModifyKind};
use notify::{Config, ErrorKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout_at};

use super::select::is_hidden;
use super::{DirectorySpec, SourceError, walk};

/// Events this close together are one change.
pub(super) const QUIET: Duration = Duration::from_millis(200);
/// A change is told at the latest after this, however many follow.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a directory that went away is looked for.
const RETRY: Duration = Duration::from_millis(500);

/// Tells when files below a directory change. Dropping it ends the watch.
pub struct Watch {
    root: PathBuf,
    watcher: RecommendedWatcher,
    events: mpsc::UnboundedReceiver<Event>,
    /// The directory went away and has to be watched anew.
    lost: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Event {
    Changed,
    /// The directory itself was removed or renamed.
    Lost,
}

/// Watches the directory of `spec`.
///
/// # Errors
/// When it does not exist, or the system has no watch left for it.
pub fn watch(spec: &DirectorySpec) -> Result<Watch, SourceError> {
    let root = walk::root(&spec.path)?;
    let (sender, events) = mpsc::unbounded_channel();
    let seen_from = root.clone();
    let handler = move |event: notify::Result<notify::Event>| {
        if let Some(event) = relevant(&seen_from, event) {
            // The receiver goes with the watch: then nobody cares.
            let _ = sender.send(event);
        }
    };
    let config = Config::default().with_follow_symlinks(false);
    let mut watcher =
        RecommendedWatcher::new(handler, config).map_err(|error| failed(&root, error))?;
    watcher
        .watch(&root, RecursiveMode::Recursive)
        .map_err(|error| failed(&root, error))?;
    Ok(Watch {
        root,
        watcher,
        events,
        lost: false,
    })
}

impl Watch {
    /// Waits for the next change. Changes within 200 ms of each other are one. What changed is for
    /// [`probe`](super::probe) to find. The directory's end is a change, and so is its return.
    ///
    /// # Errors
    /// When the watch ended or cannot be taken up again after the directory was replaced.
    pub async fn changed(&mut self) -> Result<(), SourceError> {
        if self.lost {
            self.resume().await?;
            self.lost = false;
            return Ok(());
        }
        self.lost = self.next().await? == Event::Lost;
        let latest = Instant::now() + PATIENCE;
        while let Ok(event) = timeout_at(latest.min(Instant::now() + QUIET), self.next()).await {
            self.lost |= event? == Event::Lost;
        }
        Ok(())
    }

    async fn next(&mut self) -> Result<Event, SourceError> {
        let ended = || {
            SourceError::file(
                &self.root,
                "the watch on it ended; restart to watch it again",
            )
        };
        self.events.recv().await.ok_or_else(ended)
    }

    /// Waits until the directory is there again.
    async fn resume(&mut self) -> Result<(), SourceError> {
        loop {
            // The old watch is gone or on a directory that moved away.
            let _ = self.watcher.unwatch(&self.root);
            match self.watcher.watch(&self.root, RecursiveMode::Recursive) {
                Ok(()) => return Ok(()),
                Err(_) if !self.root.exists() => sleep(RETRY).await,
                Err(error) => return Err(failed(&self.root, error)),
            }
        }
    }
}

fn relevant(root: &Path, event: notify::Result<notify::Event>) -> Option<Event> {
    let Ok(event) = event else {
        return Some(Event::Changed);
    };
    if matches!(event.kind, EventKind::Access(_)) {
        return None;
    }
    let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
    if (renamed || event.kind.is_remove()) && event.paths.iter().any(|path| path == root) {
        return Some(Event::Lost);
    }
    let visible = |path: &PathBuf| {
        path.strip_prefix(root)
            .is_ok_and(|below| !is_hidden(&below.to_string_lossy()))
    };
    (event.need_rescan() || event.paths.iter().any(visible)).then_some(Event::Changed)
}

fn failed(root: &Path, error: notify::Error) -> SourceError {
    let reason = match error.kind {
        ErrorKind::MaxFilesWatch => {
            "the system's limit on watches is reached; raise fs.inotify.max_user_watches or narrow the directory".into()
        }
        _ => format!("cannot be watched: {error}"),
    };
    SourceError::file(root, reason)
}
