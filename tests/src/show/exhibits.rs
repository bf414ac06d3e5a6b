//! The domains of the show: what each is like, and what a DANE-enforcing server must make of it.

use hickory_proto::rr::RecordType;

use super::{Protection, Verdict};
use crate::cert::{Ca, Identity};
use crate::lab::{OWN_DOMAIN, Plan};
use crate::mx::Behaviour;
use crate::zone::FaultKind;

/// One domain of the show.
#[derive(Debug, Clone)]
pub struct Exhibit {
    /// The domain.
    pub domain: &'static str,
    /// What it shows, in a few words.
    pub shows: &'static str,
    /// The verdict it must get.
    pub verdict: Verdict,
    /// The protection its message must get.
    pub protection: Protection,
}

/// Adds the domains of the show to a plan.
pub fn exhibits(plan: &mut Plan) -> Vec<Exhibit> {
    let mut list = Vec::new();
    let mut add =
        |domain, shows, verdict, protection| list.push(Exhibit { domain, shows, verdict, protection });

    let identity = Identity::self_signed(&["anything.invalid"]);
    plan.site("dane-ee.example", with_tls("dane-ee.example", &identity), &[identity.leaf().tlsa(3, 1, 1)]);
    add("dane-ee.example", "TLSA names the server's key", Verdict::Delivered, Protection::Dane);

    let ca = Ca::new("Laboratory CA");
    let identity = ca.issue(&["mx.dane-ta.example"]);
    plan.site("dane-ta.example", with_tls("dane-ta.example", &identity), &[ca.certificate.tlsa(2, 0, 1)]);
    add("dane-ta.example", "TLSA names the server's CA", Verdict::Delivered, Protection::Dane);

    let (published, served) =
        (Identity::self_signed(&["old.invalid"]), Identity::self_signed(&["new.invalid"]));
    plan.site("wrong-key.example", with_tls("wrong-key.example", &served), &[published.leaf().tlsa(3, 1, 1)]);
    add("wrong-key.example", "server has another key than TLSA", Verdict::Delayed, Protection::None);

    let identity = Identity::self_signed(&["mx.no-tls.example"]);
    let behaviour = Behaviour::plain("mx.no-tls.example");
    plan.site("no-tls.example", Some(behaviour), &[identity.leaf().tlsa(3, 1, 1)]);
    add("no-tls.example", "TLSA, but no STARTTLS offered", Verdict::Delayed, Protection::None);

    let identity = Identity::self_signed(&["mx.forged.example"]);
    let behaviour = with_tls("forged.example", &identity);
    plan.site_with("forged.example", behaviour, &[], |zone| {
        zone.fault_at("@", RecordType::MX, FaultKind::Tampered)
    });
    add("forged.example", "somebody forged its MX record", Verdict::Delayed, Protection::None);

    let identity = Identity::self_signed(&["mx.unsigned.example"]);
    let behaviour = with_tls("unsigned.example", &identity);
    plan.site_with("unsigned.example", behaviour, &[identity.leaf().tlsa(3, 1, 1)], |zone| zone.unsigned());
    add("unsigned.example", "a domain without DNSSEC", Verdict::Delivered, Protection::Encrypted);

    plan.zone(crate::zone::Zone::new("no-mail.example").null_mx("@"));
    add("no-mail.example", "null MX: takes no mail", Verdict::Returned, Protection::None);

    let identity = Identity::self_signed(&["mx.down.example"]);
    plan.site("down.example", None, &[identity.leaf().tlsa(3, 1, 1)]);
    add("down.example", "its only MX host is down", Verdict::Delayed, Protection::None);

    add(OWN_DOMAIN, "our own domain", Verdict::Delivered, Protection::Local);
    list
}

fn with_tls(domain: &str, identity: &Identity) -> Option<Behaviour> {
    Some(Behaviour::with_tls(&format!("mx.{domain}"), identity))
}
