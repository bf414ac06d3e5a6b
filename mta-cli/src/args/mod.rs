//! The table of verbs and their arguments, one file for each group of verbs.
//!
//! What argh does not do is done here beforehand: `--opt=value`, `--config` behind the verb, `--version`.

mod alias;
mod backup;
mod config;
mod deliver;
mod dest;
mod dkim;
mod dns;
mod doc;
mod explain;
mod queue;
mod report;
mod serve;
mod status;
mod tlsa;
mod user;
mod watch;

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

pub use self::alias::{Alias, AliasAdd, AliasCheck, AliasDelete, AliasList, AliasShow, AliasVerb};
pub use self::backup::{Backup, Restore, Verify};
pub use self::config::{Config, ConfigCheck, ConfigShow, ConfigVerb};
pub use self::deliver::Deliver;
pub use self::dest::{
    Dest, DestForget, DestPause, DestRecipients, DestReset, DestResume, DestShow, DestVerb, Pause, Resume,
};
pub use self::dkim::{
    Dkim, DkimCheck, DkimImport, DkimList, DkimMake, DkimRecord, DkimRetire, DkimRotate, DkimVerb,
};
pub use self::dns::{Dns, DnsLookup, DnsVerb};
pub use self::doc::{Doc, DocCompletions, DocExample, DocMan, DocVerb};
pub use self::explain::{Explain, Probe};
pub use self::queue::{
    HoldRule, HoldRuleAdd, HoldRuleList, HoldRuleRemove, HoldRuleVerb, Queue, QueueBounce, QueueDrop,
    QueueHold, QueueList, QueueRedirect, QueueRelease, QueueReroute, QueueRetry, QueueShow, QueueSummary,
    QueueVerb, Selection,
};
pub use self::report::{Report, ReportDmarc, ReportList, ReportSend, ReportTls, ReportVerb};
pub use self::serve::Serve;
pub use self::status::{Reload, Status};
pub use self::tlsa::{Tlsa, TlsaCheck, TlsaMake, TlsaVerb, TlsaVerify};
pub use self::user::{
    User, UserAdd, UserAllow, UserDelete, UserDisable, UserEnable, UserImport, UserList, UserPasswd,
    UserRelease, UserShow, UserVerb,
};
pub use self::watch::{Log, Trace, Watch};
use crate::exit::Exit;

/// The name under which the program prints its usage.
pub const NAME: &str = "mta-cli";

/// mta-cli serves mail and administers the server. Every verb takes --config FILE and --help.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    example = "{command_name} serve --config /etc/mta/mta.toml",
    note = "Without --config the configuration is /etc/mta/mta.toml, and without that file a development default: 127.0.0.1:2525, state in ./mta-state."
)]
pub struct Top {
    /// the configuration file (anywhere on the command line)
    #[argh(option, short = 'c', arg_name = "file")]
    pub config: Option<PathBuf>,
    /// print the version
    #[argh(switch)]
    pub version: bool,
    /// the verb
    #[argh(subcommand)]
    pub verb: Option<Verb>,
}

/// The verbs.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum Verb {
    /// The daemon.
    Serve(Serve),
    /// The delivery process.
    Deliver(Deliver),
    /// What the daemon does.
    Status(Status),
    /// The configuration anew.
    Reload(Reload),
    /// The queue.
    Queue(Queue),
    /// Destinations as a whole.
    Dest(Dest),
    /// Stand still.
    Pause(Pause),
    /// Move on.
    Resume(Resume),
    /// What became of a message.
    Trace(Trace),
    /// A screen.
    Watch(Watch),
    /// The log.
    Log(Log),
    /// Aliases.
    Alias(Alias),
    /// A copy of the queue.
    Backup(Backup),
    /// The copy back.
    Restore(Restore),
    /// Is the queue whole?
    Verify(Verify),
    /// The configuration.
    Config(Config),
    /// What would happen to mail.
    Explain(Explain),
    /// What the hosts really do.
    Probe(Probe),
    /// Who may log in.
    User(User),
    /// TLSA records.
    Tlsa(Tlsa),
    /// DNS as the daemon sees it.
    Dns(Dns),
    /// Keys of DKIM.
    Dkim(Dkim),
    /// What is counted for others.
    Report(Report),
    /// Generated documentation.
    Doc(Doc),
}

/// Under which name the program was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invocation {
    /// As itself.
    Tool,
    /// As sendmail.
    Sendmail,
    /// As mailq.
    Mailq,
    /// As newaliases.
    Newaliases,
}

/// The invocation for a program name, which may be a path.
pub fn invocation(name: &str) -> Invocation {
    match name.rsplit('/').next() {
        Some("sendmail") => Invocation::Sendmail,
        Some("mailq") => Invocation::Mailq,
        Some("newaliases") => Invocation::Newaliases,
        _ => Invocation::Tool,
    }
}

/// `mta-cli sendmail ...` is sendmail too, for hosts where another mail system has the name; `--config FILE` may stand in
/// front of it. Gives that file, and the arguments behind the name.
pub fn under_name(
    invocation: Invocation,
    arguments: Vec<String>,
) -> (Invocation, Option<PathBuf>, Vec<String>) {
    if invocation != Invocation::Tool {
        return (invocation, None, arguments);
    }
    let (config, at) = match arguments.first().map(String::as_str) {
        Some("--config" | "-c") => (arguments.get(1).map(PathBuf::from), 2),
        _ => (None, 0),
    };
    let name = arguments.get(at).filter(|name| !name.contains('/'));
    match name.map_or(Invocation::Tool, |name| self::invocation(name)) {
        Invocation::Tool => (Invocation::Tool, None, arguments),
        other => (other, config, arguments.into_iter().skip(at + 1).collect()),
    }
}

/// What the arguments say.
#[derive(Debug)]
pub enum Parsed {
    /// Run this.
    Run(Box<Top>),
    /// Print this and end.
    Stop {
        /// Help, version or an error.
        text: String,
        /// How to end.
        exit: Exit,
    },
}

/// Reads the arguments, without the program's name.
pub fn parse(arguments: Vec<String>) -> Parsed {
    let arguments = prepare(arguments);
    let texts: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match Top::from_args(&[NAME], &texts) {
        Ok(top) if top.version => {
            Parsed::Stop { text: format!("{NAME} {}\n", env!("CARGO_PKG_VERSION")), exit: Exit::DONE }
        }
        Ok(top) if top.verb.is_none() => {
            let help = Top::from_args(&[NAME], &["--help"]).err().map(|early| early.output);
            Parsed::Stop { text: help.unwrap_or_default(), exit: Exit::USAGE }
        }
        Ok(top) => Parsed::Run(Box::new(top)),
        Err(early) => {
            let (mut text, exit) = match early.status {
                Ok(()) => (early.output, Exit::DONE),
                Err(()) => {
                    let verb = known_verb(&texts);
                    (format!("{NAME}: {}\nTry {verb} --help.", early.output.trim_end()), Exit::USAGE)
                }
            };
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Parsed::Stop { text, exit }
        }
    }
}

/// The longest beginning of a command line that names a verb, as it is asked for help.
fn known_verb(arguments: &[&str]) -> String {
    let is_option = |word: &&str| word.starts_with('-');
    let first = if matches!(arguments.first(), Some(&"--config" | &"-c")) { 2 } else { 0 };
    let mut names = vec![NAME];
    for word in arguments.iter().skip(first).take_while(|word| !is_option(word)) {
        let mut asked: Vec<&str> = names.iter().skip(1).copied().collect();
        let before = help_of(&asked);
        asked.push(word);
        // A positional argument changes nothing about the help.
        if help_of(&asked).is_none_or(|help| before.as_ref() == Some(&help)) {
            break;
        }
        names.push(word);
    }
    names.join(" ")
}

/// The help of a verb, if these words are one.
fn help_of(words: &[&str]) -> Option<String> {
    let asked: Vec<&str> = words.iter().copied().chain(["--help"]).collect();
    Top::from_args(&[NAME], &asked).err().filter(|early| early.status.is_ok()).map(|early| early.output)
}

/// Splits `--opt=value`, and puts `--config FILE` and `--version` in front of the verb, where argh wants them. What stands
/// behind `--` stays as it is.
fn prepare(arguments: Vec<String>) -> Vec<String> {
    let mut front = Vec::new();
    let mut rest = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            rest.push(argument);
            rest.extend(arguments.by_ref());
            break;
        }
        let split = argument.strip_prefix("--").and_then(|a| a.split_once('='));
        let (option, value) = match split {
            Some((name, value)) => (format!("--{name}"), Some(value.to_owned())),
            None => (argument, None),
        };
        match option.as_str() {
            "--config" | "-c" => {
                front.push(option);
                front.extend(value.or_else(|| arguments.next()));
            }
            "--version" | "-V" => front.push("--version".to_owned()),
            _ => {
                rest.push(option);
                rest.extend(value);
            }
        }
    }
    front.extend(rest);
    front
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared(arguments: &[&str]) -> String {
        prepare(arguments.iter().map(ToString::to_string).collect()).join(" ")
    }

    #[test]
    fn what_argh_does_not_know_is_put_right() {
        for (arguments, expected) in [
            (&["serve", "--config", "f"][..], "--config f serve"),
            (&["serve", "--config=f"], "--config f serve"),
            (&["-c", "f", "queue", "list"], "-c f queue list"),
            (&["queue", "list", "--to=a=b", "--json"], "queue list --to a=b --json"),
            (&["queue", "list", "--", "--config", "--to=x"], "queue list -- --config --to=x"),
            (&["queue", "list", "--config"], "--config queue list"),
            (&["status", "-V"], "--version status"),
        ] {
            assert_eq!(prepared(arguments), expected, "{arguments:?}");
        }
    }

    #[test]
    fn an_error_names_the_verb_whose_help_helps() {
        for (line, verb) in [
            ("queue hold-rule add --note x", "mta-cli queue hold-rule add"),
            ("--config f queue list 1k --wrong", "mta-cli queue list"),
            ("-c f dest list", "mta-cli dest"),
            ("pause", "mta-cli pause"),
            ("nonsense --x", "mta-cli"),
        ] {
            let Parsed::Stop { text, exit } = parse(line.split(' ').map(ToOwned::to_owned).collect()) else {
                panic!("{line}")
            };
            assert_eq!(exit, Exit::USAGE, "{line}");
            assert!(text.ends_with(&format!("\nTry {verb} --help.\n")), "{line}: {text}");
        }
    }

    #[test]
    fn names_of_links_decide() {
        assert_eq!(invocation("/usr/sbin/sendmail"), Invocation::Sendmail);
        assert_eq!(invocation("mailq"), Invocation::Mailq);
        assert_eq!(invocation("./newaliases"), Invocation::Newaliases);
        assert_eq!(invocation("/usr/bin/mta-cli"), Invocation::Tool);
        assert_eq!(invocation(""), Invocation::Tool);
    }

    #[test]
    fn sendmail_is_a_verb_too() {
        let words = |text: &str| text.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>();
        for (line, invocation, config, rest) in [
            ("sendmail -t --config x", Invocation::Sendmail, None, "-t --config x"),
            ("--config f sendmail -bp", Invocation::Sendmail, Some("f"), "-bp"),
            ("-c f mailq -v", Invocation::Mailq, Some("f"), "-v"),
            ("queue list", Invocation::Tool, None, "queue list"),
            ("--config sendmail status", Invocation::Tool, None, "--config sendmail status"),
            ("x/sendmail -t", Invocation::Tool, None, "x/sendmail -t"),
        ] {
            let (found, file, left) = under_name(Invocation::Tool, words(line));
            assert_eq!((found, file.as_deref().and_then(|f| f.to_str())), (invocation, config), "{line}");
            assert_eq!(left, words(rest), "{line}");
        }
        let (found, _, left) = under_name(Invocation::Sendmail, words("sendmail mailq"));
        assert_eq!((found, left), (Invocation::Sendmail, words("sendmail mailq")), "these are recipients");
    }

    #[test]
    fn every_help_fits_a_screen_and_has_an_example() {
        fn check(path: &[&str], info: &argh::CommandInfoWithArgs) {
            let mut arguments = path.get(1..).unwrap_or_default().to_vec();
            arguments.push("--help");
            let early = Top::from_args(&[NAME], &arguments).unwrap_err();
            assert!(early.status.is_ok(), "{path:?}");
            // The list of all verbs may be longer: it is the one page that has each of them.
            let screen = if path.len() == 1 { 60 } else { 24 + 4 };
            assert!(
                early.output.lines().count() <= screen,
                "{path:?} is longer than a screen:\n{}",
                early.output
            );
            assert_eq!(info.examples.len(), 1, "{path:?}");
            for sub in &info.commands {
                let mut deeper = path.to_vec();
                deeper.push(sub.name);
                check(&deeper, &sub.command);
            }
        }
        check(&[NAME], &Top::get_args_info());
    }

    #[test]
    fn wrong_arguments_are_usage_errors() {
        for arguments in
            [&["frobnicate"][..], &["queue"], &["queue", "show"], &["status", "--x"], &[], &["--config"]]
        {
            let parsed = parse(arguments.iter().map(ToString::to_string).collect());
            assert!(matches!(parsed, Parsed::Stop { exit: Exit::USAGE, .. }), "{arguments:?}: {parsed:?}");
        }
    }
}
