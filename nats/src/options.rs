//! How to reach the server.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{AuthError, Client, ConnectOptions, Event};
use tokio::sync::watch;

use crate::user::{User, addresses, read, url, without_password};

/// What names the servers: `nats://host:port` or `tls://host:port`, with `user:password@` before the host if need be;
/// several separated by commas.
#[derive(Clone, Debug)]
pub enum Server {
    /// The URL itself.
    Url(String),
    /// A file that holds it. The user and the password are read anew for each connection; for other hosts see
    /// [`NatsBus::moved`](crate::NatsBus::moved).
    File(PathBuf),
}

/// Where the NATS server is, and who connects. Files that prove who a user is are read anew for each connection.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Which servers.
    pub server: Server,
    /// A `.creds` file: a user's JWT and the NKey that signs for it.
    pub credentials: Option<PathBuf>,
    /// A file with the seed of an NKey.
    pub nkey: Option<PathBuf>,
    /// A file with the certificates (PEM) of the authority that signed the server's.
    pub ca: Option<PathBuf>,
    /// Replicas of each stream: 1, 3 or 5.
    pub replicas: usize,
    /// How long a worker may be silent before its item is offered to another.
    pub ack_wait: Duration,
    /// Shown to who looks at the server's connections. Answers come to `_INBOX_<name>.>`, so that permissions can keep
    /// them from others.
    pub name: String,
    /// Work items of this namespace only are read, by subjects that permissions can tell from those of others. They are
    /// read from any replica of the stream, not from its leader.
    pub tenant: Option<String>,
}

impl NatsOptions {
    /// Without credentials, one replica, 90 s of silence.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        Self::of(Server::Url(url.into()), name)
    }

    /// The same, for servers that are named otherwise.
    pub fn of(server: Server, name: impl Into<String>) -> Self {
        Self {
            server,
            credentials: None,
            nkey: None,
            ca: None,
            replicas: 1,
            ack_wait: Duration::from_secs(90),
            name: name.into(),
            tenant: None,
        }
    }
}

/// Why there can be no connection, now or later.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// A file cannot be used.
    #[error("cannot use {}, the {what}: {source}", path.display())]
    File {
        /// What the file is for.
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The URL or the options are wrong.
    #[error("cannot connect to NATS at {url}: {reason}")]
    Options {
        /// The URL, without a password.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The file that names the servers names others.
    #[error("NATS is at {url} now: this process has to start again")]
    Moved {
        /// The URL, without a password.
        url: String,
    },
}

/// What the connection went through; for errors and for who waits for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Link {
    /// How often it was made.
    pub(crate) connections: u64,
    /// The last complaint since then.
    pub(crate) problem: Option<String>,
}

/// Begins to connect; what is asked of the client meanwhile waits or fails.
pub(crate) async fn connect(
    options: &NatsOptions,
) -> Result<(Client, watch::Receiver<Link>), ConnectError> {
    let (link, told) = watch::channel(Link::default());
    let url = url(&options.server)?;
    let url = without_password(&url);
    // Who connects is said at each connection, and nobody who prints these addresses prints a password.
    let servers = addresses(&url)?;
    let user = User {
        server: options.server.clone(),
        credentials: options.credentials.clone(),
        nkey: options.nkey.clone(),
    };
    // What cannot be read now is told now.
    user.prove(&[])?;
    let prove =
        move |nonce: Vec<u8>| std::future::ready(user.prove(&nonce).map_err(AuthError::new));
    let server = url.clone();
    let mut connect = ConnectOptions::with_auth_callback(prove)
        .name(&options.name)
        .custom_inbox_prefix(format!("_INBOX_{}", options.name))
        .retry_on_initial_connect()
        .request_timeout(Some(Duration::from_secs(5)))
        .reconnect_delay_callback(|tries| {
            Duration::from_millis(50 << tries.min(6)).min(Duration::from_secs(3))
        })
        .event_callback(move |event| {
            tell(&link, &server, &event);
            async {}
        });
    if let Some(path) = &options.ca {
        read("file of certificates", path)?;
        connect = connect
            .add_root_certificates(path.clone())
            .require_tls(true);
    }
    let client = connect.connect(servers).await;
    let wrong = |e: async_nats::ConnectError| ConnectError::Options {
        url,
        reason: e.to_string(),
    };
    Ok((client.map_err(wrong)?, told))
}

/// How often the file is looked at that names the servers.
const LOOK: Duration = Duration::from_secs(10);

/// Comes back when the file names other servers. The client cannot be turned to them while it has no connection.
pub(crate) async fn moved(server: &Server) -> ConnectError {
    let hosts = || url(server).map(|url| without_password(&url));
    let (Server::File(_), Ok(first)) = (server, hosts()) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(LOOK).await;
        if let Ok(now) = hosts()
            && now != first
        {
            return ConnectError::Moved { url: now };
        }
    }
}

fn tell(link: &watch::Sender<Link>, url: &str, event: &Event) {
    match event {
        Event::Connected => {
            tracing::info!(url, "connected to NATS");
            link.send_modify(|link| {
                link.connections += 1;
                link.problem = None;
            });
        }
        Event::ServerError(_) | Event::ClientError(_) => {
            let problem = event.to_string();
            let told = link.borrow().problem.as_ref() == Some(&problem);
            if !told {
                tracing::warn!(url, problem, "NATS refuses");
                link.send_modify(|link| link.problem = Some(problem));
            }
        }
        event => tracing::info!(url, %event, "the connection to NATS has changed"),
    }
}
