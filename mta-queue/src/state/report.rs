//! Reports to other domains about a day: which are due, which were sent and to whom, and what went wrong.
//!
//! One row for each kind, day and domain, made when the day is over ([`Queue::plan_reports`]) from what was counted. The mail
//! of a report enters the queue in the transaction that marks it sent, so a crash sends none twice. Rows are kept for
//! [`KEEP_DAYS`] days, and there are as many on one day as there were counters. What it does not: it knows neither what a
//! report says nor where it goes.

use std::time::{Duration, SystemTime};

use rusqlite::{OptionalExtension, Row, params};

use super::Done;
use crate::accept;
use crate::error::QueueError;
use crate::message::NewMessage;
use crate::reader::Reader;
use crate::store::Queue;
use crate::time::{from_unix, unix_seconds};
use crate::writer::{Operation, Tx};

/// Days (UTC) for which it is kept what became of reports.
pub const KEEP_DAYS: i64 = 14;

/// Rows of old days that leave in one turn; more than change in it.
const EXPIRE_AT_ONCE: i64 = 64;

/// Octets of an error that are kept.
const MAX_ERROR_BYTES: usize = 500;

/// What a report is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ReportKind {
    /// TLS sessions with the hosts of a domain (RFC 8460).
    Tls,
    /// Mail that says it is of a domain (RFC 9990).
    Dmarc,
}

impl ReportKind {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Tls, Self::Dmarc];

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Dmarc => "dmarc",
        }
    }

    /// The kind that a word means.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The domains that something was counted for on a day `?2`.
    fn counted(self) -> &'static str {
        match self {
            Self::Tls => {
                "SELECT domain FROM tls_policy WHERE day = ?2
                 UNION SELECT policy_domain FROM tls_policy WHERE day = ?2 AND policy_type = 'tlsa'"
            }
            Self::Dmarc => "SELECT domain FROM dmarc_policy WHERE day = ?2",
        }
    }
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportState {
    /// It waits for its time, or for the next try.
    Due,
    /// It was handed on.
    Sent,
    /// Nobody wants it.
    Unwanted,
    /// It could not be handed on in time.
    GivenUp,
}

impl ReportState {
    const ALL: [Self; 4] = [Self::Due, Self::Sent, Self::Unwanted, Self::GivenUp];

    fn code(self) -> i64 {
        match self {
            Self::Due => 0,
            Self::Sent => 1,
            Self::Unwanted => 2,
            Self::GivenUp => 3,
        }
    }

    fn of(code: i64) -> Self {
        Self::ALL.into_iter().find(|state| state.code() == code).unwrap_or(Self::GivenUp)
    }

    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Due => "due",
            Self::Sent => "sent",
            Self::Unwanted => "unwanted",
            Self::GivenUp => "given-up",
        }
    }
}

/// A report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredReport {
    /// What it is about.
    pub kind: ReportKind,
    /// The day, days since 1970-01-01 (UTC).
    pub day: i64,
    /// The domain whose operator gets it. A-labels, lower case.
    pub domain: String,
    /// What became of it.
    pub state: ReportState,
    /// It was made when the day was over; one that was asked for before is made once more then.
    pub whole: bool,
    /// Tries so far.
    pub tries: u32,
    /// When the first was.
    pub first_try: Option<SystemTime>,
    /// When the next is, where it is due.
    pub next_try: SystemTime,
    /// Who took it: an address, and the queue id of the mail to it, or nothing where it was no mail.
    pub told: Vec<(String, String)>,
    /// What went wrong with the rest, or why nobody wants it.
    pub error: String,
}

const COLUMNS: &str = "kind, day, domain, state, whole, tries, first_try, next_try, told, error";

fn stored(row: &Row<'_>) -> rusqlite::Result<Option<StoredReport>> {
    // A word of a later version.
    let Some(kind) = ReportKind::parse(&row.get::<_, String>(0)?) else { return Ok(None) };
    let told: String = row.get(8)?;
    let one = |line: &str| {
        let (address, message) = line.split_once(' ').unwrap_or((line, ""));
        (address.to_owned(), message.to_owned())
    };
    Ok(Some(StoredReport {
        kind,
        day: row.get(1)?,
        domain: row.get(2)?,
        state: ReportState::of(row.get(3)?),
        whole: row.get(4)?,
        tries: row.get(5)?,
        first_try: row.get::<_, Option<i64>>(6)?.map(from_unix),
        next_try: from_unix(row.get(7)?),
        told: told.lines().map(one).collect(),
        error: row.get(9)?,
    }))
}

/// Which reports to make.
#[derive(Debug, Clone)]
pub struct ReportPlan {
    /// What about.
    pub kind: ReportKind,
    /// Which day.
    pub day: i64,
    /// For this domain only.
    pub domain: Option<String>,
    /// The day is over.
    pub whole: bool,
    /// Also those that were dealt with.
    pub again: bool,
    /// None before this time.
    pub from: SystemTime,
    /// Each at some time within this of it, so that not all leave at once.
    pub within: Duration,
}

impl ReportPlan {
    /// Those of a day that is over, at once, as far as they were not dealt with.
    pub fn new(kind: ReportKind, day: i64, domain: Option<String>) -> Self {
        let (from, within) = (SystemTime::UNIX_EPOCH, Duration::ZERO);
        Self { kind, day, domain, whole: true, again: false, from, within }
    }
}

impl Queue {
    /// Makes reports due for what was counted on a day, unless they are known; how many. Blocks.
    ///
    /// # Errors
    /// What the database reports.
    pub fn plan_reports(&self, reports: ReportPlan) -> Result<u64, QueueError> {
        self.write(move |tx| plan(tx, &reports))
    }

    /// Keeps what became of a report, and stores the mail that carries it, both or nothing. `done` is called on the writer's
    /// thread after the commit; it must not block. Nothing is synced: power loss takes both, and it is sent again.
    pub fn settle_report(
        &self,
        report: StoredReport,
        mail: Vec<NewMessage>,
        done: impl FnOnce(Result<(), QueueError>) + Send + 'static,
    ) {
        self.send(Box::new(SettleReport { report, mail, done: Box::new(done) }));
    }
}

/// The operation of `Queue::settle_report`.
struct SettleReport {
    report: StoredReport,
    mail: Vec<NewMessage>,
    done: Done,
}

impl Operation for SettleReport {
    fn weight_bytes(&self) -> u64 {
        self.mail.iter().map(accept::weight_bytes).sum()
    }

    fn apply(&mut self, tx: &mut Tx<'_>) -> Result<(), QueueError> {
        for message in &self.mail {
            accept::store(tx, message)?;
        }
        put(tx, &self.report)
    }

    fn finish(self: Box<Self>, result: Result<(), QueueError>) {
        if result.is_ok() {
            self.mail.into_iter().for_each(|message| message.content.keep());
        }
        (self.done)(result);
    }
}

fn plan(tx: &mut Tx<'_>, plan: &ReportPlan) -> Result<u64, QueueError> {
    expire(tx, plan.day)?;
    let within = i64::try_from(plan.within.as_secs()).unwrap_or(i64::MAX).max(1);
    let sql = format!(
        "INSERT INTO report ({COLUMNS})
         SELECT ?1, ?2, counted.domain, 0, ?3, 0, NULL, ?4 + (random() & 0x7fffffffffff) % ?5, '', ''
         FROM ({}) AS counted WHERE ?6 IS NULL OR counted.domain = ?6
         ON CONFLICT DO UPDATE SET state = 0, whole = excluded.whole, tries = 0, first_try = NULL,
             next_try = excluded.next_try, told = '', error = ''
         WHERE ?7 OR (excluded.whole AND NOT report.whole)",
        plan.kind.counted()
    );
    let planned = tx.connection.prepare_cached(&sql)?.execute(params![
        plan.kind.as_str(),
        plan.day,
        plan.whole,
        unix_seconds(plan.from),
        within,
        plan.domain,
        plan.again,
    ])?;
    Ok(planned as u64)
}

fn put(tx: &mut Tx<'_>, report: &StoredReport) -> Result<(), QueueError> {
    let told: Vec<String> =
        report.told.iter().map(|(address, message)| format!("{address} {message}")).collect();
    let error = report.error.get(..report.error.floor_char_boundary(MAX_ERROR_BYTES)).unwrap_or_default();
    tx.connection
        .prepare_cached(&format!(
            "INSERT OR REPLACE INTO report ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)"
        ))?
        .execute(params![
            report.kind.as_str(),
            report.day,
            report.domain,
            report.state.code(),
            report.whole,
            report.tries,
            report.first_try.map(unix_seconds),
            unix_seconds(report.next_try),
            told.join("\n"),
            error,
        ])?;
    Ok(())
}

/// Deletes some of what is older than is kept.
fn expire(tx: &Tx<'_>, today: i64) -> Result<(), QueueError> {
    tx.connection
        .prepare_cached(
            "DELETE FROM report WHERE (kind, day, domain) IN
             (SELECT kind, day, domain FROM report WHERE day < ?1 LIMIT ?2)",
        )?
        .execute([today.saturating_sub(KEEP_DAYS), EXPIRE_AT_ONCE])?;
    Ok(())
}

impl Reader {
    /// Reports, those of the newest days first; of these at most `limit`. All kinds, or one.
    ///
    /// # Errors
    /// What the database reports.
    pub fn reports(&self, kind: Option<ReportKind>, limit: usize) -> Result<Vec<StoredReport>, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM report WHERE ?1 IS NULL OR kind = ?1 ORDER BY day DESC, kind DESC, domain LIMIT ?2"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = find.query_map(params![kind.map(ReportKind::as_str), limit], stored)?;
        Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// Reports of a kind whose time has come, those that wait longest first; at most `limit`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn due_reports(
        &self,
        kind: ReportKind,
        now: SystemTime,
        limit: usize,
    ) -> Result<Vec<StoredReport>, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM report WHERE state = 0 AND kind = ?1 AND next_try <= ?2
             ORDER BY next_try LIMIT ?3"
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = find.query_map(params![kind.as_str(), unix_seconds(now), limit], stored)?;
        Ok(rows.filter_map(Result::transpose).collect::<Result<_, _>>()?)
    }

    /// The reports that a plan would make due, as they would be; nothing is kept. At most `limit`.
    ///
    /// # Errors
    /// What the database reports.
    pub fn reports_of(&self, plan: &ReportPlan, limit: usize) -> Result<Vec<StoredReport>, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(&format!(
            "SELECT counted.domain FROM (SELECT domain, ?1 FROM ({})) AS counted
             WHERE ?3 IS NULL OR counted.domain = ?3 ORDER BY counted.domain LIMIT ?4",
            plan.kind.counted()
        ))?;
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = find.query_map(params![plan.kind.as_str(), plan.day, plan.domain, limit], |row| {
            Ok(StoredReport {
                kind: plan.kind,
                day: plan.day,
                domain: row.get(0)?,
                state: ReportState::Due,
                whole: plan.whole,
                tries: 0,
                first_try: None,
                next_try: plan.from,
                told: Vec::new(),
                error: String::new(),
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Whether anything was counted on a day, which is over, for a domain whose report was not planned.
    ///
    /// # Errors
    /// What the database reports.
    pub fn has_unplanned(&self, kind: ReportKind, day: i64) -> Result<bool, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(&format!(
            "SELECT EXISTS (SELECT 1 FROM ({}) AS counted WHERE NOT EXISTS (SELECT 1 FROM report
                WHERE kind = ?1 AND day = ?2 AND domain = counted.domain AND whole))",
            kind.counted()
        ))?;
        Ok(find.query_row(params![kind.as_str(), day], |row| row.get(0))?)
    }

    /// When the next report of a kind is due.
    ///
    /// # Errors
    /// What the database reports.
    pub fn next_report(&self, kind: ReportKind) -> Result<Option<SystemTime>, QueueError> {
        let connection = self.lock();
        let mut find = connection.prepare_cached(
            "SELECT next_try FROM report WHERE state = 0 AND kind = ?1 ORDER BY next_try LIMIT 1",
        )?;
        Ok(find.query_row([kind.as_str()], |row| row.get(0)).optional()?.map(from_unix))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use mta_smtp::address::{Mailbox, ReversePath};
    use mta_smtp::envelope::{Envelope, Recipient};

    use super::*;
    use crate::message::Origin;
    use crate::state::tls_report::{self, TlsPolicy, TlsPolicyType, TlsSession, start_of};
    use crate::store::Options;

    fn open() -> (tempfile::TempDir, Queue) {
        let directory = tempfile::tempdir().expect("directory");
        let options = Options { reserve_bytes: 0, ..Options::default() };
        let queue = Queue::open(directory.path(), options).expect("open");
        (directory, queue)
    }

    fn count(queue: &Queue, day: i64, domain: &str, base: Option<&str>) {
        let policy = TlsPolicy {
            domain: domain.into(),
            policy_type: if base.is_some() { TlsPolicyType::Tlsa } else { TlsPolicyType::NoPolicyFound },
            policy_domain: base.unwrap_or(domain).into(),
            policy: Vec::new(),
            mx_patterns: Vec::new(),
        };
        let session = TlsSession { policy, failure: None };
        let work = move |tx: &mut Tx<'_>| {
            tls_report::count(tx, start_of(day), std::slice::from_ref(&session)).map(|()| 1)
        };
        queue.write(work).expect("counted");
    }

    fn day(day: i64) -> ReportPlan {
        let from = start_of(day + 1);
        let within = Duration::from_secs(14_400);
        ReportPlan { kind: ReportKind::Tls, day, domain: None, whole: true, again: false, from, within }
    }

    fn settle(queue: &Queue, report: StoredReport, mail: Vec<NewMessage>) -> Result<(), QueueError> {
        let (done, result) = channel();
        queue.settle_report(report, mail, move |outcome| drop(done.send(outcome)));
        result.recv().expect("an answer")
    }

    #[test]
    fn a_day_is_planned_once_at_times_that_differ() {
        let (_directory, queue) = open();
        for domain in ["a.example", "b.example", "c.example"] {
            count(&queue, 10, domain, Some("mx.example"));
        }
        count(&queue, 11, "d.example", None);
        let unplanned = |day| queue.reader().has_unplanned(ReportKind::Tls, day).expect("read");
        assert!(unplanned(10) && !unplanned(9));
        assert_eq!(queue.plan_reports(day(10)), Ok(4));
        assert_eq!(queue.plan_reports(day(10)), Ok(0));
        assert!(!unplanned(10) && unplanned(11));
        let reader = queue.reader();
        let planned = reader.reports(Some(ReportKind::Tls), 10).expect("read");
        let domains: Vec<_> = planned.iter().map(|report| report.domain.as_str()).collect();
        assert_eq!(domains, ["a.example", "b.example", "c.example", "mx.example"]);
        let span = start_of(11)..start_of(11) + Duration::from_secs(14_400);
        assert!(planned.iter().all(|report| span.contains(&report.next_try)), "{planned:?}");
        let mut times: Vec<_> = planned.iter().map(|report| report.next_try).collect();
        times.sort();
        times.dedup();
        assert!(times.len() > 1, "not all at once");
        assert_eq!(reader.due_reports(ReportKind::Tls, start_of(11) - Duration::from_secs(1), 9), Ok(vec![]));
        assert_eq!(reader.due_reports(ReportKind::Tls, span.end, 3).expect("read").len(), 3);
        assert_eq!(reader.next_report(ReportKind::Tls), Ok(times.first().copied()));
    }

    #[test]
    fn what_was_sent_before_the_day_was_over_is_sent_again_and_by_hand_always() {
        let (_directory, queue) = open();
        count(&queue, 10, "a.example", None);
        count(&queue, 10, "b.example", None);
        let early = ReportPlan { whole: false, domain: Some("a.example".into()), ..day(10) };
        assert_eq!(queue.plan_reports(early.clone()), Ok(1));
        let sent = |whole| StoredReport {
            kind: ReportKind::Tls,
            day: 10,
            domain: "a.example".into(),
            state: ReportState::Sent,
            whole,
            tries: 2,
            first_try: Some(start_of(10)),
            next_try: start_of(11),
            told: vec![("https://a.example/".into(), String::new())],
            error: "x".repeat(600),
        };
        settle(&queue, sent(false), Vec::new()).expect("kept");
        assert_eq!(queue.plan_reports(early.clone()), Ok(0));
        assert_eq!(queue.plan_reports(day(10)), Ok(2), "the day is over");
        settle(&queue, sent(true), Vec::new()).expect("kept");
        assert_eq!(queue.plan_reports(day(10)), Ok(0));
        let kept = queue.reader().reports(None, 1).expect("read");
        assert_eq!((kept[0].error.len(), &kept[0].told), (MAX_ERROR_BYTES, &sent(true).told));
        assert_eq!(queue.plan_reports(ReportPlan { again: true, ..early }), Ok(1));
        let again = queue.reader().reports(None, 1).expect("read");
        assert_eq!((again[0].state, again[0].tries, again[0].told.len()), (ReportState::Due, 0, 0));
    }

    #[test]
    fn a_report_and_its_mail_are_stored_both_or_not_at_all() {
        let (_directory, queue) = open();
        count(&queue, 10, "a.example", None);
        queue.plan_reports(day(10)).expect("planned");
        let mail = |recipients: usize| {
            let mut envelope = Envelope::new(ReversePath::Null);
            let to = Mailbox::parse("tls@a.example").expect("an address");
            envelope.recipients.extend(std::iter::repeat_n(Recipient::new(to), recipients));
            let content = queue.content().finish().expect("content");
            let (id, origin) = (queue.new_id(), Origin::default());
            NewMessage { id, envelope, received_at: start_of(11), origin, content, hold: None }
        };
        let due = || queue.reader().due_reports(ReportKind::Tls, start_of(12), 1).expect("read").pop();
        let report = due().expect("due");
        let sent = StoredReport { state: ReportState::Sent, ..report };
        assert!(settle(&queue, sent.clone(), vec![mail(1), mail(0)]).is_err());
        assert!(due().is_some() && queue.reader().counts().expect("counts").waiting == 0);
        settle(&queue, sent, vec![mail(1)]).expect("stored");
        assert!(due().is_none() && queue.reader().counts().expect("counts").waiting == 1);
    }

    #[test]
    fn old_reports_go() {
        let (_directory, queue) = open();
        for n in 0..3 {
            count(&queue, 10, &format!("d{n}.example"), None);
        }
        queue.plan_reports(day(10)).expect("planned");
        queue.plan_reports(day(10 + KEEP_DAYS)).expect("planned");
        assert_eq!(queue.reader().reports(None, 9).expect("read").len(), 3);
        queue.plan_reports(day(11 + KEEP_DAYS)).expect("planned");
        assert_eq!(queue.reader().reports(None, 9), Ok(Vec::new()));
    }
}
