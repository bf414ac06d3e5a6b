//! Users: who may log in, by which secret, as whom each may send, and how much each sent.
//!
//! Secrets lie here in the form in which they are checked: a password hash, the keys of SCRAM. Never a password. What the
//! administrator changes is on stable storage before he hears of it, unlike other state; the time of the last login, a hash
//! made anew at a login and the counters of what was sent are written as other state is.
//!
//! Bounded: [`MAX_USERS`] users, [`MAX_GRANTS`] grants of one user, [`RATE_HOURS`] hours of counters for each.

use std::time::SystemTime;

use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::Tx;

/// Users at most: their names are held in memory.
pub const MAX_USERS: i64 = 100_000;

/// Grants of one user at most.
pub const MAX_GRANTS: i64 = 1_000;

/// Hours for which is counted what a user sent.
pub const RATE_HOURS: i64 = 24 * 8;

const COLUMNS: &str = "name, password, scram_salt, scram_iterations, scram_stored, scram_server, scram_off,
    disabled, mailbox, quota, created_at, last_login_at, held_at, held_reason, outside";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StoredUser {
    /// The login name, lower case: an address, or a word without a domain.
    pub name: String,
    /// Whether there is a password, and how it is checked.
    pub secret: StoredSecret,
    /// No SCRAM keys are made for this user.
    pub scram_off: bool,
    /// May not log in.
    pub disabled: bool,
    /// The name is also a mailbox of its domain.
    pub mailbox: bool,
    /// Who he is is known outside: his password is not kept here, and somebody else is asked. Over once he gets one.
    pub outside: bool,
    /// How many octets the mailbox may hold.
    pub quota: Option<u64>,
    /// When it was made.
    pub created_at: Option<SystemTime>,
    /// When it logged in last.
    pub last_login_at: Option<SystemTime>,
    /// Since when what it sends is held, and why.
    pub held: Option<(SystemTime, String)>,
}

/// How a user's password is checked.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StoredSecret {
    /// The hash as text: `$argon2id$...` (PHC), or imported `$5$...`, `$6$...` (sha-crypt).
    pub password: Option<String>,
    /// The keys of SCRAM-SHA-256.
    pub scram: Option<StoredScram>,
}

/// Shows whether there is one, never what it is.
impl std::fmt::Debug for StoredSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (password, scram) = (self.password.is_some(), self.scram.is_some());
        f.debug_struct("StoredSecret").field("password", &password).field("scram", &scram).finish()
    }
}

/// What a server keeps for SCRAM-SHA-256 (RFC 5802 3).
#[derive(Clone, PartialEq, Eq)]
pub struct StoredScram {
    /// The salt.
    pub salt: Vec<u8>,
    /// The iteration count.
    pub iterations: u32,
    /// StoredKey.
    pub stored_key: Vec<u8>,
    /// ServerKey.
    pub server_key: Vec<u8>,
}

/// A change to a user; what is `None` stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UserChange {
    /// Another secret.
    pub secret: Option<StoredSecret>,
    /// Whether SCRAM keys are kept.
    pub scram_off: Option<bool>,
    /// Whether it may log in.
    pub disabled: Option<bool>,
    /// Whether it is a mailbox.
    pub mailbox: Option<bool>,
    /// The quota; `Some(None)` takes it away.
    pub quota: Option<Option<u64>>,
    /// Whether what it sends is held, and why.
    pub held: Option<Option<(SystemTime, String)>>,
}

/// What a grant is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GrantKind {
    /// It may send as this address, or as every address of this `@domain`; `*` is any.
    Sender,
    /// It may log in by the certificate of this SHA-256 fingerprint, in hexadecimal.
    Certificate,
}

impl GrantKind {
    fn word(self) -> &'static str {
        match self {
            Self::Sender => "sender",
            Self::Certificate => "certificate",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Sender, Self::Certificate].into_iter().find(|kind| kind.word() == word)
    }
}

/// Something a user may.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredGrant {
    /// Who.
    pub user: String,
    /// In what.
    pub kind: GrantKind,
    /// What, lower case.
    pub value: String,
}

/// What a user sent within one hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SentHour {
    /// Hours since 1970.
    pub hour: i64,
    /// Messages taken.
    pub messages: u64,
    /// Their recipients.
    pub recipients: u64,
}

impl Queue {
    /// Adds a user; false where there is one of that name. Blocks until it is on stable storage.
    ///
    /// # Errors
    /// `Invalid` for one too many; what the database reports.
    pub fn add_user(&self, user: StoredUser) -> Result<bool, QueueError> {
        self.write(move |tx| add(tx, &user)).map(|count| count > 0)
    }

    /// Changes a user; false where there is none of that name. Blocks until it is on stable storage.
    ///
    /// # Errors
    /// What the database reports.
    pub fn change_user(&self, name: &str, change: UserChange) -> Result<bool, QueueError> {
        let name = name.to_owned();
        self.write(move |tx| apply(tx, &name, &change)).map(|count| count > 0)
    }

    /// Removes a user with its grants and counters; false where there is none of that name. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn remove_user(&self, name: &str) -> Result<bool, QueueError> {
        let name = name.to_owned();
        let remove = move |tx: &mut Tx<'_>| {
            tx.connection.execute("DELETE FROM user_grant WHERE user = ?1", [&name])?;
            tx.connection.execute("DELETE FROM user_sent WHERE user = ?1", [&name])?;
            Ok(tx.connection.execute("DELETE FROM user WHERE name = ?1", [&name])? as u64)
        };
        self.write(remove).map(|count| count > 0)
    }

    /// Grants something to a user; false where it had that already. Blocks.
    ///
    /// # Errors
    /// `Invalid` where there is no such user, or for a grant too many; what the database reports.
    pub fn grant(&self, grant: StoredGrant) -> Result<bool, QueueError> {
        self.write(move |tx| add_grant(tx, &grant)).map(|count| count > 0)
    }

    /// Takes a grant away; false where there was none. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn revoke(&self, grant: StoredGrant) -> Result<bool, QueueError> {
        let revoke = move |tx: &mut Tx<'_>| {
            let StoredGrant { user, kind, value } = &grant;
            let sql = "DELETE FROM user_grant WHERE user = ?1 AND kind = ?2 AND value = ?3";
            Ok(tx.connection.execute(sql, params![user, kind.word(), value])? as u64)
        };
        self.write(revoke).map(|count| count > 0)
    }

    /// Puts a hash and keys made anew in place of `old`, unless the password was changed meanwhile. `done` as for all state.
    pub fn renew_secret(
        &self,
        name: &str,
        old: String,
        new: StoredSecret,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        let name = name.to_owned();
        let renew = move |tx: &mut Tx<'_>| {
            let sql = "SELECT 1 FROM user WHERE name = ?1 AND password = ?2";
            let same: Option<i64> =
                tx.connection.query_row(sql, [&name, &old], |row| row.get(0)).optional()?;
            if same.is_some() {
                let change = UserChange { secret: Some(new.clone()), ..UserChange::default() };
                apply(tx, &name, &change)?;
            }
            Ok(())
        };
        self.write_state("user", renew, done);
    }

    /// Keeps when a user logged in. Does not wait for it.
    pub fn note_login(&self, name: &str, now: SystemTime) {
        let name = name.to_owned();
        let note = move |tx: &mut Tx<'_>| {
            let sql = "UPDATE user SET last_login_at = ?2 WHERE name = ?1";
            tx.connection.prepare_cached(sql)?.execute(params![name, unix_seconds(now)])?;
            Ok(())
        };
        self.write_state("user", note, |_| {});
    }

    /// Counts what a user sent, within the hour of `sent`. Does not wait for it.
    pub fn count_sent(&self, user: &str, sent: SentHour) {
        let user = user.to_owned();
        self.write_state("user", move |tx| count(tx, &user, sent), |_| {});
    }

    /// A secret of this server: the one that is kept under this name, else `candidate`, which is kept from now on. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn secret(&self, name: &'static str, candidate: Vec<u8>) -> Result<Vec<u8>, QueueError> {
        self.write(move |tx| {
            let sql = "INSERT OR IGNORE INTO secret (name, value) VALUES (?1, ?2)";
            Ok(tx.connection.execute(sql, params![name, candidate])? as u64)
        })?;
        let reader = self.reader();
        let connection = reader.lock();
        Ok(connection.query_row("SELECT value FROM secret WHERE name = ?1", [name], |row| row.get(0))?)
    }
}

fn add(tx: &Tx<'_>, user: &StoredUser) -> Result<u64, QueueError> {
    let count: i64 = tx.connection.query_row("SELECT count(*) FROM user", [], |row| row.get(0))?;
    if count >= MAX_USERS {
        return Err(QueueError::Invalid("too many users"));
    }
    let added = tx.connection.execute(
        "INSERT OR IGNORE INTO user (name, created_at, outside) VALUES (?1, ?2, ?3)",
        params![user.name, user.created_at.map_or(0, unix_seconds), user.outside],
    )?;
    if added == 0 {
        return Ok(0);
    }
    let change = UserChange {
        secret: Some(user.secret.clone()),
        scram_off: Some(user.scram_off),
        disabled: Some(user.disabled),
        mailbox: Some(user.mailbox),
        quota: Some(user.quota),
        held: Some(user.held.clone()),
    };
    apply(tx, &user.name, &change)
}

fn apply(tx: &Tx<'_>, name: &str, change: &UserChange) -> Result<u64, QueueError> {
    let connection = tx.connection;
    let mut known = connection.execute("UPDATE user SET name = name WHERE name = ?1", [name])?;
    let mut set = |column: &str, value: &dyn rusqlite::ToSql| -> Result<(), QueueError> {
        let sql = format!("UPDATE user SET {column} = ?2 WHERE name = ?1");
        known = known.max(connection.prepare_cached(&sql)?.execute(params![name, value])?);
        Ok(())
    };
    if let Some(secret) = &change.secret {
        let scram = secret.scram.as_ref();
        set("password", &secret.password)?;
        set("scram_salt", &scram.map(|scram| &scram.salt))?;
        set("scram_iterations", &scram.map(|scram| scram.iterations))?;
        set("scram_stored", &scram.map(|scram| &scram.stored_key))?;
        set("scram_server", &scram.map(|scram| &scram.server_key))?;
        if secret.password.is_some() {
            set("outside", &false)?;
        }
    }
    if let Some(off) = change.scram_off {
        set("scram_off", &off)?;
    }
    if let Some(disabled) = change.disabled {
        set("disabled", &disabled)?;
    }
    if let Some(mailbox) = change.mailbox {
        set("mailbox", &mailbox)?;
    }
    if let Some(quota) = change.quota {
        set("quota", &quota.map(|octets| i64::try_from(octets).unwrap_or(i64::MAX)))?;
    }
    if let Some(held) = &change.held {
        set("held_at", &held.as_ref().map(|(at, _)| unix_seconds(*at)))?;
        set("held_reason", &held.as_ref().map(|(_, reason)| reason))?;
    }
    Ok(known as u64)
}

fn add_grant(tx: &Tx<'_>, grant: &StoredGrant) -> Result<u64, QueueError> {
    let StoredGrant { user, kind, value } = grant;
    let known: Option<i64> =
        tx.connection.query_row("SELECT 1 FROM user WHERE name = ?1", [user], |row| row.get(0)).optional()?;
    if known.is_none() {
        return Err(QueueError::Invalid("no such user"));
    }
    let sql = "SELECT count(*) FROM user_grant WHERE user = ?1";
    let count: i64 = tx.connection.query_row(sql, [user], |row| row.get(0))?;
    if count >= MAX_GRANTS {
        return Err(QueueError::Invalid("too many grants of one user; grant a whole domain"));
    }
    let sql = "INSERT OR IGNORE INTO user_grant (user, kind, value) VALUES (?1, ?2, ?3)";
    Ok(tx.connection.execute(sql, params![user, kind.word(), value])? as u64)
}

fn count(tx: &Tx<'_>, user: &str, sent: SentHour) -> Result<(), QueueError> {
    let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    tx.connection
        .prepare_cached(
            "INSERT INTO user_sent (user, hour, messages, recipients) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (user, hour) DO UPDATE SET
                 messages = messages + excluded.messages, recipients = recipients + excluded.recipients",
        )?
        .execute(params![user, sent.hour, number(sent.messages), number(sent.recipients)])?;
    tx.connection
        .prepare_cached("DELETE FROM user_sent WHERE user = ?1 AND hour <= ?2")?
        .execute(params![user, sent.hour.saturating_sub(RATE_HOURS)])?;
    Ok(())
}

fn user(row: &Row<'_>) -> rusqlite::Result<StoredUser> {
    let scram = match (row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?) {
        (Some(salt), Some(iterations), Some(stored_key), Some(server_key)) => {
            Some(StoredScram { salt, iterations, stored_key, server_key })
        }
        _ => None,
    };
    let held_at: Option<i64> = row.get(12)?;
    let held_reason: Option<String> = row.get(13)?;
    Ok(StoredUser {
        name: row.get(0)?,
        secret: StoredSecret { password: row.get(1)?, scram },
        scram_off: row.get(6)?,
        disabled: row.get(7)?,
        mailbox: row.get(8)?,
        quota: row.get::<_, Option<i64>>(9)?.map(|octets| u64::try_from(octets).unwrap_or(0)),
        created_at: Some(from_unix(row.get(10)?)),
        last_login_at: row.get::<_, Option<i64>>(11)?.map(from_unix),
        held: held_at.map(|at| (from_unix(at), held_reason.unwrap_or_default())),
        outside: row.get(14)?,
    })
}

fn users(connection: &Connection) -> Result<Vec<StoredUser>, QueueError> {
    let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM user ORDER BY name"))?;
    Ok(statement.query_map([], user)?.collect::<Result<_, _>>()?)
}

impl Reader {
    /// Every user, by name. Bounded by [`MAX_USERS`].
    ///
    /// # Errors
    /// What the database reports.
    pub fn users(&self) -> Result<Vec<StoredUser>, QueueError> {
        users(&self.lock())
    }

    /// One user.
    ///
    /// # Errors
    /// What the database reports.
    pub fn user(&self, name: &str) -> Result<Option<StoredUser>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached(&format!("SELECT {COLUMNS} FROM user WHERE name = ?1"))?;
        Ok(statement.query_row([name], user).optional()?)
    }

    /// Every grant, by user; those of a word that is not known are left out.
    ///
    /// # Errors
    /// What the database reports.
    pub fn grants(&self) -> Result<Vec<StoredGrant>, QueueError> {
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT user, kind, value FROM user_grant ORDER BY user, kind, value")?;
        let rows = statement.query_map([], |row| {
            let kind = GrantKind::parse(&row.get::<_, String>(1)?);
            Ok(kind.map(|kind| (kind, row.get(0), row.get(2))))
        })?;
        let mut grants = Vec::new();
        for row in rows {
            if let Some((kind, user, value)) = row? {
                grants.push(StoredGrant { user: user?, kind, value: value? });
            }
        }
        Ok(grants)
    }

    /// What a user sent, by hour, oldest first. Bounded by [`RATE_HOURS`].
    ///
    /// # Errors
    /// What the database reports.
    pub fn sent(&self, user: &str) -> Result<Vec<SentHour>, QueueError> {
        let connection = self.lock();
        let mut statement = connection.prepare_cached(
            "SELECT hour, messages, recipients FROM user_sent WHERE user = ?1 ORDER BY hour",
        )?;
        let number = |count: i64| u64::try_from(count).unwrap_or(0);
        let rows = statement.query_map([user], |row| {
            Ok(SentHour { hour: row.get(0)?, messages: number(row.get(1)?), recipients: number(row.get(2)?) })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::store::Options;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn secret(password: &str) -> StoredSecret {
        let scram = StoredScram {
            salt: vec![0, 1, 255],
            iterations: 4096,
            stored_key: vec![7; 32],
            server_key: vec![8; 32],
        };
        StoredSecret { password: Some(password.to_owned()), scram: Some(scram) }
    }

    fn anna() -> StoredUser {
        StoredUser {
            name: "anna@one.example".to_owned(),
            secret: secret("$argon2id$x"),
            mailbox: true,
            quota: Some(1000),
            created_at: Some(at(5)),
            ..StoredUser::default()
        }
    }

    #[test]
    fn users_survive_a_restart_with_all_that_is_known_of_them() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        assert_eq!(queue.add_user(anna()), Ok(true));
        assert_eq!(queue.add_user(StoredUser { quota: None, ..anna() }), Ok(false), "nothing is overwritten");
        queue.note_login("anna@one.example", at(9));
        let held = Some((at(10), "too much".to_owned()));
        let change = UserChange { disabled: Some(true), held: Some(held.clone()), ..UserChange::default() };
        assert_eq!(queue.change_user("anna@one.example", change.clone()), Ok(true));
        assert_eq!(queue.change_user("ben@one.example", change), Ok(false));
        queue.close();
        drop(queue);
        let reader = Reader::open(directory.path()).expect("read while the daemon is down");
        let expected = StoredUser { disabled: true, held, last_login_at: Some(at(9)), ..anna() };
        assert_eq!(reader.user("anna@one.example"), Ok(Some(expected.clone())));
        assert_eq!(reader.users(), Ok(vec![expected]));
        assert_eq!(reader.user("ben@one.example"), Ok(None));
    }

    #[test]
    fn a_hash_made_anew_does_not_undo_a_change_of_the_password() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        queue.add_user(StoredUser { secret: secret("$6$old"), ..anna() }).expect("added");
        let renew = |old: &str, new: &str| {
            let (done, written) = channel();
            let done = move |result| done.send(result).expect("test waits");
            queue.renew_secret("anna@one.example", old.to_owned(), secret(new), done);
            written.recv().expect("answered").expect("written");
            queue.reader().user("anna@one.example").expect("read").expect("there").secret.password
        };
        assert_eq!(renew("$6$old", "$argon2id$new").as_deref(), Some("$argon2id$new"));
        assert_eq!(renew("$6$old", "$argon2id$late").as_deref(), Some("$argon2id$new"));
    }

    #[test]
    fn grants_belong_to_a_user_and_go_with_it() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        let grant = |user: &str, value: &str| StoredGrant {
            user: user.to_owned(),
            kind: GrantKind::Sender,
            value: value.to_owned(),
        };
        assert!(queue.grant(grant("anna@one.example", "@two.example")).is_err());
        queue.add_user(anna()).expect("added");
        assert_eq!(queue.grant(grant("anna@one.example", "@two.example")), Ok(true));
        assert_eq!(queue.grant(grant("anna@one.example", "@two.example")), Ok(false));
        assert_eq!(queue.grant(grant("anna@one.example", "x'; DROP TABLE user; --")), Ok(true));
        assert_eq!(queue.reader().grants().map(|grants| grants.len()), Ok(2));
        assert_eq!(queue.revoke(grant("anna@one.example", "@two.example")), Ok(true));
        assert_eq!(queue.remove_user("anna@one.example"), Ok(true));
        assert_eq!(queue.reader().grants(), Ok(Vec::new()));
        assert_eq!(queue.remove_user("anna@one.example"), Ok(false));
    }

    #[test]
    fn what_was_sent_is_counted_by_hour_for_a_while() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        let hour = |hour, messages, recipients| SentHour { hour, messages, recipients };
        for sent in [hour(1, 1, 2), hour(RATE_HOURS, 1, 3), hour(RATE_HOURS, 2, 3)] {
            queue.count_sent("anna@one.example", sent);
        }
        let sent = || {
            // What was given to the writer before is written before.
            queue
                .revoke(StoredGrant { user: String::new(), kind: GrantKind::Sender, value: String::new() })
                .expect("done");
            queue.reader().sent("anna@one.example").expect("read")
        };
        assert_eq!(sent(), [hour(1, 1, 2), hour(RATE_HOURS, 3, 6)]);
        queue.count_sent("anna@one.example", hour(RATE_HOURS + 1, 1, 1));
        assert_eq!(sent(), [hour(RATE_HOURS, 3, 6), hour(RATE_HOURS + 1, 1, 1)]);
    }

    #[test]
    fn a_secret_of_the_server_stays() {
        let directory = tempfile::tempdir().expect("directory");
        let queue = Queue::open(directory.path(), Options::default()).expect("open");
        assert_eq!(queue.secret("scram", vec![1]), Ok(vec![1]));
        assert_eq!(queue.secret("scram", vec![2]), Ok(vec![1]));
        assert_eq!(queue.secret("other", vec![2]), Ok(vec![2]));
    }
}
