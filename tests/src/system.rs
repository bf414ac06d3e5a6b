//! A system with users of its own: a mount namespace in which /etc/passwd, /etc/aliases, /home and /var/mail are the
//! test's, and the delivery process runs. Needs root; without, tests say so and end.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};

use crate::lab::{Plan, WITHIN, program};

/// The users with a mailbox, by name and number.
pub const USERS: [(&str, u32); 2] = [("anna", 2001), ("ben", 2002)];

/// Ends a child process with the test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The system.
pub struct System {
    directory: tempfile::TempDir,
    /// Runs a program in it.
    wrapper: PathBuf,
    holder: Killed,
    deliver: Option<Killed>,
    log: PathBuf,
}

impl Drop for System {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = fs::read_to_string(&self.log).unwrap_or_default();
            eprintln!("---- the delivery process's log ----\n{said}");
        }
    }
}

impl System {
    /// A system, where this test may make one. `spool` is how /var/mail is mounted: a folder, or a small disk.
    ///
    /// # Errors
    /// It could not be made although we are root.
    pub fn new(spool_octets: Option<u64>) -> io::Result<Option<Self>> {
        if !getuid().is_root() {
            eprintln!("skipped: this test makes users in a namespace of its own, which takes root");
            return Ok(None);
        }
        let directory = tempfile::Builder::new().prefix("mta-system-").tempdir()?;
        let at = |name: &str| directory.path().join(name);
        let mut passwd =
            "root:x:0:0::/root:/bin/sh\ndaemon:x:1:1::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
                .to_owned();
        let mut group = "root:x:0:\ndaemon:x:1:\nmail:x:8:\nnogroup:x:65534:\n".to_owned();
        for folder in ["home", "mail"] {
            fs::create_dir(at(folder))?;
            fs::set_permissions(at(folder), fs::Permissions::from_mode(0o755))?;
        }
        for (name, uid) in USERS {
            passwd.push_str(&format!("{name}:x:{uid}:{uid}::/home/{name}:/bin/sh\n"));
            group.push_str(&format!("{name}:x:{uid}:\n"));
            let home = at("home").join(name);
            fs::create_dir(&home)?;
            chown(&home, Some(uid), Some(uid))?;
        }
        // Debian Policy 11.6: the folder of mailboxes is root's and the group mail's.
        chown(at("mail"), Some(0), Some(8))?;
        fs::set_permissions(at("mail"), fs::Permissions::from_mode(0o2775))?;
        for (name, text) in [("passwd", passwd), ("group", group), ("aliases", String::new())] {
            fs::write(at(name), text)?;
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o644))?;
        }
        let spool = match spool_octets {
            Some(octets) => format!("mount -t tmpfs -o size={octets},mode=2775,gid=8 none /var/mail"),
            None => format!("mount --bind {} /var/mail", at("mail").display()),
        };
        let script = format!(
            "set -e; cd {0}; mount --bind passwd /etc/passwd; mount --bind group /etc/group; mount --bind home /home; \
             {spool}; echo ready; exec sleep 600",
            directory.path().display()
        );
        let mut holder = Command::new("unshare")
            .args(["--mount", "--propagation", "private", "sh", "-c", &script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut ready = String::new();
        let output = holder.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let holder = Killed(holder);
        BufReader::new(output).read_line(&mut ready)?;
        if ready.trim() != "ready" {
            return Err(io::Error::other("no mount namespace"));
        }
        let real = program(directory.path())?;
        let wrapper = at("mta-cli-inside");
        let text = format!("#!/bin/sh\nexec nsenter -t {} -m -- {} \"$@\"\n", holder.0.id(), real.display());
        fs::write(&wrapper, text)?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        let log = at("deliver.log");
        Ok(Some(Self { wrapper, holder, deliver: None, log, directory }))
    }

    /// Makes the planned server one of this system, with its users.
    pub fn settle(&self, plan: &mut Plan) {
        plan.started_by(self.wrapper.clone());
        plan.set("local.enable", "true");
        plan.set("local.socket", &format!("\"{}\"", self.socket().display()));
        plan.set("alias.files", &format!("[\"{}\"]", self.aliases().display()));
    }

    /// Starts the delivery process with the server's configuration.
    ///
    /// # Errors
    /// It does not listen.
    pub fn start_delivery(&mut self, config: &Path) -> io::Result<()> {
        self.deliver = None;
        let log = fs::File::create(&self.log)?;
        let child = Command::new(&self.wrapper)
            .arg("deliver")
            .arg("--config")
            .arg(config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        self.deliver = Some(Killed(child));
        let until = Instant::now() + WITHIN;
        while UnixStream::connect(self.socket()).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other(fs::read_to_string(&self.log)?));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Makes the small disk of /var/mail larger or smaller.
    ///
    /// # Errors
    /// It is no small disk, or more lies on it.
    pub fn resize_spool(&self, octets: u64) -> io::Result<()> {
        let holder = self.holder.0.id().to_string();
        let size = format!("remount,size={octets}");
        let status = Command::new("nsenter")
            .args(["-t", &holder, "-m", "--", "mount", "-o", &size, "/var/mail"])
            .status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other("/var/mail cannot be resized")) }
    }

    /// Stops the delivery process.
    pub fn stop_delivery(&mut self) {
        self.deliver = None;
        drop(fs::remove_file(self.socket()));
    }

    /// The process that root started.
    pub fn delivery_pid(&self) -> u32 {
        self.deliver.as_ref().map_or(0, |child| child.0.id())
    }

    /// Its children that deliver now.
    pub fn deliveries(&self) -> Vec<u32> {
        let tasks = format!("/proc/{}/task", self.delivery_pid());
        let tasks = fs::read_dir(tasks).into_iter().flatten().flatten();
        let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
        children
            .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
            .collect()
    }

    /// Kills a process at once.
    pub fn kill(pid: u32) {
        if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
    }

    /// The delivery process's socket.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("deliver.sock")
    }

    /// The alias file.
    pub fn aliases(&self) -> PathBuf {
        self.directory.path().join("aliases")
    }

    /// A path of the system as seen from outside of it.
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.holder.0.id()))
    }

    /// A user's mbox.
    pub fn mbox(&self, user: &str) -> String {
        fs::read_to_string(self.path(&format!("/var/mail/{user}"))).unwrap_or_default()
    }

    /// Writes a user's file.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_home(&self, user: &str, name: &str, text: &str) -> io::Result<()> {
        let uid = USERS.iter().find(|(known, _)| *known == user).map(|(_, uid)| *uid);
        let path = self.path(&format!("/home/{user}/{name}"));
        fs::write(&path, text)?;
        chown(&path, uid, uid)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
    }
}
