//! The ends of logs, shown when a test panics.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

const LINES: usize = 25;

static WATCHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// From now on a panic prints the end of this log too.
pub(crate) fn watch(log: PathBuf) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            before(info);
            for log in watched().iter() {
                eprintln!("--- {} ends with\n{}", log.display(), tail(log));
            }
        }));
    });
    watched().push(log);
}

/// No longer.
pub(crate) fn forget(log: &Path) {
    watched().retain(|watched| watched != log);
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let bytes = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn watched() -> MutexGuard<'static, Vec<PathBuf>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_last_lines_or_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert_eq!(tail(&log), "");
        let lines: Vec<String> = (1..=40).map(|n| n.to_string()).collect();
        std::fs::write(&log, lines.join("\n")).unwrap();
        assert_eq!(tail(&log), lines[15..].join("\n"));
    }
}
