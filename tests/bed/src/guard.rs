//! Processes that end with this one, however it ends, and a directory that goes with them.

use std::fs::File;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};

use crate::{Error, Result};

/// Waits until the pipe to it is closed, then kills the group that was named on it and removes the directory `$0`.
///
/// A shell on a pipe sees the end of this process even when that was SIGKILL, and a shared control plane is never dropped.
/// PR_SET_PDEATHSIG would not do: it fires when the *thread* that started the child ends, and each test has its own.
const WATCHER: &str = r#"
read -r group && { while read -r _; do :; done; kill -s KILL -- "-$group"; }
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$0" && break; sleep 0.1; done
"#;

/// The processes, all of one process group, and their directory.
#[derive(Debug)]
pub(crate) struct Guard {
    dir: PathBuf,
    watcher: Child,
    pipe: Option<ChildStdin>,
    children: Vec<(&'static str, Child)>,
}

impl Guard {
    /// Takes over `dir`.
    pub(crate) fn new(dir: PathBuf) -> Result<Self> {
        let mut watcher = Command::new("sh")
            .args(["-c", WATCHER])
            .arg(&dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0) // Ctrl-C is not for it
            .spawn()
            .map_err(|e| Error::Start("sh".into(), e))?;
        Ok(Self {
            pipe: watcher.stdin.take(),
            dir,
            watcher,
            children: Vec::new(),
        })
    }

    /// Where a process logs to.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }

    /// Starts a process in the directory, its output in a log.
    pub(crate) fn spawn(
        &mut self,
        name: &'static str,
        program: &Path,
        args: &[String],
    ) -> Result<()> {
        let log = File::create(self.log(name))?;
        let group = self.children.first().map(|(_, first)| first.id());
        let child = Command::new(program)
            .args(args)
            .current_dir(&self.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(group.unwrap_or(0).cast_signed())
            .spawn()
            .map_err(|e| Error::Start(program.to_owned(), e))?;
        if let (None, Some(pipe)) = (group, &mut self.pipe) {
            writeln!(pipe, "{}", child.id())?;
        }
        self.children.push((name, child));
        Ok(())
    }

    /// The first process that ended by itself.
    pub(crate) fn ended(&mut self) -> Result<Option<(&'static str, ExitStatus)>> {
        for (name, child) in &mut self.children {
            if let Some(status) = child.try_wait()? {
                return Ok(Some((name, status)));
            }
        }
        Ok(None)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.pipe.take());
        _ = self.watcher.wait();
        for (_, child) in &mut self.children {
            _ = child.kill();
            _ = child.wait();
        }
    }
}
