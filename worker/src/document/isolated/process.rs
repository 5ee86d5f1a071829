use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::outcome::{Ended, Failure, mebibytes};
use crate::document::{DocumentError, Format, Parsed};

/// The subcommand of `loci` that parses.
const COMMAND: &str = "parse-document";
/// The most of what a parser complains of that is kept.
const COMPLAINT: u64 = 4096;
/// Where a dynamically linked program finds its libraries: all that a parser sees of the environment.
const LIBRARIES: &str = "LD_LIBRARY_PATH";

/// What one document may cost.
#[derive(Clone, Copy, Debug)]
pub struct ParserLimits {
    /// Bytes of the document.
    pub input: u64,
    /// Bytes of what is read of it, as JSON.
    pub output: u64,
    /// Bytes of address space.
    pub memory: u64,
    /// Processor time, in whole seconds.
    pub cpu: Duration,
    /// From the start of the process to its end.
    pub deadline: Duration,
    /// How many are parsed side by side.
    pub side_by_side: usize,
}

impl Default for ParserLimits {
    /// 64 MiB in and out, 1 GiB of memory, a minute of processor time within five; four side by side, fewer on fewer cores.
    fn default() -> Self {
        Self {
            input: 64 << 20,
            output: 64 << 20,
            memory: 1 << 30,
            cpu: Duration::from_secs(60),
            deadline: Duration::from_secs(300),
            side_by_side: available_parallelism().map_or(1, |cores| cores.get().min(4)),
        }
    }
}

/// No document can be parsed: nothing that has to do with the document.
#[derive(Debug, thiserror::Error)]
pub enum ParserError {
    /// The process does not start.
    #[error("cannot start {} for a document's parser: {error}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// The process does not do what it is for.
    #[error("{} does not parse documents: {reason}", program.display())]
    Process {
        /// The program.
        program: PathBuf,
        /// What it did.
        reason: String,
    },
}

/// Parses documents of a [`Format`], each in a process of its own. Clones share what runs side by side.
#[derive(Clone, Debug)]
pub struct Parsers {
    program: PathBuf,
    limits: ParserLimits,
    free: Arc<Semaphore>,
}

impl Parsers {
    /// By this program, which is `loci`.
    ///
    /// # Errors
    /// When the system does not say which program this is.
    pub fn own() -> io::Result<Self> {
        // The link leads to the program that runs, also after an upgrade has replaced its file.
        let program = match cfg!(target_os = "linux") {
            true => PathBuf::from("/proc/self/exe"),
            false => std::env::current_exe()?,
        };
        Ok(Self::of(program, ParserLimits::default()))
    }

    /// By another `loci`, with other limits.
    pub fn of(program: PathBuf, limits: ParserLimits) -> Self {
        Self {
            program,
            limits,
            free: Arc::new(Semaphore::new(limits.side_by_side.max(1))),
        }
    }

    /// How many documents are parsed side by side.
    pub fn side_by_side(&self) -> usize {
        self.limits.side_by_side.max(1)
    }

    /// Parses a document that is called `document`; the inner error is the document's. Dropped, it kills the process.
    ///
    /// # Errors
    /// When nothing can be parsed here.
    pub async fn parse(
        &self,
        format: Format,
        bytes: Bytes,
        document: &str,
    ) -> Result<Result<Parsed, DocumentError>, ParserError> {
        let unreadable = |reason| DocumentError::Unreadable {
            document: document.to_owned(),
            format,
            reason,
        };
        if bytes.len() as u64 > self.limits.input {
            let most = mebibytes(self.limits.input);
            return Ok(Err(unreadable(format!(
                "it is larger than {most}; split or exclude it"
            ))));
        }
        let garbled = |reason| self.wrong(format!("its answer does not read: {reason}"));
        match self.run(format, bytes).await? {
            Ok(reading) => reading
                .into_parsed(document, format)
                .map(Ok)
                .map_err(garbled),
            Err(Failure::Document(reason)) => Ok(Err(unreadable(reason))),
            Err(Failure::Stopped(reason)) => Ok(Err(DocumentError::Stopped {
                document: document.to_owned(),
                format,
                reason,
            })),
            Err(Failure::Process(reason)) => Err(self.wrong(reason)),
        }
    }

    async fn run(
        &self,
        format: Format,
        bytes: Bytes,
    ) -> Result<Result<super::read::Reading, Failure>, ParserError> {
        // It is never closed.
        let _slot = self.free.acquire().await.ok();
        let child = self.start(format).map_err(|error| ParserError::Start {
            program: self.program.clone(),
            error,
        })?;
        let ended = self.hear(child, &bytes);
        match tokio::time::timeout(self.limits.deadline, ended).await {
            Ok(Ok(ended)) => Ok(ended.outcome(&self.limits)),
            Ok(Err(error)) => Err(self.wrong(error.to_string())),
            Err(_) => {
                let deadline = self.limits.deadline;
                Ok(Err(Failure::Stopped(format!(
                    "took longer than {deadline:?} and was ended; what was read before is kept, and the next refresh reads it again: split or exclude it if that does not help"
                ))))
            }
        }
    }

    fn start(&self, format: Format) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command
            .arg0("loci")
            .args([COMMAND, "--format", format.as_str()])
            .args(["--memory", &self.limits.memory.to_string()])
            .args(["--cpu", &self.limits.cpu.as_secs().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if let Some(libraries) = std::env::var_os(LIBRARIES) {
            command.env(LIBRARIES, libraries);
        }
        command.spawn()
    }

    /// Gives the child the document and hears what it says, until it ends.
    async fn hear(&self, mut child: Child, bytes: &[u8]) -> io::Result<Ended> {
        let (Some(mut stdin), Some(stdout), Some(mut stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::Error::other("it has no pipes"));
        };
        let feed = async move {
            // A child that ends early breaks the pipe; how it ended says more.
            let _ = stdin.write_all(bytes).await;
            drop(stdin);
        };
        let complain = async move {
            let complaint = beginning(&mut stderr, COMPLAINT).await?;
            tokio::io::copy(&mut stderr, &mut tokio::io::sink()).await?;
            io::Result::Ok(complaint)
        };
        let most = self.limits.output;
        // Beyond the limit the pipe is dropped, and the child cannot write on.
        let say = async move { beginning(stdout, most.saturating_add(1)).await };
        let ((), said, complaint) = tokio::join!(feed, say, complain);
        let said = said?;
        Ok(Ended {
            status: child.wait().await?,
            said: (said.len() as u64 <= most).then_some(said),
            complaint: String::from_utf8_lossy(&complaint?).into_owned(),
        })
    }

    fn wrong(&self, reason: String) -> ParserError {
        ParserError::Process {
            program: self.program.clone(),
            reason,
        }
    }
}

async fn beginning(from: impl AsyncRead + Unpin, most: u64) -> io::Result<Vec<u8>> {
    let mut read = Vec::new();
    from.take(most).read_to_end(&mut read).await?;
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_that_is_not_there_or_another_one_is_no_documents_fault() {
        for program in ["/no/such/program", "/bin/sh"] {
            let parsers = Parsers::of(program.into(), ParserLimits::default());
            let failed = parsers.parse(Format::Pdf, Bytes::from_static(b"%PDF-"), "a.pdf");
            let error = failed.await.unwrap_err().to_string();
            assert!(error.contains(program), "{error}");
        }
    }

    #[tokio::test]
    async fn a_document_that_is_too_large_starts_nothing() {
        let limits = ParserLimits {
            input: 3,
            ..ParserLimits::default()
        };
        let parsers = Parsers::of("/no/such/program".into(), limits);
        let parsed = parsers.parse(Format::Docx, Bytes::from_static(b"PK12"), "a.docx");
        let error = parsed.await.unwrap().unwrap_err();
        assert!(!error.is_passing());
        assert_eq!(
            error.to_string(),
            "a.docx: not readable as DOCX: it is larger than 3 bytes; split or exclude it"
        );
    }
}
