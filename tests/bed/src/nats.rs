//! A NATS server on loopback, with a store of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// A server. It ends when it is dropped.
pub struct Nats {
    port: u16,
    extra: String,
    dir: tempfile::TempDir,
    process: Mutex<Child>,
}

impl Nats {
    /// With JetStream, and anybody may do anything.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With lines of its own in the configuration.
    pub fn with(extra: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let dir = tempfile::tempdir().unwrap();
        let process = Mutex::new(spawn(&dir, port, extra));
        let server = Self {
            port,
            extra: extra.to_owned(),
            dir,
            process,
        };
        server.wait();
        server
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// As by `kill -9`.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The bytes of all files of its store, one after the other.
    pub fn kept(&self) -> Vec<u8> {
        let (mut all, mut open) = (Vec::new(), vec![self.dir.path().join("store")]);
        while let Some(path) = open.pop() {
            if path.is_dir() {
                open.extend(std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()));
            } else if let Ok(bytes) = std::fs::read(path) {
                all.extend(bytes);
            }
        }
        all
    }

    /// All that it has kept.
    pub fn delete_store(&self) {
        std::fs::remove_dir_all(self.dir.path().join("store")).unwrap();
    }

    /// After [`Nats::kill`].
    pub fn start_again(&self) {
        *self.process.lock().unwrap() = spawn(&self.dir, self.port, &self.extra);
        self.wait();
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.process.lock().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
                panic!("nats-server ended with {status}\n{log}");
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no nats-server");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(dir: &tempfile::TempDir, port: u16, extra: &str) -> Child {
    let program = std::env::var_os("LOCI_TEST_NATS").expect(
        "no nats-server to test with: LOCI_TEST_NATS names none; run the tests by `make test`",
    );
    let config = dir.path().join("nats.conf");
    let store = dir.path().join("store");
    let text = format!(
        "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n{extra}\n"
    );
    std::fs::write(&config, text).unwrap();
    let log = std::fs::File::create(dir.path().join("log")).unwrap();
    Command::new(PathBuf::from(program))
        .arg("-c")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
