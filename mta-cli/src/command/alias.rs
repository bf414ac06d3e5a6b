//! `alias`: addresses that stand for others.

use std::path::Path;

use mta_core::account::alias::load::load as load_aliases;
use mta_core::account::directory::database;
use mta_core::account::{Accounts, Directory, Recipient};
use mta_core::config::Config;
use mta_core::control::{AliasArguments, AliasView, Request};
use mta_core::log::visible;
use serde_json::json;

use super::{Ended, load};
use crate::args::{AliasAdd, AliasCheck, AliasDelete, AliasList, AliasShow, AliasVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table};

pub(super) fn run(file: Option<&Path>, verb: &AliasVerb) -> Ended {
    match verb {
        AliasVerb::Add(verb) => add(file, verb),
        AliasVerb::Delete(verb) => delete(file, verb),
        AliasVerb::List(verb) => list(file, verb),
        AliasVerb::Show(verb) => show(file, verb),
        AliasVerb::Check(verb) => check(file, verb),
    }
}

fn add(file: Option<&Path>, verb: &AliasAdd) -> Ended {
    let (config, _) = load(file)?;
    let mut targets = verb.targets.clone();
    if verb.keep && !targets.contains(&verb.address) {
        targets.push(verb.address.clone());
    }
    check_own(&config, &verb.address)?;
    let mut client = Client::connect(&config, true)?;
    let arguments = AliasArguments { address: verb.address.clone(), targets };
    client.ask(&Request::AliasPut(arguments), &mut |_| ())?;
    let accounts = accounts(&config, &aliases(&mut client)?);
    let leads = accounts.recipient_of(&verb.address);
    let text = match &leads {
        Some(Recipient::Unknown) => {
            "is kept, but none of its targets exists: mail for it is refused".to_owned()
        }
        Some(Recipient::Unclear(cause)) => format!("is kept, but mail for it waits: {cause}"),
        _ => "is kept".to_owned(),
    };
    told(&verb.address, "kept", &text, verb.json);
    Ok(if text == "is kept" { Exit::DONE } else { Exit::PROBLEMS })
}

fn delete(file: Option<&Path>, verb: &AliasDelete) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, true)?;
    let known = client.ask(&Request::AliasDelete(verb.address.clone()), &mut |_| ())?.count > 0;
    told(&verb.address, "deleted", if known { "is deleted" } else { "was no alias" }, verb.json);
    Ok(if known { Exit::DONE } else { Exit::NOTHING })
}

fn list(file: Option<&Path>, verb: &AliasList) -> Ended {
    let (config, _) = load(file)?;
    let found = aliases(&mut Client::connect(&config, false)?)?;
    if verb.json {
        output::print_json(json!({ "aliases": found }));
        return Ok(Exit::DONE);
    }
    let mut table = Table::new(&["ALIAS", "STANDS FOR"]);
    for alias in &found {
        table.row(vec![alias.address.clone(), alias.targets.join(", ")]);
    }
    table.print();
    if found.is_empty() && output::for_person() {
        eprintln!("mta-cli: there is no alias in the database");
    }
    Ok(Exit::DONE)
}

fn show(file: Option<&Path>, verb: &AliasShow) -> Ended {
    let (config, _) = load(file)?;
    let accounts = accounts(&config, &aliases(&mut Client::connect(&config, false)?)?);
    let recipient = accounts.recipient_of(&verb.address).ok_or_else(|| {
        Problem::new(Exit::USAGE, format!("{:?} is no mail address", visible(&verb.address)))
    })?;
    let (kind, places, text) = match recipient {
        Recipient::Maildir(path) => ("mailbox", vec![path.display().to_string()], "a mailbox".to_owned()),
        Recipient::Lmtp(server) => ("mailbox", vec![server.to_string()], "a mailbox".to_owned()),
        Recipient::System(user) => ("user", vec![user], "a user of this system".to_owned()),
        Recipient::Alias(places) => ("alias", places, "an alias".to_owned()),
        Recipient::Relayed => ("relayed", Vec::new(), "relayed to another host".to_owned()),
        Recipient::Verified(_) => {
            ("relayed", Vec::new(), "relayed to another host, which is asked whether it exists".to_owned())
        }
        Recipient::Unclear(cause) => ("unclear", Vec::new(), format!("unclear: {cause}")),
        Recipient::Unknown => ("unknown", Vec::new(), "unknown: mail for it is refused".to_owned()),
        Recipient::Foreign => ("foreign", Vec::new(), "no address of this server".to_owned()),
    };
    if verb.json {
        output::print_json(json!({ "address": verb.address, "kind": kind, "places": places, "text": text }));
    } else {
        output::print(&format!("{} is {}\n", visible(&verb.address), visible(&text)));
        for place in &places {
            output::print(&format!("  {}\n", visible(place)));
        }
    }
    Ok(match kind {
        "unknown" | "foreign" => Exit::NOTHING,
        "unclear" => Exit::PROBLEMS,
        _ => Exit::DONE,
    })
}

/// Checks alias files, and lets the daemon read them again: what newaliases means.
pub(super) fn check(file: Option<&Path>, verb: &AliasCheck) -> Ended {
    let (config, _) = load(file)?;
    let files = match &verb.file {
        Some(file) => vec![file.clone()],
        None => config.alias.files.clone(),
    };
    let loaded = load_aliases(&files);
    let errors: Vec<String> = loaded.errors.iter().map(ToString::to_string).collect();
    let reread = verb.file.is_none() && errors.is_empty() && reload(&config)?;
    if verb.json {
        output::print_json(json!({ "aliases": loaded.aliases.len(), "errors": errors, "reloaded": reread }));
    } else {
        errors.iter().for_each(|error| eprintln!("{}", visible(error)));
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        let then = if reread { "; the daemon has read them again" } else { "" };
        output::print(&format!(
            "{}: {} aliases, {} mistakes{then}\n",
            names.join(", "),
            loaded.aliases.len(),
            errors.len()
        ));
    }
    Ok(if errors.is_empty() { Exit::DONE } else { Exit::PROBLEMS })
}

/// Whether a running daemon has read the alias files again.
fn reload(config: &Config) -> Result<bool, Problem> {
    if !config.control_socket().exists() {
        return Ok(false);
    }
    match Client::connect(config, false) {
        Ok(mut client) if client.is_daemon() => client.ask(&Request::AliasReload, &mut |_| ()).map(|_| true),
        _ => Ok(false),
    }
}

/// An alias of a domain that is not ours would never be asked for.
fn check_own(config: &Config, address: &str) -> Result<(), Problem> {
    if config.accounts().is_own(address) {
        return Ok(());
    }
    let text = format!(
        "{:?}: its domain is not delivered here; see [domain] in the configuration",
        visible(address)
    );
    Err(Problem::new(Exit::USAGE, text))
}

fn aliases(client: &mut Client) -> Result<Vec<AliasView>, Problem> {
    let mut found = Vec::new();
    client.ask_all(&Request::AliasList, &mut |alias| found.push(alias))?;
    Ok(found)
}

/// The accounts as the daemon sees them.
fn accounts(config: &Config, aliases: &[AliasView]) -> Accounts {
    let directory = Directory::default();
    let _ = directory.read_files(config.alias_files());
    directory.set_database(database(aliases.iter().map(|a| (a.address.clone(), a.targets.clone()))));
    config.accounts().with_directory(directory)
}

fn told(name: &str, action: &str, text: &str, json: bool) {
    if json {
        output::print_json(json!({ "action": action, "alias": name, "text": text }));
    } else {
        output::print(&format!("{} {}\n", visible(name), visible(text)));
    }
}
