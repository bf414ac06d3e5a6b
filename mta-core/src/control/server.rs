//! The control socket: who may connect, how much a peer may send, how long it may take.
//!
//! A peer is any local process, so nothing it does may cost more than its own connection: requests are bounded in bytes
//! and time, connections in number, and a peer that does not read its answer is dropped.

use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_io::{Async, Timer};
use futures_lite::{AsyncReadExt, AsyncWriteExt, FutureExt};
use nix::unistd::{Gid, Group, Uid, User};

use super::operations::Operations;
use super::peer::Peer;
use super::protocol::{Code, Failure, MAX_REQUEST_BYTES, Request, Response};
use crate::log::Line;

/// Connections at a time; further ones wait in the listen queue.
const MAX_CONNECTIONS: usize = 32;

/// Connections at a time of users who are no administrators.
const MAX_GUESTS: usize = 8;

/// How long a peer may take to send a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may leave an answer unread.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Rows in hand between the queue and the peer.
const ROWS_IN_HAND: usize = 64;

/// Who may use the socket, besides root.
#[derive(Debug, Clone, Default)]
pub struct Access {
    /// The service user; nothing means the user of this process.
    pub user: Option<u32>,
    /// The group of administrators.
    pub group: Option<u32>,
}

impl Access {
    /// Looks up the names of the configuration.
    ///
    /// # Errors
    /// One sentence that names the key and the user or group that does not exist.
    pub fn find(user: Option<&str>, group: Option<&str>) -> Result<Self, String> {
        let uid = match user {
            None => None,
            Some(name) => match User::from_name(name) {
                Ok(Some(user)) => Some(user.uid.as_raw()),
                _ => return Err(format!("user: there is no user {name:?} on this system")),
            },
        };
        let gid = match group {
            None => None,
            Some(name) => match Group::from_name(name) {
                Ok(Some(group)) => Some(group.gid.as_raw()),
                _ => return Err(format!("admin_group: there is no group {name:?} on this system")),
            },
        };
        Ok(Self { user: uid, group: gid })
    }

    /// Security decision: whether a peer with these credentials may ask. Fails closed.
    fn allows(&self, uid: u32, gid: u32) -> bool {
        let own = self.user.unwrap_or_else(|| nix::unistd::geteuid().as_raw());
        if uid == 0 || uid == own {
            return true;
        }
        self.group.is_some_and(|group| gid == group || is_member(uid, gid, group))
    }
}

/// Whether the user is a member of the group, by the system's user database.
fn is_member(uid: u32, gid: u32, group: u32) -> bool {
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else {
        return false;
    };
    let Ok(name) = std::ffi::CString::new(user.name) else {
        return false;
    };
    nix::unistd::getgrouplist(&name, Gid::from_raw(gid))
        .is_ok_and(|groups| groups.contains(&Gid::from_raw(group)))
}

/// Binds the socket at `path`, mode 0666: who the peer is decides what he may, and every user may look at his own mail. A socket that a killed
/// daemon left is replaced; one that somebody answers on is not.
///
/// # Errors
/// As the system reports; `AddrInUse` where another daemon answers.
pub fn bind(path: &Path, access: &Access) -> io::Result<UnixListener> {
    if UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another daemon answers on this socket"));
    }
    match std::fs::symlink_metadata(path) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => {
            std::fs::remove_file(path)?
        }
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket lies there",
            ));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(path)?;
    let (_held, socket) = held(path)?;
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o666))?;
    if access.user.is_some() || access.group.is_some() {
        match std::os::unix::fs::chown(&socket, access.user, access.group) {
            // Only root may give a socket away; without root the service user owns it already.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                log::warn!(
                    "{}",
                    Line::new("control-group-not-set").with("socket", path.display()).with("error", e)
                );
            }
            other => other?,
        }
    }
    Ok(listener)
}

/// The socket just bound at `path`, held without a name: root must not change the mode or the owner of whatever another
/// user, who may write the folder, put into its place in the meantime.
pub(crate) fn held(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, rustix::fs::Mode::empty())?;
    let found = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
    if found != rustix::fs::FileType::Socket {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "something else was put in its place"));
    }
    let through = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    Ok((fd, through))
}

/// Answers on the socket for ever. Dropping the future stops it.
///
/// # Errors
/// When the listener itself cannot be used.
pub async fn serve(
    listener: UnixListener,
    access: Access,
    operations: Arc<dyn Operations>,
) -> io::Result<()> {
    let listener = Async::new(listener)?;
    let executor = Arc::new(smol::Executor::new());
    let slots = Arc::new(async_lock::Semaphore::new(MAX_CONNECTIONS));
    let guests = Arc::new(async_lock::Semaphore::new(MAX_GUESTS));
    let accept = async {
        loop {
            let slot = slots.acquire_arc().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (access, operations, guests) =
                        (access.clone(), Arc::clone(&operations), Arc::clone(&guests));
                    let task = async move {
                        connection(stream, &access, &guests, operations).await;
                        drop(slot);
                    };
                    executor.spawn(task).detach();
                }
                Err(e) => {
                    // Out of descriptors, for instance: the mail may need them more.
                    log::warn!("{}", Line::new("control-accept-failed").with("error", e));
                    Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    };
    executor.run(accept).await
}

/// One peer: its requests one after another.
async fn connection(
    stream: Async<UnixStream>,
    access: &Access,
    guests: &Arc<async_lock::Semaphore>,
    operations: Arc<dyn Operations>,
) {
    let (peer, _place) = match admit(&stream, access.clone(), guests).await {
        Ok(admitted) => admitted,
        Err(failure) => {
            let _ = send(&stream, &Response::Error(failure)).await;
            return;
        }
    };
    let mut pending = Vec::new();
    loop {
        let request = match within(REQUEST_TIMEOUT, read_line(&stream, &mut pending)).await {
            Ok(Some(line)) => Request::from_line(&line),
            Ok(None) => return,
            Err(e) if e.kind() == io::ErrorKind::InvalidData => {
                let message = format!("a request is one line of at most {MAX_REQUEST_BYTES} bytes");
                let _ = send(&stream, &Response::Error(Failure::new(Code::BadRequest, message))).await;
                return;
            }
            Err(_) => return,
        };
        let answered = match request {
            Ok(request) => answer(&stream, &peer, request, Arc::clone(&operations)).await,
            Err(failure) => send(&stream, &Response::Error(failure)).await,
        };
        if answered.is_err() {
            return;
        }
    }
}

/// Finds out by the socket who the peer is. Everybody may look at his own mail, but only so many at a time who are no
/// administrators, so that they never keep one out; the place is given back when the guard is dropped.
async fn admit(
    stream: &Async<UnixStream>,
    access: Access,
    guests: &Arc<async_lock::Semaphore>,
) -> Result<(Peer, Option<async_lock::SemaphoreGuardArc>), Failure> {
    let unknown = |_| Failure::new(Code::NotAllowed, "an unknown user may not use the control socket");
    let found = rustix::net::sockopt::socket_peercred(stream).map_err(unknown)?;
    let (uid, gid) = (found.uid.as_raw(), found.gid.as_raw());
    // The user database may be on the network.
    let peer = smol::unblock(move || Peer::of(uid, access.allows(uid, gid))).await;
    if peer.is_administrator {
        return Ok((peer, None));
    }
    match guests.try_acquire_arc() {
        Some(place) => Ok((peer, Some(place))),
        None => {
            let pid = found.pid.as_raw_nonzero();
            log::warn!("{}", Line::new("control-refused").with("uid", uid).with("pid", pid));
            Err(Failure::new(Code::Temporary, "too many users ask at this moment; try again"))
        }
    }
}

/// Reads up to a line end. `None` at the end of the connection, `InvalidData` for a line that is too long.
async fn read_line(mut stream: &Async<UnixStream>, pending: &mut Vec<u8>) -> io::Result<Option<Vec<u8>>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let rest = pending.split_off(end + 1);
            return Ok(Some(std::mem::replace(pending, rest)));
        }
        if pending.len() > MAX_REQUEST_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        match stream.read(&mut chunk).await? {
            0 => return Ok(None),
            n => pending.extend_from_slice(chunk.get(..n).unwrap_or_default()),
        }
    }
}

/// Runs one request and sends its rows and its end.
async fn answer(
    stream: &Async<UnixStream>,
    peer: &Peer,
    request: Request,
    operations: Arc<dyn Operations>,
) -> io::Result<()> {
    if request.changes() {
        let line = Line::new("control-request").with("by", &peer.user);
        log::info!("{}", line.with("request", request.without_secrets().to_line().trim_end()));
    }
    let peer = peer.clone();
    let (rows, received) = async_channel::bounded(ROWS_IN_HAND);
    let work =
        smol::unblock(move || operations.run(&peer, &request, &mut |row| rows.send_blocking(row).is_ok()));
    // The sender goes away with the work, so this ends when the rows do; an error here drops the receiver, which
    // ends the work.
    while let Ok(row) = received.recv().await {
        send(stream, &Response::Row(row)).await?;
    }
    drop(received);
    let end = match work.await {
        Ok(done) => Response::Done(done),
        Err(failure) => Response::Error(failure),
    };
    send(stream, &end).await
}

/// Sends one line, within its time.
async fn send(mut stream: &Async<UnixStream>, response: &Response) -> io::Result<()> {
    let line = response.to_line();
    within(WRITE_TIMEOUT, async move { stream.write_all(line.as_bytes()).await }).await
}

/// `work`, or `TimedOut`.
async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = async {
        Timer::after(limit).await;
        Err(io::ErrorKind::TimedOut.into())
    };
    work.or(late).await
}

#[cfg(test)]
mod tests {
    use super::super::protocol::Done;
    use super::*;
    use std::io::{BufRead, BufReader, Read, Write};
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Gives endless rows for a list, one for everything else, and counts what it was asked to give.
    #[derive(Default)]
    struct Fake {
        rows: AtomicU64,
        ended: AtomicU64,
    }

    impl Operations for Fake {
        fn run(
            &self,
            _peer: &Peer,
            request: &Request,
            row: &mut dyn FnMut(serde_json::Value) -> bool,
        ) -> Result<Done, Failure> {
            match request {
                Request::QueueList(_) => {
                    while row(serde_json::json!({"filler": "x".repeat(1000)})) {
                        self.rows.fetch_add(1, Ordering::SeqCst);
                    }
                    self.ended.fetch_add(1, Ordering::SeqCst);
                    Ok(Done::default())
                }
                Request::QueueShow(id) => Err(Failure::new(Code::NotFound, format!("no {id}"))),
                _ => {
                    row(serde_json::json!({"running": true}));
                    Ok(Done { count: 1, ..Done::default() })
                }
            }
        }
    }

    /// A server on a thread of its own, and where it listens.
    struct Rig {
        fake: Arc<Fake>,
        path: PathBuf,
        _dir: tempfile::TempDir,
        _server: smol::Task<io::Result<()>>,
    }

    fn rig() -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let fake = Arc::new(Fake::default());
        let listener = bind(&path, &Access::default()).unwrap();
        let server =
            smol::spawn(serve(listener, Access::default(), Arc::clone(&fake) as Arc<dyn Operations>));
        Rig { fake, path, _dir: dir, _server: server }
    }

    #[test]
    fn what_was_put_in_the_place_of_the_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (path, victim) = (dir.path().join("control.sock"), dir.path().join("victim"));
        std::fs::write(&victim, "").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert!(held(&path).is_err(), "a link");
        assert!(held(&victim).is_err(), "a file");
        std::fs::remove_file(&path).unwrap();
        bind(&path, &Access::default()).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
    }

    fn ask(rig: &Rig, line: &[u8]) -> Vec<Response> {
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        stream.write_all(line).unwrap();
        let mut answers = Vec::new();
        for line in BufReader::new(stream).lines() {
            let response = Response::from_line(line.unwrap().as_bytes()).unwrap();
            let end = !matches!(response, Response::Row(_));
            answers.push(response);
            if end {
                break;
            }
        }
        answers
    }

    #[test]
    fn requests_are_answered_one_after_another() {
        let rig = rig();
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        let both = Request::Status.to_line() + &Request::QueueShow("x".into()).to_line();
        stream.write_all(both.as_bytes()).unwrap();
        let mut lines =
            BufReader::new(stream).lines().map(|l| Response::from_line(l.unwrap().as_bytes()).unwrap());
        assert_eq!(lines.next(), Some(Response::Row(serde_json::json!({"running": true}))));
        assert_eq!(lines.next(), Some(Response::Done(Done { count: 1, ..Done::default() })));
        assert_eq!(lines.next(), Some(Response::Error(Failure::new(Code::NotFound, "no x"))));
    }

    #[test]
    fn garbage_is_answered_and_the_connection_goes_on() {
        let rig = rig();
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        stream.write_all(b"\x00\xff garbage \x1b[31m\n").unwrap();
        stream.write_all(Request::Status.to_line().as_bytes()).unwrap();
        let mut lines =
            BufReader::new(stream).lines().map(|l| Response::from_line(l.unwrap().as_bytes()).unwrap());
        assert!(matches!(lines.next(), Some(Response::Error(f)) if f.code == Code::BadRequest));
        assert!(matches!(lines.next(), Some(Response::Row(_))));
    }

    #[test]
    fn an_endless_line_is_cut_off() {
        let rig = rig();
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        // The server closes somewhere in it; both ends of that are right.
        let _ = stream.write_all(&vec![b'x'; MAX_REQUEST_BYTES * 8]);
        let mut answer = String::new();
        let _ = BufReader::new(&stream).read_line(&mut answer);
        assert!(answer.is_empty() || answer.contains("bad_request"), "{answer}");
        assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0, "the connection is over");
    }

    #[test]
    fn a_peer_that_sends_nothing_does_not_stop_the_others() {
        let rig = rig();
        let idle: Vec<UnixStream> =
            (0..MAX_CONNECTIONS - 1).map(|_| UnixStream::connect(&rig.path).unwrap()).collect();
        assert_eq!(ask(&rig, Request::Status.to_line().as_bytes()).len(), 2);
        drop(idle);
    }

    #[test]
    fn a_peer_that_goes_away_ends_its_list() {
        let rig = rig();
        let line = "{\"v\":1,\"op\":\"queue.list\",\"args\":{}}\n";
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        let mut first = String::new();
        BufReader::new(&stream).read_line(&mut first).unwrap();
        drop(stream);
        while rig.fake.ended.load(Ordering::SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn rows_are_not_piled_up_for_a_peer_that_does_not_read() {
        let rig = rig();
        let line = "{\"v\":1,\"op\":\"queue.list\",\"args\":{}}\n";
        let mut stream = UnixStream::connect(&rig.path).unwrap();
        stream.write_all(line.as_bytes()).unwrap();
        // Another request is answered meanwhile, and the list has stood still at what fits into the socket.
        assert_eq!(ask(&rig, Request::Status.to_line().as_bytes()).len(), 2);
        assert!(rig.fake.rows.load(Ordering::SeqCst) < 10_000);
    }

    #[test]
    fn strangers_are_refused() {
        let access = Access { user: Some(12345), group: Some(54321) };
        assert!(access.allows(0, 0));
        assert!(access.allows(12345, 1));
        assert!(access.allows(999_999, 54321), "by its primary group");
        assert!(!access.allows(999_999, 1));
        assert!(!Access::default().allows(999_999, 1));
        assert!(!Access { user: Some(1), group: None }.allows(999_999, 1));
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        drop(bind(&path, &Access::default()).unwrap());
        let live = bind(&path, &Access::default()).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
        assert_eq!(bind(&path, &Access::default()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(live);
        let file = dir.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert_eq!(bind(&file, &Access::default()).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    }

    #[test]
    fn names_that_do_not_exist_are_named() {
        let error = Access::find(None, Some("no-such-group-here")).unwrap_err();
        assert_eq!(error, "admin_group: there is no group \"no-such-group-here\" on this system");
    }
}
