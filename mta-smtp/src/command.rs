//! Commands as values (RFC 5321 4.1.1), the parameters of MAIL and RCPT, and the reply to each mistake in them.
//!
//! What it does: one whole line in, one command or one error out, without effects. What it does not: it knows no
//! session; whether a command may come now is `server`'s question.

use nom::Parser;

use crate::address::{ForwardPath, Mailbox, ReversePath};
use crate::envelope::{Body, MailParameters, Notify, RcptParameters, Ret};
use crate::extension::Extensions;
use crate::parse::address::Path;
use crate::parse::command as grammar;
use crate::parse::dsn;
use crate::reply::Reply;
use crate::sasl::server::Password;

/// A parameter of MAIL or RCPT: keyword in capitals, value if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// The keyword, in capitals.
    pub keyword: String,
    /// What stands behind the `=`.
    pub value: Option<String>,
}

/// A command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// HELO with the client's name.
    Helo(String),
    /// EHLO with the client's name.
    Ehlo(String),
    /// MAIL.
    Mail(ReversePath, Vec<Parameter>),
    /// RCPT.
    Rcpt(ForwardPath, Vec<Parameter>),
    /// DATA.
    Data,
    /// BDAT: so many octets of content follow (RFC 3030).
    Bdat {
        /// The octets. A claim, never an allocation.
        size: u64,
        /// Whether these are the last.
        last: bool,
    },
    /// RSET.
    Rset,
    /// NOOP; its argument is ignored.
    Noop,
    /// VRFY; we never tell, so the argument is not kept.
    Vrfy,
    /// HELP; its argument is ignored.
    Help,
    /// QUIT.
    Quit,
    /// STARTTLS (RFC 3207).
    StartTls,
    /// AUTH (RFC 4954).
    Auth {
        /// The mechanism's name.
        mechanism: String,
        /// The initial response as it came: base64, or `=` for an empty one. May hold a password.
        initial: Option<Password>,
    },
}

/// What is wrong with a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommandError {
    /// Controls, NUL, a bare CR, or octets that are not UTF-8.
    Octets,
    /// Not a verb we ever heard of.
    Unknown,
    /// A verb of SMTP that we do not serve.
    NotImplemented,
    /// The verb of another protocol (HTTP). Whoever sends it does not know whom he talks to.
    OtherProtocol,
    /// An argument where there must be none, or none where there must be one.
    Argument,
    /// The argument of MAIL is not `FROM:` and a reverse-path.
    ReversePath,
    /// The argument of RCPT is not `TO:` and a forward-path.
    ForwardPath,
    /// A source route (RFC 5321 3.6.1: we may decline).
    SourceRoute,
    /// A parameter that does not follow the grammar, comes twice, or has a value it may not have.
    Parameter,
    /// A parameter of an extension that was not offered.
    UnknownParameter,
    /// A BDAT that names no number of octets. What follows it may be content, so nothing more can be read as commands.
    Chunk,
    /// A SIZE beyond the limit (RFC 1870 6.1).
    TooBig,
    /// A non-ASCII address without SMTPUTF8 (RFC 6531 3.5).
    NeedsSmtpUtf8,
}

impl CommandError {
    /// The reply that tells the client.
    pub fn reply(self) -> Reply {
        let (code, status, text) = match self {
            Self::Octets => (500, (5, 5, 2), "line with control characters or broken UTF-8"),
            Self::Unknown => (500, (5, 5, 2), "command not recognized"),
            Self::NotImplemented => (502, (5, 5, 1), "command not implemented"),
            Self::OtherProtocol => (500, (5, 5, 2), "this is a mail server"),
            Self::Argument => (501, (5, 5, 4), "syntax error in arguments"),
            Self::ReversePath => (501, (5, 1, 7), "syntax is MAIL FROM:<address> [parameters]"),
            Self::ForwardPath => (501, (5, 1, 3), "syntax is RCPT TO:<address> [parameters]"),
            Self::SourceRoute => (553, (5, 1, 3), "source routes are not supported"),
            Self::Parameter => (501, (5, 5, 4), "syntax error in parameters"),
            Self::UnknownParameter => (555, (5, 5, 4), "parameter not recognized"),
            Self::Chunk => (501, (5, 5, 4), "syntax is BDAT size [LAST]"),
            Self::TooBig => (552, (5, 3, 4), "message too big"),
            Self::NeedsSmtpUtf8 => (553, (5, 6, 7), "address is not ASCII"),
        };
        Reply::with_status(code, status, text)
    }
}

impl Command {
    /// Reads a line, given without its CR LF. White space at its end is ignored (RFC 5321 4.1.1).
    ///
    /// # Errors
    /// What is wrong with it, as `CommandError`.
    pub fn parse(line: &[u8]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(line).map_err(|_| CommandError::Octets)?;
        let text = text.trim_end_matches([' ', '\t']);
        if text.chars().any(char::is_control) {
            return Err(CommandError::Octets);
        }
        let (_, (verb, argument)) = grammar::verb(text).map_err(|_| CommandError::Unknown)?;
        Self::with_argument(&verb.to_ascii_uppercase(), argument)
    }

    fn with_argument(verb: &str, argument: Option<&str>) -> Result<Self, CommandError> {
        match verb {
            "HELO" => client_name(argument).map(Self::Helo),
            "EHLO" => client_name(argument).map(Self::Ehlo),
            "MAIL" => mail(argument.unwrap_or_default()),
            "RCPT" => rcpt(argument.unwrap_or_default()),
            "DATA" => without_argument(Self::Data, argument),
            "BDAT" => bdat(argument.unwrap_or_default()),
            "RSET" => without_argument(Self::Rset, argument),
            "QUIT" => without_argument(Self::Quit, argument),
            "STARTTLS" => without_argument(Self::StartTls, argument),
            "AUTH" => auth(argument.unwrap_or_default()),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "VRFY" => argument.map(|_| Self::Vrfy).ok_or(CommandError::Argument),
            "EXPN" | "ETRN" | "TURN" | "ATRN" | "SEND" | "SOML" | "SAML" | "BURL" => {
                Err(CommandError::NotImplemented)
            }
            "GET" | "POST" | "PUT" | "HEAD" | "CONNECT" | "OPTIONS" => Err(CommandError::OtherProtocol),
            _ => Err(CommandError::Unknown),
        }
    }
}

fn without_argument(command: Command, argument: Option<&str>) -> Result<Command, CommandError> {
    if argument.is_some() { Err(CommandError::Argument) } else { Ok(command) }
}

fn bdat(argument: &str) -> Result<Command, CommandError> {
    let (_, (size, last)) = grammar::chunk(argument).map_err(|_| CommandError::Chunk)?;
    Ok(Command::Bdat { size, last })
}

/// `sasl-mech [SP initial-response]` (RFC 4954 4).
fn auth(argument: &str) -> Result<Command, CommandError> {
    let (_, (mechanism, initial)) = grammar::auth(argument).map_err(|_| CommandError::Argument)?;
    Ok(Command::Auth { mechanism: mechanism.to_owned(), initial: initial.map(Password::new) })
}

fn client_name(argument: Option<&str>) -> Result<String, CommandError> {
    let (_, name) = grammar::client_name(argument.unwrap_or_default()).map_err(|_| CommandError::Argument)?;
    Ok(name.to_owned())
}

fn mail(argument: &str) -> Result<Command, CommandError> {
    let (path, parameters) = path_and_parameters("FROM:", argument, CommandError::ReversePath)?;
    match path {
        Path::Null => Ok(Command::Mail(ReversePath::Null, parameters)),
        Path::Mailbox(mailbox) => Ok(Command::Mail(ReversePath::Mailbox(mailbox), parameters)),
        Path::Routed(_) => Err(CommandError::SourceRoute),
        Path::Postmaster => Err(CommandError::ReversePath),
    }
}

fn rcpt(argument: &str) -> Result<Command, CommandError> {
    let (path, parameters) = path_and_parameters("TO:", argument, CommandError::ForwardPath)?;
    match path {
        Path::Postmaster => Ok(Command::Rcpt(ForwardPath::Postmaster, parameters)),
        Path::Mailbox(mailbox) => Ok(Command::Rcpt(ForwardPath::Mailbox(mailbox), parameters)),
        Path::Routed(_) => Err(CommandError::SourceRoute),
        Path::Null => Err(CommandError::ForwardPath),
    }
}

fn path_and_parameters(
    keyword: &'static str,
    argument: &str,
    path_error: CommandError,
) -> Result<(Path, Vec<Parameter>), CommandError> {
    let Ok((_, (path, parameters))) = grammar::path_argument(keyword).parse(argument) else {
        let path_is_good = grammar::begins_with_path(keyword, argument);
        return Err(if path_is_good { CommandError::Parameter } else { path_error });
    };
    let parameters = parameters.into_iter().map(|(keyword, value)| Parameter {
        keyword: keyword.to_ascii_uppercase(),
        value: value.map(str::to_owned),
    });
    Ok((path, parameters.collect()))
}

/// Reads the parameters of MAIL against what is offered at this point of the session.
///
/// # Errors
/// `UnknownParameter` for one that is not offered, `Parameter` for a bad or doubled one, `TooBig` for a SIZE beyond
/// the limit.
pub fn mail_parameters(
    parameters: &[Parameter],
    offered: &Extensions,
) -> Result<MailParameters, CommandError> {
    each_once(parameters)?;
    let mut read = MailParameters::default();
    for parameter in parameters {
        let value = parameter.value.as_deref();
        match (parameter.keyword.as_str(), value) {
            ("SIZE", _) => read.size_bytes = Some(size(value, offered.size_limit)?),
            ("BODY", _) => read.body = body(value)?,
            ("SMTPUTF8", None) if offered.smtputf8 => read.smtputf8 = true,
            ("REQUIRETLS", None) if offered.require_tls => read.require_tls = true,
            ("RET", Some(value)) if offered.dsn => {
                read.ret = Some(Ret::parse(value).ok_or(CommandError::Parameter)?)
            }
            // RFC 4954 5: by whom it was submitted first. Nobody is trusted to say so, so it is checked and not kept.
            ("AUTH", Some(value)) if !offered.auth.is_empty() => submitter(value)?,
            ("ENVID", Some(value)) if offered.dsn => {
                read.envid = Some(dsn::whole(value, dsn::envid).ok_or(CommandError::Parameter)?);
            }
            (keyword, _) => return Err(unusable(keyword, offered)),
        }
    }
    Ok(read)
}

/// Reads the parameters of RCPT against what is offered at this point of the session.
///
/// # Errors
/// `UnknownParameter` for one that is not offered, `Parameter` for a bad or doubled one.
pub fn rcpt_parameters(
    parameters: &[Parameter],
    offered: &Extensions,
) -> Result<RcptParameters, CommandError> {
    each_once(parameters)?;
    let mut read = RcptParameters::default();
    for parameter in parameters {
        match (parameter.keyword.as_str(), parameter.value.as_deref()) {
            ("NOTIFY", Some(value)) if offered.dsn => {
                read.notify = Some(Notify::parse(value).ok_or(CommandError::Parameter)?);
            }
            ("ORCPT", Some(value)) if offered.dsn => {
                read.orcpt = Some(dsn::whole(value, dsn::orcpt).ok_or(CommandError::Parameter)?);
            }
            ("NOTIFY" | "ORCPT", _) if offered.dsn => return Err(CommandError::Parameter),
            _ => return Err(CommandError::UnknownParameter),
        }
    }
    Ok(read)
}

/// A parameter may come once (RFC 5321 4.1.1.11 leaves no meaning for more).
fn each_once(parameters: &[Parameter]) -> Result<(), CommandError> {
    let doubled = parameters.iter().enumerate().any(|(index, parameter)| {
        parameters.iter().take(index).any(|other| other.keyword == parameter.keyword)
    });
    if doubled { Err(CommandError::Parameter) } else { Ok(()) }
}

/// Tells a known keyword with a bad value from an unknown one.
fn unusable(keyword: &str, offered: &Extensions) -> CommandError {
    let known = match keyword {
        "SMTPUTF8" => offered.smtputf8,
        "REQUIRETLS" => offered.require_tls,
        "RET" | "ENVID" => offered.dsn,
        "AUTH" => !offered.auth.is_empty(),
        _ => false,
    };
    if known { CommandError::Parameter } else { CommandError::UnknownParameter }
}

/// `SIZE=1*20DIGIT` (RFC 1870 4). Twenty digits may exceed 64 bits: then it is too big for anybody.
fn size(value: Option<&str>, limit: u64) -> Result<u64, CommandError> {
    let digits = value.ok_or(CommandError::Parameter)?;
    if digits.len() > 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CommandError::Parameter);
    }
    let size: u64 = digits.parse().map_err(|_| CommandError::TooBig)?;
    if limit > 0 && size > limit { Err(CommandError::TooBig) } else { Ok(size) }
}

/// `AUTH=<>` or `AUTH=` and a mailbox in xtext (RFC 4954 3, 5).
fn submitter(value: &str) -> Result<(), CommandError> {
    let text = dsn::whole(value, crate::parse::address::xtext).ok_or(CommandError::Parameter)?;
    let known = text == "<>" || Mailbox::parse(&text).is_ok();
    if known { Ok(()) } else { Err(CommandError::Parameter) }
}

/// BINARYMIME needs CHUNKING (RFC 3030 3) and is not offered.
fn body(value: Option<&str>) -> Result<Body, CommandError> {
    match value.and_then(Body::parse) {
        Some(body @ (Body::SevenBit | Body::EightBitMime)) => Ok(body),
        Some(Body::BinaryMime) | None => Err(CommandError::Parameter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Command, CommandError> {
        Command::parse(line.as_bytes())
    }

    #[test]
    fn commands_in_any_case_and_with_trailing_space() {
        assert_eq!(parse("ehlo client.example"), Ok(Command::Ehlo("client.example".to_owned())));
        assert_eq!(parse("HELO [IPv6:::1]"), Ok(Command::Helo("[IPv6:::1]".to_owned())));
        assert_eq!(parse("DaTa \t"), Ok(Command::Data));
        assert_eq!(parse("mail from:<>"), Ok(Command::Mail(ReversePath::Null, Vec::new())));
        assert_eq!(parse("RCPT TO:<postmaster>"), Ok(Command::Rcpt(ForwardPath::Postmaster, Vec::new())));
        assert_eq!(parse("NOOP whatever <>"), Ok(Command::Noop));
        assert_eq!(parse("bdat 5 last"), Ok(Command::Bdat { size: 5, last: true }));
        assert_eq!(parse("BDAT 18446744073709551615"), Ok(Command::Bdat { size: u64::MAX, last: false }));
    }

    #[test]
    fn what_is_refused_and_how() {
        use CommandError as E;
        let cases = [
            ("", E::Unknown),
            (" HELO x", E::Unknown),
            ("HELO", E::Argument),
            ("EHLO a b", E::Argument),
            ("EHLO <script>", E::Argument),
            ("EHLO a\x1bb", E::Octets),
            ("EHLO a\0", E::Octets),
            ("EHLO a\u{85}b", E::Octets),
            ("DATA now", E::Argument),
            ("VRFY", E::Argument),
            ("EXPN staff", E::NotImplemented),
            ("BDAT", E::Chunk),
            ("BDAT LAST", E::Chunk),
            ("BDAT -1", E::Chunk),
            ("BDAT +1", E::Chunk),
            ("BDAT 1 2", E::Chunk),
            ("BDAT 1LAST", E::Chunk),
            ("BDAT 0x10 LAST", E::Chunk),
            ("BDAT 18446744073709551616", E::Chunk),
            ("GET / HTTP/1.1", E::OtherProtocol),
            ("MAIL", E::ReversePath),
            ("MAIL FROM", E::ReversePath),
            ("MAIL FROM:", E::ReversePath),
            ("MAIL FROM:a@b", E::ReversePath),
            ("MAIL FROM: <a@b>", E::ReversePath),
            ("MAIL TO:<a@b>", E::ReversePath),
            ("MAIL FROM:<a@b> SIZE=", E::Parameter),
            ("MAIL FROM:<a@b>SIZE=1", E::ReversePath),
            ("MAIL FROM:<a@b>  SIZE=1", E::Parameter),
            ("MAIL FROM:<Postmaster>", E::ReversePath),
            ("MAIL FROM:<@x:a@b>", E::SourceRoute),
            ("RCPT TO:<@x,@y:a@b>", E::SourceRoute),
            ("RCPT TO:<>", E::ForwardPath),
            ("RCPT TO:<a@b@c>", E::ForwardPath),
            ("RCPT TO:<a@b", E::ForwardPath),
            ("RCPT TO:<a b@c>", E::ForwardPath),
        ];
        for (line, error) in cases {
            assert_eq!(parse(line), Err(error), "{line:?}");
        }
        assert_eq!(Command::parse(b"NOOP \xff"), Err(E::Octets));
    }

    fn mail_line(parameters: &str, offered: &Extensions) -> Result<MailParameters, CommandError> {
        match parse(&format!("MAIL FROM:<a@b>{parameters}"))? {
            Command::Mail(_, parameters) => mail_parameters(&parameters, offered),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_of_mail() {
        let plain = Extensions { size_limit: 1000, ..Extensions::default() };
        let read = mail_line(" size=1000 BODY=8bitmime", &plain).expect("good");
        assert_eq!((read.size_bytes, read.body), (Some(1000), Body::EightBitMime));
        for (parameters, error) in [
            (" SIZE=1001", CommandError::TooBig),
            (" SIZE=18446744073709551616", CommandError::TooBig),
            (" SIZE=-1", CommandError::Parameter),
            (" SIZE=123456789012345678901", CommandError::Parameter),
            (" SIZE", CommandError::Parameter),
            (" SIZE=1 SIZE=1", CommandError::Parameter),
            (" BODY=BINARYMIME", CommandError::Parameter),
            (" SMTPUTF8", CommandError::UnknownParameter),
            (" RET=FULL", CommandError::UnknownParameter),
            (" REQUIRETLS", CommandError::UnknownParameter),
            (" XFOO=bar", CommandError::UnknownParameter),
        ] {
            assert_eq!(mail_line(parameters, &plain), Err(error), "{parameters}");
        }
        let all = Extensions {
            starttls: true,
            size_limit: 0,
            dsn: true,
            smtputf8: true,
            require_tls: true,
            ..Extensions::default()
        };
        let read = mail_line(" SMTPUTF8 RET=HDRS ENVID=a+2Bb REQUIRETLS SIZE=18446744073709551615", &all)
            .expect("good");
        assert_eq!((read.ret, read.envid.as_deref(), read.smtputf8), (Some(Ret::Headers), Some("a+b"), true));
        assert_eq!(mail_line(" SMTPUTF8=yes", &all), Err(CommandError::Parameter));
        for bad in [
            " ENVID=a+0D+0A",
            " ENVID=",
            " ENVID",
            " ENVID=a ENVID=b",
            " RET=SOME",
            " RET=FULL,HDRS",
            " RET=FULL RET=HDRS",
        ] {
            assert_eq!(mail_line(bad, &all), Err(CommandError::Parameter), "{bad}");
        }
        assert_eq!(CommandError::Parameter.reply().to_string().get(..9), Some("501 5.5.4"));
    }

    fn rcpt_line(parameters: &str, offered: &Extensions) -> Result<RcptParameters, CommandError> {
        match parse(&format!("RCPT TO:<a@b>{parameters}"))? {
            Command::Rcpt(_, parameters) => rcpt_parameters(&parameters, offered),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn parameters_of_rcpt() {
        let none = Extensions::default();
        assert_eq!(rcpt_line(" NOTIFY=NEVER", &none), Err(CommandError::UnknownParameter));
        let dsn = Extensions { dsn: true, ..none };
        let read = rcpt_line(" NOTIFY=DELAY,FAILURE ORCPT=rfc822;a+2Bb@c", &dsn).expect("good");
        assert_eq!(read.orcpt.as_deref(), Some("rfc822;a+b@c"));
        for bad in [
            " NOTIFY",
            " NOTIFY=",
            " ORCPT=rfc822",
            " ORCPT=;a",
            " ORCPT=rfc822;",
            " NOTIFY=NEVER,DELAY",
            " NOTIFY=DELAY NOTIFY=DELAY",
            " NOTIFY=DELAY ORCPT=rfc822;a ORCPT=rfc822;b",
        ] {
            assert_eq!(rcpt_line(bad, &dsn), Err(CommandError::Parameter), "{bad}");
        }
    }

    #[test]
    fn every_error_has_a_permanent_reply() {
        for error in [CommandError::Octets, CommandError::UnknownParameter, CommandError::TooBig] {
            assert_eq!(error.reply().class(), crate::reply::ReplyClass::PermanentNegative);
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Command::parse(&line);
        }

        #[test]
        fn mutated_commands_never_panic(
            line in prop_oneof![
                Just("MAIL FROM:<\"a b\"@[IPv6:2001:db8::1]> SIZE=10 BODY=8BITMIME"),
                Just("RCPT TO:<@a,@b:c@d.example> NOTIFY=DELAY ORCPT=rfc822;a+2Bb"),
                Just("EHLO [192.0.2.1]"),
            ],
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut line = line.as_bytes().to_vec();
            let at = at.index(line.len());
            line[at] = byte;
            if let Ok(Command::Mail(_, parameters)) = Command::parse(&line) {
                let _ = mail_parameters(&parameters, &Extensions::default());
            }
        }
    }
}
