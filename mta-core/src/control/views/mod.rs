//! What the protocol, `--json` and the tables show: one set of names for all three. One file for each kind of thing shown.

mod administer;
mod message;
mod report;
mod status;
mod user;

use std::time::SystemTime;

pub use self::administer::{
    AliasView, AnswerView, DestinationView, GroupView, HoldRuleView, LogView, PauseView, TopView,
};
pub use self::message::{AttemptView, EventView, MessageView, RecipientView, ResultView};
pub use self::report::{DmarcRecordView, DmarcView, ReportRow, ReportSendingView, ReportToView, ReportView};
pub use self::status::{AlertView, CountsView, StatusView};
pub use self::user::UserView;

/// A time as RFC 3339, whole seconds, UTC.
pub fn rfc3339(time: SystemTime) -> String {
    let seconds = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(_) => 0,
    };
    rfc3339_of(seconds)
}

/// Seconds since 1970 as RFC 3339.
pub fn rfc3339_of(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds).map_or_else(|_| unix_seconds.to_string(), |t| t.to_string())
}

/// A path as text without its brackets, except for the null one.
pub(super) fn bare(text: &str) -> String {
    match text.strip_prefix('<').and_then(|t| t.strip_suffix('>')) {
        Some(inner) if !inner.is_empty() => inner.to_owned(),
        _ => text.to_owned(),
    }
}
