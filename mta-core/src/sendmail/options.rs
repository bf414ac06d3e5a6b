//! The command line of sendmail(1), as forty years of programs write it.
//!
//! What it does: reads options in getopt's way (`-ti`, `-f addr`, `-faddr`), up to the first argument that is none; from
//! there on everything is a recipient, so that an address a stranger gave never becomes an option. What it does not: it
//! judges no address. Options of other mail systems are taken with their arguments and do nothing; only a letter that no
//! mail system has is refused.

use std::path::PathBuf;

use mta_smtp::envelope::{Body, Notify, Ret};

use super::{Refusal, exit};

/// What is to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Mode {
    /// Take a message (`-bm`).
    #[default]
    Send,
    /// Speak SMTP on standard input and output (`-bs`).
    Session,
    /// Say what would become of mail to the recipients (`-bv`).
    Verify,
    /// List the queue (`-bp`).
    List,
    /// Check and load the aliases (`-bi`, `-I`).
    Aliases,
    /// Be the daemon (`-bd`).
    Daemon,
    /// Try mail again (`-q`).
    Flush(Flush),
    /// Nothing: `-bh`, `-bH` and a queue interval without a daemon.
    Nothing,
}

/// Which mail to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flush {
    /// All of it (`-q`).
    All,
    /// One message (`-qI id`).
    Id(String),
    /// Recipients of a domain or address (`-qR`).
    Recipient(String),
    /// Mail of a sender (`-qS`).
    Sender(String),
}

/// The command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// What is to be done.
    pub mode: Mode,
    /// Recipients also from the header (`-t`).
    pub header_recipients: bool,
    /// A line of a lone dot does not end the message (`-i`, `-oi`).
    pub ignore_dots: bool,
    /// The envelope sender (`-f`, `-r`); an empty text is the null sender.
    pub sender: Option<String>,
    /// The full name for a From line (`-F`).
    pub full_name: Option<String>,
    /// NOTIFY (`-N`).
    pub notify: Option<Notify>,
    /// RET (`-R`).
    pub ret: Option<Ret>,
    /// ENVID (`-V`).
    pub envid: Option<String>,
    /// BODY (`-B`).
    pub body: Option<Body>,
    /// Only over verified TLS (`-O requiretls=yes`).
    pub require_tls: bool,
    /// SMTPUTF8 whatever the addresses are (`-O smtputf8=yes`).
    pub smtputf8: bool,
    /// Say more (`-v`).
    pub verbose: bool,
    /// A configuration file of ours (`-C FILE.toml`); those of other mail systems are ignored.
    pub config: Option<PathBuf>,
    /// What stands behind the options.
    pub recipients: Vec<String>,
}

/// Letters that have an argument, in the same word or the next one.
const WITH_ARGUMENT: &str = "BCDFLNORVXbefhopr";

/// Letters whose argument, if any, is the rest of the word.
const WITH_REST: &str = "AEMdqs";

/// Letters that stand alone.
const ALONE: &str = "GIUcimntvx";

impl Options {
    /// Reads the arguments, without the program's name.
    ///
    /// # Errors
    /// `USAGE` with one sentence: an option that no mail system has, one without its argument, a control character, or
    /// a recipient that begins with a hyphen.
    pub fn parse(arguments: &[String]) -> Result<Self, Refusal> {
        let mut options = Self::default();
        let mut words = arguments.iter().map(String::as_str);
        while let Some(word) = words.next() {
            if word == "--" {
                options.recipients.extend(words.by_ref().map(ToOwned::to_owned));
                break;
            }
            if word == "-" || !word.starts_with('-') {
                options.recipients.push(word.to_owned());
                options.recipients.extend(words.by_ref().map(ToOwned::to_owned));
                break;
            }
            options.word(word.get(1..).unwrap_or_default(), &mut words)?;
        }
        options.check()?;
        Ok(options)
    }

    /// One word of options, without its hyphen.
    fn word<'a>(&mut self, word: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
        let mut rest = word;
        while let Some(letter) = rest.chars().next() {
            rest = rest.get(letter.len_utf8()..).unwrap_or_default();
            if ALONE.contains(letter) {
                self.alone(letter);
            } else if WITH_REST.contains(letter) {
                return self.with_rest(letter, rest, words);
            } else if WITH_ARGUMENT.contains(letter) {
                let argument = if rest.is_empty() { words.next() } else { Some(rest) };
                let argument =
                    argument.ok_or_else(|| usage(format!("the option -{letter} needs an argument")))?;
                return self.with_argument(letter, argument);
            } else {
                return Err(usage(format!("there is no option -{}", letter.escape_default())));
            }
        }
        Ok(())
    }

    fn alone(&mut self, letter: char) {
        match letter {
            't' => self.header_recipients = true,
            'i' => self.ignore_dots = true,
            'v' => self.verbose = true,
            'I' => self.mode = Mode::Aliases,
            _ => {}
        }
    }

    fn with_rest<'a>(
        &mut self,
        letter: char,
        rest: &'a str,
        words: &mut impl Iterator<Item = &'a str>,
    ) -> Result<(), Refusal> {
        if letter != 'q' {
            return Ok(());
        }
        let mut argument = |text: &'a str| {
            let text = if text.is_empty() { words.next() } else { Some(text) };
            text.map(ToOwned::to_owned).ok_or_else(|| usage("-qI, -qR and -qS need an argument"))
        };
        let flush = match (rest.chars().next(), rest.get(1..).unwrap_or_default()) {
            (None, _) => Flush::All,
            (Some('I'), text) => Flush::Id(argument(text)?),
            (Some('R'), text) => Flush::Recipient(argument(text)?),
            (Some('S'), text) => Flush::Sender(argument(text)?),
            // An interval, which is the daemon's own affair here, or a queue group, which there is none of.
            _ => {
                if self.mode == Mode::Send {
                    self.mode = Mode::Nothing;
                }
                return Ok(());
            }
        };
        self.mode = Mode::Flush(flush);
        Ok(())
    }

    fn with_argument(&mut self, letter: char, argument: &str) -> Result<(), Refusal> {
        if argument.chars().any(char::is_control) {
            return Err(usage(format!("the argument of -{letter} holds a control character")));
        }
        match letter {
            'b' => self.mode = mode(argument)?,
            'f' | 'r' => self.sender = Some(argument.to_owned()),
            'F' => self.full_name = Some(argument.to_owned()),
            'N' => self.notify = Some(wanted(Notify::parse(&argument.to_ascii_uppercase()), 'N', NOTIFY)?),
            'R' => self.ret = Some(wanted(Ret::parse(argument), 'R', "full or hdrs")?),
            'V' => self.envid = Some(envid(argument)?),
            'B' => self.body = Some(wanted(body(argument), 'B', "7BIT or 8BITMIME")?),
            'C' if argument.ends_with(".toml") => self.config = Some(argument.into()),
            'O' => self.long(argument),
            // `-oi` and its like. All others say how sendmail itself should work, and ours works as it does.
            'o' if argument == "i" => self.ignore_dots = true,
            _ => {}
        }
        Ok(())
    }

    /// `-O name=value`.
    fn long(&mut self, argument: &str) {
        let (name, value) = argument.split_once('=').unwrap_or((argument, ""));
        let yes = ["yes", "true", "1", "y", "t"].contains(&value.to_ascii_lowercase().as_str());
        match name.trim().to_ascii_lowercase().as_str() {
            "requiretls" => self.require_tls = yes,
            "smtputf8" => self.smtputf8 = yes,
            "ignoredots" => self.ignore_dots = yes || value.is_empty(),
            _ => {}
        }
    }

    fn check(&self) -> Result<(), Refusal> {
        if self.header_recipients && self.mode == Mode::Verify {
            return Err(usage("-t takes recipients from a message, and -bv reads none"));
        }
        if self.recipients.iter().any(|recipient| recipient.contains(char::is_control)) {
            return Err(usage("a recipient holds a control character"));
        }
        // No address of a stranger is ever taken for an option; that it looks like one is worth a word.
        if let Some(option) = self.recipients.iter().find(|recipient| recipient.starts_with('-')) {
            let option: String = option.escape_debug().take(60).collect();
            return Err(usage(format!("{option} stands behind a recipient or --: options come first")));
        }
        Ok(())
    }
}

const NOTIFY: &str = "never, or some of success,failure,delay";

fn mode(argument: &str) -> Result<Mode, Refusal> {
    Ok(match argument {
        "m" => Mode::Send,
        "s" => Mode::Session,
        "v" => Mode::Verify,
        "p" => Mode::List,
        "i" => Mode::Aliases,
        "d" | "D" | "l" => Mode::Daemon,
        "h" | "H" => Mode::Nothing,
        // Arpanet mode was SMTP in the end.
        "a" => Mode::Session,
        _ => return Err(usage("-b takes one of m, s, v, p, i, d, h, H")),
    })
}

fn body(argument: &str) -> Option<Body> {
    match Body::parse(argument) {
        // Content comes in lines here.
        Some(Body::BinaryMime) | None => None,
        body => body,
    }
}

/// RFC 3461 4.4: printable, and 100 characters at most in xtext.
fn envid(argument: &str) -> Result<String, Refusal> {
    let is_good = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_graphic());
    if is_good && mta_smtp::address::encode_xtext(argument).len() <= 100 {
        return Ok(argument.to_owned());
    }
    Err(usage("-V takes an envelope id of at most 100 printable ASCII characters without spaces"))
}

fn wanted<T>(value: Option<T>, letter: char, expected: &str) -> Result<T, Refusal> {
    value.ok_or_else(|| usage(format!("-{letter} takes {expected}")))
}

fn usage(text: impl Into<String>) -> Refusal {
    Refusal::new(exit::USAGE, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, Refusal> {
        Options::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_programs_write() {
        for (words, mode, from_header, dots, sender, recipients) in [
            (&["-t", "-oi"][..], Mode::Send, true, true, None, 0),
            (&["-ti"], Mode::Send, true, true, None, 0),
            (&["-FCronDaemon", "-i", "-B8BITMIME", "-oem", "root"], Mode::Send, false, true, None, 1),
            (
                &["-i", "-FCronDaemon", "-B8BITMIME", "-oem", "-f", "x@y", "a", "b"],
                Mode::Send,
                false,
                true,
                Some("x@y"),
                2,
            ),
            (
                &["-oi", "-oem", "-odb", "-oMrhost", "-h", "3", "-L", "tag", "a"],
                Mode::Send,
                false,
                true,
                None,
                1,
            ),
            (&["-fx@y", "--", "a"], Mode::Send, false, false, Some("x@y"), 1),
            (&["-f", "", "a"], Mode::Send, false, false, Some(""), 1),
            (
                &["-r", "<>", "-Am", "-d0.1", "-em", "-E", "-G", "-m", "-n", "-U", "-x", "a"],
                Mode::Send,
                false,
                false,
                Some("<>"),
                1,
            ),
            (
                &["-X", "/dev/null", "-p", "x", "-C", "/etc/mail/sendmail.cf", "-M12", "a"],
                Mode::Send,
                false,
                false,
                None,
                1,
            ),
            (&["-bs"], Mode::Session, false, false, None, 0),
            (&["-b", "p"], Mode::List, false, false, None, 0),
            (&["-bi"], Mode::Aliases, false, false, None, 0),
            (&["-I"], Mode::Aliases, false, false, None, 0),
            (&["-bd", "-q30m"], Mode::Daemon, false, false, None, 0),
            (&["-q30m"], Mode::Nothing, false, false, None, 0),
            (&["-q"], Mode::Flush(Flush::All), false, false, None, 0),
            (&["-qR", "a.example"], Mode::Flush(Flush::Recipient("a.example".into())), false, false, None, 0),
            (&["-qIabc"], Mode::Flush(Flush::Id("abc".into())), false, false, None, 0),
            (&["-qS", "b.example"], Mode::Flush(Flush::Sender("b.example".into())), false, false, None, 0),
            (&["-bv", "a"], Mode::Verify, false, false, None, 1),
            (&["-bm", "-oi", "a"], Mode::Send, false, true, None, 1),
            (&["-bh"], Mode::Nothing, false, false, None, 0),
            (&["-bH"], Mode::Nothing, false, false, None, 0),
            // What takes an argument takes it, so that the recipient stays one.
            (&["-Ac", "-o7", "-em", "-B", "7BIT", "-R", "full", "a"], Mode::Send, false, false, None, 1),
            (&["-v", "-O", "DeliveryMode=b", "a"], Mode::Send, false, false, None, 1),
        ] {
            let options = parse(words).unwrap_or_else(|e| panic!("{words:?}: {e}"));
            assert_eq!(options.mode, mode, "{words:?}");
            assert_eq!((options.header_recipients, options.ignore_dots), (from_header, dots), "{words:?}");
            assert_eq!(options.sender.as_deref(), sender, "{words:?}");
            assert_eq!(options.recipients.len(), recipients, "{words:?}");
        }
    }

    #[test]
    fn dsn_parameters() {
        let options = parse(&["-N", "success,delay", "-Rhdrs", "-V", "id+7", "-B", "8bitmime", "a"]).unwrap();
        assert_eq!(options.notify.map(|n| n.to_string()).as_deref(), Some("SUCCESS,DELAY"));
        assert_eq!((options.ret, options.body), (Some(Ret::Headers), Some(Body::EightBitMime)));
        assert_eq!(options.envid.as_deref(), Some("id+7"));
        let options = parse(&["-O", "requiretls=yes", "-O", "smtputf8=yes", "-Oignoredots", "a"]).unwrap();
        assert!(options.require_tls && options.smtputf8 && options.ignore_dots);
        let options = parse(&["-N", "never", "-C", "/tmp/mta.toml"]).unwrap();
        assert!(options.notify.unwrap().never && options.config.is_some());
    }

    /// Guarantee: no option injection. What a program puts behind its own options is never one.
    #[test]
    fn nothing_behind_a_recipient_is_an_option() {
        for words in [
            &["-t", "a@b", "-X/tmp/log"][..],
            &["a", "-f", "root"],
            &["--", "-bs"],
            &["-"],
            &["-f"],
            &["-Z"],
            &["-ö"],
            &["-bx"],
            &["-t", "-bv"],
            &["-Nsometimes"],
            &["-Rall"],
            &["-B", "BINARYMIME"],
            &["-V", ""],
            &["-V", "a b"],
            &["-f", "a\r\nRCPT TO:<b@c>"],
            &["-F", "a\nBcc: b@c"],
            &["-F", "a\u{85}b"],
            &["a\r\nRCPT TO:<b@c.example>"],
        ] {
            let refusal = parse(words).expect_err(&format!("{words:?}"));
            assert_eq!(refusal.exit, exit::USAGE, "{words:?}");
            assert!(!refusal.text.chars().any(char::is_control), "{words:?}: {refusal}");
        }
    }
}
