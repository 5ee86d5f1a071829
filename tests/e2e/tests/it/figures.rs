//! How long queries took: while nothing happened, and while something did.

use std::time::Duration;

use crate::load::{Report, percentile};

/// Of a whole story.
#[derive(Default)]
pub struct Figures {
    quiet: Vec<Duration>,
    disturbed: Vec<Duration>,
    lines: Vec<Line>,
}

struct Line {
    what: String,
    asked: usize,
    failed: usize,
    p50: Duration,
    p99: Duration,
}

impl Line {
    fn of(what: &str, times: Vec<Duration>, failed: usize) -> Self {
        Self {
            what: what.to_owned(),
            asked: times.len() + failed,
            failed,
            p50: percentile(times.clone(), 50),
            p99: percentile(times, 99),
        }
    }

    /// A row of a table.
    fn text(&self, steady: Duration) -> String {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        format!(
            "| {} | {} | {} | {:.1} ms | {:.1} ms | {:.2} |",
            self.what,
            self.asked,
            self.failed,
            ms(self.p50),
            ms(self.p99),
            ms(self.p99) / ms(steady),
        )
    }
}

impl Figures {
    /// Nothing happened meanwhile. Such times lie before each disturbance, so that a machine that is slower for a while
    /// is so in both.
    pub fn quiet(&mut self, report: &Report) {
        self.quiet.extend(report.times());
    }

    /// Something happened meanwhile.
    pub fn disturbed(&mut self, what: &str, report: &Report) {
        let times: Vec<_> = report.times().collect();
        self.disturbed.extend(&times);
        let line = Line::of(what, times, report.failed.len());
        let (asked, failed) = (line.asked, line.failed);
        println!(
            "    {what}: {asked} asked, {failed} failed, p50 {:?}, p99 {:?}",
            line.p50, line.p99
        );
        self.lines.push(line);
    }

    /// All of it, each against what was while nothing happened.
    pub fn tell(&self) {
        if self.quiet.is_empty() || self.lines.is_empty() {
            return;
        }
        let quiet = Line::of("nothing", self.quiet.clone(), 0);
        let failed = self.lines.iter().map(|line| line.failed).sum();
        let all = Line::of("all of it", self.disturbed.clone(), failed);
        println!(
            "\n| what happens | queries | failed | p50 | p99 | times nothing's |\n|---|---|---|---|---|---|"
        );
        for line in [&quiet].into_iter().chain(&self.lines).chain([&all]) {
            println!("{}", line.text(quiet.p99));
        }
    }
}
