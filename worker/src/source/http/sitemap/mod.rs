//! Pages that sitemaps list (sitemaps.org), read as their sites ask crawlers to (RFC 9309).
//!
//! A page is asked for when it is new, when its `lastmod` is another than before, and otherwise once in a while by a
//! conditional request. So a look costs as many requests as there are sitemaps.

mod crawl;
mod list;
mod pages;
mod xml;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use url::{Origin, Url};

use self::crawl::Crawl;
use self::list::{Listed, SeenFile};
use super::HttpSpec;
use super::answer::{Answer, Validators};
use super::fetch::{Fetcher, declared};
use crate::source::state::{SourceState, spec_digest};
use crate::source::{Limits, Listing, Probe, SourceError, Task};

const FIELD: &str = "http.sitemap.urls";
/// Pages that failed, which a probe asks for again.
const ASKED_AGAIN: usize = 3;

/// Pages that sitemaps list.
#[derive(Clone, Debug)]
pub struct SitemapSpec {
    /// Sitemaps or indexes of sitemaps.
    pub urls: Vec<String>,
    /// Globs of the paths of pages to read; empty: all.
    pub include: Vec<String>,
    /// Globs of paths to leave out.
    pub exclude: Vec<String>,
    /// Hosts that pages may be on, besides those of the sitemaps.
    pub hosts: Vec<String>,
    /// How many pages may match.
    pub max_pages: usize,
    /// The least pause between two requests to a host.
    pub pause: Duration,
    /// How often all pages are asked for changes.
    pub revisit: Duration,
}

impl Default for SitemapSpec {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            include: Vec::new(),
            exclude: Vec::new(),
            hosts: Vec::new(),
            max_pages: 1_000,
            pause: Duration::from_secs(1),
            revisit: Duration::from_secs(24 * 3600),
        }
    }
}

impl SitemapSpec {
    /// Who may get credentials, and the hosts that may be read.
    pub(super) fn scope(&self) -> Result<(HashSet<Origin>, BTreeSet<String>), SourceError> {
        let roots = self.roots()?;
        let own = roots.iter().filter_map(Url::host_str).map(str::to_owned);
        let hosts = own.chain(self.hosts.iter().cloned()).collect();
        Ok((roots.iter().map(Url::origin).collect(), hosts))
    }

    fn roots(&self) -> Result<Vec<Url>, SourceError> {
        let roots = self.urls.iter().map(|text| declared(FIELD, text));
        roots.collect()
    }

    fn digest(&self, limits: &Limits) -> Digest {
        spec_digest(&(
            &self.urls,
            &self.include,
            &self.exclude,
            &self.hosts,
            limits.max_document_bytes,
        ))
    }
}

/// What a site looked like.
#[derive(Default, Serialize, Deserialize)]
struct Seen {
    /// When all pages were asked for, in seconds since 1970.
    at: u64,
    files: BTreeMap<String, SeenFile>,
    pages: BTreeMap<String, SeenPage>,
    /// Pages that could not be read for now.
    failing: BTreeSet<String>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
struct SeenPage {
    lastmod: Option<String>,
    validators: Validators,
    /// Why it is left out, or as it was.
    unfit: Option<String>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

impl Seen {
    /// Whether all pages are to be asked again.
    fn is_due(&self, spec: &SitemapSpec, now: u64) -> bool {
        now.saturating_sub(self.at) >= spec.revisit.as_secs()
    }

    /// What a new list differs by, in words.
    fn differs(&self, listed: &BTreeMap<String, Option<String>>) -> Option<String> {
        let new = listed.keys().filter(|page| !self.pages.contains_key(*page));
        let gone = self.pages.keys().filter(|page| !listed.contains_key(*page));
        let changed = listed.iter().filter(|(page, lastmod)| {
            self.pages
                .get(*page)
                .is_some_and(|seen| seen.lastmod != **lastmod)
        });
        let counts = (new.count(), changed.count(), gone.count());
        let (new, changed, gone) = counts;
        (counts != (0, 0, 0)).then(|| format!("{new} new, {changed} changed, {gone} gone"))
    }
}

pub(super) async fn probe(
    http: &HttpSpec,
    spec: &SitemapSpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    let Some(seen) = previous.seen::<Seen>(spec.digest(limits)) else {
        return Ok(Probe::Changed("declared otherwise than before".into()));
    };
    if seen.is_due(spec, now()) {
        return Ok(Probe::Changed("all pages are asked again".into()));
    }
    let fetcher = Fetcher::new(http, limits)?;
    let mut crawl = Crawl::new(&fetcher, spec.pause);
    if !list::unchanged(&mut crawl, spec, &seen.files).await? {
        let Listed { pages, .. } = list::list(&mut crawl, spec).await?;
        if let Some(words) = seen.differs(&pages) {
            return Ok(Probe::Changed(words));
        }
    }
    for page in seen.failing.iter().take(ASKED_AGAIN) {
        if let Ok(url) = Url::parse(page)
            && let Ok(Answer::Page(_) | Answer::Unchanged | Answer::Gone) =
                crawl.page(&url, None).await
        {
            return Ok(Probe::Changed(format!("{page} answers again")));
        }
    }
    Ok(Probe::Unchanged)
}

pub(super) async fn snapshot(
    http: &HttpSpec,
    spec: &SitemapSpec,
    task: &Task<'_>,
) -> Result<Listing, SourceError> {
    let digest = spec.digest(task.limits);
    let before = task
        .previous
        .and_then(|listing| listing.state.seen::<Seen>(digest))
        .unwrap_or_default();
    let fetcher = Fetcher::new(http, task.limits)?;
    let mut crawl = Crawl::new(&fetcher, spec.pause);
    let listed = list::list(&mut crawl, spec).await?;
    let now = now();
    let due = before.is_due(spec, now);
    let seen = Seen {
        at: if due { now } else { before.at },
        files: listed.files,
        ..Seen::default()
    };
    let mut visit = pages::Visit::new(task, &before, due, seen, listed.notes);
    for (page, lastmod) in listed.pages {
        visit.page(&mut crawl, page, lastmod).await?;
    }
    visit.finish(digest)
}
