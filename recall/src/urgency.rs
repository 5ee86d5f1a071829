//! Who waits for a processor, and for how long.
//!
//! On a machine whose processors are all taken, a thread that wakes waits until another's slice ends: milliseconds, a few
//! times in each query. Linux lets one that asks for shorter slices go first, at no greater share (EEVDF, since 6.12;
//! `sched_attr::sched_runtime` in sched(7)). Other systems and older kernels do as they always did.

/// The slice of threads that answer: as short as Linux grants.
#[cfg(target_os = "linux")]
const SLICE: std::time::Duration = std::time::Duration::from_micros(100);

/// This thread answers queries, and so do those that it starts.
pub fn answers_queries() {
    #[cfg(target_os = "linux")]
    if let Err(error) = take_turns(SLICE) {
        tracing::debug!(%error, "queries wait for processors as everything else does");
    }
}

/// This thread computes when no query does, by a priority that only falls: on Linux it is the calling thread's alone,
/// elsewhere the whole process would have it.
pub(crate) fn after_queries() {
    #[cfg(target_os = "linux")]
    {
        let comes_after = take_turns(std::time::Duration::ZERO)
            .and_then(|()| Ok(rustix::process::setpriority_process(None, 10)?));
        if let Err(error) = comes_after {
            tracing::debug!(%error, "loading is as urgent as queries");
        }
    }
}

/// Sets this thread's slice; zero is the system's own.
#[cfg(target_os = "linux")]
fn take_turns(slice: std::time::Duration) -> std::io::Result<()> {
    let nice = rustix::process::getpriority_process(None)?;
    let attributes = libc::sched_attr {
        size: u32::try_from(size_of::<libc::sched_attr>()).unwrap_or_default(),
        sched_policy: libc::SCHED_OTHER.cast_unsigned(),
        sched_flags: 0,
        sched_nice: nice,
        sched_priority: 0,
        sched_runtime: u64::try_from(slice.as_nanos()).unwrap_or_default(),
        sched_deadline: 0,
        sched_period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of the structure, which outlives the call; 0 is the calling thread.
    let set = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    match set {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_may_ask_for_turns_of_its_own() {
        std::thread::spawn(|| {
            take_turns(SLICE).unwrap();
            take_turns(std::time::Duration::ZERO).unwrap();
            after_queries();
            assert_eq!(rustix::process::getpriority_process(None), Ok(10));
        })
        .join()
        .unwrap();
    }
}
