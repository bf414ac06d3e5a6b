//! Mail from programs on this machine: the local socket, and what waits in the maildrop.
//!
//! What it does: finds out by the socket which user of the system a peer is, and gives him an ordinary SMTP session, with
//! everything that bounds one; takes up the maildrop at the start, when somebody connects, and again after a while as
//! long as something is left there. A file of the maildrop goes through such a session too, as the user who owns it. What
//! it does not: no user needs a right to hand in mail, and no recipient is refused here: what cannot be delivered comes
//! back as a notification, whether the daemon was up at the time or not. A file of the maildrop that the session refuses as a
//! whole (too large, a sender that its owner may not have) stays there under another name, and is told in the log.

use std::collections::HashMap;
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_io::{Async, Timer};
use futures_lite::future::or;
use mta_smtp::address::{Domain, Host, ReversePath};
use mta_smtp::reply::Reply;
use nix::unistd::{Uid, User};

use super::driver::Driver;
use super::receive::Source;
use super::server::{Alive, Server, turned_away};
use crate::inbound::Settings;
use crate::log::Line;
use crate::net::Stream;
use crate::sendmail::submit::{Submitted, submit};
use crate::sendmail::take::{Dropped, Maildrop, Pass};
use crate::stop::Stop;

/// Sessions at a time of all users together.
const MAX_SESSIONS: usize = 200;

/// What is left in the maildrop is tried again after so long.
const AGAIN: Duration = Duration::from_secs(60);

/// What can be set about mail from this machine.
#[derive(Debug, Clone)]
pub struct LocalOptions {
    /// Where mail waits while nobody answers on the socket.
    pub maildrop: PathBuf,
    /// The domain of the system's users.
    pub origin: Domain,
    /// Whether everybody may choose any envelope sender. Yes.
    pub any_sender: bool,
    /// Who may where not everybody may.
    pub trusted_users: Vec<String>,
    /// Sessions at a time of one user. 20.
    pub sessions_per_user: usize,
    /// Messages of one user within an hour; 0 is no bound. 1000.
    pub messages_per_hour: u64,
}

impl LocalOptions {
    /// The defaults, for users of this domain.
    pub fn new(origin: Domain) -> Self {
        Self {
            maildrop: PathBuf::from("/var/lib/mta/maildrop"),
            origin,
            any_sender: true,
            trusted_users: Vec::new(),
            sessions_per_user: 20,
            messages_per_hour: 1000,
        }
    }
}

/// A user of the system, as the kernel names him.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalUser {
    /// His number.
    pub uid: u32,
    /// His name, or his number where he has none.
    pub name: String,
}

impl LocalUser {
    /// The user with this number. Asks the system, which may take a while.
    fn of(uid: u32) -> Self {
        let user = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        Self { uid, name: user.map_or_else(|| format!("uid {uid}"), |user| user.name) }
    }
}

impl Settings {
    /// Security decision: whether this user may send as `path`. The reply if not.
    pub(super) fn sender_refusal(&self, user: &LocalUser, path: &ReversePath) -> Option<Reply> {
        let local = &self.options.local;
        let is_trusted = local.any_sender
            || user.uid == 0
            || user.uid == nix::unistd::geteuid().as_raw()
            || local.trusted_users.contains(&user.name);
        let ReversePath::Mailbox(mailbox) = path else { return None };
        if is_trusted {
            return None;
        }
        let is_own_name = mailbox.local_part().split('+').next() == Some(&user.name);
        let is_own_domain = matches!(mailbox.host(), Host::Domain(domain)
            if *domain == local.origin || self.accounts.is_local(domain));
        if is_own_name && is_own_domain {
            return None;
        }
        let text = format!("{} may not send as this address (sendmail.any_sender)", user.name);
        Some(Reply::with_status(553, (5, 7, 1), text))
    }
}

/// The time in which messages of a user are counted.
const HOUR: Duration = Duration::from_secs(3600);

/// Users whose messages are counted; more are no users of one machine.
const COUNTED_USERS: usize = 10_000;

/// What a user handed in since his hour began.
#[derive(Debug, Clone, Copy)]
struct Handed {
    since: Instant,
    messages: u64,
    told: bool,
}

/// Whether one more message of a user is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rate {
    Below,
    Above,
    /// The same, for the first time within his hour.
    JustAbove,
}

/// How many messages each user of this machine hands in.
#[derive(Debug, Clone, Default)]
pub(super) struct LocalRates {
    users: Arc<Mutex<HashMap<u32, Handed>>>,
}

impl LocalRates {
    /// Counts a message that is about to begin. The refusal where its user has had enough for now: a temporary one, so that
    /// it waits in the maildrop.
    pub(super) fn refusal(&self, user: &LocalUser, options: &LocalOptions) -> Option<Reply> {
        let most = options.messages_per_hour;
        match self.ask(user.uid, most, Instant::now()) {
            Rate::Below => return None,
            Rate::Above => {}
            Rate::JustAbove => {
                let line = Line::new("local-rate").with("user", &user.name).with("uid", user.uid);
                let reason = format!(
                    "more than {most} messages within an hour (sendmail.max_messages_per_hour); further ones wait in \
                     the maildrop"
                );
                log::warn!("{}", line.with("reason", reason));
            }
        }
        let text = format!("more than {most} messages within an hour of {}, try again later", user.name);
        Some(Reply::with_status(450, (4, 7, 1), text))
    }

    fn ask(&self, uid: u32, most: u64, now: Instant) -> Rate {
        if most == 0 || uid == 0 {
            return Rate::Below;
        }
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= COUNTED_USERS {
            users.retain(|_, handed| now.saturating_duration_since(handed.since) < HOUR);
        }
        if users.len() >= COUNTED_USERS && !users.contains_key(&uid) {
            return Rate::Below;
        }
        let begin = Handed { since: now, messages: 0, told: false };
        let handed = users.entry(uid).or_insert(begin);
        if now.saturating_duration_since(handed.since) >= HOUR {
            *handed = begin;
        }
        if handed.messages < most {
            handed.messages += 1;
            return Rate::Below;
        }
        if std::mem::replace(&mut handed.told, true) { Rate::Above } else { Rate::JustAbove }
    }
}

/// Sessions of users.
#[derive(Debug, Clone, Default)]
pub(super) struct UserLimit {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
}

/// The right to one session, given back when dropped.
#[derive(Debug)]
struct Place {
    counts: Arc<Mutex<HashMap<u32, usize>>>,
    uid: u32,
}

impl UserLimit {
    fn acquire(&self, uid: u32, per_user: usize) -> Option<Place> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_user = counts.get(&uid).copied().unwrap_or_default();
        // Root and the service itself are never locked out by the others.
        let most = if uid == 0 { usize::MAX } else { MAX_SESSIONS };
        if counts.values().sum::<usize>() >= most || of_user >= per_user {
            return None;
        }
        counts.insert(uid, of_user + 1);
        Some(Place { counts: Arc::clone(&self.counts), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_user) = counts.get_mut(&self.uid) {
            *of_user -= 1;
            if *of_user == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}

impl Server {
    /// Accepts local programs until the task is cancelled.
    pub(super) async fn accept_local(
        self: Arc<Self>,
        listener: UnixListener,
        stops: (Stop, Stop),
        alive: Alive,
    ) -> io::Result<()> {
        let listener = Async::new(listener)?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.accept_one(stream, &stops, &alive).await,
                Err(error) => {
                    // Out of descriptors, for instance.
                    log::warn!("{}", Line::new("local-accept-failed").with("error", error));
                    Timer::after(Duration::from_secs(1)).await;
                }
            }
        }
    }

    async fn accept_one(&self, stream: Async<UnixStream>, stops: &(Stop, Stop), alive: &Alive) {
        // Whoever comes may have left something in the maildrop before.
        self.look_into_maildrop();
        let Ok(peer) = rustix::net::sockopt::socket_peercred(&stream) else { return };
        let (uid, settings) = (peer.uid.as_raw(), self.settings());
        let Some(place) = self.users.acquire(uid, settings.options.local.sessions_per_user) else {
            let reply = turned_away("too many sessions of local programs, try again later");
            // A new connection has room for one line.
            let _ = io::Write::write(&mut stream.get_ref(), &reply.to_bytes());
            log::info!("{}", Line::new("connection-refused").with("uid", uid).with("reply", reply));
            return;
        };
        let (server, stops, alive) = (self.clone_parts(), stops.clone(), alive.clone());
        smol::spawn(async move {
            let user = smol::unblock(move || LocalUser::of(uid)).await;
            server.serve_local(stream, user, settings, stops).await;
            drop((place, alive));
        })
        .detach();
    }

    /// Takes up the maildrop, now and whenever there may be something in it, until the task is cancelled.
    pub(super) async fn pick_up(self: Arc<Self>, stops: (Stop, Stop), alive: Alive) {
        loop {
            let (server, settings) = (self.clone_parts(), self.settings());
            let (stops, alive) = (stops.clone(), alive.clone());
            let pass = smol::unblock(move || {
                let pass = server.take_all(&settings, &stops);
                drop(alive);
                pass
            })
            .await;
            let poked = async {
                let _ = self.poked.recv().await;
            };
            if pass.left == 0 {
                poked.await;
                continue;
            }
            let late = async {
                Timer::after(AGAIN).await;
            };
            or(poked, late).await;
        }
    }
}

/// What a session of a local program needs of the server.
#[derive(Debug, Clone)]
pub(super) struct LocalParts {
    pub(super) queue: mta_queue::Queue,
    pub(super) rates: LocalRates,
}

impl LocalParts {
    async fn serve_local(
        &self,
        stream: Async<UnixStream>,
        user: LocalUser,
        settings: Arc<Settings>,
        stops: (Stop, Stop),
    ) {
        let name = user.name.clone();
        let source = Source::local(user);
        let driver = Driver::new(Stream::Local(stream), source, settings, self.queue.clone(), stops)
            .counting(self.rates.clone());
        super::server::serve(Box::pin(driver.run()), &name).await;
    }

    /// One pass over the maildrop. Blocks.
    fn take_all(&self, settings: &Arc<Settings>, stops: &(Stop, Stop)) -> Pass {
        let options = &settings.options;
        let maildrop =
            Maildrop { directory: options.local.maildrop.clone(), max_octets: options.message_size_limit };
        let taken = maildrop.take(SystemTime::now(), &mut |dropped| {
            self.hand_in(dropped, settings, stops)
                .unwrap_or_else(|error| Submitted::Unreachable(error.to_string()))
        });
        match taken {
            Ok(pass) => {
                if pass != Pass::default() {
                    let line = Line::new("maildrop").with("taken", pass.taken).with("left", pass.left);
                    log::info!("{}", line.with("refused", pass.refused));
                }
                pass
            }
            // There is none: said at the start.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Pass::default(),
            Err(error) => {
                let line = Line::new("maildrop-failed").with("maildrop", maildrop.directory.display());
                log::warn!("{}", line.with("error", error));
                Pass { left: 1, ..Pass::default() }
            }
        }
    }

    /// A session with ourselves, in the name of the user who owns the file.
    fn hand_in(
        &self,
        dropped: Dropped,
        settings: &Arc<Settings>,
        stops: &(Stop, Stop),
    ) -> io::Result<Submitted> {
        let (ours, theirs) = UnixStream::pair()?;
        let theirs = Async::new(theirs)?;
        let (parts, user) = (self.clone(), LocalUser::of(dropped.uid));
        let (stops, of_session) = (stops.clone(), Arc::clone(settings));
        smol::spawn(async move { parts.serve_local(theirs, user, of_session, stops).await }).detach();
        let helo = settings.options.local.origin.as_str();
        Ok(submit(&ours, helo, &dropped.commands, dropped.content, dropped.octets))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::account::{Accounts, LocalDomain};
    use crate::inbound::Options;

    #[test]
    fn who_may_send_as_whom() {
        let domain = |text: &str| Domain::parse(text).unwrap();
        let own = LocalDomain { maildir: "/nowhere/{mailbox}".to_owned(), ..LocalDomain::default() };
        let accounts = Arc::new(Accounts::new(HashMap::from([(domain("own.example"), own)]), None));
        let mut options = Options::new(domain("mx.example"));
        options.local = LocalOptions {
            any_sender: false,
            trusted_users: vec!["www-data".to_owned()],
            ..LocalOptions::new(domain("host.example"))
        };
        let settings = |options: &Options| Settings::new(options.clone(), Arc::clone(&accounts), None);
        let may = |settings: &Settings, uid: u32, name: &str, path: &str| {
            let user = LocalUser { uid, name: name.to_owned() };
            settings.sender_refusal(&user, &ReversePath::parse(path).unwrap()).is_none()
        };
        let strict = settings(&options);
        for (name, path, expected) in [
            ("anna", "<anna@host.example>", true),
            ("anna", "<anna@own.example>", true),
            ("anna", "<anna+list@own.example>", true),
            ("anna", "<>", true),
            ("anna", "<root@host.example>", false),
            ("anna", "<anna@elsewhere.example>", false),
            ("anna", "<anna@mx.own.example>", false),
            ("www-data", "<anybody@elsewhere.example>", true),
        ] {
            assert_eq!(may(&strict, 4242, name, path), expected, "{name} as {path}");
        }
        assert!(may(&strict, 0, "root", "<anybody@elsewhere.example>"));
        options.local.any_sender = true;
        assert!(may(&settings(&options), 4242, "anna", "<anybody@elsewhere.example>"));
    }

    #[test]
    fn messages_of_a_user_are_bounded_by_the_hour_and_roots_are_not() {
        let rates = LocalRates::default();
        let now = Instant::now();
        let ask = |uid, after: u64| rates.ask(uid, 2, now + Duration::from_secs(after));
        assert_eq!([ask(33, 0), ask(33, 10), ask(33, 20)], [Rate::Below, Rate::Below, Rate::JustAbove]);
        assert_eq!([ask(33, 3599), ask(34, 3599)], [Rate::Above, Rate::Below]);
        assert_eq!(
            [ask(33, 3600), ask(33, 3601), ask(33, 3602)],
            [Rate::Below, Rate::Below, Rate::JustAbove]
        );
        assert!((0..10).all(|_| ask(0, 0) == Rate::Below));
        assert!((0..10).all(|_| rates.ask(35, 0, now) == Rate::Below), "no bound");
        // Bounded whoever comes, and what is over makes room.
        for uid in 100..20_000 {
            assert_eq!(ask(uid, 4000), Rate::Below);
        }
        assert!(rates.users.lock().unwrap().len() <= COUNTED_USERS);
        assert_eq!(ask(90_000, 9000), Rate::Below);
        assert_eq!(rates.users.lock().unwrap().len(), 1);
    }

    #[test]
    fn one_user_takes_no_place_from_the_others() {
        let limit = UserLimit::default();
        let places: Vec<_> = (0..3).map_while(|_| limit.acquire(1, 2)).collect();
        assert_eq!(places.len(), 2);
        assert!(limit.acquire(2, 2).is_some());
        drop(places);
        assert!(limit.counts.lock().unwrap().is_empty());
        let mut all = Vec::new();
        all.extend((0..1000).map_while(|uid| limit.acquire(1 + uid / 2, 2)));
        assert_eq!(all.len(), MAX_SESSIONS);
        assert!(limit.acquire(5000, 2).is_none() && limit.acquire(0, 2).is_some());
    }
}
