use std::alloc::{Layout, handle_alloc_error};
use std::any::Any;
use std::io::{self, BufWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::thread;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, nice, setrlimit};

use super::{Answer, parse};
use crate::document::Format;

/// Below what answers queries.
const NICENESS: i32 = 10;
/// Bytes of stack to parse in, whatever the system gives a process: the same documents nest too deeply everywhere.
const STACK: usize = 32 << 20;

/// What a process that parses may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of address space, the program itself included.
    pub memory: u64,
    /// Processor time, in whole seconds.
    pub cpu: Duration,
}

/// Bounds this process, parses what stands on standard input, and writes the answer to standard output: a line of JSON.
///
/// For a process that does nothing else: the bounds stay, and nothing can be opened any more.
///
/// # Errors
/// When the process cannot be bounded, or standard input or output fails.
pub fn answer(format: Format, bounds: &Bounds) -> io::Result<()> {
    confine(bounds)?;
    let mut bytes = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut bytes);
    read.inspect_err(exhausted)?;
    // What a panic says goes into the answer.
    set_hook(Box::new(|_| {}));
    let parsing = thread::Builder::new().stack_size(STACK).spawn(move || {
        lower(Resource::Nproc, 0, 0)?;
        let parsed = contained(|| parse(format, &bytes));
        Ok(parsed.unwrap_or_else(|reason| Answer::Refused(crashed(&reason))))
    })?;
    let answer = parsing.join();
    let answer = answer.unwrap_or_else(|panic| Err(io::Error::other(said(panic.as_ref()))))?;
    let mut out = BufWriter::new(io::stdout().lock());
    // A library may have written something of its own.
    out.write_all(b"\n")?;
    serde_json::to_writer(&mut out, &answer)?;
    out.write_all(b"\n")?;
    out.flush()
}

/// Ends the process as any other lack of memory does, if that is what went wrong.
pub(super) fn exhausted(error: &io::Error) {
    if error.kind() == io::ErrorKind::OutOfMemory {
        handle_alloc_error(Layout::new::<u8>());
    }
}

/// Runs `work`; `Err` is what a panic in it said.
pub(super) fn contained<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| said(panic.as_ref()))
}

/// The reason for a document that a parser crashed on.
pub(super) fn crashed(reason: &str) -> String {
    format!("its parser fails ({reason}); save it anew with another program, or exclude it")
}

/// The most characters of what a panic says: it may repeat the document.
const SAID: usize = 200;

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    match text.map(|text| text.chars().map(shown).take(SAID).collect::<String>()) {
        Some(text) if !text.trim().is_empty() => text,
        _ => "without a word".to_owned(),
    }
}

/// No more memory and time than this, no file.
fn confine(bounds: &Bounds) -> io::Result<()> {
    let cpu = bounds.cpu.as_secs().max(1);
    lower(Resource::As, bounds.memory, bounds.memory)?;
    // At the lower limit comes SIGXCPU, which says why.
    lower(Resource::Cpu, cpu, cpu + 1)?;
    for nothing in [Resource::Core, Resource::Fsize, Resource::Nofile] {
        lower(nothing, 0, 0)?;
    }
    // Without it the parser is only less polite.
    let _ = nice(NICENESS);
    Ok(())
}

fn lower(resource: Resource, current: u64, maximum: u64) -> io::Result<()> {
    let most = getrlimit(resource).maximum.unwrap_or(u64::MAX);
    let limit = Rlimit {
        current: Some(current.min(most)),
        maximum: Some(maximum.min(most)),
    };
    setrlimit(resource, limit)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_answer() {
        assert_eq!(contained(|| 1), Ok(1));
        let text = contained(|| -> u8 { std::panic::panic_any("no\nfont".to_owned()) });
        assert_eq!(text, Err("no font".to_owned()));
        let other = contained(|| -> u8 { std::panic::panic_any(7_u8) });
        assert_eq!(other, Err("without a word".to_owned()));
        assert!(crashed("no font").contains("exclude it"));
    }
}
