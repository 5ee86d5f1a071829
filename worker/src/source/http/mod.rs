mod answer;
mod fetch;
mod sitemap;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::{StreamExt, stream};
use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use self::answer::{Answer, Validators};
use self::fetch::Fetcher;
pub use self::sitemap::SitemapSpec;
use super::state::{SourceState, spec_digest};
use super::{Entry, Limits, Listing, Probe, Secret, SnapshotProgress, SourceError, Task, skip};

/// Pages that are fetched at the same time.
const CONCURRENT: usize = 4;

/// Pages by their URL, or by the sitemaps that list them.
#[derive(Clone, Debug)]
pub struct HttpSpec {
    /// The pages, `https://` or `http://`; not asked for where there is a sitemap.
    pub urls: Vec<String>,
    /// Where the pages are listed.
    pub sitemap: Option<SitemapSpec>,
    /// Sent to the origins of the declared URLs only, never on to another by a redirect or a sitemap.
    pub credentials: HttpCredentials,
    /// Loopback and private addresses may be fetched from. Link-local ones never may.
    pub allow_private: bool,
    /// For one page, redirects and body included.
    pub timeout: Duration,
}

impl Default for HttpSpec {
    fn default() -> Self {
        let timeout = Duration::from_secs(30);
        Self {
            urls: Vec::new(),
            sitemap: None,
            credentials: HttpCredentials::default(),
            allow_private: false,
            timeout,
        }
    }
}

/// What a server knows the fetcher by.
#[derive(Clone, Debug, Default)]
pub struct HttpCredentials {
    /// Sent as `Authorization: Bearer`.
    pub bearer: Option<Secret>,
    /// Further headers.
    pub headers: BTreeMap<String, Secret>,
}

impl HttpSpec {
    fn digest(&self, limits: &Limits) -> Digest {
        spec_digest(&(&self.urls, limits.max_document_bytes))
    }

    /// The pages, each once.
    fn pages(&self, limits: &Limits) -> Result<BTreeMap<&str, Url>, SourceError> {
        let mut pages = BTreeMap::new();
        for text in &self.urls {
            pages.insert(text.as_str(), fetch::declared("http.urls", text)?);
        }
        limits.check_count(pages.len())?;
        Ok(pages)
    }
}

#[derive(Default, Serialize, Deserialize)]
struct Seen {
    pages: BTreeMap<String, SeenPage>,
    /// Pages that could not be fetched.
    failing: BTreeSet<String>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SeenPage {
    digest: Digest,
    validators: Validators,
}

pub(super) async fn probe(
    spec: &HttpSpec,
    limits: &Limits,
    previous: &SourceState,
) -> Result<Probe, SourceError> {
    if let Some(sitemap) = &spec.sitemap {
        return sitemap::probe(spec, sitemap, limits, previous).await;
    }
    let Some(seen) = previous.seen::<Seen>(spec.digest(limits)) else {
        return Ok(Probe::Changed("declared otherwise than before".into()));
    };
    let fetcher = Fetcher::new(spec, limits)?;
    let pages = spec.pages(limits)?;
    let mut failing = BTreeSet::new();
    let mut first_error = None;
    for (&name, url) in &pages {
        let known = seen.pages.get(name);
        match fetcher.fetch(url, known.map(|page| &page.validators)).await {
            Ok(Answer::Unchanged) => {}
            Ok(Answer::Page(page))
                if known.is_some_and(|known| known.digest == Digest::of(&page.content)) => {}
            Ok(_) => return Ok(Probe::Changed(format!("{name} changed"))),
            Err(error) => {
                first_error.get_or_insert(error);
                failing.insert(name.to_owned());
            }
        }
    }
    match first_error {
        Some(error) if failing.len() == pages.len() => Err(error),
        _ if failing != seen.failing => Ok(Probe::Changed("other pages fail than before".into())),
        _ => Ok(Probe::Unchanged),
    }
}

pub(super) async fn snapshot(spec: &HttpSpec, task: &Task<'_>) -> Result<Listing, SourceError> {
    if let Some(sitemap) = &spec.sitemap {
        return sitemap::snapshot(spec, sitemap, task).await;
    }
    let digest = spec.digest(task.limits);
    let pages = spec.pages(task.limits)?;
    let fetcher = Fetcher::new(spec, task.limits)?;
    let known = task.known();
    let before = task
        .previous
        .and_then(|listing| listing.state.seen::<Seen>(digest))
        .unwrap_or_default();
    let read = Reader {
        task,
        fetcher: &fetcher,
        known: &known,
        before: &before,
    };
    let mut progress = SnapshotProgress::default();
    let (mut documents, mut skipped, mut seen) = (Vec::new(), Vec::new(), Seen::default());
    let mut errors = Vec::new();
    let work: Vec<_> = pages
        .iter()
        .map(|(name, url)| read.page(name, url))
        .collect();
    let mut work = stream::iter(work).buffered(CONCURRENT);
    while let Some(outcome) = work.next().await {
        let (name, outcome) = outcome?;
        progress.listed += 1;
        match outcome {
            Outcome::Kept(entry, page) => {
                documents.push(entry);
                seen.pages.insert(name, page);
            }
            Outcome::Fetched(entry, page) => {
                progress.fetched += 1;
                progress.bytes += entry.bytes;
                documents.push(entry);
                seen.pages.insert(name, page);
            }
            Outcome::Gone => skipped.push(skip(
                name,
                "is gone (410) and was removed; take it off `urls`",
            )),
            Outcome::Failed(error) => {
                let kept = known.get(name.as_str()).copied();
                let fate = if kept.is_some() {
                    "; its last good content is kept"
                } else {
                    ""
                };
                skipped.push(skip(name.clone(), format!("{error}{fate}")));
                documents.extend(kept.cloned());
                seen.pages.extend(
                    before
                        .pages
                        .get(&name)
                        .map(|page| (name.clone(), page.clone())),
                );
                seen.failing.insert(name);
                errors.push(error);
            }
        }
        (task.progress)(progress);
    }
    match errors.len() == pages.len() {
        true if !errors.is_empty() => Err(errors.swap_remove(0)),
        _ => Ok(Listing {
            documents,
            state: SourceState::new(digest, &seen),
            skipped,
        }),
    }
}

enum Outcome {
    Kept(Entry, SeenPage),
    Fetched(Entry, SeenPage),
    Gone,
    Failed(SourceError),
}

struct Reader<'a> {
    task: &'a Task<'a>,
    fetcher: &'a Fetcher,
    known: &'a BTreeMap<&'a str, &'a Entry>,
    before: &'a Seen,
}

impl Reader<'_> {
    async fn page(&self, name: &str, url: &Url) -> Result<(String, Outcome), SourceError> {
        let known = self
            .known
            .get(name)
            .copied()
            .zip(self.before.pages.get(name));
        let reusable = match known {
            Some((entry, page)) if self.task.contains(&entry.digest).await? => Some((entry, page)),
            _ => None,
        };
        let answer = self
            .fetcher
            .fetch(url, reusable.map(|(_, page)| &page.validators))
            .await;
        let outcome = match (answer, reusable) {
            (Ok(Answer::Unchanged), Some((entry, page))) => {
                Outcome::Kept(entry.clone(), page.clone())
            }
            (Ok(Answer::Unchanged), None) => Outcome::Failed(SourceError::Remote {
                url: name.to_owned(),
                reason: "answered 304 to a request without conditions; report it to its owner"
                    .into(),
            }),
            (Ok(Answer::Gone), _) => Outcome::Gone,
            (Ok(Answer::Page(page)), _) => {
                let bytes = page.content.len() as u64;
                let digest = self.task.put(page.content).await?;
                let entry = Entry {
                    document: name.to_owned(),
                    uri: page.url.into(),
                    version: digest.to_string(),
                    media: page.media,
                    bytes,
                    digest,
                    metadata: BTreeMap::new(),
                };
                Outcome::Fetched(
                    entry,
                    SeenPage {
                        digest,
                        validators: page.validators,
                    },
                )
            }
            (Ok(Answer::Busy(_, error) | Answer::Unfit(error)) | Err(error), _) => {
                Outcome::Failed(error)
            }
        };
        Ok((name.to_owned(), outcome))
    }
}
