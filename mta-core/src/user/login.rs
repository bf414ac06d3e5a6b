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
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use async_io::Timer;
use async_lock::{Semaphore, SemaphoreGuard};
use futures_lite::future::or;
use mta_queue::{Queue, QueueError, StoredUser};
use mta_smtp::sasl::server::{Password, ScramKeys};
use ring::rand::{SecureRandom, SystemRandom};
use rustls_pki_types::UnixTime;

use super::external::External;
use super::guard::{self, Admission, Guard};
use super::password::{self, Checked, Cost};
use super::roster::{Users, login_name};
use crate::log::Line;
use crate::tls::client_certificate::ClientCertificate;

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
    /// The authorities (PEM) that vouch for certificates of users. None: a certificate is known by its fingerprint alone.
    pub client_ca_file: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cost: Cost::default(),
            checks: 2,
            guard: guard::Options::default(),
            external: None,
            client_ca_file: None,
        }
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
        let is_outside = kept.as_ref().is_none_or(|user| user.outside);
        if let (true, Some(external), Some(name)) = (is_outside, &options.external, &name) {
            return self.ask_outside(external, attempt, name, password, options).await;
        }
        match self.check(attempt, name.as_deref(), kept.unwrap_or_default(), password.clone(), options).await
        {
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
                None if user.outside => Ok(nobody),
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

    /// A login by the certificate of the TLS handshake: its owner's, to whom its fingerprint was granted; else that of the
    /// user whose address it names, where an authority of the administrator's own vouches for it.
    pub async fn certificate(
        &self,
        attempt: Attempt<'_>,
        certificate: Option<Arc<ClientCertificate>>,
        options: &Options,
    ) -> Outcome {
        // Most programs give no name with a certificate: whose it is, is what counts.
        let granted = |shown: &Arc<ClientCertificate>| {
            self.users.now().by_certificate(&shown.fingerprint).map(str::to_owned)
        };
        let owner = match (certificate.as_ref().and_then(granted), certificate) {
            (Some(owner), _) => Ok(owner),
            (None, Some(certificate)) => named(attempt, certificate, options).await,
            (None, None) => Err("unknown-certificate"),
        };
        if let Some(outcome) = self.wait(attempt, owner.as_deref().ok(), options).await {
            return outcome;
        }
        let owner = match owner {
            Ok(owner) => owner,
            Err(reason) => return self.failed(attempt, None, reason, options),
        };
        // RFC 4422 A: the name asked for is the certificate's, or none is.
        if !attempt.user.is_empty() && login_name(attempt.user).as_deref() != Some(owner.as_str()) {
            return self.failed(attempt, Some(&owner), "certificate-of-another", options);
        }
        match self.stored(owner.clone()).await {
            Ok(Some(user)) if !user.disabled => self.let_in(attempt, &user, options),
            Ok(Some(_)) => self.failed(attempt, Some(&owner), "disabled", options),
            Ok(None) => self.failed(attempt, Some(&owner), "unknown-user", options),
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
        self.guard().ask(attempt.client, name, &options.guard, Instant::now())
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
        name: Option<&str>,
        kept: StoredUser,
        password: Password,
        options: &Options,
    ) -> Result<Result<StoredUser, &'static str>, Outcome> {
        let _turn = self.turn(&self.checks, attempt, name, options).await?;
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

/// The user whom a certificate names, where an authority vouches for it. With several names the client has to say which one
/// is meant. The reason where it names nobody.
async fn named(
    attempt: Attempt<'_>,
    certificate: Arc<ClientCertificate>,
    options: &Options,
) -> Result<String, &'static str> {
    let Some(file) = options.client_ca_file.clone() else { return Err("unknown-certificate") };
    let names = smol::unblock(move || certificate.addresses(&file, UnixTime::now())).await;
    let names = names.map_err(|error| {
        ::log::info!("{}", line("auth-note", attempt).with("reason", error));
        "untrusted-certificate"
    })?;
    let mut names: Vec<String> = names.iter().filter_map(|name| login_name(name)).collect();
    names.sort();
    names.dedup();
    let asked = login_name(attempt.user);
    match (asked, names.as_slice()) {
        (Some(asked), names) if names.contains(&asked) => Ok(asked),
        (Some(_), _) => Err("certificate-of-another"),
        (None, [only]) => Ok(only.clone()),
        (None, _) => Err("certificate-of-several"),
    }
}

/// Checks a password and makes what is kept anew where it is old. Blocks, and takes time and memory.
fn checked(
    queue: &Queue,
    kept: StoredUser,
    password: &Password,
    cost: Cost,
) -> Result<StoredUser, &'static str> {
    match password::weigh(&kept.secret, cost) {
        password::Weight::Usual => {}
        password::Weight::More(costs) => {
            // It is made anew once the password is known.
            let told = Line::new("hash-cost").with("user", &kept.name).with("costs", costs);
            ::log::warn!("{told}");
        }
        password::Weight::Beyond => {
            let reason = "the hash that is kept cannot be checked, or costs more than any check may; mta-cli user \
                          passwd gives another";
            let told = Line::new("hash-cost").with("user", &kept.name).with("reason", reason);
            ::log::error!("{told}");
            password::nobody(password.reveal(), cost);
            return Err("unusable-hash");
        }
    }
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
mod tests;
