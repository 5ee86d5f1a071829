//! A `loci up` of its own, with files that may be changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use loci_crds::{MemoryRelease, MemoryRun};

use crate::state::{PipelineState, State};

const PATIENCE: Duration = Duration::from_secs(1800);

/// A running server; killed when dropped.
pub struct Server {
    /// Where it answers.
    pub url: String,
    child: Child,
    state: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts `loci up` on `manifest` with its state in `dir`, and waits until a release serves.
    ///
    /// # Errors
    /// When it ends, with what it said.
    pub async fn start(manifest: &Path, dir: &Path) -> Result<Self> {
        let (state, log) = (dir.join("state"), dir.join("up.log"));
        let program = std::env::current_exe().context("cannot find this program")?;
        let child = Command::new(program)
            .arg("up")
            .arg(manifest)
            .arg("--state")
            .arg(&state)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        let mut server = Self {
            url: String::new(),
            child,
            state,
            log,
        };
        let client = reqwest::Client::new();
        let started = Instant::now();
        loop {
            server.check(started)?;
            let announced = State::open(&server.state).ok().and_then(|s| s.server());
            if let Some(at) = announced.filter(|s| s.pid == server.child.id()) {
                let answer = client.get(format!("{}/readyz", at.url)).send().await;
                if answer.is_ok_and(|a| a.status().is_success()) {
                    server.url = at.url;
                    return Ok(server);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Fails when the server has ended, or has kept one waiting too long since `started`.
    pub fn check(&mut self, started: Instant) -> Result<()> {
        let ended = self.child.try_wait()?;
        if ended.is_none() && started.elapsed() < PATIENCE {
            return Ok(());
        }
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let tail: Vec<&str> = said.lines().rev().take(10).collect();
        let tail = tail.into_iter().rev().collect::<Vec<_>>().join("\n");
        match ended {
            Some(status) => bail!("`loci up` ended with {status}:\n{tail}"),
            None => bail!("`loci up` is not there after {PATIENCE:?}:\n{tail}"),
        }
    }

    /// The runs and the releases of its one pipeline, in the order of their making.
    pub fn history(&self) -> Result<(Vec<MemoryRun>, Vec<MemoryRelease>)> {
        let pipeline = self.pipeline()?;
        let (mut runs, mut releases) = (pipeline.runs().list()?, pipeline.releases().list()?);
        runs.sort_by_key(|r| r.metadata.creation_timestamp.clone());
        releases.sort_by_key(|r| r.spec.number);
        Ok((runs, releases))
    }

    fn pipeline(&self) -> Result<PipelineState> {
        let state = State::open(&self.state)?;
        match &state.pipelines()?[..] {
            [(namespace, name)] => Ok(state.pipeline(namespace, name)),
            all => bail!(
                "{} pipelines in the files, and exactly one can be measured",
                all.len()
            ),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Copies a folder without what begins with a dot; links lead where they led.
pub fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (kind, name) = (entry.file_type()?, entry.file_name());
        let (path, target) = (entry.path(), to.join(&name));
        if name.to_string_lossy().starts_with('.') {
            continue;
        } else if kind.is_dir() {
            copy(&path, &target)?;
        } else if kind.is_symlink() {
            let real = fs::canonicalize(&path)
                .with_context(|| format!("{} leads nowhere", path.display()))?;
            std::os::unix::fs::symlink(real, target)?;
        } else {
            fs::copy(&path, target)?;
        }
    }
    Ok(())
}
