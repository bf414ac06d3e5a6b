//! The way to the operations: by the control socket where the daemon runs, on the queue's files where it does not.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use mta_core::config::Config;
use mta_core::control::{Code, Done, Failure, Operations, Peer, QueueOperations, Request, Response};
use mta_queue::{OpenError, Queue, Reader};
use serde_json::Value;

use crate::exit::Exit;

/// How long the daemon may take for one line of an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// Why something was not done, and how to end for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// How to end.
    pub exit: Exit,
    /// Cause and remedy.
    pub text: String,
}

impl Problem {
    /// A problem with its exit code.
    pub fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into() }
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        let exit = match failure.code {
            Code::BadRequest | Code::Ambiguous => Exit::USAGE,
            Code::NotAllowed => Exit::NOT_ALLOWED,
            Code::NotFound => Exit::NOTHING,
            Code::Temporary => Exit::TEMPORARY,
            Code::Unreachable => Exit::UNREACHABLE,
            Code::Configuration => Exit::CONFIGURATION,
            Code::UnknownOperation | Code::UnsupportedVersion | Code::Internal | Code::Other => {
                Exit::INTERNAL
            }
        };
        Self { exit, text: failure.message }
    }
}

/// Where requests go.
pub enum Client {
    /// To the daemon.
    Daemon(BufReader<UnixStream>),
    /// To the files, because the daemon is down.
    Files(Box<QueueOperations>),
}

impl Client {
    /// Connects to the daemon; where it is down, opens the queue's files, for writing if the request needs that. Says on
    /// standard error that it did.
    ///
    /// # Errors
    /// One sentence: not allowed (77), or neither daemon nor queue (69).
    pub fn connect(config: &Config, writing: bool) -> Result<Self, Problem> {
        let socket = config.control_socket();
        match UnixStream::connect(&socket) {
            Ok(stream) => {
                let limited = stream
                    .set_read_timeout(Some(ANSWER_TIMEOUT))
                    .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)));
                limited.map_err(|e| Problem::new(Exit::INTERNAL, format!("{}: {e}", socket.display())))?;
                Ok(Self::Daemon(BufReader::new(stream)))
            }
            Err(e) if e.kind() == ErrorKind::PermissionDenied => {
                let remedy = "be root or the service user, or join the group that admin_group names";
                Err(Problem::new(Exit::NOT_ALLOWED, format!("{}: {e}; {remedy}", socket.display())))
            }
            Err(e) => {
                eprintln!(
                    "mta-cli: the daemon does not answer on {} ({}); using the queue in {} directly",
                    socket.display(),
                    short(&e),
                    config.state_dir.display()
                );
                offline(config, writing).map(|operations| Self::Files(Box::new(operations)))
            }
        }
    }

    /// Whether the daemon itself answers.
    pub fn is_daemon(&self) -> bool {
        matches!(self, Self::Daemon(_))
    }

    /// Asks, giving each row to `row`.
    ///
    /// # Errors
    /// What the operation says, or that the daemon went away.
    pub fn ask(&mut self, request: &Request, row: &mut dyn FnMut(Value)) -> Result<Done, Problem> {
        match self {
            Self::Files(operations) => {
                let mut give = |value| {
                    row(value);
                    true
                };
                Ok(operations.run(&Peer::here(), request, &mut give)?)
            }
            Self::Daemon(stream) => ask_daemon(stream, request, row),
        }
    }

    /// Asks, giving each row to `row` as what it is.
    ///
    /// # Errors
    /// As [`Client::ask`]; a row that is something else is a fault of the daemon.
    pub fn ask_all<T: serde::de::DeserializeOwned>(
        &mut self,
        request: &Request,
        row: &mut dyn FnMut(T),
    ) -> Result<Done, Problem> {
        let mut wrong = None;
        let done = self.ask(request, &mut |value| match serde_json::from_value(value) {
            Ok(value) => row(value),
            Err(error) => wrong = Some(error),
        })?;
        match wrong {
            None => Ok(done),
            Some(e) => Err(Problem::new(Exit::INTERNAL, format!("cannot read the answer: {e}"))),
        }
    }

    /// Asks for one row.
    ///
    /// # Errors
    /// As [`Client::ask`]; an answer without a row is a fault of the daemon.
    pub fn ask_one<T: serde::de::DeserializeOwned>(&mut self, request: &Request) -> Result<T, Problem> {
        let mut found = None;
        self.ask(request, &mut |value| found = Some(value))?;
        let value = found.ok_or_else(|| Problem::new(Exit::INTERNAL, "the answer is empty"))?;
        serde_json::from_value(value)
            .map_err(|e| Problem::new(Exit::INTERNAL, format!("cannot read the answer: {e}")))
    }
}

/// The operating system's words without its error number.
fn short(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// Sends the request and reads rows until the end.
fn ask_daemon(
    stream: &mut BufReader<UnixStream>,
    request: &Request,
    row: &mut dyn FnMut(Value),
) -> Result<Done, Problem> {
    let gone = |why: String| Problem::new(Exit::UNREACHABLE, format!("the daemon went away: {why}"));
    stream.get_mut().write_all(request.to_line().as_bytes()).map_err(|e| gone(short(&e)))?;
    loop {
        let mut line = Vec::new();
        let read = stream.read_until(b'\n', &mut line).map_err(|e| gone(short(&e)))?;
        if read == 0 {
            return Err(gone("it closed the connection".to_owned()));
        }
        let response = Response::from_line(&line).map_err(|f| Problem::new(Exit::INTERNAL, f.message))?;
        match response {
            Response::Row(value) => row(value),
            Response::Done(done) => return Ok(done),
            Response::Error(failure) => return Err(failure.into()),
        }
    }
}

/// The operations on the queue's files.
fn offline(config: &Config, writing: bool) -> Result<QueueOperations, Problem> {
    let reader = Reader::open(&config.state_dir).map_err(open_problem)?;
    if !writing {
        return Ok(QueueOperations::reading(reader));
    }
    // Only now: never make a queue only to find nothing in it.
    let queue = Queue::open(&config.state_dir, config.queue_options()).map_err(open_problem)?;
    Ok(QueueOperations::writing_offline(queue, config))
}

/// What it means that the queue cannot be opened.
pub(crate) fn open_problem(error: OpenError) -> Problem {
    let exit = match error {
        OpenError::InUse { .. } | OpenError::Missing { .. } => Exit::UNREACHABLE,
        OpenError::NoSpace { .. } | OpenError::Older { .. } => Exit::TEMPORARY,
        OpenError::Directory { .. } => Exit::NOT_ALLOWED,
        OpenError::Newer { .. } | OpenError::Foreign { .. } => Exit::CONFIGURATION,
        OpenError::Database { .. } => Exit::INTERNAL,
    };
    Problem::new(exit, error.to_string())
}
