//! Reads fields and notes those that cannot be accepted.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::time::Duration;

use loci_crds::MemoryPipelineSpec;
use loci_crds::pipeline::{ChunkingSpec, RefreshSpec};
use loci_crds::values::{Fraction, GoDuration, Percent};

use super::{Chunking, DEFAULT_CLASS, DEFAULT_INTERVAL, FieldError};
use crate::schedule::{Calendar, Schedule};

/// The fields that could not be accepted so far.
#[derive(Default)]
pub(super) struct Fields(Vec<FieldError>);

impl Fields {
    pub(super) fn error(&mut self, field: impl Into<String>, reason: impl Into<String>) {
        self.0.push(FieldError {
            field: field.into(),
            reason: reason.into(),
        });
    }

    pub(super) fn finish<T>(self, value: T) -> Result<T, Vec<FieldError>> {
        if self.0.is_empty() {
            Ok(value)
        } else {
            Err(self.0)
        }
    }

    pub(super) fn take<T, E: ToString>(
        &mut self,
        field: impl Into<String>,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|e| self.error(field, e.to_string())).ok()
    }

    pub(super) fn duration(
        &mut self,
        field: &str,
        value: Option<&GoDuration>,
        default: Duration,
    ) -> Duration {
        self.optional_duration(field, value).unwrap_or(default)
    }

    /// A duration that is not zero.
    pub(super) fn optional_duration(
        &mut self,
        field: &str,
        value: Option<&GoDuration>,
    ) -> Option<Duration> {
        let duration = self.take(field, value?.to_std())?;
        if duration.is_zero() {
            self.error(
                field,
                "0 is no duration here: write it as 90s, 10m or 1h30m, or leave the field out",
            );
        }
        Some(duration)
    }

    /// A class of workers.
    pub(super) fn class(&mut self, field: &str, value: Option<&str>) -> String {
        let class = value.unwrap_or(DEFAULT_CLASS);
        let fits = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
        if class.is_empty() || class.len() > 40 || !class.chars().all(fits) {
            let reason = "a class is 1 to 40 lower case letters, digits and hyphens";
            self.error(field, reason);
        } else if class == "fetch" || class.starts_with("fetch-") {
            let reason = "classes named fetch are those of fetchers: use another name";
            self.error(field, reason);
        }
        class.to_owned()
    }

    pub(super) fn fraction(&mut self, field: String, value: Option<&Fraction>) -> Option<f64> {
        self.take(field, value?.to_f64())
    }

    pub(super) fn share(&mut self, field: &str, value: Option<&Percent>, default: f64) -> f64 {
        value
            .and_then(|v| self.take(field, v.to_share()))
            .unwrap_or(default)
    }

    pub(super) fn count(
        &mut self,
        field: &str,
        value: Option<i32>,
        range: RangeInclusive<usize>,
        default: usize,
    ) -> usize {
        let Some(value) = value else { return default };
        match usize::try_from(value) {
            Ok(n) if range.contains(&n) => n,
            _ => {
                self.error(
                    field,
                    format!("{value} is not from {} to {}", range.start(), range.end()),
                );
                default
            }
        }
    }

    pub(super) fn pin(&mut self, pin: Option<i64>) -> Option<i64> {
        if pin.is_some_and(|n| n < 1) {
            self.error(
                "spec.rollout.pin",
                "releases count from 1: give the number of a release, or remove the pin",
            );
        }
        pin
    }

    pub(super) fn unique<'a>(&mut self, list: &str, names: impl Iterator<Item = &'a str>) {
        let mut seen = BTreeSet::new();
        for (index, name) in names.enumerate() {
            if !seen.insert(name) {
                self.error(
                    format!("{list}[{index}]"),
                    format!("\"{name}\" stands in the list twice: remove one"),
                );
            }
        }
    }

    pub(super) fn model(&mut self, field: &str, reference: &str) -> String {
        let whole = match (
            reference.strip_prefix("file://"),
            reference.strip_prefix("hf://"),
        ) {
            (Some(path), _) => !path.is_empty(),
            (_, Some(rest)) => rest.split_once('@').is_some_and(|(repository, revision)| {
                let mut parts = repository.split('/');
                let named = parts.by_ref().take(2).filter(|p| !p.is_empty()).count() == 2;
                let plain = |c: char| c.is_ascii_graphic() && !"\"\\<>&".contains(c);
                let named = named && parts.next().is_none() && rest.chars().all(plain);
                named && !revision.is_empty() && !revision.contains('@')
            }),
            _ => false,
        };
        if !whole {
            self.error(field, format!("\"{reference}\" is not a model: write hf://org/name@revision, or file:// and a directory"));
        }
        reference.to_owned()
    }

    pub(super) fn chunking(&mut self, spec: &ChunkingSpec) -> Chunking {
        let field = "spec.index.chunking";
        let max_tokens = self.count(
            &format!("{field}.maxTokens"),
            spec.max_tokens,
            32..=8192,
            256,
        );
        let overlap_field = format!("{field}.overlapTokens");
        let default = 32.min(max_tokens / 2);
        let overlap_tokens = self.count(&overlap_field, spec.overlap_tokens, 0..=4096, default);
        if overlap_tokens * 2 > max_tokens {
            self.error(
                overlap_field,
                format!("{overlap_tokens} is more than half of maxTokens ({max_tokens})"),
            );
        }
        Chunking {
            max_tokens,
            overlap_tokens,
        }
    }

    pub(super) fn schedule(&mut self, spec: &RefreshSpec, identity: &str) -> Option<Schedule> {
        let field = |leaf: &str| format!("spec.index.refresh.{leaf}");
        let jitter = self.duration(&field("jitter"), spec.jitter.as_ref(), Duration::ZERO);
        let deadline =
            self.optional_duration(&field("startingDeadline"), spec.starting_deadline.as_ref());
        let interval = self.optional_duration(&field("interval"), spec.interval.as_ref());
        if interval.is_some_and(|i| i < Duration::from_secs(1)) {
            self.error(field("interval"), "an interval is at least 1s");
        }
        let Some(cron) = &spec.cron else {
            if spec.time_zone.is_some() || deadline.is_some() {
                self.error(
                    "spec.index.refresh",
                    "timeZone and startingDeadline belong to cron: give cron, or remove them",
                );
            }
            return Some(
                Schedule::every(interval.unwrap_or(DEFAULT_INTERVAL)).jittered(jitter, identity),
            );
        };
        if interval.is_some() {
            self.error("spec.index.refresh", "give interval or cron, not both");
        }
        let calendar = self.calendar("spec.index.refresh", cron, spec.time_zone.as_deref())?;
        Some(Schedule::by(calendar, deadline).jittered(jitter, identity))
    }

    /// `cron` and `timeZone` of a field.
    pub(super) fn calendar(
        &mut self,
        field: &str,
        cron: &str,
        zone: Option<&str>,
    ) -> Option<Calendar> {
        let zone = Calendar::zone(zone.unwrap_or("UTC"));
        let zone = self.take(format!("{field}.timeZone"), zone)?;
        self.take(format!("{field}.cron"), Calendar::new(cron, zone))
    }

    /// Fields of capabilities that are not built yet.
    pub(super) fn refuse_unbuilt(&mut self, spec: &MemoryPipelineSpec) {
        let unbuilt = [
            (
                "spec.rollout.adapters",
                spec.rollout.adapters.is_some(),
                "canaries are not built yet: remove the field; an adapter that passes its gates is switched to at once",
            ),
            (
                "spec.rollout.index.canary",
                spec.rollout.index.canary.is_some(),
                "canaries are not built yet: remove the field; a candidate that passes its gates is switched to at once",
            ),
        ];
        for (field, given, reason) in unbuilt {
            if given {
                self.error(field, reason);
            }
        }
    }
}
