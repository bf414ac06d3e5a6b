//! Requests and responses, and how they are read and written. No I/O. `request` is the table of operations, `arguments` what
//! they take, `select` which messages they mean.

mod arguments;
mod request;
mod select;
mod user;

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::arguments::{
    AliasArguments, ChangeArguments, ChangeWord, ContentArguments, CountArguments, DestinationArguments,
    EditArguments, HoldRuleArguments, LogArguments, PauseArguments, SummaryArguments, SummaryBy,
    TraceArguments,
};
pub use self::request::{ReportListArguments, ReportSendArguments, ReportTlsArguments, Request};
pub use self::select::{ListArguments, Select};
pub use self::user::{GrantArguments, ScramArguments, SecretArguments, UserArguments, UserChangeArguments};

/// The protocol's version. It is raised when a field changes its meaning; new fields and operations do not raise it.
pub const VERSION: u32 = 1;

/// Longest request line, in bytes. A selector with a few hundred ids fits.
pub const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// The end of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Done {
    /// How many rows there were; for a change, how many recipients it concerned.
    pub count: u64,
    /// Whether a list was cut at its limit.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Of a change: recipients that were left alone, because a delivery is under way.
    #[serde(skip_serializing_if = "is_zero")]
    pub busy: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The line is no request.
    BadRequest,
    /// The operation is not known to this version.
    UnknownOperation,
    /// The versions do not fit.
    UnsupportedVersion,
    /// The peer may not ask.
    NotAllowed,
    /// Nothing fits.
    NotFound,
    /// The beginning of an id fits several.
    Ambiguous,
    /// The configuration is wrong.
    Configuration,
    /// Only the daemon can do it, and it does not run.
    Unreachable,
    /// Full disk, closing down: later.
    Temporary,
    /// The daemon itself failed.
    Internal,
    /// A code that a newer version has.
    #[serde(other)]
    Other,
}

/// A failure with its reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which kind.
    pub code: Code,
    /// Cause and remedy, for a person.
    pub message: String,
}

impl Failure {
    /// A failure of this kind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// One line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// One result.
    Row(Value),
    /// The end, all well.
    Done(Done),
    /// The end, not well.
    Error(Failure),
}

/// The version beside a response or request.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    inner: T,
}

impl Request {
    /// The request as a line, with its line end.
    pub fn to_line(&self) -> String {
        to_line(self)
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`Code::BadRequest`], [`Code::UnsupportedVersion`] or [`Code::UnknownOperation`].
    pub fn from_line(line: &[u8]) -> Result<Self, Failure> {
        let bad = |why: String| Failure::new(Code::BadRequest, format!("not a request: {why}"));
        let value: Value = serde_json::from_slice(line).map_err(|e| bad(e.to_string()))?;
        match value.get("v").and_then(Value::as_u64) {
            Some(v) if v == u64::from(VERSION) => {}
            Some(v) => {
                let message = format!(
                    "protocol version {v} is asked for, this daemon speaks {VERSION}: use its own mta-cli"
                );
                return Err(Failure::new(Code::UnsupportedVersion, message));
            }
            None => return Err(bad("no version".to_owned())),
        }
        let operation = value.get("op").and_then(Value::as_str).unwrap_or_default().to_owned();
        serde_json::from_value::<Self>(value).map_err(|e| {
            let text = e.to_string();
            if text.starts_with("unknown variant") {
                let message = format!("this daemon has no operation {:?}", crate::log::visible(&operation));
                return Failure::new(Code::UnknownOperation, message);
            }
            bad(text)
        })
    }
}

impl Response {
    /// The response as a line, with its line end.
    pub fn to_line(&self) -> String {
        to_line(self)
    }

    /// Reads a line.
    ///
    /// # Errors
    /// [`Code::BadRequest`] or [`Code::UnsupportedVersion`].
    pub fn from_line(line: &[u8]) -> Result<Self, Failure> {
        let read: Versioned<Self> = serde_json::from_slice(line)
            .map_err(|e| Failure::new(Code::BadRequest, format!("not a response: {e}")))?;
        if read.v == VERSION {
            return Ok(read.inner);
        }
        let message = format!("the daemon speaks protocol version {}, this program {VERSION}", read.v);
        Err(Failure::new(Code::UnsupportedVersion, message))
    }
}

/// `inner` beside the version, as a line.
fn to_line<T: Serialize>(inner: &T) -> String {
    // Values of these types are always JSON; an empty object is refused by any reader.
    let mut line =
        serde_json::to_string(&Versioned { v: VERSION, inner }).unwrap_or_else(|_| "{}".to_owned());
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_what_the_manual_says() {
        assert_eq!(Request::Status.to_line(), "{\"v\":1,\"op\":\"status\"}\n");
        let list = Request::QueueList(ListArguments {
            select: Select { to: Some("@example.org".into()), ..Select::default() },
            ..ListArguments::default()
        });
        assert_eq!(
            list.to_line(),
            "{\"v\":1,\"op\":\"queue.list\",\"args\":{\"select\":{\"ids\":[],\"to\":\"@example.org\"},\"limit\":0}}\n"
        );
        for request in [
            Request::Status,
            list,
            Request::QueueShow("abc".into()),
            Request::QueueDrop(ChangeArguments::default()),
        ] {
            assert_eq!(Request::from_line(request.to_line().as_bytes()), Ok(request));
        }
    }

    #[test]
    fn responses_read_back() {
        for response in [
            Response::Row(serde_json::json!({"a": 1})),
            Response::Done(Done { count: 3, more: true, busy: 2 }),
            Response::Error(Failure::new(Code::NotFound, "x")),
        ] {
            assert_eq!(Response::from_line(response.to_line().as_bytes()), Ok(response));
        }
        assert_eq!(
            Response::from_line(b"{\"v\":1,\"error\":{\"code\":\"from_the_future\",\"message\":\"x\"}}"),
            Ok(Response::Error(Failure::new(Code::Other, "x")))
        );
    }

    #[test]
    fn wrong_requests_get_the_right_code() {
        for (line, code) in [
            ("", Code::BadRequest),
            ("hello", Code::BadRequest),
            ("{}", Code::BadRequest),
            ("[]", Code::BadRequest),
            ("{\"op\":\"status\"}", Code::BadRequest),
            ("{\"v\":2,\"op\":\"status\"}", Code::UnsupportedVersion),
            ("{\"v\":1,\"op\":\"explode\"}", Code::UnknownOperation),
            ("{\"v\":1,\"op\":\"queue.show\"}", Code::BadRequest),
            ("{\"v\":1,\"op\":\"queue.drop\",\"args\":{\"too\":\"x\"}}", Code::BadRequest),
            ("{\"v\":1}", Code::BadRequest),
        ] {
            assert_eq!(Request::from_line(line.as_bytes()).map_err(|f| f.code), Err(code), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in any::<Vec<u8>>()) {
            let _ = Request::from_line(&bytes);
            let _ = Response::from_line(&bytes);
        }
    }
}
