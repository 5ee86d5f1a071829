//! Reads what is put as it will be read when it is indexed.

use bytes::Bytes;
use loci_crds::source::MemoryClass;
use loci_digest::Digest;
use loci_push::{Change, Document};
use loci_recall::{DocumentChange, DocumentsError, Refusal};
use loci_worker::document::{Format, Media, ParseContext, Parsed, Parsers, parse};

/// A change that can be written, with the content of what is put.
pub(super) type Checked = (Change, Option<Bytes>);

/// What cannot be read is refused now.
pub(super) async fn check(
    parsers: &Parsers,
    memory: MemoryClass,
    change: DocumentChange,
) -> Result<Result<Checked, Refusal>, DocumentsError> {
    let DocumentChange { id, put, condition } = change;
    let Some(new) = put else {
        let to = None;
        return Ok(Ok((Change { id, to, condition }, None)));
    };
    let said = new.media_type.as_deref().unwrap_or_default();
    let Some(media) = Media::of_content_type(said, &id) else {
        return Ok(Err(Refusal::MediaType(unknown(said))));
    };
    let read = match Format::of(media, &new.content) {
        Some(format) if memory != MemoryClass::Procedural => {
            let parsed = parsers.parse(format, new.content.clone(), &id).await;
            let parsed = parsed.map_err(|e| unread(&e))?;
            parsed
                .map_err(|e| e.to_string())
                .and_then(|p| some_text(&id, &p))
        }
        _ => {
            let (content, id) = (new.content.clone(), id.clone());
            let work = move || readable(memory, media, &id, &content);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|e| unread(&e))?
        }
    };
    if let Err(reason) = read {
        return Ok(Err(Refusal::Unreadable(reason)));
    }
    let document = Document {
        content: Digest::of(&new.content),
        bytes: new.content.len() as u64,
        media_type: essence(media).to_owned(),
        uri: new.uri,
        metadata: new.metadata,
    };
    let to = Some(document);
    Ok(Ok((Change { id, to, condition }, Some(new.content))))
}

fn unknown(said: &str) -> String {
    let said = match said {
        "" => "without a Content-Type and with no extension that says it".to_owned(),
        said => format!("as {said}"),
    };
    format!(
        "the document comes {said}: send text/markdown, text/html, text/plain, application/x-ndjson or application/pdf, or a .docx, .pptx or .xlsx by its type"
    )
}

fn unread(error: &impl std::fmt::Display) -> DocumentsError {
    DocumentsError::Unavailable(format!("the document could not be read: {error}"))
}

/// The media type of what is read as `media`.
fn essence(media: Media) -> &'static str {
    match media {
        Media::Markdown => "text/markdown",
        Media::Html => "text/html",
        Media::Text => "text/plain",
        Media::Jsonl => "application/x-ndjson",
        Media::Pdf => "application/pdf",
        Media::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        Media::Pptx => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        Media::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    }
}

pub(super) fn readable(
    memory: MemoryClass,
    media: Media,
    id: &str,
    content: &[u8],
) -> Result<(), String> {
    if memory == MemoryClass::Procedural {
        // Examples have forms of their own, and a training's report says what it left out.
        let text = std::str::from_utf8(content);
        return text.map(|_| ()).map_err(|e| {
            let at = e.valid_up_to();
            format!("{id}: not valid UTF-8 at byte {at}; convert it to UTF-8")
        });
    }
    let parsed = parse(media, content, &ParseContext { document: id });
    whole(id, parsed.map_err(|e| e.to_string())?)
}

fn whole(id: &str, parsed: Parsed) -> Result<(), String> {
    if let Some(problem) = parsed.problems.first() {
        return Err(problem.to_string());
    }
    some_text(id, &parsed)
}

/// Of a file with pages or sheets, some may be pictures.
fn some_text(id: &str, parsed: &Parsed) -> Result<(), String> {
    match parsed.documents.iter().all(|d| d.blocks.is_empty()) {
        true => Err(format!("{id}: it has no text: delete it instead")),
        false => Ok(()),
    }
}
