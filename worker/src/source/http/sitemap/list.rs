//! The pages that sitemaps list, and what of that is read.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use loci_digest::Digest;
use serde::{Deserialize, Serialize};
use url::Url;

use super::crawl::{Allowed, Crawl};
use super::xml::{Entry, File, MOST_BYTES, parse, unpacked};
use super::{FIELD, SitemapSpec};
use crate::source::file::blocking;
use crate::source::http::answer::{Raw, Validators, failed};
use crate::source::select::Select;
use crate::source::{Skipped, SourceError, skip};

/// The most sitemaps of a source, indexes included.
const FILES: usize = 200;
/// Indexes inside one another; the protocol has one.
const DEEPEST: usize = 3;
/// Hosts and pages that a note names.
const NAMED: usize = 3;

/// A sitemap as it was.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct SeenFile {
    digest: Digest,
    validators: Validators,
}

#[derive(Default)]
pub(super) struct Listed {
    /// The pages to read, by URL, with their `lastmod`.
    pub(super) pages: BTreeMap<String, Option<String>>,
    pub(super) files: BTreeMap<String, SeenFile>,
    /// What was left out, a line for each reason.
    pub(super) notes: Vec<Skipped>,
}

/// Whether all sitemaps are as they were.
pub(super) async fn unchanged(
    crawl: &mut Crawl<'_>,
    spec: &SitemapSpec,
    files: &BTreeMap<String, SeenFile>,
) -> Result<bool, SourceError> {
    let roots = spec.roots()?;
    for (name, seen) in files {
        let Ok(url) = Url::parse(name) else {
            return Ok(false);
        };
        match crawl.allowed(&url).await {
            Allowed::Yes => {}
            Allowed::No if roots.contains(&url) => {}
            _ => return Ok(false),
        }
        // What fails may be listed no more: a new list tells.
        match crawl.file(&url, Some(&seen.validators), MOST_BYTES).await {
            Ok(Raw::Unchanged) => {}
            Ok(Raw::Content(content, _)) if Digest::of(&content) == seen.digest => {}
            _ => return Ok(false),
        }
    }
    Ok(true)
}

/// Reads all sitemaps. One that cannot be read fails the source: what it lists would be taken for gone.
pub(super) async fn list(crawl: &mut Crawl<'_>, spec: &SitemapSpec) -> Result<Listed, SourceError> {
    let roots = spec.roots()?;
    let mut listing = Listing::new(spec)?;
    let mut queue: VecDeque<(Url, usize)> = roots.into_iter().map(|url| (url, 0)).collect();
    while let Some((url, depth)) = queue.pop_front() {
        if listing.listed.files.contains_key(url.as_str()) {
            continue;
        }
        if listing.listed.files.len() == FILES {
            let reason = format!("lead to more than {FILES} sitemaps; name some of those instead");
            return Err(field(FIELD, reason));
        }
        match crawl.allowed(&url).await {
            // A person named it.
            Allowed::No if depth == 0 => {}
            Allowed::Yes => {}
            Allowed::No => {
                listing.disallowed.add(&url);
                continue;
            }
            Allowed::Unknown(error) => return Err(error),
        }
        let wrong = |reason: String| failed(&url, reason);
        let (content, validators) = match crawl.file(&url, None, MOST_BYTES).await? {
            Raw::Content(content, validators) => (content, validators),
            Raw::Refused(error) => return Err(error),
            Raw::Unchanged => return Err(wrong("answered 304 to no condition".into())),
        };
        let read = move || {
            let file = unpacked(&content).and_then(|text| parse(&text));
            (Digest::of(&content), file)
        };
        let (digest, file) = blocking(read).await?;
        let file = file.map_err(wrong)?;
        let seen = SeenFile { digest, validators };
        listing.listed.files.insert(url.as_str().to_owned(), seen);
        match file {
            File::Pages(pages) => listing.pages(crawl, &url, pages).await?,
            File::Index(_) if depth == DEEPEST => {
                return Err(wrong(format!(
                    "is an index inside of {DEEPEST} others, where sitemaps have one; name the sitemaps themselves"
                )));
            }
            File::Index(files) => {
                let files = files.iter().filter_map(|file| listing.inside(&url, file));
                let files: Vec<_> = files.map(|url| (url, depth + 1)).collect();
                queue.extend(files);
            }
        }
    }
    Ok(listing.finish())
}

fn field(field: &'static str, reason: String) -> SourceError {
    SourceError::Field { field, reason }
}

/// What was left out for one reason: how many, and some of them.
#[derive(Default)]
struct Left {
    count: usize,
    some: BTreeSet<String>,
}

impl Left {
    fn add(&mut self, what: impl ToString) {
        self.count += 1;
        if self.some.len() < NAMED {
            self.some.insert(what.to_string());
        }
    }

    fn note(&self, notes: &mut Vec<Skipped>, of: &str, way_out: &str) {
        if self.count > 0 {
            let some: Vec<&str> = self.some.iter().map(String::as_str).collect();
            let (count, some) = (self.count, some.join(", "));
            notes.push(skip(
                of,
                format!("{count} left out ({some}{}); {way_out}", self.more()),
            ));
        }
    }

    fn more(&self) -> &'static str {
        if self.count > self.some.len() {
            ", …"
        } else {
            ""
        }
    }
}

struct Listing<'a> {
    spec: &'a SitemapSpec,
    select: Select,
    hosts: BTreeSet<String>,
    listed: Listed,
    /// By host.
    foreign: Left,
    disallowed: Left,
    invalid: Left,
}

impl<'a> Listing<'a> {
    fn new(spec: &'a SitemapSpec) -> Result<Self, SourceError> {
        let (_, hosts) = spec.scope()?;
        Ok(Self {
            spec,
            select: Select::new(&spec.include, &spec.exclude)?,
            hosts,
            listed: Listed::default(),
            foreign: Left::default(),
            disallowed: Left::default(),
            invalid: Left::default(),
        })
    }

    /// The URL of an entry, if it may be read from here.
    fn inside(&mut self, from: &Url, entry: &Entry) -> Option<Url> {
        let url = Url::parse(&entry.location).ok();
        let url = url.filter(|url| {
            let plain = url.username().is_empty() && url.password().is_none();
            plain && matches!(url.scheme(), "http" | "https")
        });
        let Some(mut url) = url else {
            self.invalid.add(from);
            return None;
        };
        url.set_fragment(None);
        let host = url.host_str().unwrap_or_default();
        if !self.hosts.contains(host) {
            self.foreign.add(host);
            return None;
        }
        Some(url)
    }

    async fn pages(
        &mut self,
        crawl: &mut Crawl<'_>,
        from: &Url,
        entries: Vec<Entry>,
    ) -> Result<(), SourceError> {
        for entry in entries {
            let Some(url) = self.inside(from, &entry) else {
                continue;
            };
            if !self.select.admits(url.path().trim_matches('/')) {
                continue;
            }
            // Where that cannot be told for now, the page is kept as it is.
            if let Allowed::No = crawl.allowed(&url).await {
                self.disallowed.add(&url);
                continue;
            }
            self.listed.pages.insert(url.into(), entry.lastmod);
            let most = self.spec.max_pages;
            if self.listed.pages.len() > most {
                let reason = format!(
                    "more than {most} pages match; narrow http.sitemap.include, name fewer sitemaps, or raise it (50000 at most)"
                );
                return Err(field("http.sitemap.maxPages", reason));
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Listed {
        let notes = &mut self.listed.notes;
        self.foreign.note(
            notes,
            "URLs of other hosts",
            "name those that are meant in http.sitemap.hosts",
        );
        self.disallowed.note(
            notes,
            "URLs that robots.txt does not allow",
            "ask the site's owner",
        );
        self.invalid.note(
            notes,
            "entries that are no URL with http:// or https://",
            "correct the sitemap",
        );
        self.listed
    }
}
