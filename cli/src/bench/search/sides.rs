//! All sides of the search, which take turns.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;

use super::figure::Figure;
use super::own::Answers;
use crate::bench::bar;
use crate::bench::peer::Peer;

const SCRIPT: &str = include_str!("../../../../tests/python/bench_search.py");
const PACKAGES: &str = "tests/python/bench-search.txt";

/// What the script calls the peers.
const PEERS: [&str; 4] = ["usearch", "hnswlib", "faiss", FILTERING];
/// The one that has filters of its own.
const FILTERING: &str = "qdrant";

/// Those who are measured, each in a process of its own.
pub struct Sides {
    rounds: usize,
    /// Our own is the first.
    peers: Vec<Peer>,
}

impl Sides {
    /// Starts everybody; the peers build their graphs on all processors and search on one thread.
    ///
    /// # Errors
    /// When Python or what the script needs is not there.
    pub fn start(task: &Path, python: &Path, rounds: usize) -> Result<Self> {
        let mut peers = vec![Peer::own(task)?];
        let bar = bar(PEERS.len() as u64, "built");
        for kind in PEERS {
            bar.set_message(kind);
            let args = [OsStr::new(kind), task.as_os_str()];
            peers.push(Peer::python(python, SCRIPT, &args, 1, PACKAGES)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
        for peer in &peers[1..] {
            eprintln!("against {}", peer.name);
        }
        Ok(Self { rounds, peers })
    }

    /// Lets those go who have no filters.
    pub fn keep_filtering(&mut self) {
        let last = self.peers.len() - 1;
        self.peers.drain(1..last);
    }

    /// Asks all for the same in interleaved rounds, after one that does not count, and judges each.
    ///
    /// # Errors
    /// When one ends, or `judge` refuses what it answers.
    pub fn ask_all(
        &mut self,
        command: &str,
        judge: impl Fn(&str, &[Answers]) -> Result<Figure>,
    ) -> Result<Vec<Figure>> {
        let count = self.peers.len();
        let mut answers: Vec<Vec<Answers>> = vec![Vec::new(); count];
        let bar = bar(self.rounds as u64 + 1, "rounds").with_message(command.to_owned());
        for round in 0..=self.rounds {
            // Nobody is always first, or always after the same.
            for turn in 0..count {
                let n = (turn + round) % count;
                let answer = self.peers[n].ask_alone(command)?;
                // In the first, memory is read from files and taken from the system.
                if round > 0 {
                    answers[n].push(answer);
                }
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let sides = self.peers.iter().zip(&answers);
        sides
            .map(|(peer, answers)| judge(&peer.name, answers))
            .collect()
    }
}
