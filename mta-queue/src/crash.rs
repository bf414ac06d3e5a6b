//! Named points at which a test can have the process killed.
//!
//! `MTA_CRASH_AT=NAME` kills the process (SIGKILL, as the kernel's memory killer does) when it comes by the point of this
//! name; `NAME:3` when it comes by for the third time. Only builds with debug assertions look; in any other a point is
//! nothing at all. Every `crash::point` of the sources is tried by `tests/crash_points.rs`, which reads them from there.

/// The process ends here where a test wants it to.
#[cfg(debug_assertions)]
pub(crate) fn point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static WANTED: LazyLock<Option<(String, u64)>> = LazyLock::new(|| {
        let wanted = std::env::var("MTA_CRASH_AT").ok()?;
        let (name, times) = wanted.split_once(':').unwrap_or((&wanted, "1"));
        Some((name.to_owned(), times.parse().ok()?))
    });
    static PASSED: AtomicU64 = AtomicU64::new(0);

    if let Some((wanted, times)) = &*WANTED
        && wanted == name
        && PASSED.fetch_add(1, Ordering::SeqCst) + 1 == *times
    {
        let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
        loop {
            std::thread::park();
        }
    }
}

/// Nothing.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub(crate) const fn point(_: &str) {}
