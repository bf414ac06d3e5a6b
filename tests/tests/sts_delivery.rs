//! MTA-STS over the whole path (RFC 8461): TXT record, HTTPS, the policy joined with DANE, delivery or delay.
//!
//! One laboratory with a domain for each case. Policies come from a real HTTPS server, under certificates of an authority
//! that the daemon trusts, or not. The zones are unsigned unless the case says otherwise: MTA-STS is for these.

use std::net::Ipv4Addr;

use mta_core::control::MessageView;
use mta_core::outbound::decision::Decision;
use mta_lab::cert::{Ca, Identity};
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::Behaviour;
use mta_lab::policy_host::{Page, PolicyHost};
use mta_lab::zone::Zone;

/// Where policy hosts are; the second has an expired certificate, the third one of an unknown authority.
const POLICY_HOSTS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 25, 1, 1), Ipv4Addr::new(127, 25, 1, 2), Ipv4Addr::new(127, 25, 1, 3)];

/// Domains with their policies and hosts, while they are planned.
struct Scene {
    plan: Plan,
    ca: Ca,
    names: Vec<String>,
    pages: Vec<(String, Page)>,
    files: tempfile::TempDir,
}

/// Everything running.
struct Running {
    lab: Lab,
    hosts: Vec<PolicyHost>,
    _files: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let mut plan = Plan::new();
        let ca = Ca::new("laboratory authority");
        let files = tempfile::tempdir().expect("a directory");
        let path = files.path().join("ca.pem");
        std::fs::write(&path, ca.certificate_pem()).expect("a file");
        plan.set("outbound.ca_file", &format!("\"{}\"", path.display()));
        plan.set("sts.fetch_timeout", "\"2s\"");
        Self { plan, ca, names: Vec::new(), pages: Vec::new(), files }
    }

    /// An unsigned domain whose only host is `mx.DOMAIN`.
    fn site(&mut self, domain: &str, behaviour: Behaviour, page: Page) {
        self.site_at(0, domain, behaviour, page, Zone::unsigned);
    }

    fn site_at(
        &mut self,
        policy_host: usize,
        domain: &str,
        behaviour: Behaviour,
        page: Page,
        change: impl FnOnce(Zone) -> Zone,
    ) {
        self.plan.site_with(domain, Some(behaviour), &[], |zone| change(announced(zone, policy_host)));
        self.page(domain, page);
    }

    fn page(&mut self, domain: &str, page: Page) {
        self.names.push(format!("mta-sts.{domain}"));
        self.pages.push((domain.to_owned(), page));
    }

    /// A host with a certificate of the authority for its own name.
    fn good(&self, domain: &str) -> Behaviour {
        let host = format!("mx.{domain}");
        Behaviour::with_tls(&host, &self.ca.issue(&[&host]))
    }

    fn start(mut self) -> Running {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let identities =
            [self.ca.issue(&names), self.ca.issue_expired(&names), Ca::new("stranger").issue(&names)];
        let mut port = 0;
        let mut hosts = Vec::new();
        for (address, identity) in POLICY_HOSTS.into_iter().zip(&identities) {
            let host = PolicyHost::start(address, port, identity).expect("a policy host");
            port = host.address().port();
            self.pages.iter().for_each(|(domain, page)| host.serve(domain, page.clone()));
            hosts.push(host);
        }
        self.plan.set("sts.port", &port.to_string());
        Running { lab: self.plan.start().expect("a laboratory"), hosts, _files: self.files }
    }
}

/// A zone that announces a policy.
fn announced(zone: Zone, policy_host: usize) -> Zone {
    zone.txt("_mta-sts", "v=STSv1; id=1;").address("mta-sts", POLICY_HOSTS[policy_host])
}

impl Running {
    fn send(&self, domain: &str) -> String {
        self.lab.send("alice@own.example", &[&format!("bob@{domain}")])
    }

    fn arrived(&self, host: &str) -> usize {
        self.lab.mx(host).messages().len()
    }
}

/// The story of the last attempt, and its record.
fn told(message: &MessageView) -> (String, Decision) {
    let attempt = message.history.as_ref().and_then(|history| history.last()).expect("an attempt");
    let decision = attempt.decision.clone().expect("a decision record");
    (attempt.story.join("\n"), serde_json::from_value(decision).expect("as it is described"))
}

#[test]
fn policies_decide_where_dane_does_not() {
    let mut scene = Scene::new();
    let enforce = |host: &str| Page::policy("enforce", &[host]);
    let stranger = |host: &str| Behaviour::with_tls(host, &Identity::self_signed(&[host]));
    let good = scene.good("good.example");
    scene.site_at(0, "good.example", good, enforce("mx.good.example"), |zone| {
        zone.unsigned().txt("_smtp._tls", "v=TLSRPTv1; rua=mailto:tls@good.example")
    });
    let good = scene.good("wild.example");
    scene.site("wild.example", good, enforce("*.wild.example"));
    scene.site("untrusted.example", stranger("mx.untrusted.example"), enforce("mx.untrusted.example"));
    let other_name = Behaviour::with_tls("mx.name.example", &scene.ca.issue(&["other.name.example"]));
    scene.site("name.example", other_name, enforce("mx.name.example"));
    let expired = Behaviour::with_tls("mx.dates.example", &scene.ca.issue_expired(&["mx.dates.example"]));
    scene.site("dates.example", expired, enforce("mx.dates.example"));
    scene.site("plain.example", Behaviour::plain("mx.plain.example"), enforce("mx.plain.example"));
    let good = scene.good("unlisted.example");
    scene.site("unlisted.example", good, enforce("other.unlisted.example"));
    scene.site(
        "testing.example",
        stranger("mx.testing.example"),
        Page::policy("testing", &["mx.testing.example"]),
    );
    scene.site(
        "testing-plain.example",
        Behaviour::plain("mx.testing-plain.example"),
        Page::policy("testing", &["elsewhere.example"]),
    );
    scene.site("none.example", Behaviour::plain("mx.none.example"), Page::policy("none", &[]));
    // What is no policy: mail goes out as if there were none (RFC 8461 3.3).
    let redirect =
        b"HTTP/1.1 302 Found\r\nLocation: https://mta-sts.good.example/\r\nContent-Length: 0\r\n\r\n";
    let large = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nversion: STSv1\nmode: enforce\nmax_age: 1\nmx: mx.x\nnote: {}",
        "x".repeat(70_000)
    );
    for (domain, page) in [
        ("hang.example", Page::Hang),
        ("garbage.example", Page::Raw(b"\x16\x03\x01rubbish\n\n\n".to_vec())),
        ("html.example", Page::Policy("<html>not found</html>".to_owned())),
        ("redirect.example", Page::Raw(redirect.to_vec())),
        ("large.example", Page::Raw(large.into_bytes())),
    ] {
        scene.site(domain, stranger(&format!("mx.{domain}")), page);
    }
    scene.site_at(
        1,
        "old-cert.example",
        stranger("mx.old-cert.example"),
        enforce("nobody.example"),
        Zone::unsigned,
    );
    scene.site_at(
        2,
        "no-ca.example",
        stranger("mx.no-ca.example"),
        enforce("nobody.example"),
        Zone::unsigned,
    );
    scene.site("excused.example", Behaviour::plain("mx.excused.example"), enforce("other.excused.example"));
    scene.plan.set("destination.\"excused.example\".sts", "false");
    scene.plan.set("destination.\"excused.example\".until", "\"2099-01-01\"");
    scene.plan.set("destination.\"excused.example\".reason", "\"their policy is stale\"");

    let running = scene.start();
    let cases = [
        ("good.example", "delivered", "verified by the system's certificate authorities"),
        ("wild.example", "delivered", "listed by the MTA-STS policy"),
        ("untrusted.example", "deferred", "UnknownIssuer"),
        ("name.example", "deferred", "not valid for name"),
        ("dates.example", "deferred", "expired"),
        ("plain.example", "deferred", "does not offer STARTTLS"),
        ("unlisted.example", "deferred", "does not list mx.unlisted.example"),
        ("testing.example", "delivered", "which is only counted"),
        ("testing-plain.example", "delivered", "not listed by the MTA-STS policy"),
        ("none.example", "delivered", "mode none"),
        ("hang.example", "delivered", "not done within 2 s"),
        ("garbage.example", "delivered", "No MTA-STS policy"),
        ("html.example", "delivered", "a line without a colon"),
        ("redirect.example", "delivered", "a redirect, which is not followed"),
        ("large.example", "delivered", "more than 65536 bytes"),
        ("old-cert.example", "delivered", "expired"),
        ("no-ca.example", "delivered", "UnknownIssuer"),
        (
            "excused.example",
            "delivered",
            "MTA-STS is switched off for excused.example: their policy is stale",
        ),
    ];
    let sent: Vec<_> = cases.iter().map(|(domain, ..)| running.send(domain)).collect();
    for ((domain, status, word), id) in cases.iter().zip(&sent) {
        let message = running.lab.settled(id);
        let (story, _) = told(&message);
        assert_eq!(message.status, *status, "{domain}: {story}");
        assert!(story.contains(word), "{domain}: {word} is not in: {story}");
        assert_eq!(running.arrived(&format!("mx.{domain}")), usize::from(*status == "delivered"), "{domain}");
        if *status == "deferred" {
            assert!(
                message.recipients[0].last_status.as_deref().unwrap_or_default().starts_with("4.7."),
                "{message:#?}"
            );
        }
    }
    let (_, decision) = told(&running.lab.show(&sent[0]));
    let sts = decision.sts.expect("the policy in the record");
    assert_eq!((sts.mode.as_str(), sts.id.as_str(), sts.max_age), ("enforce", "1", Some(86_400)));
    let tls = decision.hosts[0].tries[0].tls.as_ref().expect("a session");
    assert_eq!(tls.sni.as_deref(), Some("mx.good.example"));
    counted_for_reports(&running.lab);
    let line = running
        .lab
        .daemon()
        .log()
        .into_iter()
        .find(|line| line.contains(&format!("qid={} event=delivered", sent[0])));
    assert!(line.as_ref().is_some_and(|line| line.contains(" sts=verified")), "{line:?}");
}

/// RFC 8460: what `report tls` says of these deliveries, and who would be told.
fn counted_for_reports(lab: &Lab) {
    let report = lab.daemon().cli_json(["report", "tls", "--json"]).expect("report tls");
    let reports = report["reports"].as_array().expect("reports");
    let of = |domain: &str| {
        let found = reports.iter().find(|report| report["domain"] == domain);
        found.unwrap_or_else(|| panic!("no report for {domain}: {report:#}"))
    };
    let policies = |domain: &str| of(domain)["report"]["policies"].as_array().cloned().unwrap_or_default();
    for (domain, policy_type, result) in [
        ("good.example", "sts", None),
        ("untrusted.example", "sts", Some("certificate-not-trusted")),
        ("name.example", "sts", Some("certificate-host-mismatch")),
        ("dates.example", "sts", Some("certificate-expired")),
        ("plain.example", "sts", Some("starttls-not-supported")),
        ("unlisted.example", "sts", Some("validation-failure")),
        ("testing.example", "sts", Some("certificate-not-trusted")),
        ("testing-plain.example", "sts", Some("starttls-not-supported")),
        ("none.example", "no-policy-found", Some("starttls-not-supported")),
        ("hang.example", "sts", Some("sts-policy-fetch-error")),
        ("html.example", "sts", Some("sts-policy-invalid")),
        ("no-ca.example", "sts", Some("sts-webpki-invalid")),
    ] {
        let policies = policies(domain);
        assert_eq!(policies.len(), 1, "{domain}: {policies:#?}");
        assert_eq!(policies[0]["policy"]["policy-type"], policy_type, "{domain}");
        let counts = (
            &policies[0]["summary"]["total-successful-session-count"],
            &policies[0]["summary"]["total-failure-session-count"],
        );
        let expected = if result.is_none() { (1, 0) } else { (0, 1) };
        assert!(*counts.0 == expected.0 && *counts.1 == expected.1, "{domain}: {counts:?}");
        let found = policies[0]["failure-details"][0]["result-type"].as_str();
        assert_eq!(found, result, "{domain}");
    }
    assert_eq!(of("good.example")["addresses"]["rua"][0], "mailto:tls@good.example");
    assert_eq!(of("name.example")["addresses"]["rua"].as_array().map(Vec::len), Some(0));
}

/// L2, L3 (RFC 8461 2): each host by what it publishes. The host with TLSA records is proved by these though the policy does
/// not list it; the other by the policy, or not at all.
#[test]
fn a_dane_host_beside_an_sts_host_in_one_mx_set() {
    let mut scene = Scene::new();
    let port = scene.plan.ports.smtp;
    for (domain, dane_is_right, sts_is_right) in
        [("both.example", true, true), ("second.example", false, true), ("neither.example", false, false)]
    {
        let dane = Identity::self_signed(&["whatever.example"]);
        let names = [format!("dane.{domain}"), format!("sts.{domain}")];
        let vouched = scene.ca.issue(&[&names[1]]);
        let sts = if sts_is_right { vouched } else { Identity::self_signed(&[&names[1]]) };
        let addresses = [
            scene.plan.host(&names[0], Some(Behaviour::with_tls(&names[0], &dane))),
            scene.plan.host(&names[1], Some(Behaviour::with_tls(&names[1], &sts))),
        ];
        let record = if dane_is_right { dane } else { Identity::self_signed(&["x"]) }.leaf().tlsa(3, 1, 1);
        let zone = Zone::new(domain)
            .mx("@", 10, "dane")
            .mx("@", 20, "sts")
            .address("dane", addresses[0])
            .tlsa("dane", port, record)
            .address("sts", addresses[1]);
        scene.plan.zone(announced(zone, 0));
        scene.page(domain, Page::policy("enforce", &[&names[1]]));
    }
    let running = scene.start();
    let sent = ["both.example", "second.example", "neither.example"].map(|domain| running.send(domain));
    let settled = sent.map(|id| running.lab.settled(&id));
    let statuses: Vec<_> = settled.iter().map(|message| message.status.as_str()).collect();
    assert_eq!(statuses, ["delivered", "delivered", "deferred"], "{}", told(&settled[1]).0);
    assert_eq!((running.arrived("dane.both.example"), running.arrived("sts.both.example")), (1, 0));
    assert_eq!((running.arrived("dane.second.example"), running.arrived("sts.second.example")), (0, 1));
    assert_eq!((running.arrived("dane.neither.example"), running.arrived("sts.neither.example")), (0, 0));
    let (story, decision) = told(&settled[1]);
    let requirements: Vec<_> = decision.hosts.iter().map(|host| host.requirement.as_str()).collect();
    assert_eq!(requirements, ["dane", "verify"], "{story}");
    assert_eq!(running.hosts[0].asked("both.example"), 0, "a policy is not asked for where DANE decides");
}

/// E10 (RFC 8461 2): secure TLSA records of which none is usable demand TLS, and the policy proves the host.
#[test]
fn with_unusable_records_the_policy_proves_the_host() {
    let mut scene = Scene::new();
    let port = scene.plan.ports.smtp;
    for (domain, trusted) in [("trusted.example", true), ("stranger.example", false)] {
        let host = format!("mx.{domain}");
        let identity = if trusted { scene.ca.issue(&[&host]) } else { Identity::self_signed(&[&host]) };
        let unusable = identity.leaf().tlsa(1, 1, 1);
        let page = Page::policy("enforce", &[&host]);
        let behaviour = Behaviour::with_tls(&host, &identity);
        scene.site_at(0, domain, behaviour, page, |zone| zone.tlsa("mx", port, unusable));
    }
    let running = scene.start();
    let sent = ["trusted.example", "stranger.example"].map(|domain| running.send(domain));
    let settled = sent.map(|id| running.lab.settled(&id));
    assert_eq!(settled[0].status, "delivered", "{}", told(&settled[0]).0);
    assert_eq!(settled[1].status, "deferred", "{}", told(&settled[1]).0);
    assert_eq!(running.arrived("mx.stranger.example"), 0);
}

/// RFC 8461 3.3, 10.2: a policy that is known holds over a restart, although its record is gone and nobody answers for it.
#[test]
fn a_known_policy_survives_the_loss_of_record_and_host_and_a_restart() {
    let mut scene = Scene::new();
    let good = scene.good("lost.example");
    scene.site("lost.example", good, Page::policy("enforce", &["mx.lost.example"]));
    let mut running = scene.start();
    let first = running.send("lost.example");
    assert_eq!(running.lab.settled(&first).status, "delivered");
    // The attacker takes the record and the policy host away, and the place of the mail host.
    running.lab.internet.change("lost.example", |mut zone| {
        zone.records.retain(|record| !record.name.to_string().contains("mta-sts"));
        zone
    });
    running.lab.publish();
    running.hosts.clear();
    let host = "mx.lost.example";
    running.lab.mx(host).set_behaviour(Behaviour::with_tls(host, &Identity::self_signed(&[host])));
    let daemon = running.lab.daemon_mut();
    daemon.stop().expect("stopped");
    daemon.launch().expect("started again");
    let second = running.send("lost.example");
    let message = running.lab.settled(&second);
    let (story, _) = told(&message);
    assert_eq!(message.status, "deferred", "{story}");
    assert!(story.contains("MTA-STS policy (mode enforce) lists mx.lost.example"), "{story}");
    assert_eq!(running.arrived(host), 1);
}
