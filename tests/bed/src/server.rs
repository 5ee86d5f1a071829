//! One process that listens on a loopback port of its own, over a directory of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A server. It ends when it is dropped.
pub(crate) struct Server {
    name: &'static str,
    /// Names the program.
    variable: &'static str,
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    process: Mutex<Option<Child>>,
}

impl Server {
    /// On a free port; not started yet.
    pub(crate) fn new(name: &'static str, variable: &'static str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        Self {
            name,
            variable,
            port,
            dir: tempfile::tempdir().unwrap(),
            process: Mutex::default(),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Starts it, with what `change` adds to its command, and waits until it listens.
    pub(crate) fn start(&self, change: impl FnOnce(&mut Command)) {
        let program = std::env::var_os(self.variable).unwrap_or_else(|| {
            let (name, variable) = (self.name, self.variable);
            panic!("no {name} to test with: {variable} names none; run the tests by `make test`")
        });
        let log = std::fs::File::create(self.path().join("log")).unwrap();
        let mut command = Command::new(PathBuf::from(program));
        command.stdout(Stdio::null()).stderr(log);
        change(&mut command);
        *self.process.lock().unwrap() = Some(command.spawn().unwrap());
        self.wait();
    }

    /// As by `kill -9`.
    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        let process = process.as_mut().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    fn wait(&self) {
        let (name, start) = (self.name, Instant::now());
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            let mut process = self.process.lock().unwrap();
            if let Some(status) = process.as_mut().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.path().join("log")).unwrap();
                panic!("{name} ended with {status}\n{log}");
            }
            drop(process);
            assert!(start.elapsed() < Duration::from_secs(20), "no {name}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(Some(process)) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
