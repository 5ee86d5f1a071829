use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use super::walk::Stat;
use super::{Limits, SourceError};

/// What a file holds.
pub(super) enum Content {
    Whole(Vec<u8>, Stat),
    TooLarge(Stat),
}

/// Reads a file, unless it is larger than a document may be. Links were resolved before; one that has
/// taken the file's place since is refused.
pub(super) fn read(path: &Path, limits: &Limits) -> io::Result<Content> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags as i32)
        .open(path)?;
    let metadata = file.metadata()?;
    let stat = Stat::of(&metadata);
    if !metadata.is_file() {
        return Err(io::Error::other("no longer a regular file"));
    }
    if limits.refuse_size(stat.bytes).is_some() {
        return Ok(Content::TooLarge(stat));
    }
    let mut content = Vec::with_capacity(stat.bytes as usize);
    file.take(limits.max_document_bytes + 1)
        .read_to_end(&mut content)?;
    match limits.refuse_size(content.len() as u64) {
        Some(_) => Ok(Content::TooLarge(stat)),
        None => Ok(Content::Whole(content, stat)),
    }
}

/// Runs what blocks away from the tasks that must not wait.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| SourceError::Interrupted(error.to_string()))
}
