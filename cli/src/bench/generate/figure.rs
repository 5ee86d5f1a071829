//! What came of the continuations of one prompt.

use anyhow::{Context, Result, bail};
use loci_models::{Decoder, Text};
use serde::Serialize;

use crate::bench::side::Continued;
use crate::bench::stats;
use crate::output::{self, count, say};

/// One prompt's figures.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    /// Its tokens.
    prompt: usize,
    loci: Speed,
    peers: Vec<Against>,
}

/// Medians over the rounds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Speed {
    /// Milliseconds to the first token.
    first_ms: f64,
    /// From there on.
    tokens_per_second: f64,
    /// Bytes that the process had in memory at most by then.
    peak: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Against {
    peer: String,
    #[serde(flatten)]
    speed: Speed,
    /// How many times sooner than its our first token comes.
    sooner: Ratio,
    /// How many times its tokens a second we give from there on.
    faster: Ratio,
    #[serde(flatten)]
    agreement: Agreement,
}

/// The median over the rounds, and where it lies with 95 % confidence.
#[derive(Serialize)]
struct Ratio {
    median: f64,
    interval: (f64, f64),
}

/// How a peer's continuation differs from ours.
#[derive(Debug, Serialize)]
pub struct Agreement {
    /// Tokens that are the same before the first that is another.
    same: usize,
    /// Of how many.
    of: usize,
    /// How much less likely than the likeliest its tokens are to us, after its own tokens before them, at most, in nats.
    gap: f64,
}

impl Agreement {
    pub fn of(
        decoder: &Decoder,
        prompt: &[u32],
        ours: &[Continued],
        theirs: &[Continued],
    ) -> Result<Self> {
        let first = ours.first().zip(theirs.first());
        let (ours, theirs) = first.context("nothing was generated")?;
        let (ours, theirs) = (ours.tokens.as_slice(), theirs.tokens.as_slice());
        let Some((_, read)) = theirs.split_last().filter(|_| ours.len() == theirs.len()) else {
            bail!(
                "{} tokens were generated where {} were wanted",
                theirs.len(),
                ours.len()
            );
        };
        let read = [prompt, read].concat();
        let logits = decoder.logits(&[Text::from(read.as_slice())])?;
        let logits = logits.first().context("no logits")?;
        let rows = logits.chunks_exact(logits.len() / read.len());
        Ok(Self {
            same: ours.iter().zip(theirs).take_while(|(o, t)| o == t).count(),
            of: ours.len(),
            gap: gap(rows.skip(prompt.len() - 1), theirs),
        })
    }

    /// Refuses a gap above `bound`.
    pub fn check(&self, peer: &str, prompt: usize, bound: f64) -> Result<()> {
        if self.gap <= bound {
            return Ok(());
        }
        bail!(
            "{peer} does other work: after a prompt of {prompt} tokens it takes one that is {:.2} nats less likely to us than another, and rounding explains {bound}",
            self.gap
        )
    }
}

/// How far below the largest logit of its row each token's is, at most. The same holds for their log-probabilities.
fn gap<'a>(rows: impl Iterator<Item = &'a [f32]>, tokens: &[u32]) -> f64 {
    let each = rows.zip(tokens).map(|(row, &token)| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        match row.get(token as usize) {
            Some(own) => f64::from(largest - own),
            None => f64::INFINITY,
        }
    });
    each.fold(0.0, f64::max)
}

/// The rounds that count: all but the first, in which memory is taken from the system.
fn counted(rounds: &[Continued]) -> impl Iterator<Item = &Continued> {
    rounds.iter().skip(1)
}

/// Seconds of each token after the first.
fn of_token(continued: &Continued) -> f64 {
    continued.rest / continued.tokens.len().saturating_sub(1).max(1) as f64
}

impl Speed {
    fn of(rounds: &[Continued]) -> Self {
        let peaks = rounds.iter().map(|continued| continued.peak);
        Self {
            first_ms: 1e3 * stats::median(counted(rounds).map(|continued| continued.first)),
            tokens_per_second: 1.0 / stats::median(counted(rounds).map(of_token)),
            peak: peaks.max().unwrap_or(0),
        }
    }
}

impl Ratio {
    /// Of their times to ours, in the same rounds.
    fn of(ours: &[Continued], theirs: &[Continued], time: impl Fn(&Continued) -> f64) -> Self {
        let pairs = counted(ours).zip(counted(theirs));
        let ratios: Vec<f64> = pairs.map(|(o, t)| time(t) / time(o)).collect();
        Self {
            median: stats::median(ratios.iter().copied()),
            interval: stats::interval(ratios),
        }
    }

    fn cells(&self) -> [String; 2] {
        let (least, most) = self.interval;
        [
            format!("{:.2}", self.median),
            format!("{least:.2} to {most:.2}"),
        ]
    }
}

impl Against {
    pub fn new(peer: &str, agreement: Agreement, ours: &[Continued], theirs: &[Continued]) -> Self {
        Self {
            peer: peer.to_owned(),
            speed: Speed::of(theirs),
            sooner: Ratio::of(ours, theirs, |continued| continued.first),
            faster: Ratio::of(ours, theirs, of_token),
            agreement,
        }
    }
}

impl Figure {
    pub fn new(prompt: usize, ours: &[Continued], peers: Vec<Against>) -> Self {
        Self {
            prompt,
            loci: Speed::of(ours),
            peers,
        }
    }

    /// A row of the table for ourselves, and one for each peer.
    fn rows(&self) -> Vec<[String; 11]> {
        let speed = |speed: &Speed| {
            [
                format!("{:.1} ms", speed.first_ms),
                format!("{:.1}", speed.tokens_per_second),
                format!("{} MB", count(speed.peak / 1_000_000)),
            ]
        };
        let blank = String::new;
        let [first, rate, peak] = speed(&self.loci);
        let mut rows = vec![[
            count(self.prompt as u64),
            "Loci".to_owned(),
            first,
            rate,
            blank(),
            blank(),
            blank(),
            blank(),
            peak,
            blank(),
            blank(),
        ]];
        rows.extend(self.peers.iter().map(|peer| {
            let [first, rate, peak] = speed(&peer.speed);
            let [sooner, within] = peer.sooner.cells();
            let [faster, about] = peer.faster.cells();
            let Agreement { same, of, gap } = peer.agreement;
            [
                blank(),
                peer.peer.clone(),
                first,
                rate,
                sooner,
                within,
                faster,
                about,
                peak,
                format!("{same} of {of}"),
                format!("{gap:.2}"),
            ]
        }));
        rows
    }
}

pub fn show(figures: &[Figure]) {
    let mut table = output::table(&[
        "prompt",
        "who",
        "first token",
        "tokens/s",
        "times sooner",
        "95 %",
        "times faster",
        "95 %",
        "peak memory",
        "same tokens",
        "nats below ours",
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
    use super::*;

    fn continued(first: f64, rest: f64) -> Continued {
        Continued {
            first,
            rest,
            tokens: vec![7; 11],
            peak: 2_000_000,
        }
    }

    #[test]
    fn a_gap_is_how_far_the_worst_choice_is_below_the_best() {
        let rows: [&[f32]; 3] = [&[0.5, 2.0, 1.0], &[3.0, 3.0, -1.0], &[0.0, 1.0, 0.75]];
        let of = |tokens: &[u32]| gap(rows.into_iter(), tokens);
        assert_eq!((of(&[1, 0, 1]), of(&[1, 1, 2])), (0.0, 0.25));
        assert_eq!((of(&[0, 0, 1]), of(&[1, 2, 1])), (1.5, 4.0));
        assert_eq!(of(&[1, 3, 1]), f64::INFINITY);
        let agreement = Agreement {
            same: 1,
            of: 3,
            gap: 1.5,
        };
        agreement.check("it", 16, 1.5).unwrap();
        let error = agreement.check("it", 16, 1.0).unwrap_err().to_string();
        assert!(error.contains("1.50 nats less likely"), "{error}");
    }

    #[test]
    fn the_first_round_does_not_count() {
        let ours = [continued(9.0, 9.0), continued(0.1, 1.0)];
        let theirs = [continued(1.0, 1.0), continued(0.2, 0.5)];
        let agreement = Agreement {
            same: 11,
            of: 11,
            gap: 0.0,
        };
        let against = Against::new("it", agreement, &ours, &theirs);
        assert_eq!((against.sooner.median, against.faster.median), (2.0, 0.5));
        let figure = Figure::new(16, &ours, vec![against]);
        assert_eq!(figure.loci.first_ms, 100.0);
        assert!((figure.loci.tokens_per_second - 10.0).abs() < 1e-9);
        let rows = figure.rows();
        assert_eq!(rows[0][..4], ["16", "Loci", "100.0 ms", "10.0"]);
        assert_eq!(
            rows[1][4..8],
            ["2.00", "2.00 to 2.00", "0.50", "0.50 to 0.50"]
        );
        assert_eq!(rows[1][8..], ["2 MB", "11 of 11", "0.00"]);
    }
}
