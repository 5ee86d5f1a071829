//! Requests at the pace of their hosts, to what robots.txt allows.

use std::collections::HashMap;
use std::time::Duration;

use robotxt::{AccessResult, BYTE_LIMIT, Robots, robots_url};
use tokio::time::{Instant, sleep_until};
use url::Url;

use crate::source::SourceError;
use crate::source::http::answer::{Answer, Excess, Raw, Validators, failed, shown};
use crate::source::http::fetch::Fetcher;

/// What robots.txt files call this crawler; its User-Agent begins with it.
const NAME: &str = "loci";
/// Longer than this, nobody waits between two requests.
const LONGEST: Duration = Duration::from_secs(60);
/// How often a page is asked for whose server is busy.
const ATTEMPTS: u32 = 3;
/// Failures in a row after which a host is left alone.
const PATIENCE: usize = 5;

pub(super) struct Crawl<'a> {
    fetcher: &'a Fetcher,
    pause: Duration,
    hosts: HashMap<String, Host>,
    /// By origin: what may be asked for, or why that cannot be told.
    rules: HashMap<String, Result<Robots, String>>,
}

struct Host {
    pause: Duration,
    /// When the next request may be sent.
    next: Instant,
    failures: usize,
}

/// Whether a URL may be asked for.
pub(super) enum Allowed {
    Yes,
    /// robots.txt says no.
    No,
    /// That cannot be told, and so it may not.
    Unknown(SourceError),
}

impl<'a> Crawl<'a> {
    pub(super) fn new(fetcher: &'a Fetcher, pause: Duration) -> Self {
        Self {
            fetcher,
            pause,
            hosts: HashMap::new(),
            rules: HashMap::new(),
        }
    }

    pub(super) async fn allowed(&mut self, url: &Url) -> Allowed {
        let origin = url.origin().ascii_serialization();
        if !self.rules.contains_key(&origin) {
            let rules = self.robots(url).await;
            self.rules.insert(origin.clone(), rules);
        }
        match self.rules.get(&origin) {
            Some(Ok(robots)) if robots.is_url_allowed(url) => Allowed::Yes,
            Some(Ok(_)) => Allowed::No,
            Some(Err(reason)) => Allowed::Unknown(failed(url, reason.clone())),
            None => Allowed::Unknown(failed(url, "has no robots.txt that was read".into())),
        }
    }

    /// The rules of a URL's site, and its pace from now on.
    async fn robots(&mut self, url: &Url) -> Result<Robots, String> {
        let at = robots_url(url).map_err(|error| error.to_string())?;
        self.turn(&at).await;
        let found = self
            .fetcher
            // One byte more tells the parser that the last line is cut.
            .raw(&at, None, BYTE_LIMIT + 1, Excess::Cut, true)
            .await;
        self.done(&at, self.pause);
        let robots = match &found {
            Ok(Raw::Content(text, _)) => Robots::parse(text, NAME),
            Ok(Raw::Refused(_)) => Robots::from_access(AccessResult::Unavailable, NAME),
            Ok(Raw::Unchanged) => return Err(format!("{at} answered 304 to no condition")),
            Err(error) => {
                return Err(format!(
                    "is not asked for while its robots.txt cannot be read: {error}"
                ));
            }
        };
        let asked = robots.crawl_delay().unwrap_or_default();
        if asked > LONGEST {
            let (asked, most) = (asked.as_secs(), LONGEST.as_secs());
            return Err(format!(
                "its robots.txt asks for {asked} s between two requests, more than the {most} s that are waited; ask its owner, or read single pages by http.urls"
            ));
        }
        let pause = self.pause.max(asked);
        let host = self.host(url);
        host.pause = host.pause.max(pause);
        self.done(url, pause);
        Ok(robots)
    }

    fn host(&mut self, url: &Url) -> &mut Host {
        let pause = self.pause;
        let name = url.host_str().unwrap_or_default().to_owned();
        self.hosts.entry(name).or_insert_with(|| Host {
            pause,
            next: Instant::now(),
            failures: 0,
        })
    }

    async fn turn(&mut self, url: &Url) {
        sleep_until(self.host(url).next).await;
    }

    /// The pause begins when the answer is there.
    fn done(&mut self, url: &Url, pause: Duration) {
        let host = self.host(url);
        host.next = Instant::now() + pause.max(host.pause);
    }

    /// A sitemap. `known`: unless it still is that.
    pub(super) async fn file(
        &mut self,
        url: &Url,
        known: Option<&Validators>,
        most: usize,
    ) -> Result<Raw, SourceError> {
        self.turn(url).await;
        let found = self
            .fetcher
            .raw(url, known, most, Excess::Refuse, false)
            .await;
        self.done(url, Duration::ZERO);
        found
    }

    /// A page that may be asked for.
    pub(super) async fn page(
        &mut self,
        url: &Url,
        known: Option<&Validators>,
    ) -> Result<Answer, SourceError> {
        match self.allowed(url).await {
            Allowed::Yes => {}
            Allowed::No => {
                let reason = "is not allowed by robots.txt".to_owned();
                return Ok(Answer::Unfit(failed(url, reason)));
            }
            Allowed::Unknown(error) => return Err(error),
        }
        if self.host(url).failures >= PATIENCE {
            let reason = format!(
                "is not asked for: its host failed {PATIENCE} times in a row, and is asked again at the next run"
            );
            return Err(failed(url, reason));
        }
        let answer = match self.patiently(url, known).await {
            Ok(Answer::Page(page)) if page.url != *url => match self.allowed(&page.url).await {
                Allowed::Yes => Ok(Answer::Page(page)),
                Allowed::No => {
                    let to = shown(&page.url);
                    let reason = format!("redirects to {to}, which robots.txt does not allow");
                    Ok(Answer::Unfit(failed(url, reason)))
                }
                Allowed::Unknown(error) => Err(error),
            },
            answer => answer,
        };
        let host = self.host(url);
        host.failures = match answer {
            Ok(_) => 0,
            Err(_) => host.failures + 1,
        };
        answer
    }

    async fn patiently(
        &mut self,
        url: &Url,
        known: Option<&Validators>,
    ) -> Result<Answer, SourceError> {
        let mut attempt = 1;
        loop {
            self.turn(url).await;
            let answer = self.fetcher.ask(url, known).await;
            let (asked, error) = match answer {
                Ok(Answer::Busy(asked, error)) => (asked, error),
                other => {
                    self.done(url, Duration::ZERO);
                    return other;
                }
            };
            let longer = self.host(url).pause * 2_u32.pow(attempt);
            let wait = asked.unwrap_or(longer);
            self.done(url, wait.min(LONGEST));
            if attempt == ATTEMPTS || wait > LONGEST {
                return Err(error);
            }
            attempt += 1;
        }
    }
}
