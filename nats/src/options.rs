//! How to reach the server.

use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;

/// Where the NATS server is, and who connects.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// `nats://host:port` or `tls://host:port`, with `user:password@` before the host if need be; several separated by
    /// commas.
    pub url: String,
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
        Self {
            url: url.into(),
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
    let url = without_password(&options.url);
    let server = url.clone();
    let mut connect = ConnectOptions::new()
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
    if let Some(path) = &options.credentials {
        connect = connect
            .credentials(&read("credentials file", path)?)
            .map_err(|source| ConnectError::File {
                what: "credentials file",
                path: path.clone(),
                source,
            })?;
    }
    if let Some(path) = &options.nkey {
        connect = connect.nkey(read("file of an NKey's seed", path)?.trim().to_owned());
    }
    if let Some(path) = &options.ca {
        read("file of certificates", path)?;
        connect = connect
            .add_root_certificates(path.clone())
            .require_tls(true);
    }
    let wrong = |reason| ConnectError::Options {
        url: url.clone(),
        reason,
    };
    let servers = options.url.split(',').map(|url| url.trim().parse());
    let servers: Vec<ServerAddr> = servers
        .collect::<Result<_, _>>()
        .map_err(|e: std::io::Error| wrong(e.to_string()))?;
    // The client reads no user from a URL by itself.
    let user = servers.iter().find(|s| s.has_user_pass());
    if let Some(server) = user {
        let password = server.password().unwrap_or_default().to_owned();
        connect =
            connect.user_and_password(server.username().unwrap_or_default().to_owned(), password);
    }
    let client = connect.connect(servers).await;
    Ok((client.map_err(|e| wrong(e.to_string()))?, told))
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

fn read(what: &'static str, path: &PathBuf) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|source| ConnectError::File {
        what,
        path: path.clone(),
        source,
    })
}

/// The URL as it may be shown.
fn without_password(urls: &str) -> String {
    let shown = urls.split(',').map(|url| {
        let url = url.trim();
        match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
            (None, Some((_, host))) => host.to_owned(),
            _ => url.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_url_is_not_shown() {
        let urls = "nats://loci:secret@a:4222, tls://b:4222,loci:secret@c";
        assert_eq!(without_password(urls), "nats://a:4222,tls://b:4222,c");
    }
}
