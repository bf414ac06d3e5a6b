//! `config`: check the configuration and show what is in force.

use std::path::{Path, PathBuf};

use mta_core::config::render::{self, Which};
use mta_core::config::{Config, ConfigError, Relay};
use serde_json::json;

use super::{DEFAULT_CONFIG, Ended, load};
use crate::args::{ConfigCheck, ConfigShow, ConfigVerb};
use crate::client::Problem;
use crate::exit::Exit;
use crate::output;

pub(super) fn run(file: Option<&Path>, verb: &ConfigVerb) -> Ended {
    match verb {
        ConfigVerb::Check(verb) => check(file, verb),
        ConfigVerb::Show(verb) => show(file, verb),
    }
}

/// Reads everything, and the files it names.
fn check(file: Option<&Path>, verb: &ConfigCheck) -> Ended {
    let path = file.unwrap_or_else(|| Path::new(DEFAULT_CONFIG));
    if file.is_none() && !path.exists() {
        let text = format!("there is no {DEFAULT_CONFIG}; name the configuration with --config FILE");
        return Err(Problem::new(Exit::CONFIGURATION, text));
    }
    let (errors, warnings): (Vec<ConfigError>, Vec<String>) = match Config::load(path) {
        Ok(config) => {
            let mut warnings: Vec<String> = config.warnings().iter().map(ToString::to_string).collect();
            warnings.extend(unreadable(&config));
            (Vec::new(), warnings)
        }
        Err(errors) => (errors.0, Vec::new()),
    };
    let exit = match (errors.is_empty(), warnings.is_empty()) {
        (false, _) => Exit::CONFIGURATION,
        (true, false) => Exit::PROBLEMS,
        (true, true) => Exit::DONE,
    };
    if verb.json {
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        output::print_json(json!({ "file": path, "errors": errors, "warnings": warnings }));
        return Ok(exit);
    }
    for error in &errors {
        eprintln!("error: {error}");
    }
    for warning in &warnings {
        eprintln!("warning: {warning}");
    }
    if exit == Exit::DONE {
        output::print(&format!("{}: good\n", path.display()));
    }
    Ok(exit)
}

/// Files that the configuration names and this user cannot read.
fn unreadable(config: &Config) -> Vec<String> {
    let mut files: Vec<(String, PathBuf)> = Vec::new();
    let mut name = |key: &str, path: &Option<PathBuf>| {
        files.extend(path.iter().map(|p| (key.to_owned(), p.clone())));
    };
    name("tls.certificate_file", &config.tls.certificate_file);
    name("tls.key_file", &config.tls.key_file);
    name("dns.trust_anchor_file", &config.dns.trust_anchor_file);
    name("dns.root_hints_file", &config.dns.root_hints_file);
    name("relay.secret_file", &config.relay.secret_file);
    for (domain, rule) in &config.destinations {
        name(&format!("destination.\"{domain}\".relay.secret_file"), &rule.relay.secret_file);
    }
    let mut told: Vec<String> = files
        .iter()
        .filter_map(|(key, path)| {
            let error = std::fs::File::open(path).err()?;
            Some(format!("{key}: {} cannot be read: {error}", path.display()))
        })
        .collect();
    told.extend(relays(config).filter_map(|(key, relay)| open_secret(&key, relay)));
    told
}

/// Every relay host of the configuration, with its key.
fn relays(config: &Config) -> impl Iterator<Item = (String, &Relay)> {
    let rules =
        config.destinations.iter().map(|(name, rule)| (format!("destination.\"{name}\".relay"), &rule.relay));
    std::iter::once(("relay".to_owned(), &config.relay)).chain(rules)
}

/// A secret that others can read is hardly one.
fn open_secret(key: &str, relay: &Relay) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;
    let path = relay.secret_file.as_deref()?;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let open = mode & 0o007 != 0;
    open.then(|| format!("{key}.secret_file: {} can be read by everybody; chmod o= it", path.display()))
}

fn show(file: Option<&Path>, verb: &ConfigShow) -> Ended {
    if verb.diff && verb.defaults {
        return Err(Problem::new(Exit::USAGE, "config show: --diff and --defaults exclude each other"));
    }
    let (config, path) = if verb.defaults { (Config::default(), None) } else { load(file)? };
    let which = if verb.diff { Which::Changed } else { Which::All };
    if verb.json {
        output::print_json(json!({ "file": path, "settings": render::settings(&config, which) }));
    } else {
        if path.is_none() && !verb.defaults {
            eprintln!("mta-cli: no configuration file; this is the development default");
        }
        output::print(&render::show(&config, which));
    }
    Ok(Exit::DONE)
}
