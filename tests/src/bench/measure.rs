//! Reads what the kernel knows of a process tree: CPU, memory, sync calls; and the disk's own speed.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{BenchError, Result, program};

/// What a process and all its descendants used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time in milliseconds, of ended children too.
    pub cpu_ms: f64,
    /// Proportional set size, in KiB.
    pub pss_kib: f64,
}

impl Usage {
    /// Reads it for `pid` and everything below.
    ///
    /// # Errors
    /// Where `/proc` does not know the process.
    pub fn of(pid: u32) -> Result<Self> {
        let mut usage = Self::default();
        let mut seen = false;
        for process in tree(pid) {
            let Ok(stat) = fs::read_to_string(format!("/proc/{process}/stat")) else { continue };
            seen = true;
            usage.cpu_ms += cpu_ms(&stat);
            usage.pss_kib += pss_kib(process);
        }
        if seen { Ok(usage) } else { Err(BenchError(format!("process {pid} is gone"))) }
    }
}

/// Fields 14 to 17 of `/proc/PID/stat`: user, system, and both of ended children, in clock ticks of 10 ms.
fn cpu_ms(stat: &str) -> f64 {
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split(' ').skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10.0
}

fn pss_kib(pid: u32) -> f64 {
    let Ok(rollup) = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")) else { return 0.0 };
    rollup
        .lines()
        .find_map(|line| line.strip_prefix("Pss:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
        .unwrap_or(0.0)
}

/// `pid` and all its descendants.
pub(super) fn tree(pid: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut all = vec![pid];
    let mut at = 0;
    while let Some(&process) = all.get(at) {
        all.extend(children.get(&process).into_iter().flatten());
        at += 1;
    }
    all
}

/// The calls that write to stable storage.
pub const SYNC_CALLS: &str = "fsync,fdatasync,sync_file_range,syncfs,sync";

/// The sync calls that began between two moments, in what `strace -ttt` wrote: those of the load, and not those of
/// starting and stopping the server.
///
/// # Errors
/// The file cannot be read.
pub fn syncs_between(calls: &Path, from: SystemTime, to: SystemTime) -> Result<usize> {
    let seconds = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    Ok(count_syncs(&fs::read_to_string(calls)?, seconds(from), seconds(to)))
}

/// A line is `PID SECONDS call(...`; a call that was interrupted has a second one, which says "resumed".
fn count_syncs(text: &str, from: f64, to: f64) -> usize {
    let began = |line: &str| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let seconds: f64 = words.next()?.parse().ok()?;
        words.next().filter(|call| call.contains("sync") && call.contains('(')).map(|_| seconds)
    };
    text.lines().filter_map(began).filter(|seconds| (from..=to).contains(seconds)).count()
}

/// How often each thread of a process has given up the processor to wait for something: each is followed by a wake-up.
#[derive(Debug, Clone)]
pub struct Waits(BTreeMap<String, u64>);

impl Waits {
    /// Reads it.
    ///
    /// # Errors
    /// Where `/proc` does not know the process.
    pub fn of(pid: u32) -> Result<Self> {
        let mut waits = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            if let Some(count) = line.and_then(|count| count.trim().parse().ok()) {
                waits.insert(thread.file_name().to_string_lossy().into_owned(), count);
            }
        }
        Ok(Self(waits))
    }

    /// How many there were since `before`. Threads that have ended meanwhile are left out.
    pub fn since(&self, before: &Self) -> u64 {
        let of = |(thread, count): (&String, &u64)| {
            count.saturating_sub(before.0.get(thread).copied().unwrap_or_default())
        };
        self.0.iter().map(of).sum()
    }
}

/// Counts sync calls of a process tree with strace.
pub struct SyncCounter {
    strace: Child,
    lines: JoinHandle<usize>,
}

impl SyncCounter {
    /// Attaches to `pid` and everything below it.
    ///
    /// # Errors
    /// Where strace is missing or may not attach.
    pub fn attach(pid: u32) -> Result<Self> {
        let mut command = Command::new(program("strace")?);
        command.args(["-f", "-q", "-e", "signal=none", "-e", &format!("trace={SYNC_CALLS}")]);
        for process in tree(pid) {
            command.args(["-p", &process.to_string()]);
        }
        let mut strace = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = strace.stderr.take().ok_or_else(|| BenchError("strace has no output".into()))?;
        let lines = std::thread::spawn(move || {
            BufReader::new(stderr)
                .lines()
                .map_while(std::result::Result::ok)
                // An interrupted call is written as two lines; the second says "resumed".
                .filter(|line| line.contains("sync") && line.contains('(') && !line.contains("resumed"))
                .count()
        });
        wait_until_traced(pid)?;
        Ok(Self { strace, lines })
    }

    /// Detaches; the number of calls.
    ///
    /// # Errors
    /// Where strace cannot be ended.
    pub fn stop(mut self) -> Result<usize> {
        let pid = self.strace.id().to_string();
        Command::new("kill").args(["-INT", &pid]).status()?;
        self.strace.wait()?;
        self.lines.join().map_err(|_| BenchError("the strace reader failed".into()))
    }
}

/// The kernel says in `status` who traces a process.
fn wait_until_traced(pid: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(BenchError("strace could not attach (it needs root)".into()))
}

/// Watches the memory of a process tree and keeps the peak.
pub struct Peak {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<f64>,
}

impl Peak {
    /// Starts watching, about 50 times a second.
    pub fn watch(pid: u32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut peak = 0.0_f64;
            while !stopped.load(Ordering::Relaxed) {
                peak = peak.max(Usage::of(pid).map_or(0.0, |usage| usage.pss_kib));
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        Self { stop, thread }
    }

    /// Stops watching; the peak in KiB.
    pub fn stop(self) -> f64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or(f64::NAN)
    }
}

/// Opens sessions, waits for the greeting and an EHLO reply in each, and keeps them open.
///
/// # Errors
/// Where a session is refused.
pub fn greeted_sessions(address: &str, count: usize) -> Result<Vec<TcpStream>> {
    (0..count)
        .map(|_| {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            reply(&mut stream)?;
            stream.write_all(b"EHLO bench.example\r\n")?;
            reply(&mut stream)?;
            Ok(stream)
        })
        .collect()
}

fn reply(stream: &mut TcpStream) -> Result<()> {
    let mut text = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        text.extend(byte);
        if byte == *b"\n" {
            let line = text.rsplit(|&b| b == b'\n').nth(1).unwrap_or_default();
            if line.get(3) == Some(&b' ') {
                return Ok(());
            }
        }
    }
}

/// 4 KiB append + fdatasync calls a second: what the disk gives right now to a single writer.
///
/// # Errors
/// Where the folder cannot be written.
pub fn sync_probe(folder: &Path) -> Result<f64> {
    const CALLS: u32 = 100;
    let path = folder.join(format!("mta-sync-probe-{}", std::process::id()));
    let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
    let started = Instant::now();
    for _ in 0..CALLS {
        file.write_all(&[0; 4096])?;
        file.sync_data()?;
    }
    let seconds = started.elapsed().as_secs_f64();
    fs::remove_file(&path)?;
    Ok(f64::from(CALLS) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syncs_of_a_load_are_those_that_began_within_it() {
        let calls = "77 1000.500000 fdatasync(5) = 0\n\
                     77 1001.000000 fdatasync(5 <unfinished ...>\n\
                     78 1001.100000 fsync(7)      = 0\n\
                     77 1002.900000 <... fdatasync resumed>) = 0\n\
                     77 1003.000001 fdatasync(5) = 0\n\
                     77 1002.000000 +++ exited with 0 +++\n";
        assert_eq!(count_syncs(calls, 1_001.0, 1_003.0), 2);
        assert_eq!(count_syncs(calls, 0.0, 2_000.0), 4);
    }
}
