//! sendmail(1) from its arguments to its exit code: everything but the printing.

use std::io::{self, BufRead, Read, Seek, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use mta_smtp::address::{Domain, Mailbox, ReversePath};
use mta_smtp::envelope::Body;
use mta_smtp::reply::Reply;
use nix::unistd::{Uid, User};

use super::address::{ListError, parse_list, parse_sender};
use super::header::{self, Author};
use super::message::{Limits, Message};
use super::options::Options;
use super::submit::{self, Commands, Parameters, RECIPIENTS_AT_ONCE, Submitted};
use super::{Refusal, exit, maildrop};
use crate::config::Config;

/// How long the daemon may leave a line of a session by hand (`-bs`) unanswered.
const SESSION_TIMEOUT: Duration = Duration::from_secs(600);

/// Octets of a line of a session by hand at most.
const MAX_SESSION_LINE: u64 = 64 * 1024;

/// Where mail is handed in, and what bounds it.
#[derive(Debug, Clone)]
pub struct Site {
    /// The daemon's socket.
    pub socket: PathBuf,
    /// Where mail waits for a daemon that is down.
    pub maildrop: PathBuf,
    /// The domain of addresses without one.
    pub origin: Domain,
    /// The largest message, in octets; 0 is no limit.
    pub size_octets: u64,
    /// The longest line, in octets.
    pub line_octets: usize,
}

impl Site {
    /// What the configuration says.
    pub fn new(config: &Config) -> Self {
        Self {
            socket: config.submit_socket(),
            maildrop: config.maildrop(),
            origin: config.origin(),
            size_octets: config.smtp.message_size_limit.0,
            line_octets: usize::try_from(config.smtp.max_line.0).unwrap_or(usize::MAX).saturating_sub(2),
        }
    }
}

/// A message that was taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sent {
    /// What happened, a sentence each, for `-v`.
    pub told: Vec<String>,
    /// Recipients that the daemon refused; the others have the message.
    pub refused: Vec<String>,
}

/// The user who calls.
struct Caller {
    login: String,
    full_name: String,
}

impl Caller {
    /// The real user: a program that is setuid somebody else speaks for its caller.
    fn find() -> Self {
        let uid = nix::unistd::getuid();
        match User::from_uid(uid) {
            Ok(Some(user)) => Self { full_name: gecos_name(&user), login: user.name },
            _ => Self::unknown(uid),
        }
    }

    fn unknown(uid: Uid) -> Self {
        Self { login: format!("uid{uid}"), full_name: String::new() }
    }
}

/// The name in the user database: the first of its parts, where `&` stands for the login.
fn gecos_name(user: &User) -> String {
    let gecos = user.gecos.to_string_lossy();
    let name = gecos.split(',').next().unwrap_or_default();
    let mut login = user.name.clone();
    if let Some(first) = login.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name.replace('&', &login)
}

/// Takes a message from `input` and hands it in.
///
/// # Errors
/// Why not, with the exit code. Nothing was queued then, unless the text says so.
pub fn send(options: &Options, site: &Site, input: impl BufRead) -> Result<Sent, Refusal> {
    let caller = Caller::find();
    let own = own_address(&caller, &site.origin)?;
    let sender = match &options.sender {
        Some(text) => parse_sender(text, &site.origin).map_err(|error| usage(&error))?,
        None => Some(own.clone()),
    };
    let mut recipients = Vec::new();
    for text in &options.recipients {
        recipients.extend(parse_list(text, &site.origin).map_err(|error| usage(&error))?);
    }
    if recipients.is_empty() && !options.header_recipients {
        return Err(Refusal::new(
            exit::USAGE,
            "no recipient: name one, or give -t to take them from the header",
        ));
    }
    let limits = Limits {
        size_octets: site.size_octets,
        line_octets: site.line_octets,
        ignore_dots: options.ignore_dots,
    };
    let mut message = Message::read(input, limits)?;
    if options.header_recipients {
        let found = header::recipients(&message.fields, &site.origin);
        recipients.extend(found.map_err(|error| Refusal::new(exit::DATA, format!("the header: {error}")))?);
        if recipients.is_empty() {
            return Err(Refusal::new(exit::DATA, "no recipient in To, Cc or Bcc"));
        }
    }
    let mut seen = std::collections::HashSet::new();
    recipients.retain(|recipient| seen.insert(recipient.clone()));
    let author = Author {
        address: sender.clone().unwrap_or(own),
        full_name: options.full_name.clone().unwrap_or(caller.full_name),
    };
    let header = header::compose(&message.fields, &author, SystemTime::now(), &site.origin);
    let reverse_path = sender.map_or(ReversePath::Null, ReversePath::Mailbox);
    let parameters = parameters(options, &message, &reverse_path, &recipients);
    let mut sent = Sent::default();
    let mut taken = 0;
    for some in recipients.chunks(RECIPIENTS_AT_ONCE) {
        let commands = Commands::new(&reverse_path, some, &parameters);
        hand_in(site, &commands, &header, &mut message, &mut sent).map_err(|mut refusal| {
            // Whoever sends all of it again would send to these twice.
            if let (1.., Some(next)) = (taken, some.first()) {
                let of = recipients.len();
                refusal.text.push_str(&format!(
                    "; of the {of} recipients the first {taken} will get the message, those from {next} on will not"
                ));
            }
            refusal
        })?;
        taken += some.len();
    }
    Ok(sent)
}

fn own_address(caller: &Caller, origin: &Domain) -> Result<Mailbox, Refusal> {
    Mailbox::new(&caller.login, origin.clone()).map_err(|_| {
        let text = format!("{}@{origin} is no address: give another with -f", caller.login.escape_debug());
        Refusal::new(exit::USAGE, text)
    })
}

fn parameters(
    options: &Options,
    message: &Message,
    reverse_path: &ReversePath,
    recipients: &[Mailbox],
) -> Parameters {
    let is_ascii =
        recipients.iter().all(Mailbox::is_ascii) && reverse_path.mailbox().is_none_or(Mailbox::is_ascii);
    let found = if message.is_eight_bit { Body::EightBitMime } else { Body::SevenBit };
    Parameters {
        notify: options.notify,
        ret: options.ret,
        envid: options.envid.clone(),
        // What the content is counts, whatever the caller believes.
        body: if found == Body::EightBitMime { found } else { options.body.unwrap_or(found) },
        smtputf8: options.smtputf8 || !is_ascii,
        require_tls: options.require_tls,
    }
}

/// One transaction, or one file in the maildrop where there can be none now.
fn hand_in(
    site: &Site,
    commands: &Commands,
    header: &[u8],
    message: &mut Message,
    sent: &mut Sent,
) -> Result<(), Refusal> {
    message.body.rewind().map_err(|error| Refusal::new(exit::IO, error.to_string()))?;
    let octets = header.len() as u64 + message.body_octets;
    let submitted = match submit::connect(&site.socket) {
        Ok(stream) => {
            let content = header.chain(&mut message.body);
            submit::submit(&stream, site.origin.as_str(), commands, content, octets)
        }
        Err(error) => Submitted::Unreachable(error.to_string()),
    };
    let why =
        match submitted {
            Submitted::Queued { reply, refused } => {
                sent.told.push(reply.to_string());
                sent.refused.extend(refused.iter().map(|(rcpt, reply)| {
                    format!("{}: {reply}", rcpt.strip_prefix("RCPT TO:").unwrap_or(rcpt))
                }));
                return Ok(());
            }
            Submitted::Refused(reply) => return Err(refused(&reply)),
            // The maildrop lies on the same disk as often as not, and must not eat its reserve.
            Submitted::Deferred(reply) if is_full(&reply) => {
                return Err(Refusal::new(exit::TEMPORARY, format!("not taken: {reply}")));
            }
            Submitted::Deferred(reply) => reply.to_string(),
            Submitted::Unreachable(why) => why,
        };
    message.body.rewind().map_err(|error| Refusal::new(exit::IO, error.to_string()))?;
    let mut content = header.chain(&mut message.body);
    maildrop::put(&site.maildrop, commands, &mut content).map_err(|error| {
        let (socket, drop) = (site.socket.display(), site.maildrop.display());
        let text = format!("the daemon does not take mail on {socket} ({why}), nor does {drop} ({error})");
        Refusal::new(exit::TEMPORARY, text)
    })?;
    // It may have started since: it looks into the maildrop when somebody comes.
    if let Ok(mut stream) = submit::connect(&site.socket) {
        let _ = stream.write_all(b"QUIT\r\n");
    }
    sent.told.push(format!("kept in {} until the daemon takes mail ({why})", site.maildrop.display()));
    Ok(())
}

fn is_full(reply: &Reply) -> bool {
    reply.code == 452 && reply.enhanced.is_some_and(|status| (status.subject, status.detail) == (3, 1))
}

/// The exit code that says best why the daemon refused.
fn refused(reply: &Reply) -> Refusal {
    let exit = match reply.enhanced.map(|status| (status.subject, status.detail)) {
        Some((1, _)) => exit::NO_USER,
        Some((7, _)) => exit::NOT_ALLOWED,
        Some((6, _)) | Some((3, 4)) => exit::DATA,
        _ => exit::UNAVAILABLE,
    };
    Refusal::new(exit, format!("refused: {reply}"))
}

fn usage(error: &ListError) -> Refusal {
    Refusal::new(exit::USAGE, error.to_string())
}

/// SMTP by hand (`-bs`): a line from `input`, its reply to `output`, one after the other, so that a script may be fed
/// whole. Lines may end with LF here.
///
/// # Errors
/// `TEMPORARY` where the daemon does not answer; `output` was told 421 then.
pub fn session(site: &Site, input: &mut dyn BufRead, output: &mut dyn Write) -> Result<(), Refusal> {
    let failed = |error: io::Error| {
        let text = format!("the daemon does not answer on {}: {error}", site.socket.display());
        Refusal::new(exit::TEMPORARY, text)
    };
    let stream = match submit::connect(&site.socket) {
        Ok(stream) => stream,
        Err(error) => {
            let _ = output.write_all(b"421 4.3.2 the mail server does not answer, try again later\r\n");
            return Err(failed(error));
        }
    };
    stream.set_read_timeout(Some(SESSION_TIMEOUT)).map_err(failed)?;
    Proxy { server: io::BufReader::new(stream), input, output }.run().map_err(failed)
}

/// Between a script and the daemon.
struct Proxy<'a> {
    server: io::BufReader<UnixStream>,
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

impl Proxy<'_> {
    fn run(mut self) -> io::Result<()> {
        let mut code = self.reply()?;
        while code != 221 && code != 421 {
            let Some(line) = self.line()? else { return Ok(()) };
            self.tell(&line)?;
            let verb: String = line.iter().take(5).map(|b| char::from(b.to_ascii_uppercase())).collect();
            if let Some(octets) = chunk(&verb, &line) {
                io::copy(&mut self.input.take(octets), self.server.get_mut())?;
            }
            code = self.reply()?;
            if code == 354 {
                self.content()?;
                code = self.reply()?;
            }
        }
        Ok(())
    }

    /// Lines up to the lone dot; the script has stuffed its dots.
    fn content(&mut self) -> io::Result<()> {
        while let Some(line) = self.line()? {
            self.tell(&line)?;
            if line == b"." {
                break;
            }
        }
        Ok(())
    }

    /// The next line without its end.
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        if (&mut *self.input).take(MAX_SESSION_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let end = line.strip_suffix(b"\n").map(|line| line.strip_suffix(b"\r").unwrap_or(line).len());
        match end {
            Some(end) => line.truncate(end),
            None if line.len() as u64 == MAX_SESSION_LINE => {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
            None => {}
        }
        Ok(Some(line))
    }

    fn tell(&mut self, line: &[u8]) -> io::Result<()> {
        self.server.get_mut().write_all(&[line, b"\r\n"].concat())
    }

    /// Passes one reply on; its code, or 421 where the daemon is gone.
    fn reply(&mut self) -> io::Result<u16> {
        loop {
            let mut line = Vec::new();
            if (&mut self.server).take(MAX_SESSION_LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(421);
            }
            self.output.write_all(&line)?;
            if line.get(3) != Some(&b'-') {
                self.output.flush()?;
                let code = line.get(..3).and_then(|code| std::str::from_utf8(code).ok());
                return Ok(code.and_then(|code| code.parse().ok()).unwrap_or(421));
            }
        }
    }
}

/// The octets that follow a BDAT command.
fn chunk(verb: &str, line: &[u8]) -> Option<u64> {
    if verb != "BDAT " {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    text.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    fn site(folder: &std::path::Path) -> Site {
        Site {
            socket: folder.join("submit.sock"),
            maildrop: folder.join("maildrop"),
            origin: Domain::parse("host.example").unwrap(),
            size_octets: 0,
            line_octets: 1000,
        }
    }

    fn options(words: &[&str]) -> Options {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn dropped(site: &Site) -> Vec<String> {
        let entries = std::fs::read_dir(&site.maildrop).unwrap();
        entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
    }

    #[test]
    fn without_a_daemon_mail_waits_in_the_maildrop() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        let input = &b"To: a\nBcc: b@c.example\nSubject: x\n\nhello\n"[..];
        let refusal = send(&options(&["-t"]), &site, input).unwrap_err();
        assert_eq!(refusal.exit, exit::TEMPORARY, "there is no maildrop either");
        maildrop::make(&site.maildrop, None).unwrap();
        let sent = send(&options(&["-t", "-fme", "-Nnever", "d"]), &site, input).unwrap();
        assert!(sent.told[0].starts_with("kept in "), "{sent:?}");
        let files = dropped(&site);
        assert_eq!(files.len(), 1);
        let head = "mta-maildrop 1\nMAIL FROM:<me@host.example>\nRCPT TO:<d@host.example> NOTIFY=NEVER\n\
                    RCPT TO:<a@host.example> NOTIFY=NEVER\nRCPT TO:<b@c.example> NOTIFY=NEVER\n\nTo: a\r\nSubject: x\r\n";
        assert!(files[0].starts_with(head), "{}", files[0]);
        assert!(files[0].contains("<me@host.example>\r\n\r\nhello\r\n"), "{}", files[0]);
    }

    #[test]
    fn a_daemon_that_has_no_time_now_gets_it_later() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        maildrop::make(&site.maildrop, None).unwrap();
        let listener = UnixListener::bind(&site.socket).unwrap();
        let server = std::thread::spawn(move || {
            for reply in ["421 4.7.0 too many\r\n", "", "452 4.3.1 no space\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        let sent = send(&options(&["a"]), &site, &b"x\n"[..]).unwrap();
        assert!(sent.told[0].contains("421 4.7.0 too many"), "{sent:?}");
        let refusal = send(&options(&["a"]), &site, &b"x\n"[..]).unwrap_err();
        assert_eq!(refusal.exit, exit::TEMPORARY, "a full disk is nothing to write on");
        server.join().unwrap();
        assert_eq!(dropped(&site).len(), 1);
    }

    #[test]
    fn many_recipients_are_several_transactions() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        maildrop::make(&site.maildrop, None).unwrap();
        let names: Vec<String> = (0..250).map(|n| format!("u{n}")).collect();
        let words: Vec<&str> = names.iter().map(String::as_str).chain(["u0"]).collect();
        send(&options(&words), &site, &b"x\n"[..]).unwrap();
        let mut counts: Vec<_> = dropped(&site).iter().map(|text| text.matches("RCPT TO:").count()).collect();
        counts.sort_unstable();
        assert_eq!(counts, [50, 100, 100], "and nobody twice");
    }

    #[test]
    fn what_is_wrong_is_said_and_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let site = site(folder.path());
        maildrop::make(&site.maildrop, None).unwrap();
        for (words, input, code) in [
            (&[][..], "x\n", exit::USAGE),
            (&["a b c"], "x\n", exit::USAGE),
            (&["a@b@c"], "x\n", exit::USAGE),
            (&["-f", "a b", "c"], "x\n", exit::USAGE),
            (&["-f", "a@b.example> SIZE=1", "c"], "x\n", exit::USAGE),
            (&["-t"], "Subject: x\n\n", exit::DATA),
            (&["-t"], "To: <a@b.example\n\n", exit::DATA),
            (&["-t"], "To: <-oQ@b.example>\n\n", exit::DATA),
        ] {
            let refusal = send(&options(words), &site, input.as_bytes()).expect_err(&format!("{words:?}"));
            assert_eq!(refusal.exit, code, "{words:?}: {refusal}");
            assert!(!refusal.text.chars().any(char::is_control), "{refusal}");
        }
        assert!(dropped(&site).is_empty());
    }

    #[test]
    fn exit_codes_of_refusals() {
        for (status, code) in [
            ((5, 1, 1), exit::NO_USER),
            ((5, 7, 1), exit::NOT_ALLOWED),
            ((5, 6, 0), exit::DATA),
            ((5, 5, 1), exit::UNAVAILABLE),
        ] {
            assert_eq!(refused(&Reply::with_status(550, status, "x")).exit, code, "{status:?}");
        }
    }
}
