//! The states of a server session, one struct each, named by what they wait for. A state holds what is valid in it.
//!
//! Commands are handled by the states that read commands, verdicts by those that wait for one; each gives the next.

use crate::address::{ForwardPath, ReversePath};
use crate::command::{Command, CommandError, Parameter, mail_parameters, rcpt_parameters};
use crate::envelope::{Envelope, Recipient};
use crate::extension::Extensions;
use crate::reply::Reply;
use crate::sasl::server::ServerMechanism;
use crate::server::auth::ExpectAuth;
use crate::server::common::{Client, Common};
use crate::server::content::{ExpectContentEnd, most_octets};
use crate::server::{Question, Verdict};

/// How often the limit of recipients a client may try further ones before the session is closed.
const RECIPIENT_OVERRUN: usize = 2;

/// Where a session stands.
#[derive(Debug)]
pub(crate) enum State {
    ExpectHelo(ExpectHelo),
    ExpectMail(ExpectMail),
    ExpectRcpt(ExpectRcpt),
    ExpectContentEnd(Box<ExpectContentEnd>),
    /// Between two chunks of a message.
    ExpectChunk(Box<ExpectContentEnd>),
    /// Within a chunk that is refused.
    Swallow(Swallow),
    /// Within a login.
    ExpectAuth(Box<ExpectAuth>),
    ExpectVerdict(ExpectVerdict),
    /// The handshake is the driver's.
    ExpectTls,
    /// What is queued is written, then the connection is closed.
    Closing,
    Closed,
}

/// The greeting is sent, the client has not named itself.
#[derive(Debug)]
pub(crate) struct ExpectHelo;

/// The client has named itself; no transaction is open.
#[derive(Debug)]
pub(crate) struct ExpectMail;

/// A transaction is open.
#[derive(Debug)]
pub(crate) struct ExpectRcpt {
    envelope: Envelope,
    /// Recipients tried beyond the limit.
    over_limit: usize,
}

/// A refused chunk is read over; then the client hears of it.
#[derive(Debug)]
pub(crate) struct Swallow {
    /// Octets still to come.
    pub(crate) left: u64,
    pub(crate) reply: Reply,
    pub(crate) next: Box<State>,
}

/// A question is open.
#[derive(Debug)]
pub(crate) enum ExpectVerdict {
    Connect,
    Helo { client: Client },
    Auth(Box<ExpectAuth>),
    Mail { envelope: Envelope },
    Rcpt { transaction: ExpectRcpt, recipient: Recipient },
    Data,
    Chunk { size: u64, last: bool },
    ContentEnd,
}

/// What a command led to: the next state, and a question if there is one.
pub(crate) type Next = (State, Option<Question>);

impl State {
    /// Whether commands are read in this state.
    pub(crate) fn reads_commands(&self) -> bool {
        matches!(self, Self::ExpectHelo(_) | Self::ExpectMail(_) | Self::ExpectRcpt(_) | Self::ExpectChunk(_))
    }

    /// Takes a command, in a state that reads them. `more` tells that the client already sent more behind it.
    pub(crate) fn command(self, command: Command, more: bool, common: &mut Common) -> Next {
        if more && let Some(reply) = too_early(&command) {
            common.refuse(reply);
            return (Self::Closing, None);
        }
        let ends_transaction = matches!(command, Command::Ehlo(_) | Command::Helo(_) | Command::Rset);
        common.dropped = ends_transaction && matches!(self, Self::ExpectChunk(_));
        match command {
            Command::Ehlo(name) => helo(Client { name, esmtp: true }, common),
            Command::Helo(name) => helo(Client { name, esmtp: false }, common),
            Command::Quit => {
                common.reply(&Reply::with_status(221, (2, 0, 0), "bye"));
                (Self::Closing, None)
            }
            Command::Noop => self.stay_idle(common, &Reply::with_status(250, (2, 0, 0), "ok")),
            Command::Help => self.stay_idle(common, &Reply::with_status(214, (2, 0, 0), "see RFC 5321")),
            Command::Vrfy => self.stay_idle(common, &Reply::with_status(252, (2, 1, 5), "send it and see")),
            Command::Rset => {
                let next = if common.client.is_some() { Self::ExpectMail(ExpectMail) } else { self };
                next.stay_idle(common, &Reply::with_status(250, (2, 0, 0), "ok"))
            }
            Command::StartTls => self.start_tls(common),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial.as_ref(), common),
            Command::Mail(path, parameters) => self.mail(path, &parameters, common),
            Command::Rcpt(path, parameters) => self.rcpt(path, &parameters, common),
            Command::Data => self.data(common),
            Command::Bdat { size, last } => self.bdat(size, last, common),
        }
    }

    fn stay_idle(self, common: &mut Common, reply: &Reply) -> Next {
        common.idle_reply(reply);
        (self, None)
    }

    /// Refuses a command and leaves everything as it was.
    pub(crate) fn refuse(self, common: &mut Common, reply: Reply) -> Next {
        common.refuse(reply);
        (self, None)
    }

    /// Refuses a command that may not come now (RFC 5321 4.1.4).
    pub(crate) fn out_of_order(self, common: &mut Common, text: &str) -> Next {
        self.refuse(common, Reply::with_status(503, (5, 5, 1), text))
    }

    /// STARTTLS (RFC 3207). Not within a transaction: nothing said in the clear lives on.
    fn start_tls(self, common: &mut Common) -> Next {
        if common.tls.is_some() {
            return self.out_of_order(common, "TLS is active");
        }
        if !common.options.extensions.starttls {
            return self.refuse(common, CommandError::NotImplemented.reply());
        }
        match self {
            Self::ExpectMail(_) => {
                common.reply(&Reply::with_status(220, (2, 0, 0), "ready to start TLS"));
                common.wait_until = common.now + common.options.limits.tls_timeout;
                (Self::ExpectTls, None)
            }
            Self::ExpectHelo(_) => self.out_of_order(common, "EHLO first"),
            other => other.out_of_order(common, "not within a transaction"),
        }
    }

    fn mail(self, path: ReversePath, parameters: &[Parameter], common: &mut Common) -> Next {
        match self {
            Self::ExpectMail(state) => state.mail(path, parameters, common),
            Self::ExpectRcpt(_) | Self::ExpectChunk(_) => self.out_of_order(common, "a transaction is open"),
            _ => self.out_of_order(common, "EHLO first"),
        }
    }

    fn rcpt(self, path: ForwardPath, parameters: &[Parameter], common: &mut Common) -> Next {
        match self {
            Self::ExpectRcpt(state) => state.rcpt(path, parameters, common),
            _ => self.out_of_order(common, "MAIL first"),
        }
    }

    fn data(self, common: &mut Common) -> Next {
        match self {
            Self::ExpectRcpt(state) if !state.envelope.recipients.is_empty() => {
                let question = Question::Data { envelope: state.envelope };
                (Self::ExpectVerdict(ExpectVerdict::Data), Some(question))
            }
            Self::ExpectRcpt(_) => {
                self.refuse(common, Reply::with_status(554, (5, 5, 1), "no valid recipients"))
            }
            // RFC 3030 2: the two do not mix.
            Self::ExpectChunk(_) => self.out_of_order(common, "BDAT has begun: go on with it"),
            _ => self.out_of_order(common, "MAIL first"),
        }
    }

    /// BDAT (RFC 3030). Whatever is answered, the octets that follow are content and never commands.
    fn bdat(self, size: u64, last: bool, common: &mut Common) -> Next {
        if let Some(reply) = too_big(size, &self, common) {
            return self.refuse_chunk(size, reply, common);
        }
        match self {
            Self::ExpectRcpt(state) if !state.envelope.recipients.is_empty() => {
                let question = Question::Data { envelope: state.envelope };
                (Self::ExpectVerdict(ExpectVerdict::Chunk { size, last }), Some(question))
            }
            Self::ExpectChunk(mut content) => {
                content.next_chunk(size, last);
                common.wait_until = common.now + common.options.limits.content_block_timeout;
                (Self::ExpectContentEnd(content), None)
            }
            Self::ExpectRcpt(_) => {
                self.refuse_chunk(size, Reply::with_status(554, (5, 5, 1), "no valid recipients"), common)
            }
            _ => self.refuse_chunk(size, Reply::with_status(503, (5, 5, 1), "MAIL first"), common),
        }
    }

    /// Reads over a chunk and refuses it; a chunk that is too big for that ends the session. A message of which a part was
    /// taken is given up.
    fn refuse_chunk(self, size: u64, reply: Reply, common: &mut Common) -> Next {
        if size > most_octets(&common.options) {
            common.refuse(reply);
            return (Self::Closing, None);
        }
        common.dropped = matches!(self, Self::ExpectChunk(_));
        let next = if common.dropped { Self::ExpectMail(ExpectMail) } else { self };
        (Self::Swallow(Swallow { left: size, reply, next: Box::new(next) }), None)
    }
}

/// The refusal of a chunk that would make the message too big (RFC 1870 6.3). Nothing is allocated by what it claims.
fn too_big(size: u64, state: &State, common: &Common) -> Option<Reply> {
    let limit = common.options.extensions.size_limit;
    let taken = match state {
        State::ExpectChunk(content) => content.size_octets,
        _ => 0,
    };
    (limit > 0 && size.saturating_add(taken) > limit).then(|| CommandError::TooBig.reply())
}

/// The commands that must be the last of a group (RFC 2920 3.1, RFC 3207 4): the client has to wait for the reply.
/// What came behind them came too early: content as commands, commands into TLS, commands before our offer.
fn too_early(command: &Command) -> Option<Reply> {
    let verb = match command {
        Command::Ehlo(_) | Command::Helo(_) => "EHLO",
        Command::StartTls => "STARTTLS",
        Command::Data => "DATA",
        Command::Auth { .. } => "AUTH",
        _ => return None,
    };
    Some(Reply::with_status(503, (5, 5, 0), format!("sent more behind {verb} without waiting for the reply")))
}

/// EHLO and HELO come at any time and end a transaction (RFC 5321 4.1.4).
fn helo(client: Client, common: &mut Common) -> Next {
    if common.client.is_some() {
        common.idle_commands += 1;
    }
    let question = Question::Helo { name: client.name.clone() };
    (State::ExpectVerdict(ExpectVerdict::Helo { client }), Some(question))
}

impl ExpectMail {
    fn mail(self, path: ReversePath, parameters: &[Parameter], common: &mut Common) -> Next {
        if common.transactions >= common.options.limits.transactions {
            common.refuse(Reply::with_status(421, (4, 7, 0), "too many messages in one session"));
            return (State::Closing, None);
        }
        if common.options.require_auth && common.login.is_none() {
            // RFC 4954 6
            let reply = Reply::with_status(530, (5, 7, 0), "log in first");
            return State::ExpectMail(self).refuse(common, reply);
        }
        let offered = offered(common);
        let ascii = path.mailbox().is_none_or(|mailbox| mailbox.is_ascii());
        let parameters = match mail_parameters(parameters, &offered) {
            Ok(parameters) if parameters.smtputf8 || ascii => parameters,
            Ok(_) => return State::ExpectMail(self).refuse(common, CommandError::NeedsSmtpUtf8.reply()),
            Err(error) => return State::ExpectMail(self).refuse(common, error.reply()),
        };
        let question = Question::Mail { reverse_path: path.clone(), parameters: parameters.clone() };
        let envelope = Envelope { reverse_path: path, parameters, recipients: Vec::new() };
        (State::ExpectVerdict(ExpectVerdict::Mail { envelope }), Some(question))
    }
}

impl ExpectRcpt {
    fn rcpt(mut self, path: ForwardPath, parameters: &[Parameter], common: &mut Common) -> Next {
        if self.envelope.recipients.len() >= common.options.limits.recipients {
            self.over_limit += 1;
            return self.too_many(common);
        }
        let mailbox = match &path {
            ForwardPath::Postmaster => common.options.postmaster.clone(),
            ForwardPath::Mailbox(mailbox) => mailbox.clone(),
        };
        if !mailbox.is_ascii() && !self.envelope.parameters.smtputf8 {
            return State::ExpectRcpt(self).refuse(common, CommandError::NeedsSmtpUtf8.reply());
        }
        let parameters = match rcpt_parameters(parameters, &offered(common)) {
            Ok(parameters) => parameters,
            Err(error) => return State::ExpectRcpt(self).refuse(common, error.reply()),
        };
        let recipient = Recipient { mailbox, notify: parameters.notify, orcpt: parameters.orcpt.clone() };
        let question = Question::Rcpt { path, parameters };
        (State::ExpectVerdict(ExpectVerdict::Rcpt { transaction: self, recipient }), Some(question))
    }

    /// The client sends the message to those accepted and comes again for the others (RFC 5321 4.5.3.1.10).
    fn too_many(self, common: &mut Common) -> Next {
        if self.over_limit > common.options.limits.recipients.saturating_mul(RECIPIENT_OVERRUN) {
            common.refuse(Reply::with_status(421, (4, 7, 0), "far too many recipients"));
            return (State::Closing, None);
        }
        State::ExpectRcpt(self).refuse(common, Reply::with_status(452, (4, 5, 3), "too many recipients"))
    }
}

impl ExpectVerdict {
    /// Takes the answer to the open question. `more` tells that the client already sent more.
    pub(crate) fn verdict(self, verdict: Verdict, more: bool, common: &mut Common) -> State {
        let verdict = match self {
            Self::Auth(exchange) => return exchange.verdict(verdict, common),
            _ => verdict,
        };
        let reply = match verdict {
            Verdict::Accept => None,
            // No answer to this question: as if there were none.
            Verdict::Auth(_) => Some(Reply::with_status(451, (4, 3, 0), "not decided")),
            Verdict::Reply(reply) => Some(reply),
            Verdict::Close(reply) => {
                common.reply(&reply);
                return State::Closing;
            }
        };
        let accepted = reply.as_ref().is_none_or(|reply| reply.code < 400);
        match self {
            Self::Connect => connected(accepted, more, reply, common),
            Self::Helo { client } => greeted(client, accepted, more, reply, common),
            Self::Mail { envelope } => begun(envelope, accepted, reply, common),
            Self::Rcpt { mut transaction, recipient } => {
                common.reply(&reply.unwrap_or_else(|| Reply::with_status(250, (2, 1, 5), "recipient ok")));
                if accepted {
                    transaction.envelope.recipients.push(recipient);
                }
                State::ExpectRcpt(transaction)
            }
            Self::Data => data_allowed(accepted, more, reply, common),
            Self::Chunk { size, last } => chunk_allowed(size, last, accepted, reply, common),
            Self::Auth(_) => State::ExpectMail(ExpectMail),
            Self::ContentEnd => {
                common
                    .reply(&reply.unwrap_or_else(|| Reply::with_status(250, (2, 0, 0), "message accepted")));
                common.idle_commands = if accepted { 0 } else { common.idle_commands + 1 };
                State::ExpectMail(ExpectMail)
            }
        }
    }
}

/// The greeting; or no service, when the client spoke before it.
fn connected(accepted: bool, more: bool, reply: Option<Reply>, common: &mut Common) -> State {
    if accepted && more {
        common.refuse(Reply::with_status(554, (5, 5, 0), "you spoke before the greeting"));
        return State::Closing;
    }
    common
        .reply(&reply.unwrap_or_else(|| Reply::new(220, None, format!("{} ESMTP", common.options.hostname))));
    if accepted { State::ExpectHelo(ExpectHelo) } else { State::Closing }
}

/// The reply to EHLO or HELO. A refused name leaves the session as it was, without a transaction.
fn greeted(client: Client, accepted: bool, more: bool, reply: Option<Reply>, common: &mut Common) -> State {
    if more {
        common.refuse(Reply::with_status(
            503,
            (5, 5, 0),
            "sent more behind EHLO without waiting for the reply",
        ));
        return State::Closing;
    }
    if !accepted {
        common.reply(&reply.unwrap_or_else(|| Reply::with_status(550, (5, 7, 1), "not with that name")));
        let known = common.client.is_some();
        return if known { State::ExpectMail(ExpectMail) } else { State::ExpectHelo(ExpectHelo) };
    }
    let hostname = common.options.hostname.as_str();
    let mut answer = reply.unwrap_or_else(|| Reply::new(250, None, hostname));
    if client.esmtp {
        let limits = &common.options.limits;
        let lines = offered(common).ehlo_lines(limits.transactions, limits.recipients);
        answer = lines.into_iter().fold(answer, Reply::push_line);
    }
    common.reply(&answer);
    common.client = Some(client);
    State::ExpectMail(ExpectMail)
}

fn begun(envelope: Envelope, accepted: bool, reply: Option<Reply>, common: &mut Common) -> State {
    common.reply(&reply.unwrap_or_else(|| Reply::with_status(250, (2, 1, 0), "sender ok")));
    if !accepted {
        common.idle_commands += 1; // a temporary refusal is no error of the client, but no progress either
        return State::ExpectMail(ExpectMail);
    }
    common.transactions += 1;
    State::ExpectRcpt(ExpectRcpt { envelope, over_limit: 0 })
}

fn data_allowed(accepted: bool, more: bool, reply: Option<Reply>, common: &mut Common) -> State {
    if !accepted {
        common.reply(&reply.unwrap_or_else(|| Reply::with_status(554, (5, 0, 0), "no content wanted")));
        return State::ExpectMail(ExpectMail);
    }
    if more {
        common.refuse(Reply::with_status(
            503,
            (5, 5, 0),
            "sent more behind DATA without waiting for the reply",
        ));
        return State::Closing;
    }
    common.reply(&reply.unwrap_or_else(|| Reply::new(354, None, "end with <CR><LF>.<CR><LF>")));
    let limits = &common.options.limits;
    common.wait_until = common.now + limits.content_block_timeout;
    State::ExpectContentEnd(Box::new(ExpectContentEnd::new(common.now, limits)))
}

fn chunk_allowed(size: u64, last: bool, accepted: bool, reply: Option<Reply>, common: &mut Common) -> State {
    if !accepted {
        let reply = reply.unwrap_or_else(|| Reply::with_status(554, (5, 0, 0), "no content wanted"));
        return State::ExpectMail(ExpectMail).refuse_chunk(size, reply, common).0;
    }
    let limits = &common.options.limits;
    common.wait_until = common.now + limits.content_block_timeout;
    State::ExpectContentEnd(Box::new(ExpectContentEnd::chunked(common.now, limits, size, last)))
}

/// What is offered at this point of the session: a login that needs something of TLS only where that is there.
pub(crate) fn offered(common: &Common) -> Extensions {
    let mut offered = common.options.extensions.offered(common.tls.is_some());
    let tls = common.tls.as_ref();
    if tls.is_none_or(|tls| tls.bindings.is_empty()) {
        offered.auth = offered.auth.without(ServerMechanism::ScramSha256Plus);
    }
    if !tls.is_some_and(|tls| tls.client_certificate) {
        offered.auth = offered.auth.without(ServerMechanism::External);
    }
    offered
}
