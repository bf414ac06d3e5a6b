//! One message over the local socket: SMTP, as any client speaks it, with the content in one BDAT chunk.
//!
//! What it does: says the envelope's commands one after another, streams the content, and tells apart what the sender
//! has to know: queued, refused, not now. Used by sendmail(1) on the socket, and by the daemon for what lies in the
//! maildrop, so that both go the same way. What it does not: it opens no socket and retries nothing.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use mta_smtp::address::{Mailbox, ReversePath, encode_xtext};
use mta_smtp::client::ReplyReader;
use mta_smtp::envelope::{Body, Notify, Ret};
use mta_smtp::reply::{Reply, ReplyClass};

/// How long the daemon may take for one reply; the last one comes after its disk has synced.
const REPLY_TIMEOUT: Duration = Duration::from_secs(120);

/// A reply may have so many octets and lines.
const MAX_REPLY: (usize, usize) = (16 * 1024, 128);

/// Octets of content written in one piece.
const BLOCK_OCTETS: usize = 64 * 1024;

/// The recipients that one transaction takes: RFC 5321 4.5.3.1.8 promises as many, whatever is configured.
pub const RECIPIENTS_AT_ONCE: usize = 100;

/// The parameters of MAIL and RCPT that sendmail(1) can set.
#[derive(Debug, Clone, Default)]
pub struct Parameters {
    /// NOTIFY, for each recipient.
    pub notify: Option<Notify>,
    /// RET.
    pub ret: Option<Ret>,
    /// ENVID.
    pub envid: Option<String>,
    /// BODY.
    pub body: Body,
    /// SMTPUTF8.
    pub smtputf8: bool,
    /// REQUIRETLS.
    pub require_tls: bool,
}

/// An envelope, as the commands that say it: lines without their ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commands {
    /// MAIL.
    pub mail: String,
    /// RCPT, one or more.
    pub rcpt: Vec<String>,
}

impl Commands {
    /// The commands of this envelope. Addresses are values and hold no control character, so no command is ever two.
    pub fn new(reverse_path: &ReversePath, recipients: &[Mailbox], parameters: &Parameters) -> Self {
        let mut mail = format!("MAIL FROM:{reverse_path}");
        let mut add = |text: String| {
            mail.push(' ');
            mail.push_str(&text);
        };
        if parameters.body != Body::SevenBit {
            add(format!("BODY={}", parameters.body.as_str()));
        }
        if parameters.smtputf8 {
            add("SMTPUTF8".to_owned());
        }
        if parameters.require_tls {
            add("REQUIRETLS".to_owned());
        }
        if let Some(ret) = parameters.ret {
            add(format!("RET={}", ret.as_str()));
        }
        if let Some(envid) = &parameters.envid {
            add(format!("ENVID={}", encode_xtext(envid)));
        }
        let notify = parameters.notify.map_or_else(String::new, |notify| format!(" NOTIFY={notify}"));
        let rcpt = recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>{notify}")).collect();
        Self { mail, rcpt }
    }
}

/// How handing in ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// The queue has it; recipients that were refused for good are named with their replies.
    Queued {
        /// The last reply.
        reply: Reply,
        /// `RCPT` commands and replies.
        refused: Vec<(String, Reply)>,
    },
    /// Refused for good; nothing was queued.
    Refused(Reply),
    /// Not now: a temporary reply.
    Deferred(Reply),
    /// The daemon cannot be spoken with.
    Unreachable(String),
}

/// Connects to the daemon's socket, without waiting for one that is stuck.
///
/// # Errors
/// As the system reports.
pub fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
    // A full listen queue is an error at once (EAGAIN) where a blocking socket would wait for ever.
    stream.set_nonblocking(true)?;
    stream.connect(&socket2::SockAddr::unix(socket)?)?;
    stream.set_nonblocking(false)?;
    Ok(UnixStream::from(std::os::fd::OwnedFd::from(stream)))
}

/// Hands one message in. `content` has exactly `octets` octets, with CR LF line ends.
pub fn submit(
    stream: &UnixStream,
    helo: &str,
    commands: &Commands,
    content: impl Read,
    octets: u64,
) -> Submitted {
    let limited = stream
        .set_read_timeout(Some(REPLY_TIMEOUT))
        .and_then(|()| stream.set_write_timeout(Some(REPLY_TIMEOUT)));
    let done = limited.and_then(|()| Dialog::new(stream).run(helo, commands, content, octets));
    done.unwrap_or_else(|error| Submitted::Unreachable(error.to_string()))
}

/// One SMTP dialog.
struct Dialog<'a> {
    stream: &'a UnixStream,
    replies: ReplyReader,
    /// What was read and is not used yet.
    input: Vec<u8>,
}

impl<'a> Dialog<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self { stream, replies: ReplyReader::new(MAX_REPLY.0, MAX_REPLY.1), input: Vec::new() }
    }

    fn run(
        mut self,
        helo: &str,
        commands: &Commands,
        content: impl Read,
        octets: u64,
    ) -> io::Result<Submitted> {
        let greeting = self.reply()?;
        if let Some(end) = unless_positive(greeting) {
            return Ok(end);
        }
        if let Some(end) = unless_positive(self.command(&format!("EHLO {helo}"))?) {
            return Ok(end);
        }
        let mail = format!("{} SIZE={octets}", commands.mail);
        if let Some(end) = unless_positive(self.command(&mail)?) {
            return Ok(end);
        }
        let mut refused = Vec::new();
        for rcpt in &commands.rcpt {
            let reply = self.command(rcpt)?;
            match reply.class() {
                ReplyClass::PermanentNegative => refused.push((rcpt.clone(), reply)),
                ReplyClass::TransientNegative => return Ok(Submitted::Deferred(reply)),
                _ => {}
            }
        }
        if refused.len() == commands.rcpt.len()
            && let Some((_, reply)) = refused.pop()
        {
            return Ok(Submitted::Refused(reply));
        }
        let reply = self.content(content, octets)?;
        // The message is decided; whether QUIT is heard changes nothing.
        let _ = self.stream.write_all(b"QUIT\r\n");
        Ok(unless_positive(reply.clone()).unwrap_or(Submitted::Queued { reply, refused }))
    }

    /// Streams the content. A server that refuses early may close its end; its reply is there all the same.
    fn content(&mut self, mut content: impl Read, octets: u64) -> io::Result<Reply> {
        self.stream.write_all(format!("BDAT {octets} LAST\r\n").as_bytes())?;
        let mut block = vec![0; BLOCK_OCTETS];
        let mut left = octets;
        while left > 0 {
            let most = usize::try_from(left).map_or(BLOCK_OCTETS, |left| left.min(BLOCK_OCTETS));
            let room = block.get_mut(..most).unwrap_or_default();
            let read = match content.read(room) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if read == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the content ends too early"));
            }
            if self.stream.write_all(block.get(..read).unwrap_or_default()).is_err() {
                break;
            }
            left = left.saturating_sub(read as u64);
        }
        self.reply()
    }

    fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.stream.write_all(format!("{line}\r\n").as_bytes())?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<Reply> {
        let mut block = [0; 4096];
        loop {
            let input = std::mem::take(&mut self.input);
            let (reply, rest) = self.replies.read(&input).map_err(io::Error::other)?;
            self.input = rest.to_vec();
            if let Some(reply) = reply {
                return Ok(reply);
            }
            match self.stream.read(&mut block) {
                Ok(0) => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
                }
                Ok(octets) => self.input.extend_from_slice(block.get(..octets).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// What a reply ends with, unless it is positive.
fn unless_positive(reply: Reply) -> Option<Submitted> {
    match reply.class() {
        ReplyClass::TransientNegative => Some(Submitted::Deferred(reply)),
        ReplyClass::PermanentNegative => Some(Submitted::Refused(reply)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_envelope_in_commands() {
        let recipients =
            [Mailbox::parse("\"a b\"@c.example").unwrap(), Mailbox::parse("d@e.example").unwrap()];
        let parameters = Parameters {
            notify: Notify::parse("SUCCESS,DELAY"),
            ret: Some(Ret::Headers),
            envid: Some("x+y".to_owned()),
            body: Body::EightBitMime,
            smtputf8: true,
            require_tls: true,
        };
        let commands = Commands::new(&ReversePath::Null, &recipients, &parameters);
        assert_eq!(commands.mail, "MAIL FROM:<> BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=x+2By");
        assert_eq!(
            commands.rcpt,
            [
                "RCPT TO:<\"a b\"@c.example> NOTIFY=SUCCESS,DELAY",
                "RCPT TO:<d@e.example> NOTIFY=SUCCESS,DELAY"
            ]
        );
    }

    /// Plays a server that gives these replies, one for each line that comes; content is read over.
    fn against(replies: &'static [&'static str]) -> Submitted {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            use std::io::{BufRead, BufReader};
            let mut lines = BufReader::new(theirs.try_clone().unwrap()).split(b'\n');
            for reply in replies {
                (&theirs).write_all(reply.as_bytes()).unwrap();
                let line = lines.next().and_then(Result::ok).unwrap_or_default();
                if line.starts_with(b"BDAT") {
                    lines.next();
                }
            }
        });
        let commands = Commands {
            mail: "MAIL FROM:<>".into(),
            rcpt: vec!["RCPT TO:<a@b.example>".into(), "RCPT TO:<c@d.example>".into()],
        };
        let submitted = submit(&ours, "host.example", &commands, &b"x\r\n"[..], 3);
        drop(ours);
        server.join().unwrap();
        submitted
    }

    #[test]
    fn what_replies_mean() {
        let queued = against(&[
            "220 x\r\n",
            "250-x\r\n250 y\r\n",
            "250 ok\r\n",
            "550 no\r\n",
            "250 ok\r\n",
            "250 queued\r\n",
        ]);
        assert!(matches!(&queued, Submitted::Queued { refused, .. } if refused.len() == 1), "{queued:?}");
        for (replies, kind) in [
            (&["421 full\r\n"][..], "deferred"),
            (&["220 x\r\n", "250 x\r\n", "553 not you\r\n"], "refused"),
            (&["220 x\r\n", "250 x\r\n", "250 x\r\n", "550 no\r\n", "550 no\r\n"], "refused"),
            (&["220 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "452 no\r\n"], "deferred"),
            (&["220 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "452 full\r\n"], "deferred"),
            (&["220 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "250 x\r\n", "554 no\r\n"], "refused"),
            (&["220 x\r\n", "250 x\r\n"], "unreachable"),
            (&["garbage\r\n"], "unreachable"),
            (&[], "unreachable"),
        ] {
            let found = match against(replies) {
                Submitted::Queued { .. } => "queued",
                Submitted::Refused(_) => "refused",
                Submitted::Deferred(_) => "deferred",
                Submitted::Unreachable(_) => "unreachable",
            };
            assert_eq!(found, kind, "{replies:?}");
        }
    }

    #[test]
    fn nobody_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert_eq!(connect(&path).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
        // A daemon that accepts nothing any more is not waited for.
        let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("t")).unwrap();
        let mut open = Vec::new();
        loop {
            match connect(&folder.path().join("t")) {
                Ok(stream) => open.push(stream),
                Err(error) => break assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
        }
    }
}
