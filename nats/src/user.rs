//! Who connects: read anew for each connection, so that credentials can be changed under a running process.

use std::path::{Path, PathBuf};

use async_nats::{Auth, ServerAddr};
use nkeys::KeyPair;

use crate::options::{ConnectError, Server};

/// Where a user's proof is.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) server: Server,
    pub(crate) credentials: Option<PathBuf>,
    pub(crate) nkey: Option<PathBuf>,
}

impl User {
    /// The proof for a server that wants `nonce` signed.
    pub(crate) fn prove(&self, nonce: &[u8]) -> Result<Auth, ConnectError> {
        let mut auth = Auth::new();
        if let Some(path) = &self.credentials {
            let what = "credentials file";
            let text = read(what, path)?;
            let part = |title| {
                let missing = || format!("it has no block {title}");
                block(&text, title).ok_or_else(|| invalid(what, path, missing()))
            };
            auth.jwt = Some(part("USER JWT")?.to_owned());
            auth.signature = Some(sign(what, path, part("USER NKEY SEED")?, nonce)?.1);
        } else if let Some(path) = &self.nkey {
            let what = "file of an NKey's seed";
            let (key, signature) = sign(what, path, read(what, path)?.trim(), nonce)?;
            (auth.nkey, auth.signature) = (Some(key), Some(signature));
        }
        // The client reads no user from a URL by itself.
        let servers = addresses(&url(&self.server)?)?;
        if let Some(server) = servers.iter().find(|s| s.has_user_pass()) {
            auth.username = server.username().map(str::to_owned);
            auth.password = Some(server.password().unwrap_or_default().to_owned());
        }
        Ok(auth)
    }
}

/// What names the servers, as it is now.
pub(crate) fn url(server: &Server) -> Result<String, ConnectError> {
    match server {
        Server::Url(url) => Ok(url.clone()),
        Server::File(path) => read("file of the server's URL", path),
    }
}

/// The servers that a URL names.
pub(crate) fn addresses(url: &str) -> Result<Vec<ServerAddr>, ConnectError> {
    let servers = url.split(',').map(|url| url.trim().parse());
    let servers: Result<_, std::io::Error> = servers.collect();
    servers.map_err(|e| ConnectError::Options {
        url: without_password(url),
        reason: e.to_string(),
    })
}

/// The public key of a seed, and what it signed.
fn sign(
    what: &'static str,
    path: &Path,
    seed: &str,
    nonce: &[u8],
) -> Result<(String, Vec<u8>), ConnectError> {
    let pair = KeyPair::from_seed(seed);
    let signed = pair.and_then(|pair| Ok((pair.public_key(), pair.sign(nonce)?)));
    signed.map_err(|e| invalid(what, path, format!("the seed of its NKey: {e}")))
}

/// The line between `-----BEGIN … title-----` and its end.
fn block<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::trim);
    lines.find(|l| l.starts_with("---") && l.contains("BEGIN") && l.contains(title))?;
    lines
        .find(|l| !l.is_empty())
        .filter(|l| !l.starts_with("---"))
}

pub(crate) fn read(what: &'static str, path: &Path) -> Result<String, ConnectError> {
    std::fs::read_to_string(path).map_err(|source| ConnectError::File {
        what,
        path: path.to_owned(),
        source,
    })
}

fn invalid(what: &'static str, path: &Path, why: String) -> ConnectError {
    ConnectError::File {
        what,
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidData, why),
    }
}

/// The URL as it may be shown.
pub(crate) fn without_password(urls: &str) -> String {
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

    #[test]
    fn a_credentials_file_is_read_and_a_broken_one_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("loci.creds");
        let seed = KeyPair::new_user().seed().unwrap();
        let user = User {
            server: Server::Url("nats://a:4222".to_owned()),
            credentials: Some(path.clone()),
            nkey: None,
        };
        let text = format!(
            "-----BEGIN NATS USER JWT-----\r\nab.cd-_\r\n------END NATS USER JWT------\r\n\
             ****** IMPORTANT ******\n-----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, &text).unwrap();
        let auth = user.prove(b"nonce").unwrap();
        assert_eq!(auth.jwt.as_deref(), Some("ab.cd-_"));
        assert!(auth.signature.is_some() && auth.nkey.is_none());
        for (from, to, why) in [
            ("USER JWT", "JWT OF A USER", "no block USER JWT"),
            (seed.as_str(), "", "no block USER NKEY SEED"),
            (seed.as_str(), "SUNOSEED", "the seed of its NKey"),
        ] {
            std::fs::write(&path, text.replace(from, to)).unwrap();
            let error = user.prove(b"nonce").err().unwrap();
            let told = error.to_string();
            assert!(
                told.contains(why) && told.contains("loci.creds"),
                "{why}: {told}"
            );
        }
    }
}
