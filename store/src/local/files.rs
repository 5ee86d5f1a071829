//! What a local directory offers beyond `object_store`: marks of use, read-only files, hard links.
//!
//! All functions block: call them on a blocking thread.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use loci_digest::{Digest, Hasher};

const READ_ONLY: u32 = 0o444;

/// Marks the object as used now, so that garbage collection spares it, and makes it read-only.
/// Returns its size; none when there is no such object.
pub(super) fn touch(path: &Path) -> io::Result<Option<u64>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let metadata = file.metadata()?;
    if metadata.permissions().mode() & 0o777 != READ_ONLY {
        file.set_permissions(Permissions::from_mode(READ_ONLY))?;
    }
    file.set_modified(SystemTime::now())?;
    Ok(Some(metadata.len()))
}

/// The digest of a file's bytes.
pub(crate) fn digest(path: &Path) -> io::Result<Digest> {
    Digest::of_reader(File::open(path)?).map(|(digest, _)| digest)
}

/// Puts a read-only file with the content of `from` at `to`, atomically: a hard link, or where the
/// file system cannot link the two, a copy.
pub(crate) fn place(from: &Path, to: &Path, expected: &Digest) -> io::Result<()> {
    let source = fs::metadata(from)?;
    if fs::symlink_metadata(to)
        .is_ok_and(|there| there.ino() == source.ino() && there.dev() == source.dev())
    {
        return Ok(());
    }
    let dir = parent(to);
    fs::create_dir_all(dir)?;
    fs::set_permissions(from, Permissions::from_mode(READ_ONLY))?;
    match hidden().make_in(dir, |path| fs::hard_link(from, path)) {
        Ok(link) => {
            let path = link.path().to_owned();
            link.into_temp_path().persist(to).map_err(|e| e.error)?;
            // Renaming does nothing when someone else linked the same file there just now.
            _ = fs::remove_file(path);
            Ok(())
        }
        Err(e) if cannot_link(&e) => copy(from, to, expected),
        Err(e) => Err(e),
    }
}

fn cannot_link(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, PermissionDenied, TooManyLinks, Unsupported};
    matches!(
        error.kind(),
        CrossesDevices | TooManyLinks | Unsupported | PermissionDenied
    )
}

/// Copies in pieces, and publishes the copy only when it has the digest `expected`.
fn copy(from: &Path, to: &Path, expected: &Digest) -> io::Result<()> {
    let mut source = File::open(from)?;
    let mut target = hidden().tempfile_in(parent(to))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = source.read(&mut buffer)?;
        if n == 0 {
            break;
        }
        hasher.update(&buffer[..n]);
        target.write_all(&buffer[..n])?;
    }
    if hasher.finish() != *expected {
        return Err(io::Error::other(
            "the file in the store changed while it was copied",
        ));
    }
    target
        .as_file()
        .set_permissions(Permissions::from_mode(READ_ONLY))?;
    target.as_file().sync_all()?;
    target.persist(to).map(|_| ()).map_err(|e| e.error)
}

fn hidden() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".loci-").suffix(".partial");
    builder
}

fn parent(path: &Path) -> &Path {
    path.parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

/// Makes `dir` and its parents, and makes that last.
pub(super) fn create_dir(dir: &Path) -> io::Result<()> {
    let known = dir.ancestors().find(|a| a.exists()).map(Path::to_owned);
    fs::create_dir_all(dir)?;
    for made in dir.ancestors().filter(|a| !a.as_os_str().is_empty()) {
        File::open(made)?.sync_all()?;
        if known.as_deref() == Some(made) {
            break;
        }
    }
    Ok(())
}

/// Deletes what interrupted uploads left under `dir`: `object_store` writes `<object>#<number>` and
/// renames it, and never lists such files. Only those that nobody wrote to for `idle` go.
pub(super) fn sweep_uploads(dir: &Path, idle: Duration) -> io::Result<u64> {
    let mut swept = 0;
    for path in entries(dir)? {
        if path.is_dir() {
            swept += sweep_uploads(&path, idle)?;
        } else if is_upload(&path) && age(&path).is_some_and(|age| age >= idle) {
            match fs::remove_file(&path) {
                Ok(()) => swept += 1,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(swept)
}

fn entries(dir: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(dir) {
        Ok(entries) => entries.map(|entry| entry.map(|e| e.path())).collect(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(e),
    }
}

/// Whether this is the file of an unfinished upload.
pub(super) fn is_upload(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy());
    let number = name
        .as_deref()
        .and_then(|name| name.rsplit_once('#'))
        .map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn age(path: &Path) -> Option<Duration> {
    let modified = fs::metadata(path).and_then(|m| m.modified()).ok()?;
    Some(
        SystemTime::now()
            .duration_since(modified)
            .unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_read_only_and_is_published_only_with_the_right_content() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from, "content").unwrap();
        assert!(copy(&from, &to, &Digest::of("other")).is_err());
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            1,
            "no half file may stay"
        );
        copy(&from, &to, &Digest::of("content")).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"content");
        assert_eq!(fs::metadata(&to).unwrap().mode() & 0o777, READ_ONLY);
    }

    #[test]
    fn placing_again_replaces_what_is_there_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("sub/to"));
        fs::write(&from, "content").unwrap();
        let digest = Digest::of("content");
        place(&from, &to, &digest).unwrap();
        place(&from, &to, &digest).unwrap();
        fs::remove_file(&to).unwrap();
        fs::write(&to, "edited").unwrap();
        place(&from, &to, &digest).unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"content");
        assert_eq!(fs::read_dir(dir.path().join("sub")).unwrap().count(), 1);
    }
}
