//! The pages of a list, read where they may have changed.

use std::collections::BTreeMap;

use loci_digest::Digest;
use url::Url;

use super::crawl::Crawl;
use super::{Seen, SeenPage};
use crate::source::http::answer::{Answer, Page, failed};
use crate::source::state::SourceState;
use crate::source::{Entry, Listing, Skipped, SnapshotProgress, SourceError, Task, skip};

/// Pages as they are visited one after the other.
pub(super) struct Visit<'a> {
    task: &'a Task<'a>,
    before: &'a Seen,
    known: BTreeMap<&'a str, &'a Entry>,
    /// All pages are asked for.
    due: bool,
    seen: Seen,
    documents: Vec<Entry>,
    skipped: Vec<Skipped>,
    progress: SnapshotProgress,
    first_error: Option<SourceError>,
}

impl<'a> Visit<'a> {
    pub(super) fn new(
        task: &'a Task<'a>,
        before: &'a Seen,
        due: bool,
        seen: Seen,
        notes: Vec<Skipped>,
    ) -> Self {
        Self {
            task,
            before,
            known: task.known(),
            due,
            seen,
            documents: Vec::new(),
            skipped: notes,
            progress: SnapshotProgress::default(),
            first_error: None,
        }
    }

    pub(super) async fn page(
        &mut self,
        crawl: &mut Crawl<'_>,
        page: String,
        lastmod: Option<String>,
    ) -> Result<(), SourceError> {
        let before = self.before.pages.get(&page);
        let entry = self.known.get(page.as_str()).copied();
        let kept = match entry {
            Some(entry) if self.task.contains(&entry.digest).await? => Some(entry),
            _ => None,
        };
        let same = before.filter(|seen| {
            seen.lastmod == lastmod && !self.due && !self.before.failing.contains(&page)
        });
        let mut now = SeenPage {
            lastmod,
            ..before.cloned().unwrap_or_default()
        };
        match same {
            Some(seen) if kept.is_some() || seen.unfit.is_some() => {
                if let Some(reason) = &seen.unfit {
                    self.skipped.push(skip(page.clone(), reason.clone()));
                }
                self.documents.extend(kept.cloned());
            }
            _ => {
                let validators = before.filter(|_| kept.is_some());
                let validators = validators.map(|seen| &seen.validators);
                let answer = match Url::parse(&page) {
                    Ok(url) => match crawl.page(&url, validators).await {
                        Ok(Answer::Unchanged) if validators.is_none() => {
                            Err(failed(&url, "answered 304 to no condition".to_owned()))
                        }
                        answer => answer,
                    },
                    Err(error) => Err(SourceError::Interrupted(error.to_string())),
                };
                self.answered(&page, &mut now, answer, entry).await?;
            }
        }
        self.seen.pages.insert(page, now);
        self.progress.listed += 1;
        (self.task.progress)(self.progress);
        Ok(())
    }

    async fn answered(
        &mut self,
        page: &str,
        now: &mut SeenPage,
        answer: Result<Answer, SourceError>,
        entry: Option<&Entry>,
    ) -> Result<(), SourceError> {
        now.unfit = None;
        let fate = entry.map_or("", |_| "; its last good content is kept");
        match answer {
            Ok(Answer::Unchanged) => self.documents.extend(entry.cloned()),
            Ok(Answer::Page(found)) => {
                now.validators = found.validators.clone();
                let entry = self.put(page, found).await?;
                self.documents.push(entry);
            }
            Ok(Answer::Gone) => {
                let reason = "is gone (410) and was removed, though the sitemap lists it";
                self.skipped.push(skip(page, reason));
                now.unfit = Some(reason.to_owned());
            }
            Ok(Answer::Unfit(error)) => {
                let reason = format!("{error}{fate}");
                self.skipped.push(skip(page, reason.clone()));
                self.documents.extend(entry.cloned());
                now.unfit = Some(reason);
                self.first_error.get_or_insert(error);
            }
            Ok(Answer::Busy(_, error)) | Err(error) => {
                self.skipped.push(skip(page, format!("{error}{fate}")));
                self.documents.extend(entry.cloned());
                self.seen.failing.insert(page.to_owned());
                self.first_error.get_or_insert(error);
            }
        }
        Ok(())
    }

    async fn put(&mut self, page: &str, found: Page) -> Result<Entry, SourceError> {
        let bytes = found.content.len() as u64;
        let digest = self.task.put(found.content).await?;
        self.progress.fetched += 1;
        self.progress.bytes += bytes;
        Ok(Entry {
            document: page.to_owned(),
            uri: found.url.into(),
            version: digest.to_string(),
            media: found.media,
            bytes,
            digest,
            metadata: BTreeMap::new(),
        })
    }

    /// # Errors
    /// When pages are listed and none of them can be read.
    pub(super) fn finish(self, spec: Digest) -> Result<Listing, SourceError> {
        match self.first_error {
            Some(error) if self.documents.is_empty() => Err(error),
            _ => Ok(Listing {
                documents: self.documents,
                state: SourceState::new(spec, &self.seen),
                skipped: self.skipped,
            }),
        }
    }
}
