//! What a person sees while work goes on: a bar for each step, a line for each event.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Zoned;
use loci_bus::Progress;
use loci_shell::Progresses;

/// Where lines go. Bars go to stderr, where that is a terminal.
#[derive(Clone, Copy)]
pub enum Lines {
    /// They are what the command answers.
    Stdout,
    /// They are a log.
    Stderr,
}

/// The terminal.
pub struct Screen {
    bars: MultiProgress,
    live: Mutex<HashMap<String, ProgressBar>>,
    lines: Lines,
}

impl Screen {
    /// Without bars yet.
    pub fn new(lines: Lines) -> Self {
        Self {
            bars: MultiProgress::new(),
            live: Mutex::default(),
            lines,
        }
    }

    /// A line that stays, with the time.
    pub fn line(&self, text: impl AsRef<str>) {
        let time = style(Zoned::now().strftime("%H:%M:%S").to_string()).dim();
        self.plain(format!("{time} {}", text.as_ref()));
    }

    /// A line without a time. Nobody is there to be told when it cannot be written.
    pub fn plain(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| {
            let _ = match self.lines {
                Lines::Stdout => writeln!(std::io::stdout(), "{}", text.as_ref()),
                Lines::Stderr => writeln!(std::io::stderr(), "{}", text.as_ref()),
            };
        });
    }

    /// A bar, by its id, at `done` of `total`; a spinner while the total is not known.
    pub fn show(&self, id: &str, step: &str, (done, total): (u64, Option<u64>), note: String) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = live.entry(id.to_owned()).or_insert_with(|| self.bar(step));
        match total {
            Some(total) => {
                bar.set_style(counted());
                bar.set_length(total);
            }
            None => bar.set_style(spinning()),
        }
        bar.set_position(done);
        bar.set_message(note);
    }

    /// Takes a bar away, if there is one.
    pub fn hide(&self, id: &str) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bar) = live.remove(id) {
            bar.finish_and_clear();
        }
    }

    fn bar(&self, step: &str) -> ProgressBar {
        let bar = self
            .bars
            .add(ProgressBar::new_spinner().with_style(spinning()));
        bar.set_prefix(format!("{step:<9}"));
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }
}

impl Progresses for Screen {
    fn progress(&self, step: &str, adapter: Option<&str>, progress: &Progress) {
        let message = progress.message.as_deref().unwrap_or_default();
        let note = format!("{} {message}", progress.unit);
        // An index and adapters get further side by side.
        let what = adapter.map_or_else(|| step.to_owned(), |adapter| format!("{step} {adapter}"));
        self.show(&progress.id, &what, (progress.done, progress.total), note);
    }

    fn finished(&self, id: &str) {
        self.hide(id);
    }
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:.bold} {bar:32.cyan/dim} {human_pos:>7}/{human_len:<7} {wide_msg:.dim}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("━╸─")
}

fn spinning() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:.bold} {spinner:.cyan} {human_pos:>7} {wide_msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
