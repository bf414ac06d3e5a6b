//! The control protocol: how the administrator's tool asks the running daemon, over a Unix socket.
//!
//! One request is one line of JSON; the answer is any number of `row` lines and then one `done` or `error` line. Every
//! line carries the protocol's version. Who may ask is decided by the peer's credentials, not by the socket's mode alone.
//! The operations behind it are the same functions that the tool calls itself while the daemon is down ([`Operations`]).
//! Nothing here decides about mail.

mod operations;
mod peer;
mod protocol;
mod server;
mod views;

pub use self::operations::{Daemon, Operations, QueueOperations, Rows, Source};
pub use self::peer::Peer;
pub use self::protocol::{
    AliasArguments, ChangeArguments, ChangeWord, Code, ContentArguments, CountArguments,
    DestinationArguments, Done, EditArguments, Failure, GrantArguments, HoldRuleArguments, ListArguments,
    LogArguments, MAX_REQUEST_BYTES, PauseArguments, ReportListArguments, ReportSendArguments,
    ReportTlsArguments, Request, Response, ScramArguments, SecretArguments, Select, SummaryArguments,
    SummaryBy, TraceArguments, UserArguments, UserChangeArguments, VERSION,
};
pub(crate) use self::server::held;
pub use self::server::{Access, bind, serve};
pub use self::views::{
    AlertView, AliasView, AnswerView, AttemptView, CountsView, DestinationView, DmarcRecordView, DmarcView,
    EventView, GroupView, HoldRuleView, LogView, MessageView, PauseView, RecipientView, ReportRow,
    ReportSendingView, ReportToView, ReportView, ResultView, StatusView, TopView, UserView, rfc3339,
    rfc3339_of,
};
