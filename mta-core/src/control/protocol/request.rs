//! The table of operations.

use serde::{Deserialize, Serialize};

use super::ListArguments;
use super::arguments::{
    AliasArguments, ChangeArguments, ContentArguments, CountArguments, DestinationArguments, EditArguments,
    HoldRuleArguments, LogArguments, PauseArguments, SummaryArguments, TraceArguments,
};
use super::user::{GrantArguments, SecretArguments, UserArguments, UserChangeArguments};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", content = "args")]
pub enum Request {
    /// One row: what the daemon is doing.
    #[serde(rename = "status")]
    Status,
    /// One row: rates, deliveries under way, what waits and why; for a screen that is drawn again and again.
    #[serde(rename = "top")]
    Top,
    /// Reads the configuration again; a row for each key that waits for a restart.
    #[serde(rename = "reload")]
    Reload,
    /// A row for each message.
    #[serde(rename = "queue.list")]
    QueueList(ListArguments),
    /// A row for each group of what waits.
    #[serde(rename = "queue.summary")]
    QueueSummary(SummaryArguments),
    /// One row: a message with its attempts. The text is an id or the beginning of one.
    #[serde(rename = "queue.show")]
    QueueShow(String),
    /// Rows of text: the content of a message, or a part of it.
    #[serde(rename = "queue.content")]
    QueueContent(ContentArguments),
    /// How many recipients a change would concern; no row but progress.
    #[serde(rename = "queue.count")]
    QueueCount(CountArguments),
    /// Makes the recipients that fit due now.
    #[serde(rename = "queue.retry")]
    QueueRetry(ChangeArguments),
    /// Holds the recipients that fit.
    #[serde(rename = "queue.hold")]
    QueueHold(ChangeArguments),
    /// Releases the recipients that fit.
    #[serde(rename = "queue.release")]
    QueueRelease(ChangeArguments),
    /// Takes the recipients that fit out of the queue; nobody is notified.
    #[serde(rename = "queue.drop")]
    QueueDrop(ChangeArguments),
    /// Ends the recipients that fit as failed; their senders are notified.
    #[serde(rename = "queue.bounce")]
    QueueBounce(ChangeArguments),
    /// Gives the recipients that fit another address.
    #[serde(rename = "queue.redirect")]
    QueueRedirect(EditArguments),
    /// Sends the recipients that fit another way.
    #[serde(rename = "queue.reroute")]
    QueueReroute(EditArguments),
    /// A row for each rule that holds mail to come.
    #[serde(rename = "hold-rule.list")]
    HoldRuleList,
    /// Adds a rule; `count` is its number.
    #[serde(rename = "hold-rule.add")]
    HoldRuleAdd(HoldRuleArguments),
    /// Removes the rule of this number.
    #[serde(rename = "hold-rule.remove")]
    HoldRuleRemove(i64),
    /// A row for each destination with something waiting, or for the one that is named.
    #[serde(rename = "dest.show")]
    DestinationShow(DestinationArguments),
    /// Forgets that a destination failed.
    #[serde(rename = "dest.reset")]
    DestinationReset(String),
    /// A row for each answer of a next hop about a recipient: of all, of a domain, or of an address.
    #[serde(rename = "dest.recipients")]
    DestinationRecipients(DestinationArguments),
    /// Forgets the answer about an address, or those about a domain; `count` is how many.
    #[serde(rename = "dest.forget")]
    DestinationForget(String),
    /// Lets something stand still: `in`, `out`, `local`, `dest:NAME`.
    #[serde(rename = "pause")]
    Pause(PauseArguments),
    /// Ends that.
    #[serde(rename = "resume")]
    Resume(String),
    /// A row for each message that is traced, in the queue or its history.
    #[serde(rename = "trace")]
    Trace(TraceArguments),
    /// A row for each line of the log, and an empty one now and then.
    #[serde(rename = "log")]
    Log(LogArguments),
    /// A row for each alias of the database.
    #[serde(rename = "alias.list")]
    AliasList,
    /// Keeps an alias in place of the one of that address.
    #[serde(rename = "alias.put")]
    AliasPut(AliasArguments),
    /// Reads the alias files again; a row for each mistake in them. With mistakes the old aliases hold.
    #[serde(rename = "alias.reload")]
    AliasReload,
    /// Deletes the alias of this address.
    #[serde(rename = "alias.delete")]
    AliasDelete(String),
    /// A row for each policy under which TLS sessions were counted on a day.
    #[serde(rename = "report.tls")]
    ReportTls(ReportTlsArguments),
    /// A row for each domain whose mail was counted for DMARC on a day.
    #[serde(rename = "report.dmarc")]
    ReportDmarc(ReportTlsArguments),
    /// A row for each kind of report and whether it is sent, then one for each report, newest day first.
    #[serde(rename = "report.list")]
    ReportList(ReportListArguments),
    /// Makes a day's reports due now; or, for a look, a row for each as it would be sent.
    #[serde(rename = "report.send")]
    ReportSend(ReportSendArguments),
    /// A row for each user.
    #[serde(rename = "user.list")]
    UserList,
    /// One row: a user.
    #[serde(rename = "user.show")]
    UserShow(String),
    /// Adds a user.
    #[serde(rename = "user.add")]
    UserAdd(UserArguments),
    /// Changes a user.
    #[serde(rename = "user.change")]
    UserChange(UserChangeArguments),
    /// Removes a user.
    #[serde(rename = "user.remove")]
    UserRemove(String),
    /// Lets a user do something more, or no longer; `count` is 0 where nothing changed.
    #[serde(rename = "user.grant")]
    UserGrant(GrantArguments),
    /// Lets a user send again whom the brake held; `count` is how many recipients were let go.
    #[serde(rename = "user.release")]
    UserRelease(String),
}

impl Request {
    /// Whether it changes anything.
    pub fn changes(&self) -> bool {
        match self {
            Self::Status
            | Self::Top
            | Self::QueueList(_)
            | Self::QueueSummary(_)
            | Self::QueueShow(_)
            | Self::QueueContent(_)
            | Self::QueueCount(_)
            | Self::HoldRuleList
            | Self::DestinationShow(_)
            | Self::DestinationRecipients(_)
            | Self::Trace(_)
            | Self::Log(_)
            | Self::AliasList
            | Self::ReportTls(_)
            | Self::ReportDmarc(_)
            | Self::ReportList(_)
            | Self::UserList
            | Self::UserShow(_) => false,
            Self::Reload
            | Self::QueueRetry(_)
            | Self::QueueHold(_)
            | Self::QueueRelease(_)
            | Self::QueueDrop(_)
            | Self::QueueBounce(_)
            | Self::QueueRedirect(_)
            | Self::QueueReroute(_)
            | Self::AliasPut(_)
            | Self::ReportSend(_)
            | Self::AliasReload
            | Self::AliasDelete(_)
            | Self::HoldRuleAdd(_)
            | Self::HoldRuleRemove(_)
            | Self::DestinationReset(_)
            | Self::DestinationForget(_)
            | Self::Pause(_)
            | Self::Resume(_)
            | Self::UserAdd(_)
            | Self::UserChange(_)
            | Self::UserRemove(_)
            | Self::UserGrant(_)
            | Self::UserRelease(_) => true,
        }
    }

    /// The same for the log: what is kept of a password is left out.
    #[must_use]
    pub fn without_secrets(&self) -> Self {
        match self.clone() {
            Self::UserAdd(arguments) => {
                Self::UserAdd(UserArguments { secret: SecretArguments::default(), ..arguments })
            }
            Self::UserChange(arguments) => {
                let secret = arguments.secret.as_ref().map(|_| SecretArguments::default());
                Self::UserChange(UserChangeArguments { secret, ..arguments })
            }
            other => other,
        }
    }

    /// Security decision: whether somebody who is no administrator may ask it; what it shows is his own mail alone.
    pub fn is_for_everybody(&self) -> bool {
        matches!(self, Self::QueueList(_) | Self::QueueShow(_) | Self::Trace(_))
    }
}

/// Which counters are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportTlsArguments {
    /// The day, days since 1970-01-01 (UTC); the newest with counters where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<i64>,
    /// Only what concerns this domain: as the one that publishes the policy, or (TLS) as recipient domain. Lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

/// Which reports are wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportListArguments {
    /// `tls` or `dmarc`; all kinds where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Reports at most, those of the newest days; 0 means the default of 200.
    pub limit: usize,
}

/// Which reports to send.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportSendArguments {
    /// `tls` or `dmarc`.
    pub kind: String,
    /// The day, days since 1970-01-01 (UTC).
    pub day: i64,
    /// Only to the operator of this domain. Lower case.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Nothing is sent: only shown.
    pub dry_run: bool,
}
