//! An S3 server on loopback, with a bucket of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::server::Server;

/// The one bucket.
pub const BUCKET: &str = "artefacts";
const KEY: &str = "loci-test";
const SECRET: &str = "loci-test-secret";

/// A versitygw over a directory: an object is a file, its time the file's. It ends when it is dropped.
pub struct S3 {
    server: Server,
}

impl S3 {
    /// With an empty bucket.
    pub fn start() -> Self {
        let server = Server::new("versitygw", "LOCI_TEST_S3");
        std::fs::create_dir_all(server.path().join("root").join(BUCKET)).unwrap();
        let s3 = Self { server };
        s3.start_again();
        s3
    }

    /// Where it listens.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.server.port)
    }

    /// Where its bucket is.
    pub fn directory(&self) -> PathBuf {
        self.server.path().join("root").join(BUCKET)
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
        self.server.kill();
    }

    /// After [`S3::kill`].
    pub fn start_again(&self) {
        let listen = format!("127.0.0.1:{}", self.server.port);
        self.server.start(|command| {
            command
                .args(["--port", &listen, "--quiet", "posix"])
                .arg(self.server.path().join("root"))
                .env("ROOT_ACCESS_KEY", KEY)
                .env("ROOT_SECRET_KEY", SECRET);
        });
    }
}
