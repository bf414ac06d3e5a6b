//! `dkim`: keys that sign, and their records. Works on the files of the state directory; the daemon notices.

use std::path::Path;
use std::sync::Arc;

use mta_core::auth::dkim::{
    Algorithm, KEEP_OLD_SECONDS, Key, Published, State, Store, Stored, activate, now_seconds, today,
    zone_strings,
};
use mta_core::config::{Config, DomainName};
use mta_core::inspect;
use mta_core::log::visible;
use serde_json::{Value, json};

use super::{Ended, load};
use crate::args::{DkimCheck, DkimImport, DkimList, DkimMake, DkimRecord, DkimRetire, DkimRotate, DkimVerb};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output::{self, Table};

/// Names tried for a selector of one day.
const MAX_OF_ONE_DAY: usize = 100;

/// The largest key file that is imported.
const MAX_FILE_OCTETS: u64 = 64 << 10;

pub(super) fn run(file: Option<&Path>, verb: &DkimVerb) -> Ended {
    let (config, _) = load(file)?;
    let store = Store::new(&config.state_dir);
    match verb {
        DkimVerb::Make(verb) => make(&store, verb),
        DkimVerb::Import(verb) => import(&store, verb),
        DkimVerb::List(verb) => list(&store, verb),
        DkimVerb::Record(verb) => record(&store, verb),
        DkimVerb::Rotate(verb) => rotate(&store, verb),
        DkimVerb::Retire(verb) => retire(&store, verb),
        DkimVerb::Check(verb) => check(&config, &store, verb),
    }
}

fn make(store: &Store, verb: &DkimMake) -> Ended {
    let domain = domain(&verb.domain)?;
    let algorithms: Vec<Algorithm> = Algorithm::ALL
        .into_iter()
        .filter(|it| verb.algorithm == "both" || verb.algorithm == it.word())
        .collect();
    if algorithms.is_empty() {
        return Err(usage(format!("{:?} is no kind of key: rsa, ed25519 or both", verb.algorithm)));
    }
    if verb.selector.is_some() && algorithms.len() > 1 {
        return Err(usage("two keys cannot have one selector: add --algorithm rsa or ed25519".to_owned()));
    }
    let mut keys = Vec::new();
    for algorithm in algorithms {
        keys.push(new_key(store, &domain, algorithm, verb.selector.as_deref())?);
    }
    Ok(told_to_publish(&keys, verb.json))
}

fn import(store: &Store, verb: &DkimImport) -> Ended {
    let (domain, selector) = (domain(&verb.domain)?, selector(&verb.selector)?);
    let failed = |why: String| Problem::new(Exit::USAGE, format!("{}: {why}", verb.file.display()));
    let size = std::fs::metadata(&verb.file).map_err(|error| failed(error.to_string()))?.len();
    if size > MAX_FILE_OCTETS {
        return Err(failed("too large for a key".to_owned()));
    }
    let text = std::fs::read_to_string(&verb.file).map_err(|error| failed(error.to_string()))?;
    let key = Key::read(&text).map_err(failed)?;
    let stored = save_new(store, domain, selector, key)?;
    Ok(told_to_publish(&[stored], verb.json))
}

fn list(store: &Store, verb: &DkimList) -> Ended {
    let (keys, problems) = store.load();
    tell_problems(&problems);
    if verb.json {
        output::print_json(
            json!({ "keys": keys.iter().map(view).collect::<Vec<_>>(), "problems": problems }),
        );
    } else if keys.is_empty() {
        output::print("no keys: mta-cli dkim make DOMAIN makes them\n");
    } else {
        let mut table = Table::new(&["DOMAIN", "SELECTOR", "KIND", "STATE"]);
        for key in &keys {
            let cells = [&key.domain, &key.selector].map(|text| visible(text));
            let [domain, selector] = cells;
            table.row(vec![
                domain,
                selector,
                key.key.algorithm().word().to_owned(),
                key.state.word().to_owned(),
            ]);
        }
        table.print();
    }
    Ok(if problems.is_empty() { Exit::DONE } else { Exit::PROBLEMS })
}

fn record(store: &Store, verb: &DkimRecord) -> Ended {
    let domain = domain(&verb.domain)?;
    let keys = of_domain(store, &domain);
    if keys.is_empty() {
        return Ok(none(&domain, verb.json));
    }
    if verb.json {
        output::print_json(json!({ "keys": keys.iter().map(view).collect::<Vec<_>>() }));
    } else {
        keys.iter().for_each(|key| {
            output::print(&zone_line(key));
        });
    }
    Ok(Exit::DONE)
}

fn rotate(store: &Store, verb: &DkimRotate) -> Ended {
    let domain = domain(&verb.domain)?;
    let keys = of_domain(store, &domain);
    let has = |algorithm: Algorithm, state: State| {
        keys.iter().any(|key| key.key.algorithm() == algorithm && key.state == state)
    };
    if !Algorithm::ALL.into_iter().any(|algorithm| has(algorithm, State::Signing)) {
        return Ok(none(&domain, verb.json));
    }
    let mut new = Vec::new();
    for algorithm in Algorithm::ALL {
        if has(algorithm, State::New) {
            let why = format!(
                "{domain} has a new {} key already that waits for its record: mta-cli dkim check",
                algorithm.word()
            );
            return Err(Problem::new(Exit::PROBLEMS, why));
        }
        if has(algorithm, State::Signing) {
            new.push(new_key(store, &domain, algorithm, None)?);
        }
    }
    Ok(told_to_publish(&new, verb.json))
}

fn retire(store: &Store, verb: &DkimRetire) -> Ended {
    let domain = domain(&verb.domain)?;
    let keys = of_domain(store, &domain);
    let Some(key) = keys.iter().find(|key| key.selector == verb.selector.to_ascii_lowercase()) else {
        return Ok(none(&domain, verb.json));
    };
    let rests = now_seconds().saturating_sub(key.since);
    let reason = match key.state {
        State::Signing => Some("it signs mail".to_owned()),
        State::Old if rests < KEEP_OLD_SECONDS => Some(format!(
            "mail it signed may still be under way; {} days are safe",
            KEEP_OLD_SECONDS / 86_400
        )),
        _ => None,
    };
    if let Some(reason) = reason.filter(|_| !verb.yes) {
        return Err(Problem::new(
            Exit::PROBLEMS,
            format!("{}: {reason}; --yes deletes it all the same", key.owner()),
        ));
    }
    store.delete(key).map_err(|error| file_problem(&error))?;
    if verb.json {
        output::print_json(json!({ "retired": key.owner() }));
    } else {
        output::print(&format!("{} is deleted; remove its record from DNS\n", key.owner()));
    }
    Ok(Exit::DONE)
}

fn check(config: &Config, store: &Store, verb: &DkimCheck) -> Ended {
    let wanted = verb.domain.as_deref().map(domain).transpose()?;
    let (mut keys, problems) = store.load();
    tell_problems(&problems);
    keys.retain(|key| wanted.as_ref().is_none_or(|domain| *domain == key.domain));
    if keys.is_empty() {
        return Ok(none(wanted.as_deref().unwrap_or("any domain"), verb.json));
    }
    let found = inspect::dkim_published(config, &keys)
        .map_err(|why| Problem::new(Exit::CONFIGURATION, format!("dkim check: {why}")))?;
    let (mut views, mut bad, mut unknown) = (Vec::new(), !problems.is_empty(), false);
    for (key, published) in keys.iter().zip(found) {
        let mut state = key.state;
        if (key.state, &published) == (State::New, &Published::Right) {
            let (all, _) = store.load();
            activate(store, &all, key, now_seconds()).map_err(|error| file_problem(&error))?;
            state = State::Signing;
        }
        let (word, text) = verdict(key, state, &published);
        bad |= word == "problem";
        unknown |= matches!(published, Published::Unknown(_));
        if verb.json {
            let mut view = view(key);
            view["state"] = json!(state.word());
            view["verdict"] = json!(word);
            view["text"] = json!(text);
            views.push(view);
        } else {
            output::print(&format!("{}: {}\n", key.owner(), visible(&text)));
        }
    }
    if verb.json {
        output::print_json(json!({ "keys": views }));
    }
    Ok(match (bad, unknown) {
        (true, _) => Exit::PROBLEMS,
        (_, true) => Exit::TEMPORARY,
        _ => Exit::DONE,
    })
}

/// What is to be said of a key and its record.
fn verdict(key: &Stored, state: State, published: &Published) -> (&'static str, String) {
    match (published, key.state) {
        (Published::Right, State::New) if state == State::Signing => {
            ("good", "its record is published; from now on it signs".to_owned())
        }
        (Published::Right, State::Old) => {
            ("good", "signs no more; its record stays published until it is retired".to_owned())
        }
        (Published::Right, _) => ("good", "signs, and its record is published".to_owned()),
        (Published::Missing, State::New) => {
            ("problem", "its record is not published yet, so it does not sign".to_owned())
        }
        (Published::Missing, State::Signing) => {
            ("problem", "signs, and its record is missing: nobody can verify the mail; publish it".to_owned())
        }
        (Published::Missing, State::Old) => {
            ("good", "signs no more and its record is gone: mta-cli dkim retire deletes it".to_owned())
        }
        (Published::Other(found), _) => ("problem", format!("another record is published: {found}")),
        (Published::Unknown(why), _) => ("unknown", format!("its record cannot be looked up: {why}")),
    }
}

fn new_key(store: &Store, domain: &str, algorithm: Algorithm, name: Option<&str>) -> Result<Stored, Problem> {
    let selector = match name {
        Some(name) => selector(name)?,
        None => free_selector(store, domain, algorithm)?,
    };
    let key = Key::make(algorithm).map_err(|why| Problem::new(Exit::INTERNAL, format!("dkim: {why}")))?;
    save_new(store, domain.to_owned(), selector, key)
}

/// `r20261125`, `e20261125`, and with a letter behind it where that is taken.
fn free_selector(store: &Store, domain: &str, algorithm: Algorithm) -> Result<String, Problem> {
    let today = today();
    let first = algorithm.word().chars().next().unwrap_or('k');
    let taken = of_domain(store, domain);
    let names = (0..MAX_OF_ONE_DAY).map(|n| match n {
        0 => format!("{first}{today}"),
        n => format!("{first}{today}-{n}"),
    });
    let mut free = names.filter(|name| !taken.iter().any(|key| key.selector == *name));
    free.next().ok_or_else(|| usage("too many keys were made today: choose a --selector".to_owned()))
}

fn save_new(store: &Store, domain: String, selector: String, key: Key) -> Result<Stored, Problem> {
    if of_domain(store, &domain).iter().any(|key| key.selector == selector) {
        return Err(usage(format!("{domain} has a key with the selector {selector} already")));
    }
    let stored = Stored { domain, selector, state: State::New, since: now_seconds(), key: Arc::new(key) };
    store.save(&stored).map_err(|error| file_problem(&error))?;
    Ok(stored)
}

fn told_to_publish(keys: &[Stored], json: bool) -> Exit {
    if json {
        output::print_json(json!({ "keys": keys.iter().map(view).collect::<Vec<_>>() }));
        return Exit::DONE;
    }
    for key in keys {
        output::print(&zone_line(key));
    }
    output::print(
        "\nPublish this; the daemon looks for it every ten minutes and signs with a key once its record is there.\n\
         mta-cli dkim check looks now.\n",
    );
    Exit::DONE
}

fn zone_line(key: &Stored) -> String {
    format!("{}. IN TXT ( {} )\n", key.owner(), zone_strings(&key.key.record()))
}

fn view(key: &Stored) -> Value {
    json!({
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.key.algorithm().word(),
        "state": key.state.word(),
        "since": key.since,
        "owner": key.owner(),
        "record": key.key.record(),
    })
}

fn of_domain(store: &Store, domain: &str) -> Vec<Stored> {
    let (mut keys, problems) = store.load();
    tell_problems(&problems);
    keys.retain(|key| key.domain == domain);
    keys
}

fn none(what: &str, json: bool) -> Exit {
    if json {
        output::print_json(json!({ "keys": [] }));
    } else {
        output::print(&format!("no such key for {}\n", visible(what)));
    }
    Exit::NOTHING
}

fn tell_problems(problems: &[String]) {
    problems.iter().for_each(|problem| eprintln!("mta-cli: {problem}"));
}

fn domain(text: &str) -> Result<String, Problem> {
    DomainName::parse(text).map(|name| name.to_string()).map_err(|why| usage(format!("{text:?}: {why}")))
}

/// A selector (RFC 6376 3.1): labels of a name, which are a file name here, too.
fn selector(text: &str) -> Result<String, Problem> {
    DomainName::parse(text)
        .map(|name| name.to_string())
        .map_err(|_| usage(format!("{text:?} cannot be a selector: letters, digits, hyphens and dots")))
}

fn usage(why: String) -> Problem {
    Problem::new(Exit::USAGE, format!("dkim: {why}"))
}

fn file_problem(error: &std::io::Error) -> Problem {
    let exit = match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::NOT_ALLOWED,
        _ => Exit::TEMPORARY,
    };
    Problem::new(exit, format!("the keys in state_dir: {error}"))
}
