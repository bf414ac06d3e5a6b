use std::time::Duration;

use hickory_proto::rr::{Name, RecordType};
use mta_dane::failure::{LookupError, NoDane};
use mta_dane::policy::Authenticate;
use mta_dane::tlsa::TlsaRecord;

use super::*;
use crate::routing::RelayAuth;

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn authenticate(host_only: bool) -> HostPolicy {
    HostPolicy::Authenticate(Authenticate {
        base_domain: name("mx.example."),
        records: vec![TlsaRecord::new(3, 1, 1, [7; 32])],
        unusable: Vec::new(),
        reference_ids: Vec::new(),
        host_only,
    })
}

fn none() -> HostPolicy {
    HostPolicy::NotApplicable(NoDane::InsecureAddress { host: name("mx.example.") })
}

fn unusable() -> HostPolicy {
    HostPolicy::EncryptOnly { base_domain: name("mx.example."), unusable: Vec::new() }
}

fn error() -> HostPolicy {
    HostPolicy::Unavailable(HostFault::Tlsa(LookupError {
        name: name("_25._tcp.mx.example."),
        rtype: RecordType::TLSA,
        status: Status::Bogus,
        reason: String::new(),
    }))
}

fn relay(tls: RelayTls, auth: bool) -> RelayHost {
    let auth = auth.then(|| RelayAuth { username: "u".into(), secret_file: "/nowhere".into() });
    RelayHost { host: "relay.example".into(), port: 587, tls, auth }
}

fn word(dane: &HostPolicy, relay: Option<&RelayHost>, rule: Option<TlsRule>) -> &'static str {
    let facts = Facts {
        host: "mx.example",
        dane,
        mx_status: Status::Secure,
        next_hop: "example",
        relay,
        rule,
        sts: None,
        require_tls: false,
        tls_required_no: false,
    };
    require(facts).map_or("refused", |(requirement, _)| requirement.word())
}

/// RFC 7672 2.2 and the local settings: the whole table.
#[test]
fn the_truth_table() {
    use RelayTls::{Implicit, Never, Opportunistic, StartTls};
    use TlsRule::{DaneMandatory, DaneOff, Encrypt, Verify};
    let rules = [None, Some(DaneOff), Some(Encrypt), Some(Verify), Some(DaneMandatory)];
    for (dane, expected) in [
        (authenticate(false), ["dane"; 5]),
        (authenticate(true), ["dane"; 5]),
        (unusable(), ["encrypt", "encrypt", "encrypt", "verify", "encrypt"]),
        (none(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
        (error(), ["refused"; 5]),
    ] {
        assert_eq!(rules.map(|rule| word(&dane, None, rule)), expected, "{dane:?}");
    }
    let relays = [
        relay(Implicit, false),
        relay(StartTls, true),
        relay(Opportunistic, false),
        relay(Opportunistic, true),
        relay(Never, false),
        relay(Never, true),
    ];
    for (dane, expected) in [
        (authenticate(false), ["dane"; 6]),
        (unusable(), ["verify", "verify", "encrypt", "verify", "encrypt", "verify"]),
        (none(), ["verify", "verify", "opportunistic", "verify", "plaintext", "verify"]),
        (error(), ["refused"; 6]),
    ] {
        let words: Vec<_> = relays.iter().map(|relay| word(&dane, Some(relay), None)).collect();
        assert_eq!(words, expected, "{dane:?}");
    }
}

/// Row L4: a policy that nobody can forge names a host as well as a secure MX does.
#[test]
fn l4_require_tls_with_mta_sts() {
    let listed = policy("enforce", "mx.example");
    for (dane, sts, allowed) in [
        (none(), &listed, true),
        (unusable(), &listed, true),
        (none(), &policy("enforce", "other.example"), false),
        (none(), &policy("testing", "mx.example"), false),
        // The host is proved by DANE, and named by a policy that nobody can forge.
        (authenticate(true), &listed, true),
    ] {
        let facts = Facts { require_tls: true, mx_status: Status::Insecure, ..facts(&dane, Some(sts)) };
        assert_eq!(require(facts).is_ok(), allowed, "{dane:?} {sts:?}");
    }
}

fn policy(mode: &str, mx: &str) -> Policy {
    let file = format!("version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 86400\n");
    Policy::parse(file.as_bytes()).unwrap()
}

fn facts<'a>(dane: &'a HostPolicy, sts: Option<&'a Policy>) -> Facts<'a> {
    Facts {
        host: "mx.example",
        dane,
        mx_status: Status::Secure,
        next_hop: "example",
        relay: None,
        rule: None,
        sts,
        require_tls: false,
        tls_required_no: false,
    }
}

/// E10, L1, L2, L3 (RFC 8461 2): DANE, MTA-STS and the local rules, the whole table.
#[test]
fn dane_decides_where_it_can_and_mta_sts_elsewhere() {
    use TlsRule::{DaneAndStsOff, DaneMandatory, DaneOff, Encrypt, StsOff, Verify};
    let rules = [
        None,
        Some(DaneOff),
        Some(StsOff),
        Some(DaneAndStsOff),
        Some(Encrypt),
        Some(Verify),
        Some(DaneMandatory),
    ];
    let listed = policy("enforce", "mx.example");
    let unlisted = policy("enforce", "mx.elsewhere.example");
    let testing = policy("testing", "mx.elsewhere.example");
    let off = policy("none", "mx.elsewhere.example");
    let usual =
        ["opportunistic", "opportunistic", "opportunistic", "opportunistic", "encrypt", "verify", "encrypt"];
    let encrypted = ["encrypt", "encrypt", "encrypt", "encrypt", "encrypt", "verify", "encrypt"];
    let verified = ["verify", "verify", "opportunistic", "opportunistic", "verify", "verify", "encrypt"];
    let forbidden = ["refused", "refused", "opportunistic", "opportunistic", "refused", "refused", "encrypt"];
    for (dane, sts, expected) in [
        // With usable TLSA records DANE alone decides, whatever the policy lists (L2).
        (authenticate(false), &listed, ["dane"; 7]),
        (authenticate(false), &unlisted, ["dane"; 7]),
        (authenticate(true), &unlisted, ["dane"; 7]),
        // An error of DANE is not repaired by a policy (L1).
        (error(), &listed, ["refused"; 7]),
        (none(), &listed, verified),
        (none(), &unlisted, forbidden),
        (none(), &testing, usual),
        (none(), &off, usual),
        // E10: the records forbid plaintext, the policy proves the host.
        (unusable(), &listed, ["verify", "verify", "encrypt", "encrypt", "verify", "verify", "encrypt"]),
        (
            unusable(),
            &unlisted,
            ["refused", "refused", "encrypt", "encrypt", "refused", "refused", "encrypt"],
        ),
        (unusable(), &testing, encrypted),
        (unusable(), &off, encrypted),
    ] {
        let words = rules.map(|rule| {
            let facts = Facts { rule, ..facts(&dane, Some(sts)) };
            require(facts).map_or("refused", |(requirement, _)| requirement.word())
        });
        assert_eq!(words, expected, "{dane:?} {sts:?}");
    }
}

#[test]
fn a_policy_demands_the_name_of_the_host_and_testing_only_looks() {
    let listed = policy("enforce", "mx.example");
    let (dane, insecure) = (none(), Status::Insecure);
    let facts_now = Facts { mx_status: insecure, rule: Some(TlsRule::Verify), ..facts(&dane, Some(&listed)) };
    let (requirement, why) = require(facts_now).unwrap();
    assert_eq!(requirement.demand(), Some(&Demand::WebPki { name: "mx.example".into() }));
    assert!(why.contains("MTA-STS policy of example"), "{why}");
    let testing = policy("testing", "mx.example");
    let observed = Demand::Observed { sni: "mx.example".into(), name: "mx.example".into() };
    let (requirement, _) = require(facts(&dane, Some(&testing))).unwrap();
    assert_eq!(requirement, Requirement::Opportunistic(observed));
    let base = HostPolicy::EncryptOnly { base_domain: name("base.example."), unusable: Vec::new() };
    let (requirement, _) = require(facts(&base, Some(&testing))).unwrap();
    let observed = Demand::Observed { sni: "base.example".into(), name: "mx.example".into() };
    assert_eq!(requirement, Requirement::Encrypted(observed));
}

#[test]
fn a_policy_says_nothing_about_a_relay_host() {
    let unlisted = policy("enforce", "other.example");
    let relay = relay(RelayTls::Opportunistic, false);
    let dane = none();
    let facts = Facts { relay: Some(&relay), ..facts(&dane, Some(&unlisted)) };
    assert_eq!(require(facts).map(|(requirement, _)| requirement.word()), Ok("opportunistic"));
}

#[test]
fn a_host_that_a_policy_does_not_list_is_refused_in_words() {
    let (dane, unlisted) = (none(), policy("enforce", "other.example"));
    let refusal = require(facts(&dane, Some(&unlisted))).unwrap_err().to_string();
    assert!(refusal.contains("MTA-STS policy of example") && refusal.contains("mx.example"), "{refusal}");
}

fn asked<'a>(dane: &'a HostPolicy, mx_status: Status, rule: Option<TlsRule>) -> Facts<'a> {
    Facts { mx_status, rule, ..facts(dane, None) }
}

const RULES: [Option<TlsRule>; 5] = [
    None,
    Some(TlsRule::DaneOff),
    Some(TlsRule::Encrypt),
    Some(TlsRule::Verify),
    Some(TlsRule::DaneMandatory),
];

/// Row L4 (RFC 8689 4.2.1): a proven host that is authenticated, by TLSA or by the system's roots, or none at all;
/// whatever else is configured, and whatever the header says.
#[test]
fn l4_require_tls_needs_a_proven_host_and_a_proof() {
    use RequireTlsFault::{NoUsableTlsa, UnprovenHost};
    for (dane, mx_status, expected) in [
        (authenticate(false), Status::Secure, Ok("dane")),
        (none(), Status::Secure, Ok("verify")),
        (unusable(), Status::Secure, Err(NoUsableTlsa)),
        (authenticate(true), Status::Insecure, Err(UnprovenHost)),
        (none(), Status::Insecure, Err(UnprovenHost)),
        (unusable(), Status::Insecure, Err(UnprovenHost)),
    ] {
        for rule in RULES {
            for tls_required_no in [false, true] {
                let facts = Facts { require_tls: true, tls_required_no, ..asked(&dane, mx_status, rule) };
                let found = require(facts).map(|(requirement, _)| {
                    assert!(
                        requirement.is_tls_mandatory()
                            && requirement.demand().is_some_and(Demand::authenticates)
                    );
                    requirement.word()
                });
                // A local rule that verifies by the system's roots is a proof, TLSA or not.
                let verified = rule == Some(TlsRule::Verify) && mx_status == Status::Secure;
                match found {
                    Ok(word) if verified && expected == Err(NoUsableTlsa) => assert_eq!(word, "verify"),
                    found => {
                        assert_eq!(found, expected.map_err(Refusal::RequireTls), "{dane:?} {rule:?}")
                    }
                }
            }
        }
    }
    assert!(matches!(
        require(Facts { require_tls: true, ..asked(&error(), Status::Secure, None) }),
        Err(Refusal::Dns(_))
    ));
}

#[test]
fn l4_require_tls_holds_for_relay_hosts() {
    use RelayTls::{Implicit, Never, Opportunistic, StartTls};
    let expected = [Ok("verify"), Ok("verify"), Ok("verify"), Err(RequireTlsFault::Plaintext)];
    for (tls, expected) in [Implicit, StartTls, Opportunistic, Never].into_iter().zip(expected) {
        let relay = relay(tls, false);
        let dane = none();
        let facts = Facts { require_tls: true, relay: Some(&relay), ..asked(&dane, Status::Secure, None) };
        let found = require(facts).map(|(requirement, _)| requirement.word());
        assert_eq!(found, expected.map_err(Refusal::RequireTls), "{tls:?}");
    }
}

/// Rows L5 and L6 (RFC 8689 4.2.2): the policy is tried and not failed on, for this message; local rules stand.
#[test]
fn l5_l6_tls_required_no_relaxes_what_dns_demands_and_nothing_else() {
    for (dane, expected) in [
        (authenticate(false), ["opportunistic", "opportunistic", "dane", "dane", "dane"]),
        (unusable(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
        (none(), ["opportunistic", "opportunistic", "encrypt", "verify", "encrypt"]),
        (error(), ["opportunistic", "opportunistic", "refused", "refused", "refused"]),
    ] {
        let words = RULES.map(|rule| {
            let facts = Facts { tls_required_no: true, ..asked(&dane, Status::Secure, rule) };
            require(facts).map_or("refused", |(requirement, _)| requirement.word())
        });
        assert_eq!(words, expected, "{dane:?}");
    }
    // The TLSA records are still what is tried first.
    let dane = authenticate(false);
    let tried = require(Facts { tls_required_no: true, ..asked(&dane, Status::Secure, None) });
    assert!(
        matches!(tried, Ok((Requirement::Opportunistic(Demand::Dane(_)), why)) if why.contains("TLS-Required"))
    );
    // A policy of MTA-STS is passed by in the same way.
    for mx in ["mx.example", "mx.elsewhere.example"] {
        let (dane, policy) = (none(), policy("enforce", mx));
        let found = require(Facts { tls_required_no: true, ..facts(&dane, Some(&policy)) });
        assert!(
            matches!(found, Ok((Requirement::Opportunistic(_), why)) if why.contains("TLS-Required")),
            "{mx}"
        );
    }
    // Without a login nothing is known of a relay host but what is configured; that stands, too.
    let relay = relay(RelayTls::StartTls, true);
    let with_relay =
        Facts { tls_required_no: true, relay: Some(&relay), ..asked(&dane, Status::Secure, None) };
    assert_eq!(require(with_relay).map(|(requirement, _)| requirement.word()), Ok("dane"));
    // What leaves no address to connect to is no matter of TLS.
    let fault = HostPolicy::Unavailable(HostFault::NoAddress { host: name("mx.example."), nxdomain: false });
    let facts = Facts { tls_required_no: true, ..asked(&fault, Status::Secure, None) };
    assert!(matches!(require(facts), Err(Refusal::Dns(_))));
}

#[test]
fn a_rule_names_a_domain_or_what_is_below_it_and_ends() {
    let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let rule = |domain: &str| DestinationRule {
        domain: domain.into(),
        tls: TlsRule::DaneOff,
        until: Some(at(100)),
        reason: "broken".into(),
    };
    assert!(rule("a.example").applies("a.example", at(99)));
    assert!(!rule("a.example").applies("a.example", at(100)));
    assert!(!rule("a.example").applies("b.a.example", at(1)));
    assert!(rule(".a.example").applies("b.a.example", at(1)));
    assert!(!rule(".a.example").applies("a.example", at(1)));
    assert!(!rule(".a.example").applies("xa.example", at(1)));
}

#[test]
fn the_nearest_rule_counts_in_whatever_order_they_stand() {
    let rule = |domain: &str, until| DestinationRule {
        domain: domain.into(),
        tls: TlsRule::DaneOff,
        until: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(until)),
        reason: String::new(),
    };
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(50);
    let mut rules = vec![
        rule(".example", 99),
        rule(".sub.example", 99),
        rule("a.sub.example", 99),
        rule("b.sub.example", 1),
    ];
    for _ in 0..rules.len() {
        rules.rotate_left(1);
        for (domain, expected) in [
            ("x.example", Some(".example")),
            ("sub.example", Some(".example")),
            ("x.sub.example", Some(".sub.example")),
            ("a.sub.example", Some("a.sub.example")),
            // Its own has ended.
            ("b.sub.example", Some(".sub.example")),
            ("example", None),
        ] {
            let found = nearest(&rules, domain, now).map(|rule| rule.domain.as_str());
            assert_eq!(found, expected, "{domain}");
        }
    }
}

#[test]
fn discovery_is_told() {
    assert_eq!(dane_requirement(None, None), DaneRequirement::Opportunistic);
    assert_eq!(dane_requirement(None, Some(TlsRule::DaneOff)), DaneRequirement::Off);
    assert_eq!(dane_requirement(None, Some(TlsRule::DaneMandatory)), DaneRequirement::Mandatory);
    assert_eq!(dane_requirement(Some(&relay(RelayTls::Never, false)), None), DaneRequirement::Off);
    let never = relay(RelayTls::Never, false);
    assert_eq!(dane_requirement(Some(&never), Some(TlsRule::DaneMandatory)), DaneRequirement::Mandatory);
    assert_eq!(word(&none(), Some(&never), Some(TlsRule::DaneMandatory)), "encrypt");
    assert_eq!(
        dane_requirement(Some(&relay(RelayTls::StartTls, true)), None),
        DaneRequirement::Opportunistic
    );
}
