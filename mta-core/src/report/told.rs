//! Who is told what became of a recipient: the sender, the postmaster, or nobody. One function, [`told`], decides.
//!
//! It keeps three promises. Nothing loops: about a message with a null reverse-path no notification is ever sent (RFC 5321
//! 4.5.5, RFC 3464 2). Nothing is lost without a word: where a failure cannot be told to the sender, the postmaster gets
//! it in a digest, unless the sender asked for silence. And forged senders get nothing from us: a stranger's mail is
//! refused while the stranger is connected, so what fails later is an exception of our own making (a full disk, a mailbox
//! taken out of the configuration), and of these reports only a bounded number leave in an hour ([`StrangerReports`]).
//! What it does not: it writes and sends nothing.

use std::time::{Duration, SystemTime};

use mta_queue::OriginKind;
use mta_smtp::address::ReversePath;
use mta_smtp::envelope::Notify;

use super::dsn::Action;

/// The time over which reports to strangers are counted.
const STRANGER_PERIOD: Duration = Duration::from_secs(3600);

/// Who is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The reverse-path gets a notification.
    Sender,
    /// The reverse-path gets one as long as the bound on reports to strangers allows it; the postmaster else.
    SenderWithinBound,
    /// It is counted for the postmaster's digest.
    Postmaster,
    /// Nobody.
    Nobody,
}

/// What decides.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Where a notification would go.
    pub reverse_path: &'a ReversePath,
    /// By which door the message came.
    pub origin: OriginKind,
    /// What the sender wants to hear of this recipient (RFC 3461 4.1).
    pub notify: Option<Notify>,
    /// What became of the recipient.
    pub action: Action,
    /// Another server decided it. False: we did, here.
    pub remote: bool,
    /// The message is itself a digest for the postmaster, or about an alert: its failure is only logged.
    pub is_digest: bool,
}

/// Decides who is told.
pub fn told(facts: Facts<'_>) -> Told {
    let Facts { reverse_path, origin, notify, action, remote, is_digest } = facts;
    // Our own notifications leave with NOTIFY=NEVER, which is meant for other servers (RFC 3461 5.2.1): a double bounce is
    // ours to look after all the same.
    let is_double_bounce = origin == OriginKind::Notification && action == Action::Failed;
    if is_digest || !(is_double_bounce || wanted(notify, action)) {
        return Told::Nobody;
    }
    if reverse_path.is_null() {
        // A double bounce, or a notification of somebody else's that we could not keep our word about.
        return if action == Action::Failed { Told::Postmaster } else { Told::Nobody };
    }
    match origin {
        // Networks that may relay, logins, local programs: we know whom we answer.
        OriginKind::Submission | OriginKind::Local => Told::Sender,
        // We write none with a reverse-path. Should that ever change, it answers to nobody.
        OriginKind::Notification => Told::Nobody,
        OriginKind::Smtp | OriginKind::Other => match action {
            // What the next hop refuses is mostly spam, and its sender forged: that is backscatter.
            Action::Failed if remote => Told::Postmaster,
            Action::Failed => Told::SenderWithinBound,
            // Asked for in so many words (RFC 3461 5.2.3), where we offer that to strangers at all.
            Action::Delivered | Action::Relayed => Told::SenderWithinBound,
            Action::Delayed => Told::Nobody,
        },
    }
}

/// Whether the sender wants to hear of this. Without NOTIFY a sender hears of failures and delays (RFC 3461 4.1).
fn wanted(notify: Option<Notify>, action: Action) -> bool {
    let Some(notify) = notify else { return matches!(action, Action::Failed | Action::Delayed) };
    match action {
        _ if notify.never => false,
        Action::Failed => notify.failure,
        Action::Delayed => notify.delay,
        Action::Delivered | Action::Relayed => notify.success,
    }
}

/// The bound on reports to strangers: so many within an hour, and no more before the oldest of them is an hour old.
#[derive(Debug, Default)]
pub struct StrangerReports {
    since: Option<SystemTime>,
    sent: u32,
}

impl StrangerReports {
    /// Whether one more may leave now; it counts then.
    pub fn take(&mut self, now: SystemTime, per_hour: u32) -> bool {
        let over = |since| now.duration_since(since).map_or(true, |passed| passed >= STRANGER_PERIOD);
        if self.since.is_none_or(over) {
            (self.since, self.sent) = (Some(now), 0);
        }
        let allowed = self.sent < per_hour;
        self.sent += u32::from(allowed);
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTIONS: [Action; 4] = [Action::Failed, Action::Delayed, Action::Delivered, Action::Relayed];
    const ORIGINS: [OriginKind; 5] = [
        OriginKind::Submission,
        OriginKind::Local,
        OriginKind::Notification,
        OriginKind::Smtp,
        OriginKind::Other,
    ];

    fn of(path: &str, origin: OriginKind, notify: Option<&str>, remote: bool) -> [Told; 4] {
        of_digest(path, origin, notify, remote, false)
    }

    fn of_digest(
        path: &str,
        origin: OriginKind,
        notify: Option<&str>,
        remote: bool,
        is_digest: bool,
    ) -> [Told; 4] {
        let reverse_path = &ReversePath::parse(path).unwrap();
        let notify = notify.map(|text| Notify::parse(text).unwrap());
        ACTIONS.map(|action| told(Facts { reverse_path, origin, notify, action, remote, is_digest }))
    }

    /// Rows: origin, NOTIFY, whether a remote server decided. Columns: failed, delayed, delivered, relayed.
    #[test]
    fn the_whole_table() {
        use OriginKind::{Local, Notification, Other, Smtp, Submission};
        use Told::{Nobody as N, Postmaster as P, Sender as S, SenderWithinBound as B};
        for (origin, notify, remote, expected) in [
            (Submission, None, true, [S, S, N, N]),
            (Submission, None, false, [S, S, N, N]),
            (Submission, Some("SUCCESS"), true, [N, N, S, S]),
            (Submission, Some("SUCCESS,FAILURE,DELAY"), true, [S, S, S, S]),
            (Submission, Some("FAILURE"), false, [S, N, N, N]),
            (Submission, Some("DELAY"), true, [N, S, N, N]),
            (Submission, Some("NEVER"), true, [N, N, N, N]),
            (Local, None, true, [S, S, N, N]),
            (Local, Some("NEVER"), false, [N, N, N, N]),
            (Smtp, None, true, [P, N, N, N]),
            (Smtp, None, false, [B, N, N, N]),
            (Smtp, Some("SUCCESS,FAILURE,DELAY"), false, [B, N, B, B]),
            (Smtp, Some("SUCCESS,FAILURE,DELAY"), true, [P, N, B, B]),
            (Smtp, Some("NEVER"), false, [N, N, N, N]),
            (Other, None, false, [B, N, N, N]),
            (Notification, None, true, [N, N, N, N]),
        ] {
            let row = of("<a@b.example>", origin, notify, remote);
            assert_eq!(row, expected, "{origin:?} {notify:?} remote {remote}");
        }
    }

    #[test]
    fn a_null_reverse_path_is_never_answered_and_its_failure_reaches_the_postmaster() {
        for origin in ORIGINS {
            for notify in [None, Some("SUCCESS,FAILURE,DELAY")] {
                for remote in [false, true] {
                    let row = of("<>", origin, notify, remote);
                    assert_eq!(
                        row,
                        [Told::Postmaster, Told::Nobody, Told::Nobody, Told::Nobody],
                        "{origin:?} {notify:?}"
                    );
                }
            }
            let silenced = of("<>", origin, Some("NEVER"), true);
            let ours = origin == OriginKind::Notification;
            assert_eq!(silenced[0], if ours { Told::Postmaster } else { Told::Nobody });
            assert_eq!(silenced[1..], [Told::Nobody; 3]);
            assert_eq!(of_digest("<>", origin, None, true, true), [Told::Nobody; 4], "no digest of digests");
        }
    }

    #[test]
    fn strangers_get_so_many_an_hour() {
        let mut reports = StrangerReports::default();
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(reports.take(at(10_000), 2) && reports.take(at(10_001), 2));
        assert!(!reports.take(at(10_002), 2) && !reports.take(at(13_599), 2));
        assert!(reports.take(at(13_600), 2));
        assert!(reports.take(at(100), 2), "a clock that was set back locks nobody out for ever");
        assert!(!StrangerReports::default().take(at(1), 0));
    }
}
