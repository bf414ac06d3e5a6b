//! Deliveries over the whole path: DNS, DNSSEC validation, DANE, STARTTLS, SMTP. One table of domains, one laboratory.
//!
//! Each case starts from a good host with a matching `3 1 1` record in a signed zone and changes what its name says.
//! Verdicts come from the daemon's queue; what arrived, and how, from the scripted hosts.

use hickory_proto::dnssec::Algorithm;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use hickory_proto::rr::rdata::TLSA;
use mta_core::control::MessageView;
use mta_core::outbound::decision::Decision;
use mta_lab::cert::{Ca, Identity};
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::{Action, Behaviour, Moment, Received};
use mta_lab::show::{self, Verdict};
use mta_lab::zone::{FaultKind, ParentDs, Zone};

/// How the message must have travelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// Delivered over TLS, the peer proved by DANE.
    Dane,
    /// Delivered over TLS, nobody vouched for.
    Encrypted,
    /// Delivered in plain text.
    Plain,
    /// Still queued; nothing reached any host.
    Deferred,
    /// Given up at once; nothing reached any host.
    Failed,
}

struct Case {
    domain: &'static str,
    expect: Expect,
    /// The host that must have got the message, where it is not `mx.DOMAIN`.
    host: Option<&'static str>,
}

/// Collects cases while their zones and hosts are planned.
struct Table {
    plan: Plan,
    cases: Vec<Case>,
}

impl Table {
    fn expect(&mut self, domain: &'static str, expect: Expect) -> &mut Plan {
        self.cases.push(Case { domain, expect, host: None });
        &mut self.plan
    }

    fn expect_at(&mut self, domain: &'static str, host: &'static str, expect: Expect) -> &mut Plan {
        self.cases.push(Case { domain, expect, host: Some(host) });
        &mut self.plan
    }

    /// A good host in a good zone, changed.
    fn site(
        &mut self,
        domain: &'static str,
        expect: Expect,
        behaviour: impl FnOnce(Behaviour) -> Behaviour,
        zone: impl FnOnce(Zone) -> Zone,
    ) {
        let (good, tlsa) = good(domain);
        self.expect(domain, expect).site_with(domain, Some(behaviour(good)), &[tlsa], zone);
    }
}

fn good(domain: &str) -> (Behaviour, TLSA) {
    let host = format!("mx.{domain}");
    let identity = Identity::self_signed(&[&host]);
    let tlsa = identity.leaf().tlsa(3, 1, 1);
    (Behaviour::with_tls(&host, &identity), tlsa)
}

fn same<T>(it: T) -> T {
    it
}

fn decision_of(message: &MessageView) -> Option<Decision> {
    let attempt = message.history.as_ref()?.last()?;
    serde_json::from_value(attempt.decision.clone()?).ok()
}

/// Sends one message to each case at once; what is wrong, in words.
fn judge(lab: &Lab, cases: &[Case]) -> Vec<String> {
    let sent: Vec<(&Case, String)> = cases
        .iter()
        .map(|case| (case, lab.send("alice@own.example", &[&format!("someone@{}", case.domain)])))
        .collect();
    sent.iter().filter_map(|(case, id)| judge_one(lab, case, &lab.settled(id)).err()).collect()
}

fn judge_one(lab: &Lab, case: &Case, message: &MessageView) -> Result<(), String> {
    let decision = decision_of(message);
    let host = case.host.map_or_else(|| format!("mx.{}", case.domain), str::to_owned);
    let is_ours = |received: &Received| {
        received.forward_paths.iter().any(|path| path.ends_with(&format!("@{}>", case.domain)))
    };
    let got: Vec<(&String, Received)> = lab
        .hosts
        .iter()
        .flat_map(|(name, host)| host.messages().into_iter().map(move |received| (name, received)))
        .filter(|(_, received)| is_ours(received))
        .collect();
    let found = match (message.status.as_str(), got.as_slice()) {
        ("deferred", []) => Expect::Deferred,
        ("failed", []) => Expect::Failed,
        ("delivered", [(name, received)]) if **name == host => {
            let authenticated = decision
                .as_ref()
                .and_then(|decision| decision.hosts.last()?.tries.last()?.tls.as_ref())
                .is_some_and(|tls| tls.authenticated_by.is_some());
            match &received.tls {
                None => Expect::Plain,
                Some(_) if authenticated => Expect::Dane,
                Some(_) => Expect::Encrypted,
            }
        }
        (status, got) => {
            let names: Vec<&String> = got.iter().map(|(name, _)| *name).collect();
            return Err(format!("{}: {status}, but got by {names:?}\n{decision:#?}", case.domain));
        }
    };
    if found == case.expect {
        return Ok(());
    }
    let last = message.recipients.first().and_then(|recipient| recipient.last_reply.clone());
    Err(format!("{}: {found:?}, not {:?}: {last:?}\n{decision:#?}", case.domain, case.expect))
}

#[test]
fn every_domain_of_the_show_gets_its_verdict() {
    let (lab, exhibits) = show::start(false).expect("a laboratory");
    let rows = show::run(&lab, &exhibits).expect("rows");
    let wrong: Vec<_> = rows.iter().filter(|row| !row.as_expected).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rows.iter().any(|row| row.verdict == Verdict::Delayed));
    for row in &rows {
        assert!(!row.story.is_empty() || row.domain == "own.example", "{} has no story", row.domain);
    }
}

#[test]
fn the_show_tells_when_a_verdict_is_not_the_expected_one() {
    let mut plan = Plan::new();
    for (key, value) in
        [("dane", "off"), ("until", "2099-12-31"), ("reason", "to see whether anybody notices")]
    {
        plan.set(&format!("destination.\"wrong-key.example\".{key}"), &format!("\"{value}\""));
    }
    let (lab, exhibits) = show::start_on(plan).expect("a laboratory");
    let rows = show::run(&lab, &exhibits).expect("rows");
    let noticed: Vec<(&str, Verdict)> =
        rows.iter().filter(|row| !row.as_expected).map(|row| (row.domain, row.verdict)).collect();
    assert_eq!(noticed, [("wrong-key.example", Verdict::Delivered)]);
}

#[test]
fn the_table_of_domains() {
    let mut table = Table { plan: Plan::new(), cases: Vec::new() };
    table.plan.set("queue.retry", "[\"1h\"]");
    certificates(&mut table);
    denial_and_errors(&mut table);
    names_and_aliases(&mut table);
    several_hosts(&mut table);
    without_dane(&mut table);
    starttls(&mut table);
    let lab = table.plan.start().expect("a laboratory");
    let wrong = judge(&lab, &table.cases);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), table.cases.len(), wrong.join("\n"));
}

/// Records of each kind against certificates of each kind (RFC 7672 3, RFC 7671 5).
fn certificates(table: &mut Table) {
    for (domain, selector, matching) in
        [("ee-full.example", 0, 0), ("ee-sha512.example", 1, 2), ("ee-spki-full.example", 1, 0)]
    {
        let identity = Identity::self_signed(&["mx"]);
        let host = Behaviour::with_tls(domain, &identity);
        let tlsa = identity.leaf().tlsa(3, selector, matching);
        table.expect(domain, Expect::Dane).site(domain, Some(host), &[tlsa]);
    }
    let ca = Ca::new("CA");
    // DANE-EE looks at no date and no name; DANE-TA at both.
    let expired = ca.issue_expired(&["other.example"]);
    let host = Behaviour::with_tls("x", &expired);
    let plan = table.expect("ee-expired.example", Expect::Dane);
    plan.site("ee-expired.example", Some(host), &[expired.leaf().tlsa(3, 1, 1)]);
    let expired = ca.issue_expired(&["mx.ta-expired.example"]);
    let host = Behaviour::with_tls("x", &expired);
    let plan = table.expect("ta-expired.example", Expect::Deferred);
    plan.site("ta-expired.example", Some(host), &[ca.certificate.tlsa(2, 0, 1)]);
    let other = ca.issue(&["mx.elsewhere.example"]);
    let host = Behaviour::with_tls("x", &other);
    let plan = table.expect("ta-name.example", Expect::Deferred);
    plan.site("ta-name.example", Some(host), &[ca.certificate.tlsa(2, 0, 1)]);
    // A certificate for the next-hop domain instead of the host is good as well (RFC 7672 3.2.2).
    let for_domain = ca.issue(&["ta-domain.example"]);
    let host = Behaviour::with_tls("x", &for_domain);
    let plan = table.expect("ta-domain.example", Expect::Dane);
    plan.site("ta-domain.example", Some(host), &[ca.certificate.tlsa(2, 1, 1)]);
    let deep = ca.intermediate("intermediate").issue(&["mx.ta-deep.example"]);
    let host = Behaviour::with_tls("x", &deep);
    let plan = table.expect("ta-deep.example", Expect::Dane);
    plan.site("ta-deep.example", Some(host), &[ca.certificate.tlsa(2, 0, 2)]);
    // Usage 2 never matches a leaf that signs itself.
    let own = Identity::self_signed(&["mx.ta-self.example"]);
    let host = Behaviour::with_tls("x", &own);
    let plan = table.expect("ta-self.example", Expect::Deferred);
    plan.site("ta-self.example", Some(host), &[own.leaf().tlsa(2, 0, 1)]);
    // One of several records is enough.
    let (served, old) = (Identity::self_signed(&["mx"]), Identity::self_signed(&["mx"]));
    let host = Behaviour::with_tls("x", &served);
    let tlsa = [old.leaf().tlsa(3, 1, 1), served.leaf().tlsa(3, 1, 1)];
    table.expect("rollover.example", Expect::Dane).site("rollover.example", Some(host), &tlsa);
    // Nothing usable: TLS is mandatory, authentication impossible (RFC 7672 2.2).
    let identity = Identity::self_signed(&["mx"]);
    let host = Behaviour::with_tls("x", &identity);
    let plan = table.expect("unusable.example", Expect::Encrypted);
    plan.site("unusable.example", Some(host), &[identity.leaf().tlsa(1, 1, 1)]);
    let plan = table.expect("unusable-plain.example", Expect::Deferred);
    plan.site("unusable-plain.example", Some(Behaviour::plain("x")), &[identity.leaf().tlsa(1, 1, 1)]);
}

/// Faults of DNSSEC and of name servers (RFC 7672 2.1).
fn denial_and_errors(table: &mut Table) {
    use FaultKind::{BrokenSignature, Expired, MissingDenial, NotYetValid, Rcode, Stripped, Tampered};

    let refused = Rcode(ResponseCode::ServFail);
    table.site("ed25519.example", Expect::Dane, same, |zone| zone.algorithm(Algorithm::ED25519));
    table.site("p384.example", Expect::Dane, same, |zone| zone.algorithm(Algorithm::ECDSAP384SHA384));
    table.site("nsec3.example", Expect::Dane, same, Zone::nsec3);
    table.site("expired.example", Expect::Deferred, same, |zone| zone.fault(Expired));
    table.site("future.example", Expect::Deferred, same, |zone| zone.fault(NotYetValid));
    table.site("wrong-ds.example", Expect::Deferred, same, |zone| zone.parent_ds(ParentDs::Wrong));
    table.site("bogus-address.example", Expect::Deferred, same, |zone| {
        zone.fault_at("mx", RecordType::A, Tampered)
    });
    table.site("stripped-mx.example", Expect::Deferred, same, |zone| {
        zone.fault_at("@", RecordType::MX, Stripped)
    });
    table.site("bogus-tlsa.example", Expect::Deferred, same, |zone| {
        zone.fault_of_type(RecordType::TLSA, BrokenSignature)
    });
    table.site("servfail-tlsa.example", Expect::Deferred, same, |zone| {
        zone.fault_of_type(RecordType::TLSA, refused)
    });
    table.site("servfail-mx.example", Expect::Deferred, same, |zone| {
        zone.fault_of_type(RecordType::MX, refused)
    });
    // A denial without proof is no denial: TLSA may have been taken away.
    let (host, _) = good("no-denial.example");
    let plan = table.expect("no-denial.example", Expect::Deferred);
    plan.site_with("no-denial.example", Some(host), &[], |zone| {
        zone.fault_of_type(RecordType::TLSA, MissingDenial)
    });
    // Where the address is insecure, TLSA is not even asked for, so that its failure does not matter.
    table.site("insecure-servfail.example", Expect::Encrypted, same, |zone| {
        zone.unsigned().fault_of_type(RecordType::TLSA, refused)
    });
    table.site("island.example", Expect::Encrypted, same, |zone| zone.parent_ds(ParentDs::Missing));
    table.site("strange.example", Expect::Encrypted, same, |zone| zone.parent_ds(ParentDs::UnknownAlgorithm));
}

/// TLSA base domains, aliases, wildcards, hosts without MX (RFC 7672 2.2.2, 2.2.3).
fn names_and_aliases(table: &mut Table) {
    let port = table.plan.ports.smtp;
    let (host, tlsa) = good("implicit.example");
    let plan = table.expect_at("implicit.example", "implicit.example", Expect::Dane);
    let address = plan.host("implicit.example", Some(host));
    plan.zone(Zone::new("implicit.example").address("@", address).tlsa("@", port, tlsa));

    let (host, tlsa) = good("wild.example");
    let plan = table.expect("wild.example", Expect::Dane);
    plan.site_with("wild.example", Some(host), &[], |zone| {
        zone.record("*._tcp.mx", hickory_proto::rr::RData::TLSA(tlsa))
    });

    let (host, tlsa) = good("tlsa-alias.example");
    let plan = table.expect("tlsa-alias.example", Expect::Dane);
    plan.site_with("tlsa-alias.example", Some(host), &[], |zone| {
        zone.cname(&format!("_{port}._tcp.mx"), "shared")
            .record("shared", hickory_proto::rr::RData::TLSA(tlsa))
    });

    // MX host that is an alias into another signed zone: the TLSA record stands at the target.
    let (host, tlsa) = good("alias.example");
    let plan = table.expect_at("alias.example", "host.target.example", Expect::Dane);
    let address = plan.host("host.target.example", Some(host));
    plan.zone(Zone::new("target.example").address("host", address).tlsa("host", port, tlsa));
    plan.zone(Zone::new("alias.example").mx("@", 10, "mx").cname("mx", "host.target.example."));

    // Alias into an unsigned zone: DANE is still possible at the original name.
    let (host, tlsa) = good("alias-out.example");
    let plan = table.expect_at("alias-out.example", "host.plain-target.example", Expect::Dane);
    let address = plan.host("host.plain-target.example", Some(host));
    plan.zone(Zone::new("plain-target.example").unsigned().address("host", address));
    let zone = Zone::new("alias-out.example").mx("@", 10, "mx").cname("mx", "host.plain-target.example.");
    plan.zone(zone.tlsa("mx", port, tlsa));

    // An unsigned domain whose MX host lies in a signed zone: DANE for the host alone (RFC 7672 2.2.1).
    let (host, tlsa) = good("hosted.example");
    let plan = table.expect_at("hosted.example", "mx.provider.example", Expect::Dane);
    let address = plan.host("mx.provider.example", Some(host));
    plan.zone(Zone::new("provider.example").address("mx", address).tlsa("mx", port, tlsa));
    plan.zone(Zone::new("hosted.example").unsigned().mx("@", 10, "mx.provider.example."));

    let plan = table.expect("nobody.example", Expect::Failed);
    plan.zone(Zone::new("unrelated.example"));
    table.expect("null.example", Expect::Failed).zone(Zone::new("null.example").null_mx("@"));
}

/// The next host is tried where one fails; none is skipped that is better (RFC 7672 2.2.1, 2.2).
fn several_hosts(table: &mut Table) {
    let mut two = |domain: &'static str,
                   first: Option<Behaviour>,
                   first_tlsa: Option<TLSA>,
                   expect: Expect| {
        let (second, second_tlsa) = good(domain);
        let second_name: &'static str = Box::leak(format!("mx2.{domain}").into_boxed_str());
        let port = table.plan.ports.smtp;
        let plan = table.expect_at(domain, second_name, expect);
        let (at1, at2) = (plan.host(&format!("mx1.{domain}"), first), plan.host(second_name, Some(second)));
        let mut zone =
            Zone::new(domain).mx("@", 10, "mx1").mx("@", 20, "mx2").address("mx1", at1).address("mx2", at2);
        if let Some(tlsa) = first_tlsa {
            zone = zone.tlsa("mx1", port, tlsa);
        }
        plan.zone(zone.tlsa("mx2", port, second_tlsa));
    };
    let wrong = Identity::self_signed(&["old"]).leaf().tlsa(3, 1, 1);
    let (bad_key, _) = good("two-wrong-key.example");
    two("two-wrong-key.example", Some(bad_key), Some(wrong.clone()), Expect::Dane);
    two("two-down.example", None, Some(wrong.clone()), Expect::Dane);
    two("two-no-tls.example", Some(Behaviour::plain("x")), Some(wrong), Expect::Dane);
    let busy = Behaviour::plain("x").reply_at(Moment::Banner, "421 4.3.2 busy");
    two("two-busy.example", Some(busy), None, Expect::Dane);
    let refusing = Behaviour::plain("x").reply_at(Moment::Banner, "554 5.3.2 no");
    two("two-refusing.example", Some(refusing), None, Expect::Dane);
    let (late, tlsa) = good("two-mail.example");
    two("two-mail.example", Some(late.reply_at(Moment::Mail, "451 4.3.0 later")), Some(tlsa), Expect::Dane);
    let (gone, tlsa) = good("two-gone.example");
    two("two-gone.example", Some(gone.at(Moment::Mail, Action::Close)), Some(tlsa), Expect::Dane);
}

/// Where DANE does not apply, mail still flows, in plain text if need be (RFC 7435).
fn without_dane(table: &mut Table) {
    let plain = |plan: &mut Plan, domain: &str, host: Behaviour| {
        plan.site_with(domain, Some(host), &[], Zone::unsigned);
    };
    plain(table.expect("plain.example", Expect::Plain), "plain.example", Behaviour::plain("x"));
    let signed = "signed-plain.example";
    table.expect(signed, Expect::Plain).site(signed, Some(Behaviour::plain("x")), &[]);
    let (host, _) = good("tls-refused.example");
    let host = host.reply_at(Moment::StartTls, "454 4.7.0 not now");
    plain(table.expect("tls-refused.example", Expect::Plain), "tls-refused.example", host);
    let (host, _) = good("tls-broken.example");
    let host = host.at(Moment::Handshake, Action::Close);
    plain(table.expect("tls-broken.example", Expect::Plain), "tls-broken.example", host);
    let refused = Behaviour::plain("x").reply_at(Moment::Rcpt, "550 5.1.1 no such user");
    plain(table.expect("no-user.example", Expect::Failed), "no-user.example", refused);
    let greylisted = Behaviour::plain("x").reply_at(Moment::Rcpt, "450 4.2.0 come back later");
    plain(table.expect("greylisted.example", Expect::Deferred), "greylisted.example", greylisted);
}

/// With secure TLSA records nothing goes out but over verified TLS (RFC 7672 2.2, RFC 3207).
fn starttls(table: &mut Table) {
    table.site(
        "dane-454.example",
        Expect::Deferred,
        |host| host.reply_at(Moment::StartTls, "454 4.7.0 no"),
        same,
    );
    table.site(
        "dane-502.example",
        Expect::Deferred,
        |host| host.reply_at(Moment::StartTls, "502 5.5.1 no"),
        same,
    );
    table.site(
        "dane-garbage.example",
        Expect::Deferred,
        |host| host.at(Moment::Handshake, Action::Raw(b"no TLS at all\r\n".to_vec())),
        same,
    );
    table.site(
        "dane-closed.example",
        Expect::Deferred,
        |host| host.at(Moment::Handshake, Action::Close),
        same,
    );
    // Replies injected behind the 220 in the same packet must not survive into TLS: the handshake fails or they are gone.
    table.site(
        "dane-injected.example",
        Expect::Deferred,
        |host| {
            host.at(Moment::StartTls, Action::Raw(b"220 go\r\n250-mx.evil\r\n250 AUTH PLAIN\r\n".to_vec()))
        },
        same,
    );
}
