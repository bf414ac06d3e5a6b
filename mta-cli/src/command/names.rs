//! The program under other names: sendmail, mailq, newaliases.

use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

use mta_core::config::Config;
use mta_core::control::{ChangeArguments, ListArguments, Request, Select};
use mta_core::sendmail::options::{Flush, Mode, Options};
use mta_core::sendmail::run::{self, Sent, Site};
use mta_core::sendmail::{Refusal, exit};

use super::{DEFAULT_CONFIG, Ended, alias, explain, load, queue};
use crate::args::{AliasCheck, Explain, Invocation, QueueList};
use crate::client::{Client, Problem};
use crate::exit::Exit;

/// Runs the program under another name. `config` is a configuration other than the usual one.
pub fn run(name: Invocation, config: Option<&Path>, arguments: &[String]) -> Exit {
    let (word, ended) = match name {
        Invocation::Mailq => ("mailq", Options::parse(arguments).map_err(problem).and_then(|_| list(config))),
        Invocation::Newaliases => ("newaliases", aliases(config)),
        Invocation::Sendmail | Invocation::Tool => ("sendmail", sendmail(config, arguments)),
    };
    ended.unwrap_or_else(|problem| {
        // One line for whoever reads cron's mail or a web application's log.
        eprintln!("{word}: {}", problem.text);
        problem.exit
    })
}

fn problem(refusal: Refusal) -> Problem {
    Problem::new(Exit(refusal.exit), refusal.text)
}

/// `mailq`, `sendmail -bp`: the queue as `queue list` shows it; a user who is no administrator sees his own mail.
fn list(config: Option<&Path>) -> Ended {
    let (config, _) = load(config)?;
    let request = Request::QueueList(ListArguments::default());
    queue::list(&mut Client::connect(&config, false)?, &request, &QueueList::default())
}

/// `newaliases`, `sendmail -bi`: the files are checked and read again; nothing has to be built.
fn aliases(config: Option<&Path>) -> Ended {
    alias::check(config, &AliasCheck { file: None, json: false })
}

fn sendmail(config: Option<&Path>, arguments: &[String]) -> Ended {
    let options = Options::parse(arguments).map_err(problem)?;
    let config: Option<PathBuf> = options.config.clone().or_else(|| config.map(Path::to_path_buf));
    let config = config.as_deref();
    match &options.mode {
        Mode::Send => {
            let sent = run::send(&options, &site(config)?, BufReader::new(std::io::stdin()));
            tell(&options, &sent.map_err(problem)?)
        }
        Mode::Session => {
            let mut input = BufReader::new(std::io::stdin());
            let done = run::session(&site(config)?, &mut input, &mut std::io::stdout().lock());
            done.map(|()| Exit::DONE).map_err(problem)
        }
        Mode::Verify => verify(config, &options.recipients),
        Mode::List => list(config),
        Mode::Aliases => aliases(config),
        Mode::Flush(flush) => try_again(config, flush),
        Mode::Nothing => Ok(Exit::DONE),
        Mode::Daemon => Err(Problem::new(
            Exit::USAGE,
            "the daemon is started as a service (systemctl start mta), or by mta-cli serve",
        )),
    }
}

/// Where to hand mail in. A configuration that this user cannot read, or that is being changed, keeps no mail back: what
/// is needed of it stands where the packages put it. Without a configuration it does too, and never in the current
/// directory, where anybody may have made a socket.
fn site(config: Option<&Path>) -> Result<Site, Problem> {
    let file = config.unwrap_or_else(|| Path::new(DEFAULT_CONFIG));
    let loaded = match Config::load(file) {
        Ok(loaded) => loaded,
        Err(errors) if config.is_some() => {
            return Err(Problem::new(
                Exit(exit::CONFIGURATION),
                format!("the configuration is wrong\n{errors}"),
            ));
        }
        Err(_) => Config::as_packaged(),
    };
    Ok(Site::new(&loaded))
}

/// Says what became of a message.
fn tell(options: &Options, sent: &Sent) -> Ended {
    if options.verbose {
        let mut out = std::io::stdout().lock();
        for line in &sent.told {
            // Nobody may read it; the message is queued all the same.
            let _ = writeln!(out, "{line}");
        }
    }
    if sent.refused.is_empty() {
        return Ok(Exit::DONE);
    }
    let text = format!("the others have the message, but refused is {}", sent.refused.join(", "));
    Err(Problem::new(Exit(exit::NO_USER), text))
}

/// `-bv`: what would become of mail, for each recipient.
fn verify(config: Option<&Path>, recipients: &[String]) -> Ended {
    let mut worst = Exit::DONE;
    let origin = site(config)?.origin;
    if recipients.is_empty() {
        return Err(Problem::new(Exit::USAGE, "-bv needs a recipient"));
    }
    for text in recipients {
        let found = mta_core::sendmail::address::parse_list(text, &origin)
            .map_err(|error| Problem::new(Exit::USAGE, error.to_string()))?;
        for mailbox in found {
            let ended = explain::explain(config, &Explain { subject: mailbox.to_string(), json: false })?;
            worst = if ended == Exit::DONE { worst } else { ended };
        }
    }
    Ok(worst)
}

/// `-q`: mail that waits is tried now.
fn try_again(config: Option<&Path>, flush: &Flush) -> Ended {
    let mut select = Select::default();
    match flush {
        Flush::All => {}
        Flush::Id(id) => select.ids.push(id.clone()),
        Flush::Recipient(text) if text.contains('@') => select.to = Some(text.clone()),
        Flush::Recipient(domain) => select.domain = Some(domain.clone()),
        Flush::Sender(text) => select.from = Some(text.clone()),
    }
    let (config, _) = load(config)?;
    let request = Request::QueueRetry(ChangeArguments { select, reason: String::new() });
    Client::connect(&config, true)?.ask(&request, &mut |_| {})?;
    Ok(Exit::DONE)
}
