//! An S3 server on loopback, with a bucket of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The one bucket.
pub const BUCKET: &str = "artefacts";
const KEY: &str = "loci-test";
const SECRET: &str = "loci-test-secret";

/// A versitygw over a directory: an object is a file, its time the file's. It ends when it is dropped.
pub struct S3 {
    port: u16,
    dir: tempfile::TempDir,
    process: Mutex<Child>,
}

impl S3 {
    /// With an empty bucket.
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("root").join(BUCKET)).unwrap();
        let process = Mutex::new(spawn(dir.path(), port));
        let server = Self { port, dir, process };
        server.wait();
        server
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where its bucket is.
    pub fn directory(&self) -> PathBuf {
        self.dir.path().join("root").join(BUCKET)
    }

    /// What a client needs in its environment.
    pub fn variables(&self) -> BTreeMap<String, String> {
        [
            ("AWS_ENDPOINT_URL", self.endpoint().as_str()),
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
    }

    /// As by `kill -9`.
    pub fn kill(&self) {
        let mut process = self.process.lock().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// After [`S3::kill`].
    pub fn start_again(&self) {
        *self.process.lock().unwrap() = spawn(self.dir.path(), self.port);
        self.wait();
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_err() {
            if let Some(status) = self.process.lock().unwrap().try_wait().unwrap() {
                let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
                panic!("versitygw ended with {status}\n{log}");
            }
            assert!(start.elapsed() < Duration::from_secs(20), "no versitygw");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        if let Ok(process) = self.process.get_mut() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn spawn(dir: &Path, port: u16) -> Child {
    let program = std::env::var_os("LOCI_TEST_S3")
        .expect("no versitygw to test with: LOCI_TEST_S3 names none; run the tests by `make test`");
    let log = std::fs::File::create(dir.join("log")).unwrap();
    Command::new(PathBuf::from(program))
        .args(["--port", &format!("127.0.0.1:{port}"), "--quiet", "posix"])
        .arg(dir.join("root"))
        .env("ROOT_ACCESS_KEY", KEY)
        .env("ROOT_SECRET_KEY", SECRET)
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}
