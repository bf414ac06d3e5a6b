//! Dovecot takes delivery by LMTP, over a Unix socket and over TCP: mailboxes, a full one, an unknown one, and none at all while it is down.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::peers;

/// The user whose the mail is.
const NOBODY: u32 = 65_534;

struct Dovecot {
    folder: tempfile::TempDir,
    /// Its LMTP port on loopback.
    port: u16,
    child: Option<Child>,
}

impl Dovecot {
    fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("mta-dovecot-").tempdir()?;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::create_dir(at("mail"))?;
        chown(at("mail"), Some(NOBODY), Some(NOBODY))?;
        let user = |name: &str, rule: &str| {
            format!("{name}:{{PLAIN}}x:{NOBODY}:{NOBODY}::{}/{name}::{rule}\n", at("mail"))
        };
        let users = user("alice", "") + &user("bob", "userdb_quota_rule=*:storage=1k");
        fs::write(at("users"), users)?;
        let port = mta_lab::lab::Ports::free().smtp;
        let config = format!(
            "base_dir = {run}\nstate_dir = {run}\nlog_path = {log}\nprotocols = lmtp\nssl = no\n\
             mail_location = maildir:~/Maildir\nfirst_valid_uid = 1\nauth_username_format = %Ln\n\
             default_login_user = nobody\ndefault_internal_user = nobody\ndefault_internal_group = nogroup\n\
             mail_plugins = quota\nplugin {{\n quota = maildir:User quota\n}}\n\
             userdb {{\n driver = passwd-file\n args = username_format=%n {users}\n}}\n\
             passdb {{\n driver = passwd-file\n args = username_format=%n {users}\n}}\n\
             service lmtp {{\n unix_listener {run}/lmtp-mta {{\n  mode = 0666\n }}\n inet_listener lmtp {{\n  address = 127.0.0.1\n  port = {port}\n }}\n}}\n\
             service stats {{\n chroot =\n}}\nservice anvil {{\n chroot =\n}}\n",
            run = at("run"),
            log = at("log"),
            users = at("users"),
        );
        fs::write(at("dovecot.conf"), config)?;
        let mut dovecot = Self { folder, port, child: None };
        dovecot.start()?;
        Ok(dovecot)
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("run/lmtp-mta")
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn start(&mut self) -> io::Result<()> {
        let program = peers::find("dovecot").ok_or(io::ErrorKind::NotFound)?;
        let child = Command::new(program)
            .args(["-F", "-c"])
            .arg(self.folder.path().join("dovecot.conf"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        self.child = Some(child);
        let until = Instant::now() + WITHIN;
        while UnixStream::connect(self.socket()).is_err() {
            if Instant::now() > until {
                return Err(io::Error::other(self.log()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                // Its own children end with it.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            drop(child.wait());
        }
        drop(fs::remove_file(self.socket()));
    }

    /// The messages of a user.
    fn mail(&self, user: &str) -> Vec<String> {
        let new = self.folder.path().join("mail").join(user).join("Maildir/new");
        let files = fs::read_dir(new).into_iter().flatten().flatten();
        files.map(|file| fs::read_to_string(file.path()).expect("a message")).collect()
    }
}

impl Drop for Dovecot {
    fn drop(&mut self) {
        self.stop();
        if std::thread::panicking() {
            eprintln!("---- Dovecot's log ----\n{}", self.log());
        }
    }
}

/// How the server reaches Dovecot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Socket,
    Tcp,
}

fn started(by: By) -> Option<(Lab, Dovecot)> {
    if peers::missing(&["dovecot"]).is_some() || peers::needs_root() {
        return None;
    }
    if !Path::new("/usr/lib/dovecot/lmtp").exists() {
        println!("SKIPPED: dovecot-lmtpd is not installed");
        return None;
    }
    let dovecot = Dovecot::new().expect("Dovecot starts");
    let mut plan = Plan::new();
    plan.set("domain.\"own.example\".mailboxes", "[\"alice\", \"bob\", \"ghost\"]");
    let server = match by {
        By::Socket => format!("lmtp:unix:{}", dovecot.socket().display()),
        By::Tcp => format!("lmtp:127.0.0.1:{}", dovecot.port),
    };
    plan.set("domain.\"own.example\".deliver", &format!("{server:?}"));
    Some((plan.start().expect("a laboratory"), dovecot))
}

#[test]
fn each_recipient_has_its_own_verdict_over_a_unix_socket() {
    each_recipient_has_its_own_verdict(By::Socket);
}

#[test]
fn each_recipient_has_its_own_verdict_over_tcp() {
    each_recipient_has_its_own_verdict(By::Tcp);
}

fn each_recipient_has_its_own_verdict(by: By) {
    let Some((lab, dovecot)) = started(by) else { return };
    let body = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(100);
    let content = mta_lab::client::message("carol@else.example", "all@own.example", "verdicts", &body);
    let to = ["alice@own.example", "bob@own.example", "ghost@own.example"];
    let id = lab.send_content("carol@else.example", &to, &content);
    let shown = lab.settled(&id);
    let fates: Vec<(&str, &str)> = shown
        .recipients
        .iter()
        .map(|of| (of.status.as_str(), of.last_status.as_deref().unwrap_or_default()))
        .collect();
    assert_eq!(
        fates,
        [("delivered", "2.0.0"), ("failed", "5.2.2"), ("failed", "5.1.1")],
        "{:?}",
        shown.recipients
    );
    let mail = dovecot.mail("alice");
    assert_eq!(mail.len(), 1);
    assert!(mail[0].contains("Return-Path: <carol@else.example>"), "{}", mail[0]);
    assert!(dovecot.mail("bob").is_empty());
}

#[test]
fn mail_waits_while_the_store_is_down() {
    mail_waits_while_it_is_down(By::Socket);
    mail_waits_while_it_is_down(By::Tcp);
}

fn mail_waits_while_it_is_down(by: By) {
    let Some((lab, mut dovecot)) = started(by) else { return };
    dovecot.stop();
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    let shown = lab.settled(&id);
    assert_eq!(shown.recipients[0].last_status.as_deref(), Some("4.4.1"), "{:?}", shown.recipients);
    dovecot.start().expect("Dovecot starts");
    assert!(lab.daemon().cli(["queue", "retry", &id]).expect("the tool runs").status.success());
    assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
    assert_eq!(dovecot.mail("alice").len(), 1);
}
