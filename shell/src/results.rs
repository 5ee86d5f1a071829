//! What steps came to, for the plan and for people.

use anyhow::{Context, Result};
use loci_plan::{Assembled, Collected, Embedded, Snapshot, SourceSnapshot, Trained};
use loci_worker::step;

/// A number with thousands separated: `12,345`.
pub fn count(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

pub(crate) fn snapshot(output: step::SnapshotOutput) -> Snapshot {
    let documents: u64 = output.sources.values().map(|s| s.documents).sum();
    let skipped: u64 = output.sources.values().map(|s| s.skipped).sum();
    let mut summary = format!("{} files", count(documents));
    if let Some(first) = output
        .sources
        .values()
        .find_map(|s| s.first_skipped.as_deref())
    {
        summary.push_str(&format!("; {skipped} left out, first: {first}"));
    }
    for error in output.sources.values().filter_map(|s| s.error.as_deref()) {
        summary.push_str(&format!("; kept as it was: {error}"));
    }
    let sources = output.sources.into_iter().map(|(name, s)| {
        let source = SourceSnapshot {
            documents: s.documents,
            before: s.before,
            removed: s.removed,
            skipped: s.skipped,
            error: s.error,
        };
        (name, source)
    });
    Snapshot {
        output: output.snapshot,
        sources: sources.collect(),
        summary,
    }
}

pub(crate) fn embedded(output: step::EmbedOutput) -> Result<Embedded> {
    let mut summary = format!(
        "{} documents changed, {} removed; {} of {} passages embedded ({} tokens)",
        count(output.changed),
        count(output.removed),
        count(output.embedded),
        count(output.passages),
        count(output.tokens)
    );
    if let Some(first) = &output.first_problem {
        summary.push_str(&format!("; {} problems, first: {first}", output.problems));
    }
    Ok(Embedded {
        output: output.delta.context("Embed gave no delta")?,
        summary,
    })
}

pub(crate) fn assembled(output: step::AssembleOutput) -> Assembled {
    let summary = format!(
        "{} documents, {} passages, {} new bytes",
        count(output.documents),
        count(output.passages),
        count(output.new_bytes)
    );
    Assembled {
        revision: output.revision,
        content_id: output.content_id,
        embedder: output.embedder,
        cross_encoder: output.cross_encoder,
        documents: output.documents,
        passages: output.passages,
        summary,
    }
}

pub(crate) fn collected(output: step::CollectOutput) -> Collected {
    let shown = output.context.as_ref().map(|shown| {
        let (passages, questions) = (count(shown.passages), count(shown.questions));
        let revision = shown.revision;
        format!("; {passages} passages before {questions} questions, of {revision}")
    });
    Collected {
        output: output.dataset,
        content: output.content,
        total: output.report.total.train,
        new: output.new,
        not_enough: output.not_enough,
        summary: format!(
            "{}; {} new, {} gone since the last training{}",
            output.report,
            count(output.new),
            count(output.gone),
            shown.unwrap_or_default()
        ),
    }
}

pub(crate) fn trained(output: step::TrainOutput) -> Trained {
    Trained {
        output: output.adapter,
        adapter: output.content,
        base_digest: output.base_weights,
        rank: u32::try_from(output.rank).unwrap_or(u32::MAX),
        device_seconds: output.device_seconds.ceil() as u64,
        summary: output.trained.to_string(),
    }
}
