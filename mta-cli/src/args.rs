//! The table of verbs and their arguments.
//!
//! What argh does not do is done here beforehand: `--opt=value`, `--config` behind the verb, `--version`.

use std::path::PathBuf;

use argh::{ArgsInfo, FromArgs};

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
    /// What the daemon does.
    Status(Status),
    /// The queue.
    Queue(Queue),
    /// The configuration.
    Config(Config),
    /// TLSA records.
    Tlsa(Tlsa),
    /// DNS as the daemon sees it.
    Dns(Dns),
    /// Generated documentation.
    Doc(Doc),
}

/// Run the daemon in the foreground, until SIGTERM. SIGHUP reloads the configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "serve", example = "{command_name} --config ./mta.toml")]
pub struct Serve {}

/// Show what the daemon does and how much waits.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "status", example = "{command_name} --json")]
pub struct Status {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Look at the queue and change it.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "queue", example = "{command_name} list --to @example.org")]
pub struct Queue {
    /// what to do
    #[argh(subcommand)]
    pub verb: QueueVerb,
}

/// The verbs of the queue.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum QueueVerb {
    /// A list.
    List(QueueList),
    /// One message.
    Show(QueueShow),
    /// Due now.
    Retry(QueueRetry),
    /// Away.
    Drop(QueueDrop),
}

/// List the messages that wait, oldest first; with --status, also those of the past.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "list", example = "{command_name} --to @example.org --status deferred")]
pub struct QueueList {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued, deferred, held, delivered, failed, expired, dropped, damaged
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// messages at most (1000)
    #[argh(option, arg_name = "count", default = "0")]
    pub limit: usize,
    /// begin behind this id
    #[argh(option, arg_name = "id")]
    pub after: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Show one message: where it stands, what was tried, and why each attempt ended as it did.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} 1k3v9")]
pub struct QueueShow {
    /// the id, or enough of its beginning
    #[argh(positional)]
    pub id: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Try the recipients that fit again now.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "retry", example = "{command_name} --to @example.org")]
pub struct QueueRetry {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued or deferred
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// everything that waits
    #[argh(switch)]
    pub all: bool,
    /// only say how many it would be
    #[argh(switch)]
    pub dry_run: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Take the recipients that fit out of the queue. Nobody is notified, and it cannot be undone.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "drop", example = "{command_name} --from '<>' --dry-run")]
pub struct QueueDrop {
    /// ids or beginnings of ids
    #[argh(positional)]
    pub ids: Vec<String>,
    /// a recipient, part of one, or @domain
    #[argh(option, arg_name = "address")]
    pub to: Option<String>,
    /// the sender (reverse-path) or part of it; <> for notifications
    #[argh(option, arg_name = "address")]
    pub from: Option<String>,
    /// queued, deferred, held or damaged
    #[argh(option, arg_name = "status")]
    pub status: Option<String>,
    /// everything that waits
    #[argh(switch)]
    pub all: bool,
    /// only say how many it would be
    #[argh(switch)]
    pub dry_run: bool,
    /// do not ask
    #[argh(switch)]
    pub yes: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Check the configuration and show what is in force.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "config", example = "{command_name} show --diff")]
pub struct Config {
    /// what to do
    #[argh(subcommand)]
    pub verb: ConfigVerb,
}

/// The verbs of the configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum ConfigVerb {
    /// Is it right?
    Check(ConfigCheck),
    /// What is in force?
    Show(ConfigShow),
}

/// Read the configuration and everything it names, and say what is wrong: exit 78 if it cannot be started with, 1 for warnings.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "check", example = "{command_name} --config ./mta.toml")]
pub struct ConfigCheck {
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Print the configuration in force, and which file and line set each value.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "show", example = "{command_name} --diff")]
pub struct ConfigShow {
    /// only what differs from the defaults
    #[argh(switch)]
    pub diff: bool,
    /// the defaults themselves
    #[argh(switch)]
    pub defaults: bool,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Judge certificates by TLSA records.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "tlsa", example = "{command_name} verify --tlsa \"3 1 1 HEX\" --chain chain.pem")]
pub struct Tlsa {
    /// what to do
    #[argh(subcommand)]
    pub verb: TlsaVerb,
}

/// The verbs of TLSA records.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum TlsaVerb {
    /// Does a chain match?
    Verify(TlsaVerify),
}

/// Judge a certificate chain offline: exit 0 if it matches, 1 if not, 3 if no record is usable.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(
    subcommand,
    name = "verify",
    example = "{command_name} --tlsa \"2 0 1 HEX\" --chain chain.pem --reference-id mx.example.org"
)]
pub struct TlsaVerify {
    /// a record: usage, selector, matching type, hexadecimal data; may be repeated
    #[argh(option, arg_name = "record")]
    pub tlsa: Vec<String>,
    /// PEM file with the chain, the server's certificate first
    #[argh(option, arg_name = "file")]
    pub chain: PathBuf,
    /// a name the certificate may have, for usage 2; may be repeated
    #[argh(option, arg_name = "name")]
    pub reference_id: Vec<String>,
    /// judge as at this time (RFC 3339); now, if not given
    #[argh(option, arg_name = "time")]
    pub time: Option<String>,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Ask DNS as the daemon does.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "dns", example = "{command_name} lookup example.org MX")]
pub struct Dns {
    /// what to do
    #[argh(subcommand)]
    pub verb: DnsVerb,
}

/// The verbs of DNS.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DnsVerb {
    /// One question.
    Lookup(DnsLookup),
}

/// Look up a name and validate the answer: exit 0 if secure or insecure, 1 if bogus, 75 if unavailable.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "lookup", example = "{command_name} _25._tcp.mx.example.org TLSA")]
pub struct DnsLookup {
    /// the name
    #[argh(positional)]
    pub name: String,
    /// the type: MX, A, AAAA, TLSA, TXT...
    #[argh(positional)]
    pub rtype: String,
    /// print JSON
    #[argh(switch)]
    pub json: bool,
}

/// Print documentation that is made from the tables of verbs and options.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "doc", example = "{command_name} example > mta.toml.example")]
pub struct Doc {
    /// what to print
    #[argh(subcommand)]
    pub verb: DocVerb,
}

/// What can be printed.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand)]
pub enum DocVerb {
    /// Manual pages.
    Man(DocMan),
    /// The example configuration.
    Example(DocExample),
    /// Shell completions.
    Completions(DocCompletions),
}

/// Print a manual page: mta-cli or mta.toml.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "man", example = "{command_name} mta.toml | man -l -")]
pub struct DocMan {
    /// the page: mta-cli or mta.toml
    #[argh(positional)]
    pub page: String,
}

/// Print the full example configuration.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "example", example = "{command_name} > mta.toml.example")]
pub struct DocExample {}

/// Print completions for a shell: bash, zsh or fish.
#[derive(FromArgs, ArgsInfo, Debug)]
#[argh(subcommand, name = "completions", example = "{command_name} bash")]
pub struct DocCompletions {
    /// the shell: bash, zsh or fish
    #[argh(positional)]
    pub shell: String,
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
                Err(()) => (format!("{NAME}: {}\nTry {NAME} --help.", early.output.trim_end()), Exit::USAGE),
            };
            if !text.ends_with('\n') {
                text.push('\n');
            }
            Parsed::Stop { text, exit }
        }
    }
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
    fn names_of_links_decide() {
        assert_eq!(invocation("/usr/sbin/sendmail"), Invocation::Sendmail);
        assert_eq!(invocation("mailq"), Invocation::Mailq);
        assert_eq!(invocation("./newaliases"), Invocation::Newaliases);
        assert_eq!(invocation("/usr/bin/mta-cli"), Invocation::Tool);
        assert_eq!(invocation(""), Invocation::Tool);
    }

    #[test]
    fn every_help_fits_a_screen_and_has_an_example() {
        fn check(path: &[&str], info: &argh::CommandInfoWithArgs) {
            let mut arguments = path.get(1..).unwrap_or_default().to_vec();
            arguments.push("--help");
            let early = Top::from_args(&[NAME], &arguments).unwrap_err();
            assert!(early.status.is_ok(), "{path:?}");
            assert!(
                early.output.lines().count() <= 24 + 4,
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
