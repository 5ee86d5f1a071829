//! What came of the steps of one workload.

use anyhow::{Result, bail};
use serde::Serialize;

use super::Workload;
use crate::bench::peer::Peer;
use crate::bench::side::Step;
use crate::bench::stats;
use crate::output::{self, count, say};

/// The losses of so many first steps have to agree so closely: what differs more is other work.
const CHECKED: usize = 10;
const AGREEMENT: f64 = 1e-3;

/// One workload's figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    workload: String,
    /// Of a step: of its examples, without any padding.
    tokens: usize,
    targets: usize,
    /// Milliseconds of a step, the median.
    loci_ms: f64,
    tokens_per_second: f64,
    /// Bytes in memory before the first step, and at most.
    loci_resident: u64,
    loci_peak: u64,
    first_loss: f64,
    last_loss: f64,
    peers: Vec<Against>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Against {
    peer: String,
    ms: f64,
    tokens_per_second: f64,
    /// How many times its tokens a second we take, the median over the rounds, and where it lies with 95 % confidence.
    ratio: f64,
    interval: (f64, f64),
    resident: u64,
    peak: u64,
    /// Our peak as a share of its peak.
    memory: f64,
    /// How far losses of the same step are apart at most, relative to ours.
    loss_difference: f64,
}

/// Refuses a peer whose losses are others.
pub fn agree(peer: &str, ours: &[Step], theirs: &[Step]) -> Result<()> {
    for (i, (ours, theirs)) in ours.iter().zip(theirs).take(CHECKED).enumerate() {
        if apart(ours, theirs) <= AGREEMENT {
            continue;
        }
        let step = i + 1;
        bail!(
            "{peer} does other work: its loss at step {step} is {}, and ours {}",
            theirs.loss,
            ours.loss
        );
    }
    Ok(())
}

fn apart(ours: &Step, theirs: &Step) -> f64 {
    (theirs.loss / ours.loss - 1.0).abs()
}

/// The seconds of all steps but the first, in which memory is taken from the system.
fn seconds(steps: &[Step]) -> impl Iterator<Item = f64> {
    steps.iter().skip(1).map(|step| step.seconds)
}

fn peak(steps: &[Step]) -> u64 {
    steps.iter().map(|step| step.peak).max().unwrap_or(0)
}

impl Against {
    pub fn new(peer: &Peer, work: &Workload, ours: &[Step], theirs: &[Step]) -> Self {
        let pairs = seconds(ours).zip(seconds(theirs));
        let ratios: Vec<f64> = pairs.map(|(ours, theirs)| theirs / ours).collect();
        let middle = stats::median(seconds(theirs));
        let differences = ours.iter().zip(theirs).map(|(o, t)| apart(o, t));
        Self {
            peer: peer.name.clone(),
            ms: 1e3 * middle,
            tokens_per_second: work.tokens as f64 / middle,
            ratio: stats::median(ratios.iter().copied()),
            interval: stats::interval(ratios),
            resident: peer.resident,
            peak: peak(theirs),
            memory: peak(ours) as f64 / peak(theirs) as f64,
            loss_difference: differences.fold(0.0, f64::max),
        }
    }
}

impl Figure {
    /// # Errors
    /// When the loss did not fall.
    pub fn new(work: &Workload, resident: u64, ours: &[Step], peers: Vec<Against>) -> Result<Self> {
        let (Some(first), Some(last)) = (ours.first(), ours.last()) else {
            bail!("{}: nothing was trained", work.name);
        };
        if last.loss >= first.loss {
            bail!(
                "{}: nothing was learned, the loss was {} at first and {} at last",
                work.name,
                first.loss,
                last.loss
            );
        }
        let middle = stats::median(seconds(ours));
        Ok(Self {
            workload: work.name.clone(),
            tokens: work.tokens,
            targets: work.targets,
            loci_ms: 1e3 * middle,
            tokens_per_second: work.tokens as f64 / middle,
            loci_resident: resident,
            loci_peak: peak(ours),
            first_loss: first.loss,
            last_loss: last.loss,
            peers,
        })
    }

    /// What falls short of so many times the tokens a second of the fastest peer, or exceeds such a share of its memory.
    pub fn missed(&self, faster: Option<f64>, memory: Option<f64>) -> Vec<String> {
        let fastest = self.peers.iter().min_by(|a, b| a.ms.total_cmp(&b.ms));
        let Some(peer) = fastest else {
            return Vec::new();
        };
        let (work, name) = (&self.workload, &peer.peer);
        let slow = faster.filter(|wanted| peer.ratio < *wanted);
        let slow = slow.map(|wanted| {
            let ratio = peer.ratio;
            format!("{work}: {ratio:.2} times the tokens a second of {name}, not {wanted}")
        });
        let large = memory.filter(|wanted| peer.memory > *wanted);
        let large = large.map(|wanted| {
            let share = peer.memory;
            format!("{work}: {share:.2} of the memory of {name}, not {wanted}")
        });
        slow.into_iter().chain(large).collect()
    }

    /// A row of the table for ourselves, and one for each peer.
    fn rows(&self) -> Vec<[String; 11]> {
        let megabytes = |bytes: u64| format!("{} MB", count(bytes / 1_000_000));
        let mut rows = vec![[
            self.workload.clone(),
            count(self.tokens as u64),
            count(self.targets as u64),
            "Loci".to_owned(),
            format!("{:.0} ms", self.loci_ms),
            count(self.tokens_per_second as u64),
            String::new(),
            String::new(),
            megabytes(self.loci_peak),
            String::new(),
            String::new(),
        ]];
        rows.extend(self.peers.iter().map(|peer| {
            [
                String::new(),
                String::new(),
                String::new(),
                peer.peer.clone(),
                format!("{:.0} ms", peer.ms),
                count(peer.tokens_per_second as u64),
                format!("{:.2}", peer.ratio),
                format!("{:.2} to {:.2}", peer.interval.0, peer.interval.1),
                megabytes(peer.peak),
                format!("{:.2}", peer.memory),
                format!("{:.0e}", peer.loss_difference),
            ]
        }));
        rows
    }
}

pub fn show(figures: &[Figure]) {
    let mut table = output::table(&[
        "work",
        "tokens",
        "learned",
        "who",
        "step",
        "tokens/s",
        "times faster",
        "95 %",
        "peak memory",
        "our share",
        "losses differ by",
    ]);
    let rows: Vec<_> = figures.iter().flat_map(Figure::rows).collect();
    for row in &rows {
        table.add_row(row);
    }
    output::print(&table, "nothing was measured");
    say!();
    for row in &rows {
        say!("{}", output::row(row));
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn steps(losses: &[f64]) -> Vec<Step> {
        let step = |loss: &f64| Step {
            seconds: 0.5,
            loss: *loss,
            peak: 1000,
        };
        losses.iter().map(step).collect()
    }

    fn against(peer: &str, ms: f64, ratio: f64, memory: f64) -> Against {
        Against {
            peer: peer.to_owned(),
            ms,
            tokens_per_second: 1e3 / ms,
            ratio,
            interval: (ratio, ratio),
            resident: 0,
            peak: 1,
            memory,
            loss_difference: 0.0,
        }
    }

    fn figure(losses: &[f64], peers: Vec<Against>) -> Result<Figure> {
        let work = Workload {
            name: "chats".to_owned(),
            tokens: 100,
            targets: 50,
            task: PathBuf::new(),
        };
        Figure::new(&work, 1, &steps(losses), peers)
    }

    #[test]
    fn a_peer_with_other_losses_is_refused_with_the_step() {
        let ours = steps(&[3.0, 2.5, 2.0]);
        agree("it", &ours, &steps(&[3.002, 2.499, 2.0])).unwrap();
        let error = agree("it", &ours, &steps(&[3.0, 2.51, 2.0])).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("it does other work") && error.contains("step 2 is 2.51"),
            "{error}"
        );
        assert!(agree("it", &ours, &steps(&[f64::NAN])).is_err());
        // Rounding may have grown by then.
        let long = vec![2.0; CHECKED + 1];
        let mut other = long.clone();
        other[CHECKED] = 1.0;
        agree("it", &steps(&long), &steps(&other)).unwrap();
        other[CHECKED - 1] = 1.0;
        assert!(agree("it", &steps(&long), &steps(&other)).is_err());
    }

    #[test]
    fn a_loss_that_does_not_fall_is_no_training() {
        assert!(figure(&[3.0, 3.0], Vec::new()).is_err());
        let figure = figure(&[3.0, 2.5, 2.0], Vec::new()).unwrap();
        assert_eq!((figure.first_loss, figure.last_loss), (3.0, 2.0));
        assert_eq!((figure.loci_ms, figure.tokens_per_second), (500.0, 200.0));
    }

    #[test]
    fn what_is_wanted_is_wanted_of_the_fastest_peer() {
        let peers = vec![
            against("slow", 900.0, 1.9, 0.3),
            against("fast", 600.0, 1.25, 0.7),
        ];
        let figure = figure(&[3.0, 2.0], peers).unwrap();
        assert_eq!(
            figure.missed(Some(1.3), Some(0.65)),
            [
                "chats: 1.25 times the tokens a second of fast, not 1.3",
                "chats: 0.70 of the memory of fast, not 0.65"
            ]
        );
        assert!(figure.missed(Some(1.2), Some(0.75)).is_empty());
        assert!(figure.missed(None, None).is_empty());
    }
}
