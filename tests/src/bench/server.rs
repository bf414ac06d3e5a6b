//! The servers under test: ours, and Debian's Postfix with a configuration of its own in a temporary folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{BenchError, Result, SERVER, SINK, program, wait_for_greeting};
use crate::daemon::Settings;

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// This project's.
    Mta,
    /// Debian's Postfix.
    Postfix,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Mta => "mta",
            Self::Postfix => "Postfix",
        })
    }
}

/// A running server that relays everything to the sink. Stopped when dropped.
pub struct Server {
    kind: Kind,
    folder: tempfile::TempDir,
    child: Option<Child>,
    pid: u32,
}

impl Server {
    /// Starts it and waits until it greets.
    ///
    /// # Errors
    /// What kept it from starting, in words.
    pub fn start(kind: Kind) -> Result<Self> {
        match kind {
            Kind::Mta => Self::start_with(&Settings::default()),
            Kind::Postfix => {
                let server = start_postfix(folder()?)?;
                wait_for_greeting(SERVER)?;
                Ok(server)
            }
        }
    }

    /// Starts this project's server with some settings more, and waits until it greets.
    ///
    /// # Errors
    /// What kept it from starting, in words.
    pub fn start_with(settings: &Settings) -> Result<Self> {
        let server = start_mta(folder()?, settings, None)?;
        wait_for_greeting(SERVER)?;
        Ok(server)
    }

    /// Starts this project's server under strace, which writes its sync calls to the file. It stops at those calls only
    /// (`--seccomp-bpf`): a tracer that is attached later stops at every call, and a server slowed down like that has
    /// less waiting when it commits.
    ///
    /// # Errors
    /// What kept it from starting, in words.
    pub fn start_traced(calls: &Path) -> Result<Self> {
        let mut server = start_mta(folder()?, &Settings::default(), Some(calls))?;
        wait_for_greeting(SERVER)?;
        let program = super::measure::tree(server.pid).into_iter().nth(1);
        server.pid = program.ok_or_else(|| BenchError("strace has no child".into()))?;
        Ok(server)
    }

    /// Starts this project's server on a state directory that is filled already, and waits until it greets; the
    /// seconds that took.
    ///
    /// # Errors
    /// What kept it from starting, in words.
    pub fn start_filled(fill: impl FnOnce(&Path) -> Result<()>) -> Result<(Self, f64)> {
        let folder = folder()?;
        fill(&folder.path().join("state"))?;
        let started = Instant::now();
        let server = start_mta(folder, &Settings::default(), None)?;
        wait_for_greeting(SERVER)?;
        Ok((server, started.elapsed().as_secs_f64()))
    }

    /// Runs `mta-cli` against it; the seconds it took.
    ///
    /// # Errors
    /// It could not be run.
    pub fn time_cli(&self, words: &[&str]) -> Result<f64> {
        let started = Instant::now();
        let config = self.folder.path().join("mta.toml");
        let output = Command::new(mta_cli()?).arg("--config").arg(config).args(words).output()?;
        // 2 is "nothing matched".
        if !matches!(output.status.code(), Some(0 | 2)) {
            return Err(BenchError(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        Ok(started.elapsed().as_secs_f64())
    }

    /// Runs `mta-cli` against it with this input; it must succeed.
    ///
    /// # Errors
    /// It did not, in its words.
    pub fn cli(&self, words: &[&str], input: &str) -> Result<()> {
        let config = self.folder.path().join("mta.toml");
        let mut child = Command::new(mta_cli()?)
            .arg("--config")
            .arg(config)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            std::io::Write::write_all(&mut stdin, input.as_bytes())?;
        }
        let output = child.wait_with_output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(BenchError(format!("{words:?}: {}", String::from_utf8_lossy(&output.stderr).trim())))
    }

    /// The process whose tree is the server.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until nothing is queued any more.
    ///
    /// # Errors
    /// Where that takes longer than `limit`.
    pub fn wait_until_empty(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if self.is_empty()? {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(BenchError(format!("{}: the queue is not empty after {limit:?}", self.kind)))
    }

    fn is_empty(&self) -> Result<bool> {
        match self.kind {
            Kind::Mta => {
                let output = Command::new(mta_cli()?)
                    .arg("--config")
                    .arg(self.folder.path().join("mta.toml"))
                    .args(["queue", "list", "--json"])
                    .output()?;
                let list: serde_json::Value = serde_json::from_slice(&output.stdout)
                    .map_err(|error| BenchError(format!("queue list: {error}")))?;
                Ok(list.get("messages").and_then(|m| m.as_array()).is_some_and(Vec::is_empty))
            }
            Kind::Postfix => Ok(["incoming", "active", "deferred", "maildrop"]
                .iter()
                .all(|queue| is_empty_tree(&self.folder.path().join("spool").join(queue)))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Under strace the child is strace, which would let the server run on.
            let _ = Command::new("kill").arg(self.pid.to_string()).status();
            let _ = child.wait();
        } else if let Ok(postfix) = program("postfix") {
            let config = self.folder.path().join("etc");
            let _ = Command::new(postfix)
                .arg("-c")
                .arg(config)
                .arg("stop")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        }
    }
}

fn is_empty_tree(folder: &Path) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .all(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()) && is_empty_tree(&entry.path()))
}

/// The release build: figures of a debug build say nothing.
pub fn mta_cli() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let path = own.with_file_name("mta-cli");
    if path.is_file() {
        Ok(path)
    } else {
        Err(BenchError(format!("{} is missing: build it first", path.display())))
    }
}

/// A folder for all that one server writes.
///
/// # Errors
/// Another server listens already, say of a second benchmark: it would be measured instead.
fn folder() -> Result<tempfile::TempDir> {
    std::net::TcpListener::bind(SERVER).map_err(|error| BenchError(format!("{SERVER}: {error}")))?;
    Ok(tempfile::Builder::new().prefix("mta-bench").tempdir()?)
}

/// What the benchmark needs of this project's server, before the settings of one measurement.
fn settings(state: &Path) -> Settings {
    let (sink_host, sink_port) = SINK.split_once(':').unwrap_or((SINK, "25"));
    let mut settings = Settings::default();
    settings.set_text("hostname", "bench.example");
    settings.set_text("state_dir", &state.display().to_string());
    settings.set("smtp.listen", &format!("[\"{SERVER}\"]"));
    settings.set("smtp.relay_networks", "[\"127.0.0.0/8\"]");
    // The generator sends all its messages in the sessions it has.
    settings.set("smtp.max_transactions", "1000000");
    settings.set("smtp.max_sessions", "1000");
    settings.set("smtp.max_sessions_per_client", "1000");
    settings.set("dns.servers", "[\"127.0.0.1:9\"]");
    settings.set("outbound.allow_loopback", "true");
    settings.set_text("relay.host", sink_host);
    settings.set("relay.port", sink_port);
    settings.set_text("relay.tls", "never");
    settings
}

fn start_mta(folder: tempfile::TempDir, more: &Settings, calls: Option<&Path>) -> Result<Server> {
    let mut settings = settings(&folder.path().join("state"));
    settings.merge(more);
    let path = folder.path().join("mta.toml");
    fs::write(&path, settings.to_toml())?;
    let log = fs::File::create(folder.path().join("log"))?;
    let mut command = match calls {
        Some(calls) => {
            let mut command = Command::new(program("strace")?);
            command.args(["-f", "-q", "-ttt", "--seccomp-bpf", "-e", "signal=none", "-o"]).arg(calls);
            command.arg("-e").arg(format!("trace={}", super::measure::SYNC_CALLS)).arg(mta_cli()?);
            command
        }
        None => Command::new(mta_cli()?),
    };
    let child = command
        .arg("serve")
        .arg("--config")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()?;
    Ok(Server { kind: Kind::Mta, pid: child.id(), child: Some(child), folder })
}

fn start_postfix(folder: tempfile::TempDir) -> Result<Server> {
    let base = folder.path();
    // Postfix's own user must reach its folders below ours.
    set_mode(base, 0o755)?;
    let (etc, spool, data) = (base.join("etc"), base.join("spool"), base.join("data"));
    for path in [&etc, &spool, &data] {
        fs::create_dir(path)?;
        set_mode(path, 0o755)?;
    }
    Command::new("chown").arg("postfix").arg(&data).status()?;
    let main = format!(
        "compatibility_level = 3.6\nqueue_directory = {spool}\ndata_directory = {data}\nmyhostname = bench.example\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmynetworks = 127.0.0.0/8\nmydestination =\n\
         relayhost = [{}]:{}\nsmtpd_client_connection_count_limit = 0\nsmtpd_client_connection_rate_limit = 0\n\
         alias_maps =\nmessage_size_limit = 52428800\nsmtpd_error_sleep_time = 0\nsmtp_dns_support_level = disabled\n\
         maillog_file = {base}/log\nmaillog_file_prefixes = {base}\nsmtpd_peername_lookup = no\n",
        SINK.split(':').next().unwrap_or("127.0.0.1"),
        SINK.rsplit(':').next().unwrap_or("25"),
        spool = spool.display(),
        data = data.display(),
        base = base.display(),
    );
    fs::write(etc.join("main.cf"), main)?;
    let port = SERVER.rsplit(':').next().unwrap_or("25");
    let master = fs::read_to_string("/usr/share/postfix/master.cf.dist")?;
    // Without chroot: the folder holds none of the files a chroot needs.
    let master: String = master
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let line = if line.starts_with("smtp      inet") {
                line.replacen("smtp      inet", &format!("127.0.0.1:{port} inet"), 1)
            } else {
                line.into()
            };
            format!("{}\n", no_chroot(&line))
        })
        .collect();
    fs::write(etc.join("master.cf"), master)?;
    let output = Command::new(program("postfix")?).arg("-c").arg(&etc).arg("start").output()?;
    if !output.status.success() {
        return Err(BenchError(format!("postfix start: {}", String::from_utf8_lossy(&output.stderr).trim())));
    }
    wait_for_greeting(SERVER)?;
    let pid = fs::read_to_string(spool.join("pid/master.pid"))?
        .trim()
        .parse()
        .map_err(|_| BenchError("Postfix wrote no pid".into()))?;
    Ok(Server { kind: Kind::Postfix, pid, child: None, folder })
}

/// The fifth column of master.cf says whether a service runs in a chroot.
fn no_chroot(line: &str) -> String {
    if line.starts_with([' ', '\t']) || line.is_empty() {
        return line.into();
    }
    let mut columns: Vec<&str> = line.split_whitespace().collect();
    if let Some(chroot) = columns.get_mut(4) {
        *chroot = "n";
    }
    columns.join(" ")
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(mode))?)
}
