use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gix::bstr::ByteSlice;
use gix::credentials::{helper::Action, protocol};
use gix::progress::Discard;
use gix::protocol::transport::client::blocking_io::http;
use gix::remote::{Direction, fetch};
use gix::{ObjectId, Repository, create, open};
use loci_digest::Digest;

use super::declared::{check_reference, check_url, refspec};
use super::{GitCredentials, GitRef, GitSpec, Seen};
use crate::source::SourceError;
use crate::source::address::{Guard, refused_in};
use crate::source::error::chain;

/// Where the fetched reference is kept in the clone.
const LOCAL: &str = "refs/loci/tip";
/// A fetch leaves a pack; with this many the clone is made anew.
const PACKS: usize = 50;
/// Without a byte for this long, the server is given up.
const STALLED: Duration = Duration::from_secs(120);

/// What is said of credentials that do not let in.
const REFUSALS: [&str; 3] = [
    "not accepted by the remote",
    "HTTP status 401",
    "HTTP status 403",
];
const SECRET: &str = "git.secretRef";

/// A repository on a server, and its clone here.
pub(super) struct Remote {
    url: String,
    guard: Guard,
    reference: GitRef,
    credentials: Option<GitCredentials>,
    clone: PathBuf,
}

impl Remote {
    pub(super) fn new(spec: &GitSpec) -> Result<Self, SourceError> {
        let url = check_url(&spec.url, spec.credentials.is_some())?;
        let guard = Guard {
            allow_private: spec.allow_private,
        };
        guard
            .check_url(&url)
            .map_err(|refused| SourceError::Refused {
                url: spec.url.clone(),
                refused,
            })?;
        check_reference(&spec.reference)?;
        let key = Digest::of(format!("{}\n{}", spec.url, refspec(&spec.reference))).short();
        let remote = Self {
            url: spec.url.clone(),
            guard,
            reference: spec.reference.clone(),
            credentials: spec.credentials.clone(),
            clone: spec.cache.join(format!("{key}.git")),
        };
        fs::create_dir_all(&spec.cache)
            .map_err(|error| SourceError::file(&spec.cache, error.to_string()))?;
        Ok(remote)
    }

    /// The clone, made when it is not there or not readable.
    pub(super) fn open(&self) -> Result<Repository, SourceError> {
        let opened = gix::open_opts(&self.clone, options());
        if let Ok(repository) = opened {
            return Ok(repository);
        }
        self.remove_clone()?;
        let created = gix::ThreadSafeRepository::init_opts(
            &self.clone,
            create::Kind::Bare,
            create::Options::default(),
            options(),
        );
        created.map(Into::into).map_err(|error| self.broken(&error))
    }

    fn remove_clone(&self) -> Result<(), SourceError> {
        match fs::remove_dir_all(&self.clone) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(SourceError::file(&self.clone, error.to_string()))
            }
            _ => Ok(()),
        }
    }

    /// What the server says the reference is.
    pub(super) fn tip(&self) -> Result<String, SourceError> {
        let _lock = self.lock()?;
        let repository = self.open()?;
        let remote = self.remote(&repository)?;
        let connection = self.connect(&remote)?;
        let (map, _) = connection
            .ref_map(Discard, Default::default())
            .map_err(|error| self.failed(&error))?;
        self.mapped(&map).map(|id| id.to_string())
    }

    /// Fetches the commit, without its history.
    pub(super) fn fetch(&self, cancelled: &AtomicBool) -> Result<Seen, SourceError> {
        let _lock = self.lock()?;
        if self.packs() > PACKS {
            self.remove_clone()?;
        }
        let repository = self.open()?;
        let pinned = match &self.reference {
            GitRef::Commit(id) => ObjectId::from_hex(id.as_bytes())
                .ok()
                .filter(|id| repository.has_object(id)),
            _ => None,
        };
        let tip = match pinned {
            Some(id) => id,
            None => self.receive(&repository, cancelled)?,
        };
        let object = repository
            .find_object(tip)
            .map_err(|error| self.broken(&error))?;
        let commit = object
            .peel_to_kind(gix::object::Kind::Commit)
            .map_err(|error| SourceError::Field {
                field: "git.ref",
                reason: format!(
                    "{} is not a commit ({})",
                    refspec(&self.reference),
                    chain(&error)
                ),
            })?;
        Ok(Seen {
            tip: tip.to_string(),
            commit: commit.id.to_string(),
        })
    }

    fn receive(
        &self,
        repository: &Repository,
        cancelled: &AtomicBool,
    ) -> Result<ObjectId, SourceError> {
        let remote = self.remote(repository)?;
        let connection = self.connect(&remote)?;
        let failed = |error: gix::Error| self.failed(&error);
        let prepared = connection
            .prepare_fetch(Discard, Default::default())
            .map_err(failed)?;
        let tip = self.mapped(prepared.ref_map())?;
        let shallow = fetch::Shallow::DepthAtRemote(std::num::NonZeroU32::MIN);
        prepared
            .with_shallow(shallow)
            .receive(Discard, cancelled)
            .map_err(failed)?;
        Ok(tip)
    }

    fn remote<'a>(&self, repository: &'a Repository) -> Result<gix::Remote<'a>, SourceError> {
        let spec = format!("+{}:{LOCAL}", refspec(&self.reference));
        repository
            .remote_at_without_url_rewrite(self.url.as_str())
            .map(|remote| remote.with_fetch_tags(fetch::Tags::None))
            .and_then(|remote| remote.with_refspecs([spec.as_bytes().as_bstr()], Direction::Fetch))
            .map_err(|error| self.failed(&error))
    }

    fn connect<'a, 'r>(
        &self,
        remote: &'a gix::Remote<'r>,
    ) -> Result<Connection<'a, 'r>, SourceError> {
        let connection = remote
            .connect(Direction::Fetch)
            .map_err(|error| self.failed(&error))?;
        let credentials = self.credentials.clone();
        let connection =
            connection.with_credentials(move |action| authenticate(credentials.as_ref(), action));
        if self.url.starts_with("file:") {
            return Ok(connection);
        }
        let guard = self.guard;
        let backend = http::reqwest::Options {
            // A proxy would resolve names itself, past the guard.
            configure_client: Some(Box::new(move |builder| {
                Ok(builder
                    .dns_resolver(Arc::new(guard))
                    .no_proxy()
                    .timeout(STALLED))
            })),
            configure_request: None,
        };
        let options = http::Options {
            // A redirect could lead to an address that the guard does not see.
            follow_redirects: http::options::FollowRedirects::None,
            user_agent: Some(concat!("git/loci-", env!("CARGO_PKG_VERSION")).into()),
            backend: Some(Arc::new(Mutex::new(backend))),
            ..http::Options::default()
        };
        Ok(connection.with_transport_options(Box::new(options)))
    }

    fn mapped(&self, map: &fetch::RefMap) -> Result<ObjectId, SourceError> {
        let id = map
            .mappings
            .first()
            .and_then(|mapping| mapping.remote.as_id());
        id.map(ToOwned::to_owned).ok_or_else(|| SourceError::Field {
            field: "git.ref",
            reason: format!(
                "{} has no {}; name one that it has",
                self.url,
                refspec(&self.reference)
            ),
        })
    }

    /// One process at a time changes a clone. Released when dropped.
    fn lock(&self) -> Result<File, SourceError> {
        let path = self.clone.with_extension("lock");
        let locked = File::create(&path).and_then(|file| file.lock().map(|()| file));
        locked.map_err(|error| SourceError::file(&path, error.to_string()))
    }

    fn packs(&self) -> usize {
        let packs = fs::read_dir(self.clone.join("objects/pack"))
            .into_iter()
            .flatten()
            .flatten();
        packs
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "pack")
            })
            .count()
    }

    /// The server, or the way to it, failed.
    fn failed(&self, error: &gix::Error) -> SourceError {
        if let Some(refused) = error.iter_errors().find_map(refused_in) {
            return SourceError::Refused {
                url: self.url.clone(),
                refused,
            };
        }
        let mut reason = causes(error);
        if reason.contains("dumb' protocol") {
            reason
                .push_str("; redirects are not followed: use the URL that `git clone` ends up at");
        } else if self.url.starts_with("file:") {
            reason.push_str(
                "; git.url must name a repository, and the `git` command must be installed",
            );
        } else if REFUSALS.iter().any(|r| reason.contains(r)) && !reason.contains(SECRET) {
            reason.push_str(&format!("; check {SECRET}"));
        }
        SourceError::Remote {
            url: self.url.clone(),
            reason,
        }
    }

    /// The clone failed.
    pub(super) fn broken(&self, error: &gix::Error) -> SourceError {
        SourceError::file(
            &self.clone,
            format!("{}; remove this directory to clone again", causes(error)),
        )
    }
}

type Connection<'a, 'r> = gix::remote::Connection<
    'a,
    'a,
    'r,
    Box<dyn gix::protocol::transport::client::blocking_io::Transport + Send>,
>;

/// Neither the user's nor the system's git settings have a say.
fn options() -> open::Options {
    open::Options::isolated().config_overrides(["user.name=loci", "user.email=loci@localhost"])
}

fn causes(error: &gix::Error) -> String {
    let mut text = String::new();
    for error in error.iter_errors() {
        let more = chain(error);
        if !text.contains(&more) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&more);
        }
    }
    text
}

fn authenticate(
    credentials: Option<&GitCredentials>,
    action: Action,
) -> gix::Result<Option<protocol::Outcome>> {
    let Action::Get(context) = action else {
        return Ok(None);
    };
    let Some(credentials) = credentials else {
        let error = std::io::Error::other("the server asks for credentials; set git.secretRef");
        return Err(gix::Error::from_error(error));
    };
    let identity = gix::sec::identity::Account {
        username: credentials.username.clone(),
        password: credentials.password.expose().to_owned(),
        oauth_refresh_token: None,
    };
    Ok(Some(protocol::Outcome {
        identity,
        next: context.into(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Secret;

    fn spec(url: &str) -> GitSpec {
        let credentials = GitCredentials {
            username: "bot".into(),
            password: Secret::new("s3cret"),
        };
        GitSpec {
            url: url.into(),
            reference: GitRef::Branch("main".into()),
            include: Vec::new(),
            exclude: Vec::new(),
            credentials: Some(credentials),
            allow_private: false,
            cache: std::env::temp_dir(),
        }
    }

    #[test]
    fn what_cannot_be_fetched_is_refused_by_name_and_without_secrets() {
        let cases = [
            ("git@example.com:org/repo.git", "SSH is not supported"),
            ("ssh://git@example.com/repo.git", "holds credentials"),
            ("ssh://example.com/repo.git", "SSH is not supported"),
            ("https://u:s3cret@example.com/repo.git", "holds credentials"),
            ("http://example.com/repo.git", "never sent in clear text"),
            ("git://example.com/repo.git", "\"git\" is not supported"),
            ("/srv/repo.git", "is not a URL"),
            ("https://169.254.169.254/repo.git", "link-local"),
            ("https://[::1]/repo.git", "loopback"),
        ];
        for (url, reason) in cases {
            let error = Remote::new(&spec(url)).err().unwrap().to_string();
            assert!(error.contains(reason), "{url}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
        assert!(!format!("{:?}", spec("https://example.com/")).contains("s3cret"));
        for bad in [
            GitRef::Commit("abc123".into()),
            GitRef::Branch("a..b".into()),
            GitRef::Tag("v*".into()),
        ] {
            let spec = GitSpec {
                reference: bad,
                ..spec("https://example.com/")
            };
            assert!(
                Remote::new(&spec)
                    .err()
                    .unwrap()
                    .to_string()
                    .starts_with("git.ref: ")
            );
        }
    }

    #[test]
    fn credentials_are_given_when_the_server_asks() {
        let ask = || Action::get_for_url("https://example.com/repo.git");
        let credentials = spec("https://example.com/").credentials;
        let given = authenticate(credentials.as_ref(), ask())
            .unwrap()
            .unwrap()
            .identity;
        assert_eq!(
            (given.username.as_str(), given.password.as_str()),
            ("bot", "s3cret")
        );
        let error = causes(&authenticate(None, ask()).err().unwrap());
        assert!(error.contains("git.secretRef"), "{error}");
    }
}
