//! What concerns more than one option: combinations that cannot work, and those that probably are not meant.

use std::net::IpAddr;
use std::time::Duration;

use super::error::ConfigError;
use super::table::quoted_part;
use super::{
    Config, DaneMode, Destination, DnsMode, DomainKind, DomainName, OwnDomain, Relay, RelayRecipients,
    RelayTls,
};

/// What must not be started with.
pub(super) fn errors(config: &Config) -> Vec<ConfigError> {
    let mut checks = Checks { config, found: Vec::new() };
    checks.tls();
    checks.dns();
    checks.relay("relay", &config.relay);
    checks.domains();
    for (name, rule) in &config.destinations {
        checks.destination(&format!("destination.{}", quoted_part(name)), rule);
    }
    checks.outbound();
    checks.queue();
    checks.found
}

/// What is allowed and yet probably not meant.
pub(super) fn warnings(config: &Config) -> Vec<ConfigError> {
    let mut checks = Checks { config, found: Vec::new() };
    checks.open_networks();
    checks.rules_without_effect();
    if config.hostname.as_ref().is_some_and(|name| !name.contains('.')) {
        checks.note(
            "hostname",
            "this is not a full name",
            "many servers refuse it in EHLO; give the name with its domain",
        );
    }
    if config.queue.delay_notice >= config.queue.lifetime {
        checks.note(
            "queue.delay_notice",
            "it is not shorter than queue.lifetime",
            "no delay notice will ever be sent",
        );
    }
    checks.found
}

/// Gathers what is found.
struct Checks<'a> {
    config: &'a Config,
    found: Vec<ConfigError>,
}

impl Checks<'_> {
    fn note(&mut self, key: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.found.push(ConfigError::of_key(&self.config.origins, key, found, expected));
    }

    fn tls(&mut self) {
        match (&self.config.tls.certificate_file, &self.config.tls.key_file) {
            (Some(_), None) => {
                self.note("tls.certificate_file", "set without tls.key_file", "expected both or neither")
            }
            (None, Some(_)) => {
                self.note("tls.key_file", "set without tls.certificate_file", "expected both or neither")
            }
            _ => {}
        }
    }

    /// The AD bit is a statement of the server alone; it means something only where nobody can stand in between.
    fn dns(&mut self) {
        let dns = &self.config.dns;
        let stranger = dns.servers.iter().find(|server| !server.0.ip().to_canonical().is_loopback());
        if let (DnsMode::TrustAd, Some(server)) = (dns.mode, stranger) {
            let found = format!("found {} with dns.mode = \"trust-ad\"", server.0);
            self.note("dns.servers", found, "expected loopback addresses only, or dns.mode = \"auto\"");
        }
    }

    fn relay(&mut self, key: &str, relay: &Relay) {
        let set: Vec<(&str, bool)> = vec![
            ("port", relay.port.is_some()),
            ("user", relay.user.is_some()),
            ("secret_file", relay.secret_file.is_some()),
            ("secret_credential", relay.secret_credential.is_some()),
        ];
        if relay.host.is_none()
            && let Some((name, _)) = set.iter().find(|(_, set)| *set)
        {
            self.note(
                &format!("{key}.{name}"),
                format!("set without {key}.host"),
                format!("expected {key}.host too"),
            );
        }
        if relay.user.is_some() && matches!(relay.tls, RelayTls::Opportunistic | RelayTls::Never) {
            let found = format!("found \"{}\" together with {key}.user", relay.tls.as_str());
            let expected = "expected \"starttls\" or \"implicit\": a secret needs verified TLS";
            self.note(&format!("{key}.tls"), found, expected);
        }
        let secrets =
            usize::from(relay.secret_file.is_some()) + usize::from(relay.secret_credential.is_some());
        match (relay.user.is_some(), secrets) {
            (true, 0) => {
                let expected = format!("expected {key}.secret_file or {key}.secret_credential too");
                self.note(&format!("{key}.user"), "set without a secret", expected);
            }
            (_, 2) => self.note(
                &format!("{key}.secret_credential"),
                "set beside secret_file",
                "expected one of the two",
            ),
            (false, 1) => {
                let name = if relay.secret_file.is_some() { "secret_file" } else { "secret_credential" };
                self.note(&format!("{key}.{name}"), "set without a user", format!("expected {key}.user too"));
            }
            _ => {}
        }
    }

    fn domains(&mut self) {
        for (name, domain) in &self.config.domains {
            if let Err((found, expected)) = maildir_template(&domain.maildir) {
                self.note(&format!("domain.{}.maildir", quoted_part(name)), found, expected);
            }
            if domain.kind != DomainKind::Virtual && domain.deliver.is_some() {
                let key = format!("domain.{}.deliver", quoted_part(name));
                let found = format!("set for a domain of kind \"{}\"", domain.kind.as_str());
                self.note(&key, found, "expected kind = \"virtual\"");
            }
            if domain.kind != DomainKind::Relay && domain.next_hop.is_some() {
                let key = format!("domain.{}.next_hop", quoted_part(name));
                self.note(&key, "set for a domain that is delivered here", "expected kind = \"relay\" too");
            }
            if domain.kind != DomainKind::Relay && domain.recipients == RelayRecipients::Verified {
                let key = format!("domain.{}.recipients", quoted_part(name));
                self.note(&key, "set for a domain that is delivered here", "expected kind = \"relay\" too");
            }
        }
        let mailbox = &self.config.local.mailbox;
        let rooted = mailbox.starts_with('/') || mailbox.starts_with("{home}/");
        let names_user = mailbox.contains("{user}") || mailbox.contains("{home}");
        let plain = mailbox.replace("{user}", "x").replace("{home}", "x");
        if !rooted || !names_user || plain.contains(['{', '}']) || plain.split('/').any(|part| part == "..") {
            let expected = "expected an absolute path with {user} in it, or one that begins with {home}";
            self.note("local.mailbox", format!("found {mailbox:?}"), expected);
        }
        if self.config.alias.user == "root" {
            self.note("alias.user", "found \"root\"", "expected a user without rights, such as \"nobody\"");
        }
        if let Some(delimiter) = &self.config.recipient_delimiter
            && !matches!(delimiter.as_str(), "+" | "-" | "=" | "_" | "#" | "~" | "^")
        {
            let expected = "expected one of + - = _ # ~ ^, or nothing";
            self.note("recipient_delimiter", format!("found {delimiter:?}"), expected);
        }
    }

    fn destination(&mut self, key: &str, rule: &Destination) {
        self.relay(&format!("{key}.relay"), &rule.relay);
        if rule.next_hop.is_some() && rule.relay.host.is_some() {
            self.note(
                &format!("{key}.next_hop"),
                format!("set beside {key}.relay.host"),
                "expected one of the two",
            );
        }
        for (off, name, value) in
            [(rule.dane == DaneMode::Off, "dane", "\"off\""), (!rule.sts, "sts", "false")]
        {
            if off && (rule.until.is_none() || rule.reason.is_none()) {
                let missing = if rule.until.is_none() { "until" } else { "reason" };
                let expected = format!("expected {key}.{missing} too: an exception has an end and a reason");
                self.note(&format!("{key}.{name}"), format!("found {value} without {missing}"), expected);
            }
        }
        if rule.dane == DaneMode::Mandatory && !rule.sts {
            let expected = "expected one of the two: where DANE is mandatory, MTA-STS has no say";
            self.note(
                &format!("{key}.sts"),
                format!("found false with {key}.dane = \"mandatory\""),
                expected,
            );
        }
    }

    fn outbound(&mut self) {
        if !self.config.outbound.ipv4 && !self.config.outbound.ipv6 {
            self.note(
                "outbound.ipv4",
                "found false with outbound.ipv6 = false",
                "expected one of the two to be true",
            );
        }
    }

    fn queue(&mut self) {
        let retry = &self.config.queue.retry;
        if retry.is_empty() {
            self.note("queue.retry", "found an empty list", "expected at least one duration such as \"5m\"");
        }
        if retry.iter().any(|wait| *wait < Duration::from_millis(100)) {
            self.note(
                "queue.retry",
                "found a wait shorter than 100ms",
                "expected each wait to be at least \"100ms\"",
            );
        }
    }

    /// Networks so wide that strangers are in them.
    fn open_networks(&mut self) {
        for network in &self.config.smtp.relay_networks {
            let widest = if matches!(network.address, IpAddr::V4(_)) { 8 } else { 16 };
            if network.prefix < widest {
                let found = format!("{network} is a large part of the Internet");
                self.note(
                    "smtp.relay_networks",
                    found,
                    "this makes an open relay unless a firewall stands in front",
                );
            }
        }
    }

    /// Rules for own domains, and exceptions that are spent or incomplete.
    fn rules_without_effect(&mut self) {
        for (name, rule) in &self.config.destinations {
            let key = format!("destination.{}", quoted_part(name));
            let here = |(own, domain): (&DomainName, &OwnDomain)| {
                **own == **name && domain.kind != DomainKind::Relay
            };
            if self.config.domains.iter().any(here) {
                self.note(
                    &key,
                    "this is an own domain",
                    "the rule has no effect: own domains are delivered here",
                );
            }
            let exception = rule.dane == DaneMode::Off || !rule.sts;
            if !exception && (rule.until.is_some() || rule.reason.is_some()) {
                let name = if rule.until.is_some() { "until" } else { "reason" };
                self.note(
                    &format!("{key}.{name}"),
                    "set without dane = \"off\" or sts = false",
                    "it has no effect",
                );
            }
        }
    }
}

/// Checks a Maildir template.
fn maildir_template(template: &str) -> Result<(), (String, String)> {
    let expected = "expected an absolute path, or one that begins with {state_dir}, with {mailbox} in it";
    let mut rest = template.to_owned();
    for name in ["{state_dir}/", "{domain}", "{mailbox}"] {
        rest = rest.replace(name, if name == "{state_dir}/" { "/" } else { "x" });
    }
    if rest.contains(['{', '}']) {
        let found = format!("found {template:?} with an unknown name in braces");
        return Err((found, "expected only {state_dir}, {domain} and {mailbox}".to_owned()));
    }
    if !rest.starts_with('/') || !template.contains("{mailbox}") || rest.split('/').any(|part| part == "..") {
        return Err((format!("found {template:?}"), expected.to_owned()));
    }
    Ok(())
}
