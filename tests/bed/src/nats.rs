//! A NATS server on loopback, with a store of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use crate::server::Server;

/// A server. It ends when it is dropped.
pub struct Nats {
    extra: String,
    server: Server,
}

impl Nats {
    /// With JetStream, and anybody may do anything.
    pub fn start() -> Self {
        Self::with("")
    }

    /// With lines of its own in the configuration.
    pub fn with(extra: &str) -> Self {
        let nats = Self {
            extra: extra.to_owned(),
            server: Server::new("nats-server", "LOCI_TEST_NATS"),
        };
        nats.start_again();
        nats
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.server.port)
    }

    /// As by `kill -9`.
    pub fn kill(&self) {
        self.server.kill();
    }

    /// The bytes of all files of its store, one after the other.
    pub fn kept(&self) -> Vec<u8> {
        let (mut all, mut open) = (Vec::new(), vec![self.server.path().join("store")]);
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
        std::fs::remove_dir_all(self.server.path().join("store")).unwrap();
    }

    /// What its configuration says from its next start on.
    pub fn configure(&mut self, extra: &str) {
        extra.clone_into(&mut self.extra);
    }

    /// After [`Nats::kill`].
    pub fn start_again(&self) {
        let (port, extra) = (self.server.port, &self.extra);
        let config = self.server.path().join("nats.conf");
        let store = self.server.path().join("store");
        let text = format!(
            "listen: 127.0.0.1:{port}\njetstream {{ store_dir: {store:?}, sync_interval: always }}\n{extra}\n"
        );
        std::fs::write(&config, text).unwrap();
        self.server.start(|command| {
            command.arg("-c").arg(&config);
        });
    }
}
