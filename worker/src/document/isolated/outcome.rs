use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use super::read::Reading;
use super::{Answer, ParserLimits};

/// Signals that come of the bounds and of crashes, by their numbers on all systems that matter.
const SIGABRT: i32 = 6;
const SIGXCPU: i32 = 24;
/// Those that somebody sends: an operator, or the kernel that is short of memory.
const SENT: [i32; 5] = [1, 2, 9, 14, 15];

/// How a process that parses ended.
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// Its standard output; `None` when that was more than allowed.
    pub(super) said: Option<Vec<u8>>,
    /// The beginning of its standard error.
    pub(super) complaint: String,
}

/// Why there is no reading.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// The document's fault, as far as one can tell: the same bytes fail again.
    Document(String),
    /// Something that happened to the process.
    Stopped(String),
    /// Nothing that has to do with the document.
    Process(String),
}

impl Ended {
    /// What came of it.
    pub(super) fn outcome(self, limits: &ParserLimits) -> Result<Reading, Failure> {
        let Some(said) = &self.said else {
            let most = mebibytes(limits.output);
            return Err(Failure::Document(format!(
                "it holds more than {most} of text; split or exclude it"
            )));
        };
        if let Some(signal) = self.status.signal() {
            return Err(self.killed(signal, limits));
        }
        if !self.status.success() {
            let complaint = self.complaint.trim();
            return Err(Failure::Process(format!("{}: {complaint}", self.status)));
        }
        let line = said
            .trim_ascii_end()
            .rsplit(|&byte| byte == b'\n')
            .next()
            .unwrap_or_default();
        match serde_json::from_slice(line) {
            Ok(Answer::Read(reading)) => Ok(reading),
            Ok(Answer::Refused(reason)) => Err(Failure::Document(reason)),
            Err(error) => Err(Failure::Process(format!(
                "its answer does not read: {error}"
            ))),
        }
    }

    fn killed(&self, signal: i32, limits: &ParserLimits) -> Failure {
        let aborted = |words: &str| signal == SIGABRT && self.complaint.contains(words);
        let reason = if signal == SIGXCPU {
            let most = limits.cpu.as_secs();
            format!("it takes more than {most} s of processor time; split or exclude it")
        } else if aborted("memory allocation of") {
            let most = mebibytes(limits.memory);
            format!("it takes more than {most} of memory; split or exclude it")
        } else if aborted("overflowed its stack") {
            "it nests too deeply; save it anew with another program, or exclude it".to_owned()
        } else if SENT.contains(&signal) {
            return Failure::Stopped(format!(
                "was ended by signal {signal}, as by a system short of memory; what was read before is kept, and the next refresh reads it again"
            ));
        } else {
            super::child::crashed(&format!("signal {signal}"))
        };
        Failure::Document(reason)
    }
}

pub(super) fn mebibytes(bytes: u64) -> String {
    match bytes >> 20 {
        0 => format!("{bytes} bytes"),
        mebibytes => format!("{mebibytes} MiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `waitpid` says it: an exit code in the second byte, a signal in the first.
    fn ended(status: i32, said: Option<&str>, complaint: &str) -> Result<Reading, Failure> {
        let ended = Ended {
            status: ExitStatus::from_raw(status),
            said: said.map(|said| said.as_bytes().to_vec()),
            complaint: complaint.to_owned(),
        };
        ended.outcome(&ParserLimits::default())
    }

    fn document(failed: Result<Reading, Failure>) -> String {
        match failed {
            Err(Failure::Document(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_last_line_is_the_answer() {
        let read = r#"{"read": {"parts": [], "problems": ["p"]}}"#;
        let reading = ended(0, Some(&format!("noise of a library\n{read}\n")), "");
        assert_eq!(reading.unwrap().problems, ["p"]);
        let refused = ended(0, Some("\n{\"refused\": \"is encrypted; …\"}\n"), "");
        assert_eq!(document(refused), "is encrypted; …");
    }

    #[test]
    fn each_end_has_its_reason() {
        assert!(document(ended(0, None, "")).contains("more than 64 MiB of text"));
        assert!(document(ended(24, Some(""), "")).contains("60 s of processor time"));
        let memory = "memory allocation of 4294967296 bytes failed";
        assert!(document(ended(6, Some(""), memory)).contains("1024 MiB of memory"));
        let stack = "thread 'main' has overflowed its stack\nfatal runtime error: stack overflow";
        assert!(document(ended(6, Some(""), stack)).contains("nests too deeply"));
        assert!(document(ended(11, Some(""), "")).contains("signal 11"));
        assert!(matches!(ended(9, Some(""), ""), Err(Failure::Stopped(_))));
    }

    #[test]
    fn what_is_not_the_documents_fault_is_told_apart() {
        let Err(Failure::Process(reason)) = ended(1 << 8, Some(""), "cannot set limits\n") else {
            panic!("not the process")
        };
        assert!(reason.contains("cannot set limits"), "{reason}");
        for garbled in ["", "{\"read\"", "usage: other program"] {
            let failed = ended(0, Some(garbled), "");
            assert!(matches!(failed, Err(Failure::Process(_))), "{garbled}");
        }
    }
}
