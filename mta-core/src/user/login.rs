//! The one place that decides whether a login is good.
//!
//! What it does: looks users up, has passwords checked on threads that may block (few at a time, because each takes memory),
//! asks the external check, counts failures (`guard`), and says in one log line why a login failed. What it does not: no
//! protocol; the session tells the client no more than yes or no.
//!
//! Whoever does not exist costs the same time as whoever does, and gets SCRAM keys that look like anybody's.
//!
//! The line of a failed login is for programs, too; a fail2ban filter is in `packaging/fail2ban/`:
//!
//! ```text
//! event=auth-failed client=192.0.2.7 user=anna@example.org mechanism=PLAIN reason=wrong-password failures=3
//! ```

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use async_lock::{Semaphore, SemaphoreGuard};
use futures_lite::future::or;
use mta_queue::{Queue, QueueError, StoredUser};
use mta_smtp::sasl::server::{Password, ScramKeys};
use ring::rand::{SecureRandom, SystemRandom};

use super::external::External;
use super::guard::{self, Admission, Guard};
use super::password::{self, Checked, Cost};
use super::roster::{Users, login_name};
use crate::log::Line;

/// A login that is as young as that is not written down again.
const LOGIN_NOTED: Duration = Duration::from_secs(60);

/// How long an attempt waits for its turn.
const TURN: Duration = Duration::from_secs(30);

/// Questions to the external check at a time. What is guessed there is counted only after its answer.
const CHECKS_OUTSIDE: usize = 10;

/// The name of the secret from which SCRAM keys of nobody are made.
const SECRET: &str = "scram";

/// What can be set about logins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What new hashes cost.
    pub cost: Cost,
    /// Passwords that are checked at a time; each takes the memory of its hash. 2.
    pub checks: usize,
    /// How guesses are slowed down.
    pub guard: guard::Options,
    /// Who else knows users. Nobody.
    pub external: Option<External>,
}

impl Default for Options {
    fn default() -> Self {
        Self { cost: Cost::default(), checks: 2, guard: guard::Options::default(), external: None }
    }
}

/// Who logs in, from where, and how.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// The client's address.
    pub client: IpAddr,
    /// The name it gave.
    pub user: &'a str,
    /// The mechanism's name.
    pub mechanism: &'static str,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is this user.
    LoggedIn(String),
    /// It is not, or it may not.
    Refused,
    /// Too many attempts failed; none is looked at now.
    Blocked,
    /// It cannot be decided now.
    Unavailable,
}

/// The logins of all sessions.
pub struct Logins {
    users: Users,
    queue: Queue,
    secret: Vec<u8>,
    guard: Mutex<Guard>,
    checks: Semaphore,
    outside: Semaphore,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").field("users", &self.users).finish_non_exhaustive()
    }
}

impl Logins {
    /// The logins of these users, of whom `checks` passwords are checked at a time. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn new(users: Users, queue: Queue, checks: usize) -> Result<Arc<Self>, QueueError> {
        let mut random = vec![0; 32];
        SystemRandom::new().fill(&mut random).map_err(|_| QueueError::Invalid("no random numbers"))?;
        let secret = queue.secret(SECRET, random)?;
        let guard = Mutex::default();
        let (checks, outside) = (Semaphore::new(checks.max(1)), Semaphore::new(CHECKS_OUTSIDE));
        Ok(Arc::new(Self { users, queue, secret, guard, checks, outside }))
    }

    /// The users.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// Whether a client is refused whatever it says.
    pub fn is_blocked(&self, client: IpAddr, options: &Options) -> bool {
        self.guard().is_blocked(client, &options.guard, Instant::now())
    }

    /// Checks a password.
    pub async fn password(&self, attempt: Attempt<'_>, password: &Password, options: &Options) -> Outcome {
        let name = login_name(attempt.user);
        if let Some(outcome) = self.wait(attempt, name.as_deref(), options).await {
            return outcome;
        }
        let kept = match &name {
            Some(name) => self.stored(name.clone()).await,
            None => Ok(None),
        };
        let kept = match kept {
            Ok(kept) => kept,
            Err(error) => return unavailable(attempt, &error),
        };
        if let (None, Some(external), Some(name)) = (&kept, &options.external, &name) {
            return self.ask_outside(external, attempt, name, password, options).await;
        }
        match self.check(attempt, kept.unwrap_or_default(), password.clone(), options).await {
            Ok(Ok(user)) => self.let_in(attempt, &user, options),
            Ok(Err(reason)) => self.failed(attempt, name.as_deref(), reason, options),
            Err(outcome) => outcome,
        }
    }

    /// The user's SCRAM keys, or those of nobody.
    pub async fn keys(&self, attempt: Attempt<'_>, options: &Options) -> Result<ScramKeys, Outcome> {
        let name = login_name(attempt.user);
        if let Some(outcome) = self.wait(attempt, name.as_deref(), options).await {
            return Err(outcome);
        }
        // Something that no user is called, and the same each time.
        let name = name.unwrap_or_else(|| format!("\0{}", attempt.user));
        let nobody = password::keys_of_nobody(&self.secret, &name, options.cost);
        match self.stored(name).await {
            Ok(Some(user)) => match &user.secret.scram {
                Some(keys) => Ok(password::keys(keys)),
                None => {
                    let reason = "no SCRAM keys are kept: log in once with PLAIN, or mta-cli user passwd";
                    ::log::info!("{}", line("auth-note", attempt).with("reason", reason));
                    Ok(nobody)
                }
            },
            Ok(None) => Ok(nobody),
            Err(error) => Err(unavailable(attempt, &error)),
        }
    }

    /// The end of a SCRAM exchange.
    pub async fn proof(&self, attempt: Attempt<'_>, proven: bool, options: &Options) -> Outcome {
        let name = login_name(attempt.user);
        // Others may have failed since the exchange began.
        if let Some(outcome) = self.refused(attempt, name.as_deref(), options) {
            return outcome;
        }
        match self.stored(name.clone().unwrap_or_default()).await {
            Ok(Some(user)) if proven && !user.disabled => self.let_in(attempt, &user, options),
            Ok(Some(user)) if proven && user.disabled => {
                self.failed(attempt, name.as_deref(), "disabled", options)
            }
            Ok(_) => self.failed(attempt, name.as_deref(), "wrong-password", options),
            Err(error) => unavailable(attempt, &error),
        }
    }

    /// A login by the certificate of the TLS handshake, named by its fingerprint.
    pub async fn certificate(
        &self,
        attempt: Attempt<'_>,
        fingerprint: Option<&str>,
        options: &Options,
    ) -> Outcome {
        // Most programs give no name with a certificate: whose it is, is what counts.
        let owner = fingerprint.and_then(|print| self.users.now().by_certificate(print).map(str::to_owned));
        if let Some(outcome) = self.wait(attempt, owner.as_deref(), options).await {
            return outcome;
        }
        let Some(owner) = owner else {
            return self.failed(attempt, None, "unknown-certificate", options);
        };
        // RFC 4422 A: the name asked for is the certificate's, or none is.
        if !attempt.user.is_empty() && login_name(attempt.user).as_deref() != Some(owner.as_str()) {
            return self.failed(attempt, Some(&owner), "certificate-of-another", options);
        }
        match self.stored(owner.clone()).await {
            Ok(Some(user)) if !user.disabled => self.let_in(attempt, &user, options),
            Ok(_) => self.failed(attempt, Some(&owner), "disabled", options),
            Err(error) => unavailable(attempt, &error),
        }
    }

    /// Waits as long as failures before demand; an outcome where the attempt is not looked at.
    async fn wait(&self, attempt: Attempt<'_>, name: Option<&str>, options: &Options) -> Option<Outcome> {
        match self.admission(attempt, name, options) {
            Admission::After(wait) if !wait.is_zero() => {
                Timer::after(wait).await;
            }
            _ => {}
        }
        self.refused(attempt, name, options)
    }

    fn admission(&self, attempt: Attempt<'_>, name: Option<&str>, options: &Options) -> Admission {
        self.guard().ask(attempt.client, name.unwrap_or_default(), &options.guard, Instant::now())
    }

    /// Security decision: whether too many have failed for this attempt to be looked at. Asked again after each wait: those
    /// who guess on many connections at once would all have been let by before the first of them failed.
    fn refused(&self, attempt: Attempt<'_>, name: Option<&str>, options: &Options) -> Option<Outcome> {
        let reason = match self.admission(attempt, name, options) {
            Admission::After(_) => return None,
            Admission::ClientBlocked => "client-blocked",
            Admission::UserBlocked => "user-blocked",
        };
        ::log::info!("{}", line("auth-refused", attempt).with("reason", reason));
        Some(Outcome::Blocked)
    }

    /// Waits for a turn among those who are checked at the same time; an outcome where none came, or came too late.
    async fn turn<'a>(
        &self,
        turns: &'a Semaphore,
        attempt: Attempt<'_>,
        name: Option<&str>,
        options: &Options,
    ) -> Result<SemaphoreGuard<'a>, Outcome> {
        let turn = async { Some(turns.acquire().await) };
        let late = async {
            Timer::after(TURN).await;
            None
        };
        let turn = or(turn, late).await.ok_or_else(|| unavailable(attempt, &"too many logins at once"))?;
        self.refused(attempt, name, options).map_or(Ok(turn), Err)
    }

    /// Checks a password against what is kept; the user, or the reason. An outcome where its turn did not come.
    async fn check(
        &self,
        attempt: Attempt<'_>,
        kept: StoredUser,
        password: Password,
        options: &Options,
    ) -> Result<Result<StoredUser, &'static str>, Outcome> {
        let name = login_name(attempt.user);
        let _turn = self.turn(&self.checks, attempt, name.as_deref(), options).await?;
        let (queue, cost) = (self.queue.clone(), options.cost);
        Ok(smol::unblock(move || checked(&queue, kept, &password, cost)).await)
    }

    async fn ask_outside(
        &self,
        external: &External,
        attempt: Attempt<'_>,
        name: &str,
        password: &Password,
        options: &Options,
    ) -> Outcome {
        let _turn = match self.turn(&self.outside, attempt, Some(name), options).await {
            Ok(turn) => turn,
            Err(outcome) => return outcome,
        };
        let asked = Some(name);
        match external.check(name, password.reveal(), attempt.client).await {
            // Security decision: the answer may name a user of ours, and one who is disabled stays out by every way.
            Ok(Some(name)) => match self.stored(name.clone()).await {
                Ok(Some(user)) if user.disabled => self.failed(attempt, asked, "disabled", options),
                Ok(user) => {
                    let user = user.unwrap_or_else(|| StoredUser { name, ..StoredUser::default() });
                    self.let_in(attempt, &user, options)
                }
                Err(error) => unavailable(attempt, &error),
            },
            Ok(None) => self.failed(attempt, asked, "wrong-password", options),
            Err(error) => {
                ::log::warn!("{}", line("auth-unavailable", attempt).with("reason", error));
                Outcome::Unavailable
            }
        }
    }

    fn let_in(&self, attempt: Attempt<'_>, user: &StoredUser, options: &Options) -> Outcome {
        let now = SystemTime::now();
        self.guard().succeeded(attempt.client, &user.name, &options.guard, Instant::now());
        let is_kept = user.created_at.is_some();
        let is_old = user
            .last_login_at
            .is_none_or(|last| now.duration_since(last).is_ok_and(|since| since >= LOGIN_NOTED));
        if is_kept && is_old {
            self.queue.note_login(&user.name, now);
        }
        let line = Line::new("login").with("client", attempt.client).with("user", &user.name);
        ::log::info!("{}", line.with("mechanism", attempt.mechanism));
        Outcome::LoggedIn(user.name.clone())
    }

    /// The one line of a failed login.
    fn failed(
        &self,
        attempt: Attempt<'_>,
        name: Option<&str>,
        reason: &'static str,
        options: &Options,
    ) -> Outcome {
        let name = name.unwrap_or_default();
        let failed = self.guard().failed(attempt.client, name, &options.guard, Instant::now());
        let told = line("auth-failed", attempt).with("reason", reason);
        ::log::info!("{}", told.with("failures", failed.client_failures));
        if failed.client_blocked || failed.user_blocked {
            let what = if failed.client_blocked { "client" } else { "user" };
            let told = line("auth-blocked", attempt).with("what", what);
            ::log::warn!("{}", told.with("seconds", options.guard.block.as_secs()));
        }
        Outcome::Refused
    }

    async fn stored(&self, name: String) -> Result<Option<StoredUser>, QueueError> {
        let reader = self.queue.reader();
        smol::unblock(move || reader.user(&name)).await
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Checks a password and makes what is kept anew where it is old. Blocks, and takes time and memory.
fn checked(
    queue: &Queue,
    kept: StoredUser,
    password: &Password,
    cost: Cost,
) -> Result<StoredUser, &'static str> {
    let with_scram = !kept.scram_off;
    let checked = password::check(&kept.secret, password.reveal(), cost, with_scram);
    if checked == Checked::Wrong {
        return Err(if kept.created_at.is_some() { "wrong-password" } else { "unknown-user" });
    }
    if kept.disabled {
        return Err("disabled");
    }
    if checked == Checked::Renew
        && let Some(old) = kept.secret.password.clone()
        && let Ok(new) = password::secret(password.reveal(), cost, with_scram)
    {
        queue.renew_secret(&kept.name, old, new, |_| {});
    }
    Ok(kept)
}

/// Nobody is let in while it cannot be decided.
fn unavailable(attempt: Attempt<'_>, reason: &dyn std::fmt::Display) -> Outcome {
    ::log::warn!("{}", line("auth-unavailable", attempt).with("reason", reason));
    Outcome::Unavailable
}

fn line(event: &'static str, attempt: Attempt<'_>) -> Line {
    let line = Line::new(event).with("client", attempt.client).with("user", attempt.user);
    line.with("mechanism", attempt.mechanism)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use mta_queue::{GrantKind, StoredGrant, StoredSecret, UserChange};

    use super::*;

    struct Site {
        _state: tempfile::TempDir,
        queue: Queue,
        logins: Arc<Logins>,
        options: Options,
    }

    const SHA_CRYPT: &str = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1";

    fn site() -> Site {
        let state = tempfile::tempdir().expect("a directory");
        let queue = Queue::open(state.path(), mta_queue::Options::default()).expect("a queue");
        let scram_iterations = NonZeroU32::new(4096).expect("not zero");
        let cost = Cost { memory_kib: 64, passes: 1, scram_iterations };
        let guard = guard::Options { client_failures: 100, user_failures: 100, ..guard::Options::default() };
        let options = Options { cost, guard, ..Options::default() };
        let add = |name: &str, secret: StoredSecret, disabled: bool| {
            let created_at = Some(SystemTime::UNIX_EPOCH);
            let user =
                StoredUser { name: name.to_owned(), secret, disabled, created_at, ..Default::default() };
            queue.add_user(user).expect("added");
        };
        let secret = |text: &str| password::secret(text, cost, true).expect("made");
        add("anna@one.example", secret("right"), false);
        add("gone@one.example", secret("right"), true);
        add("old@one.example", password::imported(SHA_CRYPT).expect("known"), false);
        let users = Users::default();
        users.refresh(&queue.reader()).expect("read");
        let logins = Logins::new(users, queue.clone(), 2).expect("logins");
        Site { _state: state, queue, logins, options }
    }

    fn attempt(user: &str, host: u8) -> Attempt<'_> {
        let client = IpAddr::from([192, 0, 2, host]);
        Attempt { client, user, mechanism: "PLAIN" }
    }

    fn login(site: &Site, user: &str, host: u8, text: &str) -> Outcome {
        smol::block_on(site.logins.password(attempt(user, host), &Password::new(text), &site.options))
    }

    #[test]
    fn right_and_wrong_passwords() {
        let site = site();
        let anna = Outcome::LoggedIn("anna@one.example".to_owned());
        assert_eq!(login(&site, "Anna@One.Example", 1, "right"), anna);
        for (host, (user, text)) in (2..).zip([
            ("anna@one.example", "wrong"),
            ("nobody@one.example", "right"),
            ("gone@one.example", "right"),
            ("not a name", "right"),
            ("", "right"),
        ]) {
            assert_eq!(login(&site, user, host, text), Outcome::Refused, "{user}");
        }
    }

    #[test]
    fn an_imported_user_gets_all_keys_at_the_first_login() {
        let site = site();
        let kept = || site.queue.reader().user("old@one.example").expect("read").expect("there").secret;
        let keys =
            || smol::block_on(site.logins.keys(attempt("old@one.example", 1), &site.options)).expect("keys");
        let nobody = keys();
        let old = Outcome::LoggedIn("old@one.example".to_owned());
        assert_eq!(login(&site, "old@one.example", 1, "Hello world!"), old);
        // What was given to the writer before is written before.
        site.queue.change_user("old@one.example", UserChange::default()).expect("written");
        assert!(kept().password.is_some_and(|hash| hash.starts_with("$argon2id$")));
        assert_ne!(keys(), nobody);
        assert_eq!(login(&site, "old@one.example", 1, "Hello world!"), old);
    }

    #[test]
    fn nobody_has_keys_too_and_always_the_same() {
        let site = site();
        let keys = |name| smol::block_on(site.logins.keys(attempt(name, 1), &site.options)).expect("keys");
        assert_eq!(keys("nobody@one.example"), keys("nobody@one.example"));
        assert_eq!(keys("nobody@one.example"), keys("NOBODY@one.example"));
        assert_ne!(keys("nobody@one.example").salt, keys("nobody@two.example").salt);
        let (real, none) = (keys("anna@one.example"), keys("nobody@one.example"));
        assert_eq!((real.salt.len(), real.iterations), (none.salt.len(), none.iterations));
        // And after a restart.
        let again = Logins::new(Users::default(), site.queue.clone(), 1).expect("logins");
        let after =
            smol::block_on(again.keys(attempt("nobody@one.example", 1), &site.options)).expect("keys");
        assert_eq!(after, none);
    }

    #[test]
    fn a_proof_lets_in_only_whom_it_may() {
        let site = site();
        let proof = |user, proven| smol::block_on(site.logins.proof(attempt(user, 1), proven, &site.options));
        assert_eq!(proof("gone@one.example", true), Outcome::Refused);
        assert_eq!(proof("nobody@one.example", true), Outcome::Refused);
        assert_eq!(proof("anna@one.example", false), Outcome::Refused);
        assert_eq!(proof("anna@one.example", true), Outcome::LoggedIn("anna@one.example".to_owned()));
    }

    #[test]
    fn a_certificate_is_its_owners_alone() {
        let site = site();
        let print = "ab".repeat(32);
        let grant = |user: &str, value: &str| StoredGrant {
            user: user.to_owned(),
            kind: GrantKind::Certificate,
            value: value.to_owned(),
        };
        site.queue.grant(grant("anna@one.example", &print)).expect("granted");
        site.queue.grant(grant("gone@one.example", &"cd".repeat(32))).expect("granted");
        site.logins.users().refresh(&site.queue.reader()).expect("read");
        let anna = Outcome::LoggedIn("anna@one.example".to_owned());
        for (host, (user, print, expected)) in (1..).zip([
            ("", Some("ab"), &anna),
            ("anna@one.example", Some("ab"), &anna),
            ("gone@one.example", Some("ab"), &Outcome::Refused),
            ("", Some("cd"), &Outcome::Refused),
            ("anna@one.example", Some("ef"), &Outcome::Refused),
            ("anna@one.example", None, &Outcome::Refused),
        ]) {
            let print = print.map(|print| print.repeat(32));
            let came =
                smol::block_on(site.logins.certificate(attempt(user, host), print.as_deref(), &site.options));
            assert_eq!(came, *expected, "{user} {print:?}");
        }
    }

    #[test]
    fn after_too_many_failures_even_the_right_password_is_refused() {
        let mut site = site();
        site.options.guard.client_failures = 1;
        assert_eq!(login(&site, "anna@one.example", 1, "wrong"), Outcome::Refused);
        assert_eq!(login(&site, "anna@one.example", 1, "right"), Outcome::Blocked);
        assert!(site.logins.is_blocked(IpAddr::from([192, 0, 2, 1]), &site.options));
        let anna = Outcome::LoggedIn("anna@one.example".to_owned());
        assert_eq!(login(&site, "anna@one.example", 2, "right"), anna, "elsewhere it goes on");
    }

    #[test]
    fn guesses_at_the_same_time_are_no_more_than_one_after_the_other() {
        let mut site = site();
        site.options.guard.client_failures = 3;
        let guess = || async {
            let password = Password::new("wrong");
            site.logins.password(attempt("anna@one.example", 1), &password, &site.options).await
        };
        let outcomes = smol::block_on(async {
            let executor = smol::LocalExecutor::new();
            let guesses: Vec<_> = (0..20).map(|_| executor.spawn(guess())).collect();
            let all = async {
                let mut outcomes = Vec::new();
                for guess in guesses {
                    outcomes.push(guess.await);
                }
                outcomes
            };
            executor.run(all).await
        });
        let refused = outcomes.iter().filter(|outcome| **outcome == Outcome::Refused).count();
        // Two are checked at a time.
        assert!((3..=4).contains(&refused), "{outcomes:?}");
        assert!(outcomes.iter().all(|it| matches!(it, Outcome::Refused | Outcome::Blocked)), "{outcomes:?}");
        let proof = smol::block_on(site.logins.proof(attempt("anna@one.example", 1), true, &site.options));
        assert_eq!(proof, Outcome::Blocked, "an exchange that began before ends in nothing");
    }

    #[test]
    fn whoever_is_not_here_may_be_known_outside() {
        let mut site = site();
        site.options.external =
            Some(External { socket: "/nonexistent/check.sock".into(), timeout: Duration::from_secs(1) });
        assert_eq!(
            login(&site, "ben@ldap.example", 1, "x"),
            Outcome::Unavailable,
            "nobody is let in blindly"
        );
        assert_eq!(
            login(&site, "anna@one.example", 2, "wrong"),
            Outcome::Refused,
            "users here are asked here"
        );
    }

    #[test]
    fn no_answer_from_outside_lets_in_whoever_is_disabled_here() {
        use std::io::{BufRead, BufReader, Write};

        let mut site = site();
        let folder = tempfile::tempdir().expect("a directory");
        let socket = folder.path().join("check.sock");
        let listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        let answers = ["gone@one.example", "anna@one.example", "ben@ldap.example"];
        let asked = std::thread::spawn(move || {
            for name in answers {
                let (mut stream, _) = listener.accept().expect("a question");
                BufReader::new(&stream).read_line(&mut String::new()).expect("a line");
                writeln!(stream, "{{\"ok\":true,\"user\":\"{name}\"}}").expect("an answer");
            }
        });
        site.options.external = Some(External { socket, timeout: Duration::from_secs(10) });
        let came = answers.map(|_| login(&site, "ben@ldap.example", 1, "x"));
        let let_in = |name: &str| Outcome::LoggedIn(name.to_owned());
        assert_eq!(came, [Outcome::Refused, let_in("anna@one.example"), let_in("ben@ldap.example")]);
        asked.join().expect("three questions");
    }
}
