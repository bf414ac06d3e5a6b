//! `user`: who may log in, and what each may.
//!
//! A password never stands on the command line, where everybody on the system could read it, and never leaves this process:
//! what goes to the daemon, or into the database while it is down, is what is kept of it.

use std::io::{BufRead, IsTerminal, Read, Write};
use std::path::Path;
use std::time::SystemTime;

use mta_core::config::{Config, Size};
use mta_core::control::{
    GrantArguments, Request, SecretArguments, UserArguments, UserChangeArguments, UserView,
};
use mta_core::user::password;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde_json::json;

use super::{Ended, load};
use crate::args::{UserAdd, UserAllow, UserDelete, UserImport, UserList, UserPasswd, UserShow, UserVerb};
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, Table, bytes, relative};

/// The largest file of users that is read, in octets.
const MAX_IMPORT_OCTETS: u64 = 16 << 20;

pub(super) fn run(file: Option<&Path>, verb: &UserVerb) -> Ended {
    let (config, _) = load(file)?;
    match verb {
        UserVerb::Add(verb) => add(&config, verb),
        UserVerb::Passwd(verb) => passwd(&config, verb),
        UserVerb::Import(verb) => import(&config, verb),
        UserVerb::List(verb) => list(&config, verb),
        UserVerb::Show(verb) => show(&config, verb),
        UserVerb::Disable(verb) => enable(&config, &verb.name, false, verb.json),
        UserVerb::Enable(verb) => enable(&config, &verb.name, true, verb.json),
        UserVerb::Delete(verb) => delete(&config, verb),
        UserVerb::Allow(verb) => allow(&config, verb),
        UserVerb::Release(verb) => {
            let done = ask(&config, &Request::UserRelease(verb.name.clone()))?;
            let text = format!("may send again; {} held recipients are let go", done.count);
            told(&verb.name, "released", &text, verb.json);
            Ok(Exit::DONE)
        }
    }
}

fn ask(config: &Config, request: &Request) -> Result<mta_core::control::Done, Problem> {
    Client::connect(config, true)?.ask(request, &mut |_| ())
}

fn add(config: &Config, verb: &UserAdd) -> Ended {
    let quota = verb.quota.as_deref().map(size).transpose()?;
    let secret = if verb.no_password {
        SecretArguments::default()
    } else {
        secret(config, &verb.name, !verb.no_scram)?
    };
    let request = Request::UserAdd(UserArguments {
        name: verb.name.clone(),
        secret,
        scram_off: verb.no_scram,
        mailbox: !verb.no_mailbox,
        quota,
    });
    ask(config, &request)?;
    told(
        &verb.name,
        "added",
        if verb.no_mailbox { "may send" } else { "may send, and has a mailbox" },
        verb.json,
    );
    warn_of_domain(config, &verb.name, verb.no_mailbox);
    Ok(Exit::DONE)
}

/// A mailbox in a domain that is none of ours gets no mail.
fn warn_of_domain(config: &Config, name: &str, no_mailbox: bool) {
    let domain = name.rsplit_once('@').map(|(_, domain)| domain.to_ascii_lowercase());
    if let Some(domain) = domain.filter(|_| !no_mailbox)
        && !config.domains.keys().any(|own| **own == *domain)
    {
        eprintln!(
            "mta-cli: {domain} is no domain of this server, so the mailbox gets no mail: add [domain.\"{domain}\"] \
             to the configuration, or make the user with --no-mailbox"
        );
    }
}

fn passwd(config: &Config, verb: &UserPasswd) -> Ended {
    let change = UserChangeArguments {
        name: verb.name.clone(),
        secret: Some(secret(config, &verb.name, !verb.no_scram)?),
        scram_off: Some(verb.no_scram),
        ..UserChangeArguments::default()
    };
    ask(config, &Request::UserChange(change))?;
    told(&verb.name, "changed", "has another password", verb.json);
    Ok(Exit::DONE)
}

fn enable(config: &Config, name: &str, enabled: bool, json: bool) -> Ended {
    let change = UserChangeArguments {
        name: name.to_owned(),
        disabled: Some(!enabled),
        ..UserChangeArguments::default()
    };
    ask(config, &Request::UserChange(change))?;
    let (action, text) =
        if enabled { ("enabled", "may log in") } else { ("disabled", "may no longer log in") };
    told(name, action, text, json);
    Ok(Exit::DONE)
}

fn delete(config: &Config, verb: &UserDelete) -> Ended {
    if !verb.yes && !confirmed(&format!("Delete the user {}?", mta_core::log::visible(&verb.name)))? {
        let text = format!("user delete: {} would be deleted; give --yes to do it", verb.name);
        return Err(Problem::new(Exit::USAGE, text));
    }
    ask(config, &Request::UserRemove(verb.name.clone()))?;
    told(&verb.name, "deleted", "is deleted; its mail stays where it lies", verb.json);
    Ok(Exit::DONE)
}

fn allow(config: &Config, verb: &UserAllow) -> Ended {
    if verb.sender.is_some() == verb.certificate.is_some() {
        let text = "user allow: give an address, @domain or '*' to send as, or --certificate FINGERPRINT";
        return Err(Problem::new(Exit::USAGE, text));
    }
    let arguments = GrantArguments {
        name: verb.name.clone(),
        sender: verb.sender.clone(),
        certificate: verb.certificate.clone(),
        remove: verb.remove,
    };
    let changed = ask(config, &Request::UserGrant(arguments))?.count > 0;
    let what = match &verb.sender {
        Some(sender) => format!("send as {}", mta_core::log::visible(sender)),
        None => "log in with that certificate".to_owned(),
    };
    let text = match (changed, verb.remove) {
        (true, false) => format!("may {what}"),
        (true, true) => format!("may no longer {what}"),
        (false, false) => format!("might {what} already"),
        (false, true) => format!("was not granted to {what}"),
    };
    told(&verb.name, if verb.remove { "revoked" } else { "granted" }, &text, verb.json);
    Ok(if changed { Exit::DONE } else { Exit::NOTHING })
}

fn import(config: &Config, verb: &UserImport) -> Ended {
    let text = read(&verb.file)?;
    let mut client = Client::connect(config, true)?;
    let (mut added, mut left) = (0, Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        match import_line(&mut client, verb, line) {
            Ok(()) => added += 1,
            Err(reason) => {
                eprintln!("mta-cli: line {number}: {reason}");
                left.push(json!({ "line": number, "reason": reason }));
            }
        }
    }
    if verb.json {
        output::print_json(json!({ "action": "imported", "count": added, "left_out": left }));
    } else {
        output::print(&format!("{added} users added, {} lines left out\n", left.len()));
    }
    Ok(if left.is_empty() { Exit::DONE } else { Exit::PROBLEMS })
}

fn import_line(client: &mut Client, verb: &UserImport, line: &str) -> Result<(), String> {
    let mut fields = line.split(':');
    let (Some(name), Some(hash)) = (fields.next(), fields.next()) else {
        return Err("no name:hash".to_owned());
    };
    let name = match &verb.domain {
        Some(domain) if !name.contains('@') => format!("{name}@{domain}"),
        _ => name.to_owned(),
    };
    let secret = password::imported(hash).map_err(|error| error.to_string())?;
    let request = Request::UserAdd(UserArguments {
        mailbox: !verb.no_mailbox && name.contains('@'),
        name,
        secret: secret.into(),
        ..UserArguments::default()
    });
    client.ask(&request, &mut |_| ()).map(|_| ()).map_err(|problem| problem.text)
}

fn list(config: &Config, verb: &UserList) -> Ended {
    let mut users: Vec<UserView> = Vec::new();
    Client::connect(config, false)?.ask_all(&Request::UserList, &mut |user| users.push(user))?;
    if verb.jsonl {
        output::print_lines(&users);
    } else if verb.json {
        output::print_json(json!({ "users": users }));
    } else {
        let now = SystemTime::now();
        let mut table = Table::new(&["STATUS", "MAILBOX", "LAST LOGIN", "SENT/DAY", "NAME"]);
        for user in &users {
            let login = user
                .last_login_at
                .as_deref()
                .map(|at| if output::for_person() { relative(at, now) } else { at.to_owned() });
            table.row(vec![
                status(user).to_owned(),
                if user.mailbox { "yes" } else { "no" }.to_owned(),
                login.unwrap_or_else(|| "never".to_owned()),
                user.recipients_day.to_string(),
                user.name.clone(),
            ]);
        }
        table.print();
        if users.is_empty() && output::for_person() {
            eprintln!("mta-cli: there are no users; mta-cli user add NAME makes one");
        }
    }
    Ok(Exit::DONE)
}

fn status(user: &UserView) -> &'static str {
    match (user.disabled, user.held.is_some()) {
        (true, _) => "disabled",
        (false, true) => "HELD",
        (false, false) => "active",
    }
}

fn show(config: &Config, verb: &UserShow) -> Ended {
    let user: UserView = Client::connect(config, false)?.ask_one(&Request::UserShow(verb.name.clone()))?;
    if verb.json {
        output::print_json(json!({ "user": user }));
        return Ok(Exit::DONE);
    }
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        out.push_str(&format!("{name:<12} {}\n", mta_core::log::visible(value)));
    };
    line("user", &user.name);
    line("status", status(&user));
    if let (Some(reason), Some(at)) = (&user.held, &user.held_at) {
        line("HELD", &format!("since {at}: {reason}; mta-cli user release lets go"));
    }
    let scram = match (user.scram, user.scram_off) {
        (true, _) => "SCRAM keys",
        (false, true) => "no SCRAM, by choice",
        (false, false) => "no SCRAM keys before the next login with PLAIN",
    };
    line("password", &format!("{}, {scram}", user.password));
    let quota = user.quota.map_or_else(String::new, |quota| format!(", at most {}", bytes(quota)));
    line("mailbox", &format!("{}{quota}", if user.mailbox { "yes" } else { "no" }));
    for sender in &user.senders {
        line("may send as", sender);
    }
    for certificate in &user.certificates {
        line("certificate", certificate);
    }
    line("created", user.created_at.as_deref().unwrap_or("-"));
    line("last login", user.last_login_at.as_deref().unwrap_or("never"));
    line(
        "sent",
        &format!(
            "{} messages to {} recipients this hour, {} recipients within a day",
            user.messages_hour, user.recipients_hour, user.recipients_day
        ),
    );
    output::print(&out);
    Ok(Exit::DONE)
}

fn told(name: &str, action: &str, text: &str, json: bool) {
    if json {
        output::print_json(json!({ "action": action, "name": name }));
    } else {
        output::print(&format!("{} {text}\n", mta_core::log::visible(name)));
    }
}

fn size(text: &str) -> Result<u64, Problem> {
    let wrong = || Problem::new(Exit::USAGE, format!("--quota: {text:?} is no size such as 2GB"));
    Size::parse(text).map(|size| size.0).ok_or_else(wrong)
}

/// What is kept of the password that the administrator gives.
fn secret(config: &Config, name: &str, with_scram: bool) -> Result<SecretArguments, Problem> {
    let password = ask_password(&mta_core::log::visible(name))?;
    let kept = password::secret(&password, config.password_cost(), with_scram);
    kept.map(SecretArguments::from).map_err(|error| Problem::new(Exit::USAGE, error.to_string()))
}

/// Asks for a password twice without showing it; where standard input is no terminal its first line is the password.
fn ask_password(name: &str) -> Result<String, Problem> {
    if !std::io::stdin().is_terminal() {
        return read_line();
    }
    let first = hidden(&format!("Password of {name}: "))?;
    if hidden("Once more: ")? == first {
        return Ok(first);
    }
    Err(Problem::new(Exit::USAGE, "the two passwords are not the same; nothing was changed"))
}

/// Reads a line from the terminal while it shows nothing.
fn hidden(prompt: &str) -> Result<String, Problem> {
    let failed = |error: std::io::Error| Problem::new(Exit::INTERNAL, format!("the terminal: {error}"));
    eprint!("{prompt}");
    std::io::stderr().flush().map_err(failed)?;
    let stdin = std::io::stdin();
    let before = tcgetattr(&stdin).map_err(|error| failed(error.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(|error| failed(error.into()))?;
    let line = read_line();
    // Whatever was read, the terminal speaks again.
    let restored = tcsetattr(&stdin, OptionalActions::Now, &before);
    eprintln!();
    restored.map_err(|error| failed(error.into()))?;
    line
}

fn read_line() -> Result<String, Problem> {
    let mut line = String::new();
    let limit = password::MAX_LINE_OCTETS;
    let read = std::io::stdin().lock().take(limit).read_line(&mut line);
    read.map_err(|error| Problem::new(Exit::USAGE, format!("standard input: {error}")))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

fn read(file: &Path) -> Result<String, Problem> {
    let mut text = String::new();
    let read =
        std::fs::File::open(file).and_then(|file| file.take(MAX_IMPORT_OCTETS).read_to_string(&mut text));
    read.map_err(|error| Problem::new(Exit::USAGE, format!("{}: {error}", file.display())))?;
    Ok(text)
}

/// Asks; no where nobody is there to answer.
fn confirmed(question: &str) -> Result<bool, Problem> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    let answer = read_line()?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
