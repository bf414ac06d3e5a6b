//! The routing table: which route the mail for a domain takes. Pure; asked at each attempt, never stored.

use std::collections::HashMap;
use std::sync::Arc;

use mta_dane::reference::{a_labels, text};
use mta_smtp::address::{Domain, Host};

use super::{RelayHost, Route};
use crate::account::Accounts;

/// Where mail goes that is not for a domain of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoutingTable {
    /// By exact domain, lower case.
    exact: HashMap<String, Arc<RelayHost>>,
    /// By parent domain, for everything below it; the name without its leading dot.
    below: HashMap<String, Arc<RelayHost>>,
    /// For everything else; MX lookup where there is none.
    default: Option<Arc<RelayHost>>,
}

impl RoutingTable {
    /// A table whose mail goes to `default`, or to the MX hosts of each domain.
    pub fn new(default: Option<RelayHost>) -> Self {
        Self { default: default.map(Arc::new), ..Self::default() }
    }

    /// Sends the mail for `pattern` to `relay`: a domain, or `.domain` for all its subdomains.
    pub fn insert(&mut self, pattern: &str, relay: RelayHost) {
        let relay = Arc::new(relay);
        match pattern.strip_prefix('.') {
            Some(parent) => self.below.insert(parent.to_lowercase(), relay),
            None => self.exact.insert(pattern.to_lowercase(), relay),
        };
    }

    /// The route of the mail for `host`. Our own domains come first, then the exact rule, then the rule of the nearest
    /// parent, then the global relay host, then the domain's MX hosts.
    pub fn route(&self, accounts: &Accounts, host: &Host) -> Route {
        let relay = match host {
            Host::Domain(domain) if accounts.is_local(domain) => return Route::Local,
            Host::Domain(domain) => self.relay_of(domain),
            Host::Literal(_) => self.default.as_ref(),
        };
        relay.map_or_else(|| Route::Mx { next_hop: host.clone() }, |relay| Route::Relay(Arc::clone(relay)))
    }

    fn relay_of(&self, domain: &Domain) -> Option<&Arc<RelayHost>> {
        // The configuration knows A-labels only; mail may bring U-labels (RFC 6531).
        let name = a_labels(domain.as_str()).map_or_else(|_| domain.to_string(), |name| text(&name));
        let name = name.as_str();
        let parents = name.match_indices('.').filter_map(|(at, _)| name.get(at + 1..));
        self.exact
            .get(name)
            .or_else(|| parents.into_iter().find_map(|parent| self.below.get(parent)))
            .or(self.default.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::super::RelayTls;
    use super::*;
    use crate::account::LocalDomain;

    fn relay(host: &str) -> RelayHost {
        RelayHost { host: host.into(), port: 587, tls: RelayTls::StartTls, auth: None }
    }

    fn shown(table: &RoutingTable, host: &str) -> String {
        let ours = LocalDomain::default();
        let accounts = Accounts::new(HashMap::from([(Domain::parse("ours.example").unwrap(), ours)]), None);
        table.route(&accounts, &Host::parse(host).unwrap()).to_string()
    }

    #[test]
    fn the_nearest_rule_decides() {
        let mut table = RoutingTable::new(None);
        table.insert("a.example", relay("exact"));
        table.insert(".example", relay("far"));
        table.insert(".sub.example", relay("near"));
        table.insert("xn--bcher-kva.test", relay("idn"));
        table.insert(".xn--bcher-kva.test", relay("below"));
        // Even a rule for it cannot send our own mail away.
        table.insert("ours.example", relay("never"));
        for (host, expected) in [
            ("ours.example", "local"),
            ("a.example", "relay:exact:587"),
            ("A.Example", "relay:exact:587"),
            ("b.example", "relay:far:587"),
            ("x.a.example", "relay:far:587"),
            ("x.sub.example", "relay:near:587"),
            ("sub.example", "relay:far:587"),
            ("example", "mx:example"),
            ("notexample.test", "mx:notexample.test"),
            ("[192.0.2.1]", "mx:[192.0.2.1]"),
            ("b\u{fc}cher.test", "relay:idn:587"),
            ("xn--bcher-kva.test", "relay:idn:587"),
            ("x.b\u{fc}cher.test", "relay:below:587"),
        ] {
            assert_eq!(shown(&table, host), expected, "{host}");
        }
    }

    #[test]
    fn a_global_relay_takes_the_rest() {
        let table = RoutingTable::new(Some(relay("smart")));
        assert_eq!(shown(&table, "x.test"), "relay:smart:587");
        assert_eq!(shown(&table, "[192.0.2.1]"), "relay:smart:587");
        assert_eq!(shown(&table, "ours.example"), "local");
    }
}
