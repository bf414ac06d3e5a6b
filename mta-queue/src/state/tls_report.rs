//! Counters for TLS reports (RFC 8460): how many sessions succeeded or failed under which policy, by day (UTC).
//!
//! They are counted in the transaction that records the attempt, so they cost no commit of their own. Bounded by
//! `Options::tls_report_rows_per_day` (rows of policies, and of failures, each) and `Options::tls_report_days`: what comes
//! beyond the first is counted as left out, days beyond the second go a few rows at a time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{OptionalExtension, params};

use crate::error::QueueError;
use crate::reader::Reader;
use crate::writer::Tx;

/// Rows of old days that leave in one turn; more than enter in it.
const EXPIRE_AT_ONCE: i64 = 16;

/// Octets of a policy that are kept; a longer one is cut at a line. 40 TLSA records with digests fit.
const MAX_POLICY_BYTES: usize = 4096;

/// Octets of any other text of a failure that are kept.
const MAX_TEXT_BYTES: usize = 255;

/// What kind of policy a session was subject to (RFC 8460 4.4, `policy-type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsPolicyType {
    /// DANE.
    Tlsa,
    /// MTA-STS.
    Sts,
    /// Neither was found.
    NoPolicyFound,
}

impl TlsPolicyType {
    /// The word of RFC 8460 4.4.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }

    fn parse(word: &str) -> Self {
        match word {
            "tlsa" => Self::Tlsa,
            "sts" => Self::Sts,
            _ => Self::NoPolicyFound,
        }
    }
}

/// A policy as a report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPolicy {
    /// The recipient domain, to whose operator it is reported. A-labels, lower case.
    pub domain: String,
    /// Its kind.
    pub policy_type: TlsPolicyType,
    /// The domain that publishes the policy: the recipient domain, or the TLSA base domain.
    pub policy_domain: String,
    /// The policy, one string for each TLSA record or each line of the policy file.
    pub policy: Vec<String>,
    /// The patterns of MX hosts of an MTA-STS policy.
    pub mx_patterns: Vec<String>,
}

/// How a session failed (RFC 8460 4.3, 4.4).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TlsFailure {
    /// The result type, `starttls-not-supported` and its like.
    pub result_type: String,
    /// The MX host.
    pub mx_host: Option<String>,
    /// What it called itself.
    pub helo: Option<String>,
    /// Our address.
    pub sending_ip: Option<String>,
    /// Its address.
    pub receiving_ip: Option<String>,
    /// What exactly was wrong.
    pub reason_code: Option<String>,
}

/// One session under one policy it was subject to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSession {
    /// The policy.
    pub policy: TlsPolicy,
    /// How it failed; `None` for success.
    pub failure: Option<TlsFailure>,
}

/// What was counted under one policy on one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsPolicyCount {
    /// The policy.
    pub policy: TlsPolicy,
    /// Sessions that succeeded.
    pub successes: u64,
    /// Sessions that failed.
    pub failures: u64,
    /// Of these, by how; fewer in sum where `TlsDay::left_out` is not 0.
    pub details: Vec<(TlsFailure, u64)>,
}

/// A day with counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsDay {
    /// Days since 1970-01-01, UTC.
    pub day: i64,
    /// Sessions that found no room in the table.
    pub left_out: u64,
}

/// The day (UTC) that a time is in: days since 1970-01-01.
pub fn day_of(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs() / 86_400).unwrap_or(i64::MAX)
}

/// The instant at which a day (days since 1970-01-01, UTC) begins.
pub fn start_of(day: i64) -> SystemTime {
    let seconds = u64::try_from(day).unwrap_or(0).saturating_mul(86_400);
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH)
}

/// Counts sessions of one attempt.
pub(crate) fn count(tx: &mut Tx<'_>, at: SystemTime, sessions: &[TlsSession]) -> Result<(), QueueError> {
    if sessions.is_empty() || tx.options.tls_report_days == 0 {
        return Ok(());
    }
    let day = day_of(at);
    for session in sessions {
        let policy = &session.policy;
        let lines = cut_lines(&policy.policy);
        let failed = session.failure.is_some();
        let id = find_or_add(tx, day, policy, &lines)?;
        let Some(id) = id else {
            left_out(tx, day)?;
            continue;
        };
        tx.connection
            .prepare_cached(
                "UPDATE tls_policy SET successes = successes + ?2, failures = failures + ?3 WHERE id = ?1",
            )?
            .execute(params![id, i64::from(!failed), i64::from(failed)])?;
        if let Some(failure) = &session.failure
            && !count_failure(tx, day, id, failure)?
        {
            left_out(tx, day)?;
        }
    }
    Ok(())
}

/// The row of a policy on a day; `None` where there is no room for another.
fn find_or_add(
    tx: &mut Tx<'_>,
    day: i64,
    policy: &TlsPolicy,
    lines: &str,
) -> Result<Option<i64>, QueueError> {
    let key = params![day, policy.domain, policy.policy_type.as_str(), policy.policy_domain, lines];
    let found = tx
        .connection
        .prepare_cached(
            "SELECT id FROM tls_policy WHERE day = ?1 AND domain = ?2 AND policy_type = ?3 AND policy_domain = ?4
             AND policy = ?5",
        )?
        .query_row(key, |row| row.get(0))
        .optional()?;
    if found.is_some() {
        return Ok(found);
    }
    if !has_room(tx, day, "policies")? {
        return Ok(None);
    }
    tx.connection
        .prepare_cached(
            "INSERT INTO tls_policy (day, domain, policy_type, policy_domain, policy, mx_patterns)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute(params![
            day,
            policy.domain,
            policy.policy_type.as_str(),
            policy.policy_domain,
            lines,
            cut_lines(&policy.mx_patterns),
        ])?;
    Ok(Some(tx.connection.last_insert_rowid()))
}

/// Counts a failure by its kind; false where there is no room for another kind.
fn count_failure(tx: &mut Tx<'_>, day: i64, policy: i64, failure: &TlsFailure) -> Result<bool, QueueError> {
    let text = |text: &Option<String>| cut(text.as_deref().unwrap_or_default()).to_owned();
    let key = params![
        policy,
        cut(&failure.result_type),
        text(&failure.mx_host),
        text(&failure.sending_ip),
        text(&failure.receiving_ip),
        text(&failure.reason_code),
    ];
    let counted = tx
        .connection
        .prepare_cached(
            "UPDATE tls_failure SET sessions = sessions + 1 WHERE policy = ?1 AND result_type = ?2 AND mx_host = ?3
             AND sending_ip = ?4 AND receiving_ip = ?5 AND reason_code = ?6",
        )?
        .execute(key)?;
    if counted > 0 {
        return Ok(true);
    }
    if !has_room(tx, day, "failures")? {
        return Ok(false);
    }
    tx.connection
        .prepare_cached(
            "INSERT INTO tls_failure (policy, result_type, mx_host, sending_ip, receiving_ip, reason_code, helo, sessions)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 1)",
        )?
        .execute(params![
            policy,
            cut(&failure.result_type),
            text(&failure.mx_host),
            text(&failure.sending_ip),
            text(&failure.receiving_ip),
            text(&failure.reason_code),
            text(&failure.helo),
        ])?;
    Ok(true)
}

/// Takes a place in a day's table, where there is one. `column` is `policies` or `failures`.
fn has_room(tx: &mut Tx<'_>, day: i64, column: &str) -> Result<bool, QueueError> {
    expire(tx, day)?;
    tx.connection.prepare_cached("INSERT OR IGNORE INTO tls_day (day) VALUES (?1)")?.execute([day])?;
    let bound = i64::try_from(tx.options.tls_report_rows_per_day).unwrap_or(i64::MAX);
    let taken = tx
        .connection
        .prepare_cached(&format!(
            "UPDATE tls_day SET {column} = {column} + 1 WHERE day = ?1 AND {column} < ?2"
        ))?
        .execute(params![day, bound])?;
    Ok(taken > 0)
}

fn left_out(tx: &Tx<'_>, day: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached("UPDATE tls_day SET left_out = left_out + 1 WHERE day = ?1")?
        .execute([day])?;
    Ok(())
}

/// Deletes some of what is older than is kept.
fn expire(tx: &Tx<'_>, today: i64) -> Result<(), QueueError> {
    let oldest = today.saturating_sub(i64::from(tx.options.tls_report_days)).saturating_add(1);
    let mut find = tx.connection.prepare_cached("SELECT id FROM tls_policy WHERE day < ?1 LIMIT ?2")?;
    let ids = find
        .query_map([oldest, EXPIRE_AT_ONCE], |row| row.get::<_, i64>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for id in &ids {
        tx.connection.prepare_cached("DELETE FROM tls_failure WHERE policy = ?1")?.execute([id])?;
        tx.connection.prepare_cached("DELETE FROM tls_policy WHERE id = ?1")?.execute([id])?;
    }
    if ids.is_empty() {
        tx.connection.prepare_cached("DELETE FROM tls_day WHERE day < ?1")?.execute([oldest])?;
    }
    Ok(())
}

/// The strings, one a line, as many as fit.
fn cut_lines(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines {
        if text.len() + line.len() + 1 > MAX_POLICY_BYTES {
            break;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default()
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_owned).collect()
}

impl Reader {
    /// The days with counters, newest first.
    ///
    /// # Errors
    /// What the database reports.
    pub fn tls_report_days(&self) -> Result<Vec<TlsDay>, QueueError> {
        let connection = self.lock();
        let mut statement =
            connection.prepare_cached("SELECT day, left_out FROM tls_day ORDER BY day DESC")?;
        let days = statement.query_map([], |row| {
            Ok(TlsDay { day: row.get(0)?, left_out: u64::try_from(row.get::<_, i64>(1)?).unwrap_or(0) })
        })?;
        Ok(days.collect::<Result<_, _>>()?)
    }

    /// What was counted on a day (days since 1970-01-01, UTC), for all or for one domain: as recipient domain, or as the
    /// one that publishes the policy. Bounded by `Options::tls_report_rows_per_day`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn tls_report(&self, day: i64, domain: Option<&str>) -> Result<Vec<TlsPolicyCount>, QueueError> {
        let connection = self.lock();
        let snapshot = connection.unchecked_transaction()?;
        let mut find = snapshot.prepare_cached(
            "SELECT id, domain, policy_type, policy_domain, policy, mx_patterns, successes, failures FROM tls_policy
             WHERE day = ?1 AND (?2 IS NULL OR domain = ?2 OR policy_domain = ?2)
             ORDER BY domain, policy_type DESC, policy_domain, id",
        )?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let mut rows = find.query(params![day, domain])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            let policy_type: String = row.get(2)?;
            let policy = TlsPolicy {
                domain: row.get(1)?,
                policy_type: TlsPolicyType::parse(&policy_type),
                policy_domain: row.get(3)?,
                policy: lines(&row.get::<_, String>(4)?),
                mx_patterns: lines(&row.get::<_, String>(5)?),
            };
            let failures = number(row.get(7)?);
            let details = if failures == 0 { Vec::new() } else { details(&snapshot, row.get(0)?)? };
            counts.push(TlsPolicyCount { policy, successes: number(row.get(6)?), failures, details });
        }
        Ok(counts)
    }
}

fn details(connection: &rusqlite::Connection, policy: i64) -> Result<Vec<(TlsFailure, u64)>, QueueError> {
    let mut find = connection.prepare_cached(
        "SELECT result_type, mx_host, sending_ip, receiving_ip, reason_code, helo, sessions FROM tls_failure
         WHERE policy = ?1 ORDER BY sessions DESC, result_type, mx_host, receiving_ip, reason_code",
    )?;
    let rows = find.query_map([policy], |row| {
        let text = |index| row.get(index).map(|text: String| (!text.is_empty()).then_some(text));
        let failure = TlsFailure {
            result_type: row.get(0)?,
            mx_host: text(1)?,
            sending_ip: text(2)?,
            receiving_ip: text(3)?,
            reason_code: text(4)?,
            helo: text(5)?,
        };
        Ok((failure, u64::try_from(row.get::<_, i64>(6)?).unwrap_or(0)))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests {
    use rusqlite::Connection;

    use super::*;
    use crate::schema::{self, MIGRATIONS};
    use crate::store::Options;
    use crate::totals::Totals;
    use crate::writer::Effects;

    fn session(domain: &str, failure: Option<&str>) -> TlsSession {
        TlsSession {
            policy: TlsPolicy {
                domain: domain.into(),
                policy_type: TlsPolicyType::Tlsa,
                policy_domain: format!("mx.{domain}"),
                policy: vec!["3 1 1 AA".into(), "2 0 1 BB".into()],
                mx_patterns: Vec::new(),
            },
            failure: failure.map(|result| TlsFailure {
                result_type: result.into(),
                mx_host: Some("mx".into()),
                reason_code: Some("x".repeat(400)),
                ..TlsFailure::default()
            }),
        }
    }

    /// Counts as the writer does, in a database of its own.
    fn counted(options: &Options, counts: &[(i64, TlsSession)]) -> (tempfile::TempDir, Reader) {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("queue.db");
        let mut connection = Connection::open(&path).expect("open");
        schema::prepare(&mut connection, &path, MIGRATIONS).expect("schema");
        let totals = Totals::load(&connection).expect("totals");
        let mut tx = Tx { connection: &connection, options, totals, effects: Effects::default() };
        for (day, session) in counts {
            count(&mut tx, start_of(*day), std::slice::from_ref(session)).expect("counted");
        }
        let reader = Reader::open(directory.path()).expect("reader");
        (directory, reader)
    }

    #[test]
    fn sessions_are_counted_by_policy_and_by_failure() {
        let failed = || session("a.example", Some("validation-failure"));
        let counts = [
            (100, session("a.example", None)),
            (100, session("a.example", None)),
            (100, failed()),
            (100, failed()),
            (100, session("a.example", Some("starttls-not-supported"))),
            (100, session("b.example", None)),
            (101, session("a.example", None)),
        ];
        let (_directory, reader) = counted(&Options::default(), &counts);
        let all = reader.tls_report(100, None).expect("read");
        assert_eq!(all.len(), 2);
        let a = &all[0];
        assert_eq!((a.policy.domain.as_str(), a.successes, a.failures), ("a.example", 2, 3));
        assert_eq!(a.policy, session("a.example", None).policy);
        let details: Vec<_> =
            a.details.iter().map(|(failure, n)| (failure.result_type.as_str(), *n)).collect();
        assert_eq!(details, [("validation-failure", 2), ("starttls-not-supported", 1)]);
        assert_eq!(a.details[0].0.reason_code.as_ref().map(String::len), Some(MAX_TEXT_BYTES));
        assert_eq!(a.details[0].0.sending_ip, None);
        let by_base = reader.tls_report(100, Some("mx.b.example")).expect("read");
        assert_eq!(by_base.len(), 1, "the operator of the host finds it by the base domain");
        let days = reader.tls_report_days().expect("days");
        assert_eq!(days, [TlsDay { day: 101, left_out: 0 }, TlsDay { day: 100, left_out: 0 }]);
    }

    #[test]
    fn a_full_day_counts_what_it_knows_and_says_how_much_it_left_out() {
        let options = Options { tls_report_rows_per_day: 2, ..Options::default() };
        let counts = [
            (1, session("a.example", Some("r1"))),
            (1, session("b.example", Some("r1"))),
            (1, session("c.example", None)),
            (1, session("a.example", Some("r2"))),
            (1, session("a.example", Some("r1"))),
            (2, session("c.example", None)),
        ];
        let (_directory, reader) = counted(&options, &counts);
        let first = reader.tls_report(1, None).expect("read");
        let sums: Vec<_> = first.iter().map(|count| (count.failures, count.details.len())).collect();
        assert_eq!(sums, [(3, 1), (1, 1)]);
        let days = reader.tls_report_days().expect("days");
        assert_eq!(days, [TlsDay { day: 2, left_out: 0 }, TlsDay { day: 1, left_out: 2 }]);
    }

    #[test]
    fn old_days_go_a_few_rows_at_a_time() {
        let options = Options { tls_report_days: 2, ..Options::default() };
        let mut counts: Vec<_> = (0..40).map(|n| (1, session(&format!("d{n}.example"), Some("r")))).collect();
        counts.push((2, session("a.example", None)));
        counts.extend((0..5).map(|n| (3, session(&format!("e{n}.example"), None))));
        let (_directory, reader) = counted(&options, &counts);
        assert_eq!(reader.tls_report(1, None), Ok(Vec::new()));
        let days: Vec<_> = reader.tls_report_days().expect("days").iter().map(|day| day.day).collect();
        assert_eq!(days, [3, 2]);
        let left: i64 =
            reader.lock().query_row("SELECT count(*) FROM tls_failure", [], |row| row.get(0)).expect("count");
        assert_eq!(left, 0, "failures go with their policy");
    }

    #[test]
    fn a_policy_with_hundreds_of_records_is_cut_at_a_record() {
        let mut long = session("a.example", None);
        long.policy.policy = (0..200).map(|n| format!("3 1 1 {n:064x}")).collect();
        let (_directory, reader) = counted(&Options::default(), &[(1, long.clone()), (1, long.clone())]);
        let read = reader.tls_report(1, None).expect("read");
        assert_eq!((read.len(), read[0].successes), (1, 2));
        let kept = &read[0].policy.policy;
        assert!(kept.len() > 40 && long.policy.policy.starts_with(kept));
    }

    #[test]
    fn nothing_is_counted_where_it_is_switched_off() {
        let options = Options { tls_report_days: 0, ..Options::default() };
        let (_directory, reader) = counted(&options, &[(1, session("a.example", None))]);
        assert_eq!(reader.tls_report_days(), Ok(Vec::new()));
    }

    #[test]
    fn a_day_begins_at_midnight_utc() {
        assert_eq!(day_of(start_of(20_000)), 20_000);
        assert_eq!(day_of(start_of(20_000) - Duration::from_secs(1)), 19_999);
        assert_eq!(day_of(UNIX_EPOCH - Duration::from_secs(1)), 0);
        assert_eq!(start_of(i64::MAX), UNIX_EPOCH);
    }
}
