//! All that `loci up` keeps: one directory, owned by one process, readable by the other commands.
//!
//! ```text
//! FORMAT                                    the layout's version
//! lock                                      held by the running `loci up`
//! server.json                               where it listens
//! store/                                    artefacts by digest
//! models/  git/  scratch/                   caches; may be deleted while nothing runs
//! revisions/<digest>/                       revisions unpacked for serving
//! pipelines/<namespace>/<name>/pipeline.json, runs/, releases/, looks.json, intents/
//! ```

pub mod documents;
pub mod intents;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

pub use documents::{Collection, read_json, write_json};

const FORMAT: &str = "loci state 1\n";

/// The state directory's layout.
#[derive(Clone, Debug)]
pub struct State {
    root: PathBuf,
}

/// Holds the directory for this process until dropped.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "closing the file releases the lock")] File);

/// Where the running `loci up` listens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Server {
    /// `http://127.0.0.1:7700`
    pub url: String,
    /// The process.
    pub pid: u32,
}

impl State {
    /// Makes the directory when it is not there and checks that it is ours.
    pub fn create(root: &Path) -> Result<Self> {
        let marker = root.join("FORMAT");
        if root.is_dir() && !marker.exists() && !documents::unused(root)? {
            bail!(
                "{} is not empty and is not a state directory of loci: give another --state",
                root.display()
            );
        }
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        if !marker.exists() {
            documents::write_bytes(&marker, FORMAT.as_bytes())?;
        }
        Self::open(root)
    }

    /// Opens a directory that `loci up` made.
    pub fn open(root: &Path) -> Result<Self> {
        let marker = root.join("FORMAT");
        let found = fs::read_to_string(&marker).with_context(|| {
            format!(
                "{} is not a state directory of loci: give --state the directory of `loci up`",
                root.display()
            )
        })?;
        if found != FORMAT {
            bail!(
                "{} says \"{}\", and this loci reads \"{}\": use the loci that made it, or a new --state",
                marker.display(),
                found.trim(),
                FORMAT.trim()
            );
        }
        let root = fs::canonicalize(root)?;
        Ok(Self { root })
    }

    /// Takes the directory for this process.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .read(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => bail!(
                "{} is in use by another `loci up`{}: stop it, or give another --state",
                self.root.display(),
                self.server()
                    .map(|s| format!(" (process {}, {})", s.pid, s.url))
                    .unwrap_or_default()
            ),
            Err(TryLockError::Error(e)) => {
                return Err(e).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        Ok(Lock(file))
    }

    /// Where the running `loci up` listens, if one said so.
    pub fn server(&self) -> Option<Server> {
        read_json(&self.root.join("server.json")).ok().flatten()
    }

    /// Says where this process listens.
    pub fn announce(&self, url: &str) -> Result<()> {
        let server = Server {
            url: url.to_owned(),
            pid: std::process::id(),
        };
        write_json(&self.root.join("server.json"), &server)
    }

    /// Takes the announcement back.
    pub fn retract(&self) {
        let _ = fs::remove_file(self.root.join("server.json"));
    }

    /// A directory of the layout, made when it is not there.
    pub fn directory(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(path)
    }

    /// The directory of one pipeline.
    pub fn pipeline(&self, namespace: &str, name: &str) -> PipelineState {
        PipelineState {
            root: self.root.join("pipelines").join(namespace).join(name),
        }
    }

    /// Deletes what is kept of a pipeline, by `namespace/name`.
    pub fn forget(&self, pipeline: &str) -> Result<()> {
        let path = self.root.join("pipelines").join(pipeline);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot delete {}", path.display()))
            }
            _ => Ok(()),
        }
    }

    /// All pipelines: (namespace, name).
    pub fn pipelines(&self) -> Result<Vec<(String, String)>> {
        let mut found = Vec::new();
        for namespace in documents::entries(&self.root.join("pipelines"))? {
            for name in documents::entries(&self.root.join("pipelines").join(&namespace))? {
                found.push((namespace.clone(), name));
            }
        }
        found.sort();
        Ok(found)
    }
}

/// What is kept of one pipeline.
#[derive(Clone, Debug)]
pub struct PipelineState {
    root: PathBuf,
}

impl PipelineState {
    /// The pipeline resource with its status.
    pub fn resource(&self) -> PathBuf {
        self.root.join("pipeline.json")
    }

    /// What the last looks at the sources found.
    pub fn looks(&self) -> PathBuf {
        self.root.join("looks.json")
    }

    /// What people asked for.
    pub fn intents(&self) -> PathBuf {
        self.root.join("intents.json")
    }

    /// The runs.
    pub fn runs(&self) -> Collection<loci_crds::MemoryRun> {
        Collection::new(self.root.join("runs"))
    }

    /// The releases.
    pub fn releases(&self) -> Collection<loci_crds::MemoryRelease> {
        Collection::new(self.root.join("releases"))
    }
}
