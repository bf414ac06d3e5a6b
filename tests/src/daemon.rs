//! The daemon under test: the real `mta-cli serve`, started, watched, reloaded, killed and started again.
//!
//! What it says on standard error is kept and can be waited for. It counts as started once it has told its service
//! manager so (sd_notify(3)), or its log.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long the daemon may take to start, stop or reload before a test fails.
pub const READY_WITHIN: Duration = Duration::from_secs(20);
/// Set in the environment of daemons that a laboratory has started.
pub const CHILD_MARK: &str = "MTA_LAB_CHILD";
/// How long one look for a message of the daemon lasts while it starts.
const NOTIFY_POLL: Duration = Duration::from_millis(20);

/// The configuration: dotted keys and their TOML values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// Sets a key to a value written in TOML.
    pub fn set(&mut self, key: &str, value: &str) {
        self.0.insert(key.to_owned(), value.to_owned());
    }

    /// Sets a key to a text.
    pub fn set_text(&mut self, key: &str, value: &str) {
        self.set(key, &quoted(value));
    }

    /// Leaves a key at its default.
    pub fn unset(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// Takes over all keys of other settings.
    pub fn merge(&mut self, other: &Self) {
        self.0.extend(other.0.clone());
    }

    /// The configuration file.
    pub fn to_toml(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (key, value)| {
            writeln!(text, "{key} = {value}").expect("writing into a string");
            text
        })
    }
}

/// A text as a TOML string.
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The lines of the daemon's log so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A daemon with its files.
pub struct Daemon {
    program: PathBuf,
    directory: PathBuf,
    settings: Settings,
    listens: SocketAddr,
    log: Arc<Log>,
    notify: UnixDatagram,
    child: Option<Child>,
    /// Reads the daemon's standard error until its end.
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Daemon {
    /// Starts the daemon with its configuration and state in `directory`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// It could not be started, ended at once (its last words are in the error), or did not get ready.
    pub fn start(
        program: &Path,
        directory: &Path,
        settings: Settings,
        listens: SocketAddr,
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let notify_path = directory.join("notify.sock");
        drop(fs::remove_file(&notify_path));
        let notify = UnixDatagram::bind(&notify_path)?;
        notify.set_read_timeout(Some(NOTIFY_POLL))?;
        let mut daemon = Self {
            program: program.to_owned(),
            directory: directory.to_owned(),
            settings,
            listens,
            log: Arc::default(),
            notify,
            child: None,
            reader: None,
        };
        daemon.write_settings()?;
        daemon.launch()?;
        Ok(daemon)
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("mta.toml")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.listens
    }

    /// The process.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Starts the process (again) and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As for [`Daemon::start`].
    pub fn launch(&mut self) -> io::Result<()> {
        while self.notified().is_some() {}
        let before = self.log().len();
        let mut child = Command::new(&self.program)
            .arg("serve")
            .arg("--config")
            .arg(self.config_file())
            .env(CHILD_MARK, "1")
            .env("NOTIFY_SOCKET", self.directory.join("notify.sock"))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().expect("a pipe");
        let log = Arc::clone(&self.log);
        self.reader = Some(std::thread::spawn(move || {
            for line in BufReader::new(stderr).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                log.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
                log.grown.notify_all();
            }
        }));
        self.child = Some(child);
        self.wait_ready(before)
    }

    fn wait_ready(&mut self, before: usize) -> io::Result<()> {
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(child) = &mut self.child
                && let Some(status) = child.try_wait()?
            {
                self.child = None;
                self.read_to_end();
                return Err(io::Error::other(format!("the daemon ended ({status}):\n{}", self.last_words())));
            }
            let notified = self.notified().is_some_and(|text| text.contains("READY=1"));
            let said = || self.log().iter().skip(before).any(|line| line.contains("event=ready "));
            if notified || said() {
                return Ok(());
            }
        }
        Err(io::Error::other(format!("the daemon did not get ready:\n{}", self.last_words())))
    }

    /// Waits until all that a daemon that has ended said is in the log.
    fn read_to_end(&mut self) {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
    }

    /// The next message to the service manager, within a moment.
    fn notified(&self) -> Option<String> {
        let mut buffer = [0; 1024];
        let length = self.notify.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    fn last_words(&self) -> String {
        let lines = self.log();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Changes the configuration; it takes effect with the next start or reload.
    ///
    /// # Errors
    ///
    /// The file could not be written.
    pub fn change_settings(&mut self, change: impl FnOnce(&mut Settings)) -> io::Result<()> {
        change(&mut self.settings);
        self.write_settings()
    }

    fn write_settings(&self) -> io::Result<()> {
        fs::write(self.config_file(), self.settings.to_toml())
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        let pid = self.pid().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may be gone already.
            let _ = kill_process(pid, signal);
        }
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn reload(&self) {
        self.signal(Signal::HUP);
    }

    /// Stops it as a service manager would (SIGTERM) and waits for its end.
    ///
    /// # Errors
    ///
    /// It does not run, or does not end.
    pub fn stop(&mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::TERM);
        let mut child = self.child.take().ok_or_else(|| io::Error::other("the daemon does not run"))?;
        let deadline = Instant::now() + READY_WITHIN;
        while Instant::now() < deadline {
            if let Some(status) = child.try_wait()? {
                self.read_to_end();
                return Ok(status);
            }
            std::thread::sleep(NOTIFY_POLL);
        }
        child.kill()?;
        child.wait()?;
        Err(io::Error::other(format!("the daemon did not stop:\n{}", self.last_words())))
    }

    /// Kills it without warning (SIGKILL) and waits until it is gone.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.kill());
            drop(child.wait());
            self.read_to_end();
        }
    }

    /// Its log so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for a line of the log; nothing when the time is over. Lines from before count too.
    pub fn wait_for_log(&self, within: Duration, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let deadline = Instant::now() + within;
        let mut lines = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut looked_at = 0;
        loop {
            if let Some(line) = lines.iter().skip(looked_at).find(|line| wanted(line)) {
                return Some(line.clone());
            }
            looked_at = lines.len();
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.log.grown.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until its log has more than this many lines, or the time is over.
    pub fn wait_for_growth(&self, lines: usize, within: Duration) {
        let known = self.log.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let still = |known: &mut Vec<String>| known.len() <= lines;
        drop(self.log.grown.wait_timeout_while(known, within, still));
    }

    /// Runs the administrator's tool against it: `daemon.cli(["queue", "list", "--json"])`.
    ///
    /// # Errors
    ///
    /// The program could not be run. What it thinks of the daemon is in its exit code.
    pub fn cli<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> io::Result<Output> {
        let arguments: Vec<OsString> = arguments.into_iter().map(OsString::from).collect();
        Command::new(&self.program)
            .arg("--config")
            .arg(self.config_file())
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .output()
    }

    /// The same, with something on its standard input: a password.
    ///
    /// # Errors
    ///
    /// As for [`Daemon::cli`].
    pub fn cli_with_input<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
        input: &str,
    ) -> io::Result<Output> {
        let mut child = Command::new(&self.program)
            .arg("--config")
            .arg(self.config_file())
            .args(arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().expect("a pipe");
        // Who needs no more of it has closed it.
        let _ = io::Write::write_all(&mut stdin, input.as_bytes());
        drop(stdin);
        child.wait_with_output()
    }

    /// Runs the administrator's tool and reads the JSON it prints.
    ///
    /// # Errors
    ///
    /// The program could not be run, or printed no JSON.
    pub fn cli_json<'a>(
        &self,
        arguments: impl IntoIterator<Item = &'a str>,
    ) -> io::Result<serde_json::Value> {
        let output = self.cli(arguments)?;
        serde_json::from_slice(&output.stdout).map_err(|error| {
            let (said, complained) =
                (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            io::Error::other(format!("no JSON ({error}), {}: {said}{complained}", output.status))
        })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- the daemon's log ----\n{}", self.log().join("\n"));
        }
    }
}
