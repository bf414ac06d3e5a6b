//! A relay host instead of MX lookup: for everything or for one destination, never without verified TLS where asked.

use mta_lab::cert::Identity;
use mta_lab::lab::Plan;
use mta_lab::mx::Behaviour;
use mta_lab::zone::Zone;

/// A relay host `smtp.provider.example` that DANE vouches for, or not.
fn provider(plan: &mut Plan, with_tlsa: bool) -> Identity {
    let identity = Identity::self_signed(&["smtp.provider.example"]);
    let address = plan.host("smtp", Some(Behaviour::with_tls("smtp.provider.example", &identity)));
    let mut zone = Zone::new("provider.example").address("smtp", address);
    if with_tlsa {
        zone = zone.tlsa("smtp", plan.ports.smtp, identity.leaf().tlsa(3, 1, 1));
    }
    plan.zone(zone);
    identity
}

#[test]
fn everything_goes_to_the_relay_host_that_dane_vouches_for() {
    let mut plan = Plan::new();
    provider(&mut plan, true);
    plan.set("relay.host", "\"smtp.provider.example\"");
    plan.set("relay.port", &plan.ports.smtp.to_string());
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@anywhere.example", "other@anywhere.example"]);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "delivered", "{shown:#?}");
    let messages = lab.mx("smtp").messages();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].forward_paths.len(), 2);
    let seen = messages[0].tls.as_ref().and_then(|tls| tls.server_name.clone());
    assert_eq!(seen.as_deref(), Some("smtp.provider.example"));
    let asked_mx = |query: &mta_lab::dns::LoggedQuery| query.name == mta_lab::zone::name("anywhere.example");
    assert!(!lab.dns.queries().iter().any(asked_mx), "the recipient's domain is not looked up");
    let own = lab.send("alice@own.example", &["bob@own.example"]);
    assert_eq!(lab.settled(&own).status, "delivered");
    assert_eq!(lab.mx("smtp").messages().len(), 1, "our own domain stays here");
}

#[test]
fn a_relay_host_that_nobody_vouches_for_gets_nothing() {
    let mut plan = Plan::new();
    provider(&mut plan, false);
    plan.set("relay.host", "\"smtp.provider.example\"");
    plan.set("relay.port", &plan.ports.smtp.to_string());
    let lab = plan.start().expect("a laboratory");
    let id = lab.send("alice@own.example", &["someone@anywhere.example"]);
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "deferred", "{shown:#?}");
    assert!(lab.mx("smtp").messages().is_empty());
}

#[test]
fn a_rule_for_one_destination_leaves_the_others_alone() {
    let mut plan = Plan::new();
    provider(&mut plan, true);
    let port = plan.ports.smtp.to_string();
    plan.set("destination.\"special.example\".relay.host", "\"smtp.provider.example\"");
    plan.set("destination.\"special.example\".relay.port", &port);
    plan.set("destination.\"strict.example\".dane", "\"mandatory\"");
    plan.site_with("usual.example", Some(Behaviour::plain("mx.usual.example")), &[], Zone::unsigned);
    plan.site_with("strict.example", Some(Behaviour::plain("mx.strict.example")), &[], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");
    let send = |domain: &str| lab.send("alice@own.example", &[&format!("x@{domain}")]);
    let (special, usual, strict) = (send("special.example"), send("usual.example"), send("strict.example"));
    assert_eq!(lab.settled(&special).status, "delivered");
    assert_eq!(lab.settled(&usual).status, "delivered");
    let strict = lab.settled(&strict);
    assert_eq!(strict.status, "deferred", "{strict:#?}");
    assert_eq!(lab.mx("smtp").messages().len(), 1);
    assert_eq!(lab.mx("mx.usual.example").messages().len(), 1);
    assert!(lab.mx("mx.strict.example").messages().is_empty());
}
