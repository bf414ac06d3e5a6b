//! The database's layout and how it came to be: migrations that only add, counted in `user_version`.
//!
//! A database of a newer program or of another program is refused untouched. Before an existing database is migrated a
//! copy of it is written beside it. Names are explained where they are used; times are seconds since 1970.

use std::fs::File;
use std::path::Path;

use rusqlite::{Connection, ErrorCode, params};

use crate::crash;
use crate::error::OpenError;

/// Marks the file as ours (`application_id`): "MTAQ".
const APPLICATION_ID: i64 = 0x4d54_4151;

/// Each step takes the schema one version further. Steps are never changed once released, only added.
pub(crate) const MIGRATIONS: &[&str] = &[
    VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8, VERSION_9,
    VERSION_10, VERSION_11, VERSION_12, VERSION_13, VERSION_14, VERSION_15, VERSION_16,
];

/// `recipient.state` holds `RecipientState::code`; 0 is waiting, and the two indexes hold only these, so that finding due
/// work costs the same however long the queue and its history are. A recipient row lives in its message's key range.
/// `destination.due_at` is the time at which something for the destination may be tried: the later of its `not_before`
/// and the earliest `next_at` of what waits; NULL where nothing waits. One row changes when a destination fails.
/// `message.content_file` names a file of the content directory; NULL: the content is the row of `content`. With both,
/// the row comes before the file.
const VERSION_1: &str = "
    CREATE TABLE message (
        id INTEGER PRIMARY KEY,
        reverse_path TEXT NOT NULL,
        body TEXT NOT NULL,
        smtputf8 INTEGER NOT NULL,
        require_tls INTEGER NOT NULL,
        ret TEXT,
        envid TEXT,
        size INTEGER NOT NULL,
        content_file INTEGER,
        received_at INTEGER NOT NULL,
        origin TEXT NOT NULL,
        open INTEGER NOT NULL,
        delay_notified_at INTEGER,
        finished_at INTEGER
    );
    CREATE INDEX message_finished ON message (finished_at) WHERE finished_at IS NOT NULL;
    CREATE INDEX message_file ON message (content_file) WHERE content_file IS NOT NULL;
    CREATE TABLE content (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
    CREATE TABLE destination (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        waiting INTEGER NOT NULL DEFAULT 0,
        held INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        not_before INTEGER NOT NULL DEFAULT 0,
        due_at INTEGER,
        last_reply TEXT
    );
    CREATE INDEX destination_due ON destination (due_at) WHERE due_at IS NOT NULL;
    CREATE INDEX destination_idle ON destination (not_before) WHERE waiting = 0 AND held = 0;
    CREATE TABLE recipient (
        message INTEGER NOT NULL,
        n INTEGER NOT NULL,
        destination INTEGER NOT NULL,
        mailbox TEXT NOT NULL,
        notify TEXT,
        orcpt TEXT,
        state INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        next_at INTEGER NOT NULL,
        last_at INTEGER,
        status TEXT,
        reply TEXT,
        remote TEXT,
        PRIMARY KEY (message, n)
    ) WITHOUT ROWID;
    CREATE INDEX recipient_due ON recipient (destination, next_at) WHERE state = 0;
    CREATE INDEX recipient_age ON recipient (destination, message) WHERE state = 0;
    CREATE TABLE attempt (
        message INTEGER NOT NULL,
        n INTEGER NOT NULL,
        at INTEGER NOT NULL,
        results TEXT NOT NULL,
        decision TEXT,
        PRIMARY KEY (message, n)
    ) WITHOUT ROWID;
    CREATE TABLE totals (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        last_id INTEGER NOT NULL DEFAULT 0,
        messages INTEGER NOT NULL DEFAULT 0,
        content_bytes INTEGER NOT NULL DEFAULT 0,
        waiting INTEGER NOT NULL DEFAULT 0,
        held INTEGER NOT NULL DEFAULT 0,
        damaged INTEGER NOT NULL DEFAULT 0,
        finished INTEGER NOT NULL DEFAULT 0,
        accepted_total INTEGER NOT NULL DEFAULT 0,
        delivered_total INTEGER NOT NULL DEFAULT 0,
        failed_total INTEGER NOT NULL DEFAULT 0
    );
    INSERT INTO totals (one) VALUES (1);
";

/// State that is not mail (`state`). `sts_policy`: the MTA-STS policy of a domain. `tls_policy`: sessions under one policy on
/// one day (days since 1970, UTC); `policy` and `mx_patterns` hold one string a line. `tls_failure`: those that failed, by
/// how; empty text where something is not known. `tls_day`: how many rows of both a day has, and how many sessions found
/// no room.
const VERSION_2: &str = "
    CREATE TABLE sts_policy (
        domain TEXT PRIMARY KEY,
        id TEXT NOT NULL,
        policy TEXT NOT NULL,
        fetched_at INTEGER NOT NULL,
        expires_at INTEGER NOT NULL,
        used_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE tls_day (
        day INTEGER PRIMARY KEY,
        policies INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        left_out INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE tls_policy (
        id INTEGER PRIMARY KEY,
        day INTEGER NOT NULL,
        domain TEXT NOT NULL,
        policy_type TEXT NOT NULL,
        policy_domain TEXT NOT NULL,
        policy TEXT NOT NULL,
        mx_patterns TEXT NOT NULL,
        successes INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0
    );
    CREATE UNIQUE INDEX tls_policy_key ON tls_policy (day, domain, policy_type, policy_domain, policy);
    CREATE TABLE tls_failure (
        policy INTEGER NOT NULL,
        result_type TEXT NOT NULL,
        mx_host TEXT NOT NULL,
        sending_ip TEXT NOT NULL,
        receiving_ip TEXT NOT NULL,
        reason_code TEXT NOT NULL,
        helo TEXT NOT NULL,
        sessions INTEGER NOT NULL,
        PRIMARY KEY (policy, result_type, mx_host, sending_ip, receiving_ip, reason_code)
    ) WITHOUT ROWID;
";

/// Administration. `recipient.via` is a next hop that the administrator chose; its destination is then named
/// `domain via next-hop`. `recipient.note` says why it is held. `event` is what the administrator did to a message, in its
/// history; `hold_rule` holds mail to come; `pause` is what stands still: `in`, `out`, `local`, `dest:NAME`.
const VERSION_3: &str = "
    ALTER TABLE recipient ADD COLUMN via TEXT;
    ALTER TABLE recipient ADD COLUMN note TEXT;
    CREATE TABLE event (
        message INTEGER NOT NULL,
        n INTEGER NOT NULL,
        at INTEGER NOT NULL,
        what TEXT NOT NULL,
        who TEXT NOT NULL,
        detail TEXT,
        PRIMARY KEY (message, n)
    ) WITHOUT ROWID;
    CREATE TABLE hold_rule (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        recipient TEXT,
        reverse_path TEXT,
        reason TEXT NOT NULL,
        who TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        until INTEGER
    );
    CREATE TABLE pause (
        name TEXT PRIMARY KEY,
        reason TEXT NOT NULL,
        who TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER
    ) WITHOUT ROWID;
";

/// `alert`: what the administrator was told and has not ended. `outage`: when this host itself could send nothing;
/// `ended_at` is NULL while it lasts.
const VERSION_4: &str = "
    CREATE TABLE alert (
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        text TEXT NOT NULL,
        remedy TEXT NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        count INTEGER NOT NULL,
        until INTEGER,
        PRIMARY KEY (kind, subject)
    );
    CREATE TABLE outage (
        began_at INTEGER PRIMARY KEY,
        ended_at INTEGER,
        fault TEXT NOT NULL
    );
";

/// `dane`: a destination that has, or had, secure TLSA records; `lost_at` is NULL while it has them.
const VERSION_5: &str = "
    CREATE TABLE dane (
        domain TEXT PRIMARY KEY,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        lost_at INTEGER
    ) WITHOUT ROWID;
";

/// Failures that no sender is told of, until the postmaster's digest tells them: how many since when, and samples.
const VERSION_6: &str = "
    CREATE TABLE unreported (
        n INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        message INTEGER NOT NULL,
        reverse_path TEXT NOT NULL,
        recipient TEXT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT NOT NULL
    );
    CREATE TABLE digest (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        count INTEGER NOT NULL DEFAULT 0,
        since INTEGER NOT NULL DEFAULT 0
    );
    INSERT INTO digest (one) VALUES (1);
";

/// What a message's header section says about how it may travel (`HeaderFacts`). Of older messages it is not known, so
/// they are taken to need what their sender asked for.
const VERSION_7: &str = "
    ALTER TABLE message ADD COLUMN header_eight_bit INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE message ADD COLUMN tls_required_no INTEGER NOT NULL DEFAULT 0;
";

/// When the postmaster was told of an alert.
const VERSION_8: &str = "
    ALTER TABLE alert ADD COLUMN mailed_at INTEGER;
";

/// Users (`state::user`). `password` is a hash as text; the SCRAM columns are NULL together. `user_grant`: what a user may, by
/// kind; `user_sent`: what it sent within an hour (hours since 1970). `secret`: random octets of this server's own.
const VERSION_9: &str = "
    CREATE TABLE user (
        name TEXT PRIMARY KEY,
        password TEXT,
        scram_salt BLOB,
        scram_iterations INTEGER,
        scram_stored BLOB,
        scram_server BLOB,
        scram_off INTEGER NOT NULL DEFAULT 0,
        disabled INTEGER NOT NULL DEFAULT 0,
        mailbox INTEGER NOT NULL DEFAULT 0,
        quota INTEGER,
        created_at INTEGER NOT NULL,
        last_login_at INTEGER,
        held_at INTEGER,
        held_reason TEXT
    ) WITHOUT ROWID;
    CREATE TABLE user_grant (
        user TEXT NOT NULL,
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (user, kind, value)
    ) WITHOUT ROWID;
    CREATE TABLE user_sent (
        user TEXT NOT NULL,
        hour INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        recipients INTEGER NOT NULL,
        PRIMARY KEY (user, hour)
    ) WITHOUT ROWID;
    CREATE TABLE secret (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
";

/// Aliases that the administrator made, and the places that a waiting message of one was handed to.
const VERSION_10: &str = "
    CREATE TABLE alias (
        address TEXT PRIMARY KEY,
        targets TEXT NOT NULL,
        changed_at INTEGER NOT NULL,
        who TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE TABLE handed (
        message INTEGER NOT NULL,
        place TEXT NOT NULL,
        PRIMARY KEY (message, place)
    ) WITHOUT ROWID;
";

/// What is held or set aside is found by its destination, as what waits is.
const VERSION_11: &str = "
    CREATE INDEX recipient_held ON recipient (destination, message) WHERE state IN (1, 6);
";

/// Attempts in a row that were put off for a fault of this host are one row: how many, and when the first of them was.
const VERSION_12: &str = "
    ALTER TABLE attempt ADD COLUMN times INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE attempt ADD COLUMN first_at INTEGER;
";

/// What the next hop of a relayed domain said about a recipient: whether it takes mail for it, in which words, and when.
const VERSION_13: &str = "
    CREATE TABLE recipient_answer (
        address TEXT PRIMARY KEY,
        domain TEXT NOT NULL,
        known INTEGER NOT NULL,
        reply TEXT NOT NULL,
        asked_at INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX recipient_answer_domain ON recipient_answer (domain);
    CREATE INDEX recipient_answer_age ON recipient_answer (known, asked_at);
";

/// Users whose password is known elsewhere, and of whom something has to be kept here: that what they send is held, say.
const VERSION_14: &str = "
    ALTER TABLE user ADD COLUMN outside INTEGER NOT NULL DEFAULT 0;
";

/// Reports about a day to the operators of other domains. `state` holds `ReportState::code`; 0 is due, and the index holds only
/// these. `told` has a line for each address that took the report, with the queue id of the mail to it.
const VERSION_15: &str = "
    CREATE TABLE report (
        kind TEXT NOT NULL,
        day INTEGER NOT NULL,
        domain TEXT NOT NULL,
        state INTEGER NOT NULL,
        whole INTEGER NOT NULL,
        tries INTEGER NOT NULL,
        first_try INTEGER,
        next_try INTEGER NOT NULL,
        told TEXT NOT NULL,
        error TEXT NOT NULL,
        PRIMARY KEY (kind, day, domain)
    ) WITHOUT ROWID;
    CREATE INDEX report_due ON report (kind, next_try) WHERE state = 0;
    CREATE INDEX report_day ON report (day);
";

/// Counters for DMARC aggregate reports: a row of `dmarc_policy` for each domain and day, with as many `dmarc_row` as there
/// were kinds of messages. `dmarc_day` counts the rows of both, and messages for whose domain there was no room.
const VERSION_16: &str = "
    CREATE TABLE dmarc_day (
        day INTEGER PRIMARY KEY,
        rows INTEGER NOT NULL DEFAULT 0,
        left_out INTEGER NOT NULL DEFAULT 0
    );
    CREATE TABLE dmarc_policy (
        id INTEGER PRIMARY KEY,
        day INTEGER NOT NULL,
        domain TEXT NOT NULL,
        policy TEXT NOT NULL,
        rows INTEGER NOT NULL DEFAULT 0,
        left_out INTEGER NOT NULL DEFAULT 0,
        UNIQUE (day, domain)
    );
    CREATE TABLE dmarc_row (
        policy INTEGER NOT NULL,
        data TEXT NOT NULL,
        messages INTEGER NOT NULL,
        PRIMARY KEY (policy, data)
    ) WITHOUT ROWID;
";

/// Makes the schema what this program expects, or says why it cannot.
pub(crate) fn prepare(
    connection: &mut Connection,
    path: &Path,
    migrations: &[&str],
) -> Result<(), OpenError> {
    let map = |error| database_error(path, &error);
    let known = i64::try_from(migrations.len()).unwrap_or(i64::MAX);
    let found = match identify(connection, path)? {
        None => {
            // These two can only be chosen while the file is empty.
            connection
                .execute_batch("PRAGMA page_size = 4096; PRAGMA auto_vacuum = INCREMENTAL")
                .map_err(map)?;
            connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(map)?;
            0
        }
        Some(found) => found,
    };
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    if found > 0 && found < known {
        back_up(connection, path, found)?;
    }
    let missing = migrations.get(usize::try_from(found).unwrap_or(0)..).unwrap_or_default();
    // A new database is made in one: there is nothing in a half-made one to be kept, and a commit of each step costs five
    // syncs, seconds in all on a slow card.
    let at_once = if found == 0 { missing.len().max(1) } else { 1 };
    let mut version = found;
    for steps in missing.chunks(at_once) {
        let transaction = connection.transaction().map_err(map)?;
        for step in steps {
            transaction.execute_batch(step).map_err(map)?;
            version += 1;
        }
        crash::point("migration-step");
        transaction.pragma_update(None, "user_version", version).map_err(map)?;
        transaction.commit().map_err(map)?;
        crash::point("migration-committed");
        if found > 0 {
            log::info!("event=queue-migrated version={version}");
        }
    }
    if found > 0 && found < known {
        prune_copies(path, found);
    }
    Ok(())
}

/// Refuses what is not a queue of ours, and one of a newer program.
pub(crate) fn refuse_foreign(connection: &Connection, path: &Path) -> Result<(), OpenError> {
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    match identify(connection, path)? {
        Some(found) if found > known => Err(OpenError::Newer { path: path.to_owned(), found, known }),
        Some(_) => Ok(()),
        None => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// The schema version of an existing database of ours, `None` for an empty file.
pub(crate) fn identify(connection: &Connection, path: &Path) -> Result<Option<i64>, OpenError> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i64>(0));
    let map = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
        _ => database_error(path, &error),
    };
    let (id, version) = (number("application_id").map_err(map)?, number("user_version").map_err(map)?);
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(map)?;
    match (id, tables) {
        (APPLICATION_ID, 0) => Ok(Some(0)),
        (APPLICATION_ID, _) => Ok(Some(version)),
        (0, 0) => Ok(None),
        _ => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

/// Writes a consistent copy of the database beside it, `queue.db.v1.bak` for version 1.
fn back_up(connection: &Connection, path: &Path, version: i64) -> Result<(), OpenError> {
    let copy = path.with_extension(format!("db.v{version}.bak"));
    // VACUUM INTO refuses to overwrite; a copy from a migration that did not finish is of the same version.
    if let Err(error) = std::fs::remove_file(&copy)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(OpenError::Directory { path: copy, reason: error.to_string() });
    }
    let target = copy.to_string_lossy();
    connection.execute("VACUUM INTO ?1", params![target]).map_err(|error| database_error(path, &error))?;
    let synced = File::open(&copy).and_then(|file| file.sync_all()).and_then(|()| sync_parent(&copy));
    synced.map_err(|error| OpenError::Directory { path: copy.clone(), reason: error.to_string() })?;
    crash::point("migration-copied");
    log::info!("event=queue-backup file={}", copy.display());
    Ok(())
}

/// Deletes the copies of earlier migrations: the last one is enough, and each is as large as the queue was.
fn prune_copies(path: &Path, last: i64) {
    for version in 1..last {
        let copy = path.with_extension(format!("db.v{version}.bak"));
        if std::fs::remove_file(&copy).is_ok() {
            log::info!("event=queue-backup-deleted file={}", copy.display());
        }
    }
}

/// Syncs the directory that a file lies in: its name is on stable storage then.
pub(crate) fn sync_parent(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => Ok(()),
    }
}

/// A failure of SQLite while opening.
pub(crate) fn database_error(path: &Path, error: &rusqlite::Error) -> OpenError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => OpenError::NoSpace { path: path.to_owned() },
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path: path.to_owned() },
        _ => OpenError::Database { path: path.to_owned(), reason: error.to_string() },
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// How SQLite would run a statement on a new queue: one line a step.
    pub(crate) fn plan(sql: &str) -> Vec<String> {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, MIGRATIONS).expect("prepare");
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a statement");
        let steps = explain.raw_query().mapped(|row| row.get(3)).collect::<Result<_, _>>();
        steps.expect("a plan")
    }

    const SECOND: &str = "ALTER TABLE message ADD COLUMN note TEXT";
    const SECOND_AGAIN: &str = "ALTER TABLE message ADD COLUMN second_note TEXT";

    fn version(connection: &Connection) -> i64 {
        connection.pragma_query_value(None, "user_version", |row| row.get(0)).expect("version")
    }

    #[test]
    fn a_new_database_has_the_newest_version_and_what_must_be_chosen_at_birth() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, MIGRATIONS).expect("prepare");
        assert_eq!(version(&connection), MIGRATIONS.len() as i64);
        let auto_vacuum: i64 =
            connection.pragma_query_value(None, "auto_vacuum", |r| r.get(0)).expect("pragma");
        assert_eq!(auto_vacuum, 2, "incremental");
        prepare(&mut connection, &path, MIGRATIONS).expect("a second time changes nothing");
    }

    #[test]
    fn an_old_database_is_copied_and_migrated_and_its_rows_stay() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, &[VERSION_1]).expect("version 1");
        connection.execute("UPDATE totals SET accepted_total = 7", []).expect("row");
        prepare(&mut connection, &path, &[VERSION_1, SECOND]).expect("version 2");
        assert_eq!(version(&connection), 2);
        let total =
            |c: &Connection| c.query_row("SELECT accepted_total FROM totals", [], |r| r.get::<_, i64>(0));
        assert_eq!(total(&connection), Ok(7));
        let copy = Connection::open(directory.path().join("queue.db.v1.bak")).expect("copy");
        assert_eq!((version(&copy), total(&copy)), (1, Ok(7)));
        drop(copy);
        prepare(&mut connection, &path, &[VERSION_1, SECOND, SECOND_AGAIN]).expect("version 3");
        assert!(directory.path().join("queue.db.v2.bak").exists());
        assert!(!directory.path().join("queue.db.v1.bak").exists(), "only the last copy is kept");
    }

    #[test]
    fn what_was_held_before_is_found_by_the_new_index() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, MIGRATIONS.get(..10).expect("ten")).expect("version 10");
        for (n, state) in [(1, 0), (2, 1), (3, 6), (4, 2)] {
            let insert = "INSERT INTO recipient (message, n, destination, mailbox, state, next_at)
                          VALUES (?1, 0, 7, 'a@b.example', ?2, 0)";
            connection.execute(insert, [n, state]).expect("a row");
        }
        prepare(&mut connection, &path, MIGRATIONS).expect("the newest version");
        let found: i64 = connection
            .query_row(
                "SELECT count(*) FROM recipient INDEXED BY recipient_held WHERE destination = 7 AND state IN (1, 6)",
                [],
                |row| row.get(0),
            )
            .expect("found");
        assert_eq!(found, 2);
        assert!(directory.path().join("queue.db.v10.bak").exists());
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, &[VERSION_1]).expect("version 1");
        let broken = "ALTER TABLE message ADD COLUMN note TEXT; ALTER TABLE nothing ADD COLUMN x";
        assert!(matches!(
            prepare(&mut connection, &path, &[VERSION_1, broken]),
            Err(OpenError::Database { .. })
        ));
        assert_eq!(version(&connection), 1);
        prepare(&mut connection, &path, &[VERSION_1, SECOND]).expect("the repaired step runs");
    }

    #[test]
    fn a_newer_database_is_refused_untouched() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        prepare(&mut connection, &path, &[VERSION_1, SECOND]).expect("version 2");
        let refused = prepare(&mut connection, &path, &[VERSION_1]);
        assert_eq!(refused, Err(OpenError::Newer { path, found: 2, known: 1 }));
        assert_eq!(version(&connection), 2);
    }

    #[test]
    fn a_foreign_file_is_refused_untouched() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        std::fs::write(&path, vec![b'x'; 8192]).expect("write");
        let mut connection = Connection::open(&path).expect("open is lazy");
        assert_eq!(
            prepare(&mut connection, &path, MIGRATIONS),
            Err(OpenError::Foreign { path: path.clone() })
        );
        assert_eq!(std::fs::read(&path).expect("read"), vec![b'x'; 8192]);

        let path = directory.path().join("other.db");
        let mut connection = Connection::open(&path).expect("open");
        connection.execute_batch("CREATE TABLE bookmarks (url TEXT)").expect("somebody else's");
        assert_eq!(
            prepare(&mut connection, &path, MIGRATIONS),
            Err(OpenError::Foreign { path: path.clone() })
        );
    }
}
