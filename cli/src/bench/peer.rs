//! One of those who are measured, in a process of its own: a Python library, or this program. It is told what to do by
//! lines, and answers each by a line of JSON.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// How long threads that have just worked may spin for more.
const SPINNING: Duration = Duration::from_millis(100);

/// Waits until those who were measured last are certainly at rest.
pub fn rest() {
    std::thread::sleep(SPINNING);
}

/// A running peer; ends when dropped.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    /// Bytes that it had in memory before it was told anything, if it says so.
    pub resident: u64,
    child: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What it says first.
#[derive(Deserialize)]
struct Hello {
    peer: String,
    #[serde(default)]
    resident: u64,
}

impl Peer {
    /// Starts a Python script, for as many threads; `packages` is the file that names what it imports.
    ///
    /// # Errors
    /// When Python or what the script needs is not there.
    pub fn python(
        python: &Path,
        script: &str,
        args: &[&OsStr],
        threads: usize,
        packages: &str,
    ) -> Result<Self> {
        let mut command = Command::new(python);
        command
            .args(["-W", "ignore", "-c", script])
            .args(args)
            .env("OMP_NUM_THREADS", threads.to_string())
            .env("TOKENIZERS_PARALLELISM", "true")
            .env("RAYON_NUM_THREADS", threads.to_string())
            .env("HF_HUB_OFFLINE", "1")
            .env("TQDM_DISABLE", "1");
        let python = python.display();
        Self::start(command, &format!("{python}: give --python"))
            .with_context(|| format!("{python} needs the packages of {packages}"))
    }

    /// Starts this program, to do a task as the others do.
    ///
    /// # Errors
    /// When it ends at once.
    pub fn own(task: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(&program);
        command.args(["bench", "side"]).arg(task);
        Self::start(command, &program.display().to_string())
    }

    fn start(mut command: Command, what: &str) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        let (commands, answers) = (child.stdin.take(), child.stdout.take());
        let mut peer = Self {
            name: "the peer".to_owned(),
            resident: 0,
            child,
            commands: commands.context("no pipe to the peer")?,
            answers: BufReader::new(answers.context("no pipe from the peer")?),
        };
        let hello: Hello = peer.answer()?;
        (peer.name, peer.resident) = (hello.peer, hello.resident);
        Ok(peer)
    }

    /// Tells it to do something, and waits for the answer.
    ///
    /// # Errors
    /// When it ends instead, or answers something else; what it says about that is on stderr.
    pub fn ask<T: DeserializeOwned>(&mut self, command: &str) -> Result<T> {
        writeln!(self.commands, "{command}")
            .with_context(|| format!("{} takes no more commands", self.name))?;
        self.answer()
    }

    /// The same, once the others are certainly at rest.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_alone<T: DeserializeOwned>(&mut self, command: &str) -> Result<T> {
        rest();
        self.ask(command)
    }

    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended", self.name);
        }
        let answer = serde_json::from_str::<T>(&line);
        answer.with_context(|| format!("{} answered {}", self.name, line.trim_end()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
