//! The process that root starts: takes requests, checks them, and starts a child for each.
//!
//! It stays root all the time and therefore does as little as it can: it reads one bounded frame, looks up one user, and
//! executes itself. No content passes through it.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::net::sockopt::socket_peercred;
use serde::{Deserialize, Serialize};

use super::JOB_VARIABLE;
use super::places::{NoPlace, Places};
use super::protocol::{ALL_TAKEN, Answer, Place, Request, VERSION, receive, send};
use super::watch::{End, end_of};
use crate::account::alias::{Member, load};
use crate::account::system::{Passwd, SystemUser, Users};
use crate::control::held;
use crate::log::Line;

/// How long a client may take for its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a delivery waits for a place, at most.
const PLACE_WAIT: Duration = Duration::from_secs(60);

/// Connections that may wait for a place.
const MAX_WAITING: usize = 64;

/// What the process is started with: all of it from the configuration file, nothing from whoever asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where it listens, unless the service manager hands a socket over.
    pub socket: PathBuf,
    /// The user who may ask, besides root.
    pub peer: u32,
    /// Where mailboxes lie; `{user}` and `{home}` are filled in.
    pub mailbox: String,
    /// How lines that begin with `From ` are marked.
    pub mbox_format: MboxFormat,
    /// The group that may write the folder of mailboxes.
    pub mbox_group: Option<String>,
    /// Whether `.forward` is looked at.
    pub forward: bool,
    /// Users with smaller numbers get nothing.
    pub min_uid: u32,
    /// Users who do all the same.
    pub allowed_users: HashSet<String>,
    /// Deliveries at once; of one user at most a third of them.
    pub max_processes: usize,
    /// How long a delivery may take.
    pub timeout: Duration,
    /// The alias files, which are asked whether they name a file or command.
    pub alias_files: Vec<PathBuf>,
    /// As whom those are opened and run.
    pub alias_user: String,
    /// Whether commands are run.
    pub allow_pipes: bool,
}

/// How lines of the body that begin with `From ` are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MboxFormat {
    /// `>From `, `>>From ` and so on get one more sign, so that it can be undone.
    #[default]
    Mboxrd,
    /// `From ` alone gets one.
    Mboxo,
}

/// What the child is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Job {
    pub(super) request: Request,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: PathBuf,
    pub(super) mailbox: String,
    pub(super) mbox_format: MboxFormat,
    pub(super) mbox_group: Option<String>,
    pub(super) forward: bool,
    pub(super) allow_pipes: bool,
}

/// Serves until it is killed: no delivery depends on how it ends, and children go on.
///
/// # Errors
/// One sentence, where it cannot begin.
pub fn run(settings: Settings) -> Result<(), String> {
    let listener = listener(&settings)?;
    ::log::info!(
        "{}",
        Line::new("deliver-ready").with("socket", settings.socket.display()).with("peer", settings.peer)
    );
    let places = Places::new(settings.max_processes);
    let (settings, connections) = (Arc::new(settings), Arc::new(Connections::default()));
    loop {
        let most = settings.max_processes.saturating_add(MAX_WAITING);
        let connection = connections.take(most);
        match listener.accept() {
            Ok((stream, _)) => {
                let (settings, places) = (Arc::clone(&settings), Arc::clone(&places));
                std::thread::spawn(move || {
                    serve(&settings, &places, &stream);
                    drop(connection);
                });
            }
            Err(error) => {
                ::log::error!("{}", Line::new("deliver-accept").with("error", error));
                // No descriptors, most likely: those in use come back.
                std::thread::sleep(Duration::from_millis(200));
            }
        }
    }
}

/// Bounds the connections at once.
#[derive(Default)]
struct Connections {
    open: Mutex<usize>,
    closed: Condvar,
}

impl Connections {
    fn take(self: &Arc<Self>, most: usize) -> Connection {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |open: &mut usize| *open >= most;
        let mut open = self.closed.wait_while(open, full).unwrap_or_else(PoisonError::into_inner);
        *open += 1;
        Connection(Arc::clone(self))
    }
}

struct Connection(Arc<Connections>);

impl Drop for Connection {
    fn drop(&mut self) {
        *self.0.open.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        self.0.closed.notify_one();
    }
}

/// The socket of the service manager, or our own.
fn listener(settings: &Settings) -> Result<UnixListener, String> {
    let mut handed_over = listenfd::ListenFd::from_env();
    match handed_over.take_unix_listener(0) {
        Ok(Some(listener)) => return Ok(listener),
        Ok(None) => {}
        Err(error) => return Err(format!("the socket of the service manager cannot be used: {error}")),
    }
    let path = &settings.socket;
    let failed = |error: io::Error| format!("the socket {} (local.socket): {error}", path.display());
    if UnixStream::connect(path).is_ok() {
        return Err(format!("{}: another delivery process listens there already", path.display()));
    }
    if std::fs::symlink_metadata(path)
        .is_ok_and(|found| !std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()))
    {
        return Err(format!("{} is there and no socket: remove it, or set local.socket", path.display()));
    }
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(failed)?;
    // Who may really ask is decided by the peer's credentials.
    give_away(path, settings.peer).map_err(failed)?;
    Ok(listener)
}

/// Security decision: gives the socket to who may ask. The folder may be that user's, who can put anything else in its
/// place: nothing but a socket is given away, and no link is followed.
fn give_away(path: &Path, peer: u32) -> io::Result<()> {
    let (_held, socket) = held(path)?;
    std::os::unix::fs::chown(&socket, Some(peer), None)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o600))
}

fn serve(settings: &Settings, places: &Arc<Places>, stream: &UnixStream) {
    if let Err(error) = answer(settings, places, stream) {
        ::log::warn!("{}", Line::new("deliver-failed").with("error", error));
    }
}

fn answer(settings: &Settings, places: &Arc<Places>, mut stream: &UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    let peer = socket_peercred(stream)?.uid.as_raw();
    // Security decision: who may have mail delivered as others.
    if peer != 0 && peer != settings.peer {
        ::log::warn!("{}", Line::new("deliver-refused").with("uid", peer));
        return send(&mut stream, &Answer::deferred((3, 0), "this user may not ask the delivery process"));
    }
    let request: Request = receive(&mut stream)?;
    // A little earlier than the mail server gives up, so that it hears the reason.
    let deadline = Instant::now() + settings.timeout.mul_f64(0.95);
    match judge(settings, &request, &Passwd) {
        Ok(user) => match places.take(&user.name, PLACE_WAIT.min(settings.timeout / 2)) {
            Ok(_place) => start(settings, request, &user, deadline, stream),
            Err(why) => send(&mut stream, &no_place(&user.name, &why)),
        },
        Err(refused) => {
            let line = Line::new("deliver-refused").with("user", &request.user);
            ::log::warn!("{}", line.with("reason", format!("{refused:?}")));
            send(&mut stream, &refused)
        }
    }
}

/// What the mail server hears where no place came free.
fn no_place(user: &str, why: &NoPlace) -> Answer {
    match why {
        NoPlace::OfUser(share) => {
            let text =
                format!("{share} deliveries to {user} are under way, which is as many as one user may have");
            Answer::deferred((2, 0), text)
        }
        NoPlace::AtAll(most, held) => {
            let text = format!(
                "all {most} places for deliveries are taken ({held}): see what those wait for, or raise \
                 local.max_processes"
            );
            Answer::deferred(ALL_TAKEN, text)
        }
    }
}

/// Security decision: as whom something is opened or run, and what.
fn judge(settings: &Settings, request: &Request, users: &dyn Users) -> Result<SystemUser, Answer> {
    if request.version != VERSION {
        let text = format!("the delivery process speaks version {VERSION}: restart it and the server");
        return Err(Answer::deferred((3, 0), text));
    }
    let user = match users.find(&request.user) {
        Ok(Some(user)) => user,
        Ok(None) => return Err(Answer::failed((1, 1), format!("there is no user {}", request.user))),
        Err(error) => return Err(Answer::deferred((3, 0), error)),
    };
    let own = matches!(request.place, Place::Mailbox { .. });
    let of_forward =
        matches!(request.place, Place::File { of_forward: true, .. } | Place::Pipe { of_forward: true, .. });
    let allowed = user.uid >= settings.min_uid || settings.allowed_users.contains(&user.name);
    if user.uid == 0 || user.gid == 0 {
        let text = "nothing is delivered as root: let an alias say who reads root's mail";
        return Err(Answer::deferred((3, 5), text));
    }
    if (own || of_forward) && !allowed {
        let text =
            format!("{} is a user of the system itself (local.min_uid, local.allowed_users)", user.name);
        return Err(Answer::deferred((3, 5), text));
    }
    if matches!(request.place, Place::Pipe { .. }) && !settings.allow_pipes {
        return Err(Answer::deferred((3, 5), "commands are not run here (alias.allow_pipes)"));
    }
    if !own && !of_forward {
        named_by_alias(settings, request, &user)?;
    }
    Ok(user)
}

/// A file or command that is not of a user's own `.forward` stands in an alias file, or whoever asks made it up.
fn named_by_alias(settings: &Settings, request: &Request, user: &SystemUser) -> Result<(), Answer> {
    let member = match &request.place {
        Place::File { path, .. } => Member::File(path.clone()),
        Place::Pipe { command, .. } => Member::Pipe(command.clone()),
        Place::Mailbox { .. } => return Ok(()),
    };
    if user.name != settings.alias_user {
        let text = format!("files and commands of aliases belong to {} (alias.user)", settings.alias_user);
        return Err(Answer::deferred((3, 5), text));
    }
    let loaded = load::load(&settings.alias_files);
    if loaded.aliases.names(&member) {
        return Ok(());
    }
    // A file that belongs to the mail server is believed by itself, and not here: root does nothing on its word.
    let wrong = loaded.aliases.doubts().first().or_else(|| loaded.errors.first());
    let why = wrong.map(|error| format!(" that can be believed; {error}")).unwrap_or_default();
    Err(Answer::deferred((3, 5), format!("no alias file names {member}{why}")))
}

/// Executes this program anew, with the connection as its input and output.
fn start(
    settings: &Settings,
    request: Request,
    user: &SystemUser,
    deadline: Instant,
    mut stream: &UnixStream,
) -> io::Result<()> {
    let job = Job {
        request,
        uid: user.uid,
        gid: user.gid,
        home: user.home.clone(),
        mailbox: settings.mailbox.clone(),
        mbox_format: settings.mbox_format,
        mbox_group: settings.mbox_group.clone(),
        forward: settings.forward,
        allow_pipes: settings.allow_pipes,
    };
    let (input, output) = (stream.try_clone()?, stream.try_clone()?);
    // By its own name: a program of many names goes by it.
    let own_name = std::env::args_os().next().unwrap_or_else(|| "mta-cli".into());
    let child = Command::new("/proc/self/exe")
        .arg0(own_name)
        .args(["deliver", "--child"])
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin")
        .env(JOB_VARIABLE, serde_json::to_string(&job)?)
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(input)))
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(output)))
        .current_dir("/")
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            let text = format!("no process can be started: {error}");
            return send(&mut stream, &Answer::deferred((3, 0), text));
        }
    };
    match end_of(&mut child, deadline) {
        Ok(End::Own) => Ok(()),
        Ok(End::Killed) => {
            let seconds = settings.timeout.as_secs();
            ::log::warn!("{}", Line::new("deliver-killed").with("user", &user.name).with("timeout", seconds));
            let text = format!(
                "the delivery did not end within {seconds} s (local.timeout) and was ended: a lock, a command or a \
                 file system of {} holds it up",
                user.name
            );
            send(&mut stream, &Answer::deferred((2, 0), text))
        }
        Err(error) => {
            let line = Line::new("deliver-kill-failed").with("user", &user.name).with("error", error);
            ::log::error!("{}", line.with("remedy", "let the delivery process have CAP_KILL"));
            // It keeps its place: what cannot be ended is not to become more and more.
            child.wait().map(|_| ())
        }
    }
}

/// The number of the user who owns a folder: who the mail server is, where the configuration does not name him.
pub(crate) fn owner_of(folder: &Path) -> io::Result<u32> {
    std::fs::metadata(folder).map(|found| found.uid())
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Letter;
    use super::*;

    struct Fake;

    impl Users for Fake {
        fn find(&self, name: &str) -> Result<Option<SystemUser>, String> {
            let uid = match name {
                "root" | "toor" => 0,
                "daemon" => 1,
                "www-data" => 33,
                "nobody" => 65_534,
                "anna" => 1000,
                _ => return Ok(None),
            };
            let home = format!("/home/{name}").into();
            Ok(Some(SystemUser { name: name.into(), uid, gid: uid, home }))
        }
    }

    fn settings(alias_files: Vec<PathBuf>) -> Settings {
        Settings {
            socket: "/nowhere".into(),
            peer: 100,
            mailbox: "/var/mail/{user}".into(),
            mbox_format: MboxFormat::Mboxrd,
            mbox_group: None,
            forward: true,
            min_uid: 1000,
            allowed_users: HashSet::from(["www-data".to_owned()]),
            max_processes: 2,
            timeout: Duration::from_secs(1),
            alias_files,
            alias_user: "nobody".into(),
            allow_pipes: true,
        }
    }

    fn request(user: &str, place: Place) -> Request {
        let letter = Letter {
            unique: "q".into(),
            reverse_path: "<>".into(),
            recipient: "x@y".into(),
            received_at: 1,
            hostname: "h".into(),
        };
        Request { version: VERSION, user: user.into(), place, letter }
    }

    fn judged(settings: &Settings, user: &str, place: Place) -> bool {
        judge(settings, &request(user, place), &Fake).is_ok()
    }

    #[test]
    fn why_an_alias_file_is_not_believed_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = folder.path().join("aliases");
        std::fs::write(&aliases, "run: |/bin/cat\n").unwrap();
        std::fs::set_permissions(&aliases, std::fs::Permissions::from_mode(0o664)).unwrap();
        let settings = settings(vec![aliases]);
        let place = Place::Pipe { command: "/bin/cat".into(), of_forward: false };
        let Err(Answer::Deferred { text, .. }) = judge(&settings, &request("nobody", place), &Fake) else {
            panic!("it must wait")
        };
        assert!(text.contains("aliases: others may write it (mode 664): chmod go-w"), "{text}");
    }

    #[test]
    fn nothing_as_root_and_only_what_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let aliases = folder.path().join("aliases");
        std::fs::write(&aliases, "log: /var/log/mail.copy\nrun: \"|/bin/cat -n\"\n").unwrap();
        let settings = settings(vec![aliases]);
        let mailbox = || Place::Mailbox { forward: true };
        for (user, allowed) in [
            ("anna", true),
            ("www-data", true),
            ("root", false),
            ("toor", false),
            ("daemon", false),
            ("gone", false),
        ] {
            assert_eq!(judged(&settings, user, mailbox()), allowed, "{user}");
        }
        let file = |path: &str, of_forward| Place::File { path: path.into(), of_forward };
        let pipe = |command: &str, of_forward| Place::Pipe { command: command.into(), of_forward };
        for (user, place, allowed) in [
            ("nobody", file("/var/log/mail.copy", false), true),
            ("nobody", file("/etc/shadow", false), false),
            ("anna", file("/var/log/mail.copy", false), false),
            ("root", file("/var/log/mail.copy", false), false),
            ("nobody", pipe("/bin/cat -n", false), true),
            ("nobody", pipe("/bin/sh", false), false),
            ("anna", pipe("/bin/sh", false), false),
            // Whether her own .forward names it, her child finds out.
            ("anna", pipe("/bin/sh", true), true),
            ("root", pipe("/bin/sh", true), false),
            ("daemon", file("/x", true), false),
        ] {
            assert_eq!(judged(&settings, user, place.clone()), allowed, "{user} {place:?}");
        }
        let without = Settings { allow_pipes: false, ..settings };
        assert!(!judged(&without, "nobody", pipe("/bin/cat -n", false)));
        assert!(!judged(&without, "anna", pipe("/bin/sh", true)));
    }

    #[test]
    fn nothing_but_the_socket_is_given_away() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, link, target) =
            (folder.path().join("socket"), folder.path().join("link"), folder.path().join("shadow"));
        std::fs::write(&target, "root").unwrap();
        std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        give_away(&socket, own).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&socket), 0o600);
        // Put in its place between the binding and this.
        for to in [&target, &socket] {
            let _ = std::fs::remove_file(&link);
            std::os::unix::fs::symlink(to, &link).unwrap();
            assert!(give_away(&link, own).is_err());
        }
        assert!(give_away(&target, own).is_err());
        assert_eq!(mode(&target), 0o640);
    }
}
