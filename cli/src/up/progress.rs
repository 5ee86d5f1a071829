//! What a person sees while `loci up` works: a bar for each step, a line for each event.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Zoned;
use loci_bus::Progress;
use loci_shell::Progresses;

/// The terminal.
pub struct Screen {
    bars: MultiProgress,
    live: Mutex<HashMap<String, ProgressBar>>,
}

impl Screen {
    /// Draws to stderr where that is a terminal; prints lines only, otherwise.
    pub fn new(quiet: bool) -> Self {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Self {
            bars: MultiProgress::with_draw_target(target),
            live: Mutex::default(),
        }
    }

    /// A line that stays.
    pub fn line(&self, text: impl AsRef<str>) {
        let time = style(Zoned::now().strftime("%H:%M:%S").to_string()).dim();
        self.bars.suspend(|| eprintln!("{time} {}", text.as_ref()));
    }

    /// A line without a time.
    pub fn plain(&self, text: impl AsRef<str>) {
        self.bars.suspend(|| eprintln!("{}", text.as_ref()));
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
    fn progress(&self, step: &str, progress: &Progress) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = live
            .entry(progress.id.clone())
            .or_insert_with(|| self.bar(step));
        match progress.total {
            Some(total) => {
                bar.set_style(counted());
                bar.set_length(total);
            }
            None => bar.set_style(spinning()),
        }
        bar.set_position(progress.done);
        let message = progress.message.as_deref().unwrap_or_default();
        bar.set_message(format!("{} {message}", progress.unit));
    }

    fn finished(&self, id: &str) {
        if let Some(bar) = self
            .live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
        {
            bar.finish_and_clear();
        }
    }
}

fn counted() -> ProgressStyle {
    ProgressStyle::with_template(
        "{prefix:.bold} {bar:32.cyan/dim} {human_pos:>7}/{human_len:<7} {msg:.dim}",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("━╸─")
}

fn spinning() -> ProgressStyle {
    ProgressStyle::with_template("{prefix:.bold} {spinner:.cyan} {human_pos:>7} {msg:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}
