//! What an authoritative server's response means for the walk from the root: an answer, a referral further down, or
//! nothing of use. Pure; it validates no signature and believes a server only within the zone it was asked for
//! (RFC 2181 5.4.1, RFC 5452 6).

use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::dns::transport::Question;

/// Name servers of a referral that are kept.
const MAX_NAME_SERVERS: usize = 16;

/// Addresses kept for one name server.
const MAX_ADDRESSES: usize = 4;

/// A name server of a zone, with the addresses that came along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NameServer {
    pub(super) name: Name,
    pub(super) addresses: Vec<IpAddr>,
}

/// A zone cut, as the parent's server told it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Referral {
    pub(super) zone: Name,
    pub(super) servers: Vec<NameServer>,
    /// Seconds.
    pub(super) ttl: u32,
    /// What the parent would answer to a DS question for the zone, where the referral held it.
    pub(super) ds_response: Option<Message>,
}

/// What a response means.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Meaning {
    /// It settles the question. Records out of the zone's reach are gone.
    Answer(Message),
    /// Others know.
    Referral(Referral),
    /// The server is of no use for this zone.
    Lame(String),
}

/// Reads a response of a server that was asked as an authority for `zone`.
pub(super) fn meaning(mut message: Message, zone: &Name, question: &Question) -> Meaning {
    if !matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Meaning::Lame(format!("response code {}", message.response_code));
    }
    let referral = referral(&message, zone, question);
    scrub(&mut message, zone);
    if !message.answers.is_empty() {
        return Meaning::Answer(message);
    }
    let denies = message.authorities.iter().any(|r| r.record_type() == RecordType::SOA);
    if message.response_code == ResponseCode::NXDomain {
        return if denies || message.authoritative {
            Meaning::Answer(message)
        } else {
            Meaning::Lame("denies the name without authority".to_owned())
        };
    }
    if denies {
        return Meaning::Answer(message);
    }
    match referral {
        Some(referral) if question.rtype == RecordType::DS && referral.zone == question.name => {
            Meaning::Lame("refers the DS question to the child".to_owned())
        }
        Some(referral) => Meaning::Referral(referral),
        None if message.authoritative => Meaning::Answer(message),
        None => Meaning::Lame("not authoritative, and no referral downwards".to_owned()),
    }
}

/// Drops what the zone's servers have no say in. The additional section serves referrals only.
fn scrub(message: &mut Message, zone: &Name) {
    message.answers.retain(|r| zone.zone_of(&r.name));
    message.authorities.retain(|r| zone.zone_of(&r.name));
    message.additionals.clear();
}

/// The referral in a response: NS records of a zone that lies below `zone` and at or above the name.
fn referral(message: &Message, zone: &Name, question: &Question) -> Option<Referral> {
    let is_cut = |cut: &Name| zone.zone_of(cut) && cut != zone && cut.zone_of(&question.name);
    let cut = message
        .authorities
        .iter()
        .find(|r| r.record_type() == RecordType::NS && is_cut(&r.name))
        .map(|r| r.name.to_lowercase())?;
    let mut servers: Vec<NameServer> = Vec::new();
    let mut ttl = u32::MAX;
    for record in message.authorities.iter().filter(|r| r.name == cut) {
        let RData::NS(ns) = &record.data else { continue };
        ttl = ttl.min(record.ttl);
        let name = ns.0.to_lowercase();
        if servers.len() < MAX_NAME_SERVERS && !servers.iter().any(|s| s.name == name) {
            let addresses = glue(message, zone, &name);
            servers.push(NameServer { name, addresses });
        }
    }
    let ds_response = ds_response(message, &cut);
    Some(Referral { zone: cut, servers, ttl, ds_response })
}

/// Addresses that came along, believed only below the zone whose server gave them.
fn glue(message: &Message, zone: &Name, server: &Name) -> Vec<IpAddr> {
    if !zone.zone_of(server) {
        return Vec::new();
    }
    let of_server = message.additionals.iter().filter(|r| r.name == *server);
    of_server.filter_map(|r| r.data.ip_addr()).take(MAX_ADDRESSES).collect()
}

/// A signed referral holds the DS records of the zone or the proof that there are none (RFC 4035 3.1.4): the same that a
/// DS question would bring. It is validated like every other response.
fn ds_response(message: &Message, cut: &Name) -> Option<Message> {
    let is = |r: &Record, rtype: RecordType| match &r.data {
        RData::DNSSEC(hickory_proto::dnssec::rdata::DNSSECRData::RRSIG(sig)) => {
            sig.input().type_covered == rtype
        }
        _ => r.record_type() == rtype,
    };
    let mut response = Message::new(0, MessageType::Response, OpCode::Query);
    response.metadata.authoritative = true;
    response.add_query(Query::query(cut.clone(), RecordType::DS));
    let ds = message.authorities.iter().filter(|r| r.name == *cut && is(r, RecordType::DS));
    response.add_answers(ds.cloned());
    if response.answers.is_empty() {
        let proof = message.authorities.iter();
        let proof = proof.filter(|r| is(r, RecordType::NSEC) || is(r, RecordType::NSEC3));
        response.add_authorities(proof.cloned());
    }
    (!response.answers.is_empty() || !response.authorities.is_empty()).then_some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, rtype: RecordType, data: &str) -> Record {
        Record::from_rdata(name(owner), 300, RData::try_from_str(rtype, data).unwrap())
    }

    fn response(authoritative: bool, code: ResponseCode) -> Message {
        let mut message = Message::new(1, MessageType::Response, OpCode::Query);
        message.metadata.authoritative = authoritative;
        message.metadata.response_code = code;
        message
    }

    fn question(owner: &str, rtype: RecordType) -> Question {
        Question::new(name(owner), rtype)
    }

    const SOA: &str = "ns.example. admin.example. 1 2 3 4 5";

    #[test]
    fn a_referral_keeps_glue_in_bailiwick_only() {
        let mut m = response(false, ResponseCode::NoError);
        m.add_authority(record("Child.example.", RecordType::NS, "ns1.child.example."));
        m.add_authority(record("child.example.", RecordType::NS, "ns.elsewhere.test."));
        m.add_additional(record("ns1.child.example.", RecordType::A, "192.0.2.1"));
        m.add_additional(record("ns.elsewhere.test.", RecordType::A, "192.0.2.66"));
        m.add_additional(record("www.child.example.", RecordType::A, "192.0.2.67"));
        let Meaning::Referral(r) =
            meaning(m, &name("example."), &question("www.child.example.", RecordType::A))
        else {
            panic!("not a referral")
        };
        assert_eq!(r.zone, name("child.example."));
        let addresses: Vec<_> = r.servers.iter().map(|s| s.addresses.clone()).collect();
        assert_eq!(addresses, [vec!["192.0.2.1".parse::<IpAddr>().unwrap()], vec![]]);
    }

    #[test]
    fn upward_sideways_and_same_zone_referrals_are_lame() {
        for owner in [".", "example.", "other.example.", "example.test."] {
            let mut m = response(false, ResponseCode::NoError);
            m.add_authority(record(owner, RecordType::NS, "ns.example."));
            let got = meaning(m, &name("example."), &question("www.child.example.", RecordType::A));
            assert!(matches!(got, Meaning::Lame(_)), "{owner}: {got:?}");
        }
    }

    #[test]
    fn records_out_of_the_zone_are_dropped() {
        let mut m = response(true, ResponseCode::NoError);
        m.add_answer(record("www.example.", RecordType::CNAME, "victim.test."));
        m.add_answer(record("victim.test.", RecordType::A, "192.0.2.66"));
        m.add_authority(record("victim.test.", RecordType::NS, "ns.example."));
        m.add_additional(record("ns.example.", RecordType::A, "192.0.2.66"));
        let Meaning::Answer(m) = meaning(m, &name("example."), &question("www.example.", RecordType::A))
        else {
            panic!("not an answer")
        };
        assert_eq!((m.answers.len(), m.authorities.len(), m.additionals.len()), (1, 0, 0));
        let mut only = response(true, ResponseCode::NoError);
        only.add_answer(record("victim.test.", RecordType::A, "192.0.2.66"));
        // Nothing of it is left, so it is an empty answer, which the validator judges.
        let got = meaning(only, &name("example."), &question("www.example.", RecordType::A));
        assert!(matches!(got, Meaning::Answer(m) if m.answers.is_empty()));
    }

    #[test]
    fn denials_answer_and_error_codes_are_lame() {
        let q = question("www.example.", RecordType::A);
        let zone = name("example.");
        for code in [ResponseCode::NoError, ResponseCode::NXDomain] {
            let mut m = response(true, code);
            m.add_authority(record("example.", RecordType::SOA, SOA));
            assert!(matches!(meaning(m, &zone, &q), Meaning::Answer(_)));
        }
        for code in
            [ResponseCode::ServFail, ResponseCode::Refused, ResponseCode::NotImp, ResponseCode::FormErr]
        {
            assert!(matches!(meaning(response(true, code), &zone, &q), Meaning::Lame(_)));
        }
        assert!(matches!(meaning(response(false, ResponseCode::NXDomain), &zone, &q), Meaning::Lame(_)));
        assert!(matches!(meaning(response(false, ResponseCode::NoError), &zone, &q), Meaning::Lame(_)));
    }

    #[test]
    fn the_ds_question_is_never_sent_to_the_child() {
        let mut m = response(false, ResponseCode::NoError);
        m.add_authority(record("child.example.", RecordType::NS, "ns1.child.example."));
        let zone = name("example.");
        let at_cut = meaning(m.clone(), &zone, &question("child.example.", RecordType::DS));
        assert!(matches!(at_cut, Meaning::Lame(_)));
        let below = meaning(m, &zone, &question("deep.child.example.", RecordType::DS));
        assert!(matches!(below, Meaning::Referral(_)));
    }

    #[test]
    fn a_signed_referral_answers_the_ds_question() {
        let mut m = response(false, ResponseCode::NoError);
        m.add_authority(record("child.example.", RecordType::NS, "ns1.child.example."));
        m.add_authority(record(
            "child.example.",
            RecordType::DS,
            "1 13 2 0000000000000000000000000000000000000000000000000000000000000000",
        ));
        let Meaning::Referral(r) =
            meaning(m, &name("example."), &question("www.child.example.", RecordType::A))
        else {
            panic!("not a referral")
        };
        let ds = r.ds_response.unwrap();
        assert_eq!(ds.answers.len(), 1);
        assert_eq!(ds.queries, [Query::query(name("child.example."), RecordType::DS)]);
    }

    /// A response with something of everything, in wire form.
    fn sample() -> Vec<u8> {
        let mut m = response(false, ResponseCode::NoError);
        m.add_query(Query::query(name("www.child.example."), RecordType::A));
        m.add_answer(record("www.child.example.", RecordType::CNAME, "other.example."));
        m.add_authority(record("child.example.", RecordType::NS, "ns1.child.example."));
        m.add_authority(record("example.", RecordType::SOA, SOA));
        m.add_additional(record("ns1.child.example.", RecordType::A, "192.0.2.1"));
        m.to_vec().unwrap()
    }

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]
        #[test]
        fn whatever_comes_stays_within_the_zone(
            changes in proptest::collection::vec((proptest::prelude::any::<u16>(), proptest::prelude::any::<u8>()), 0..12),
            cut in 0usize..400,
        ) {
            let mut bytes = sample();
            bytes.truncate(cut.max(12));
            let length = bytes.len();
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(usize::from(at) % length) {
                    *byte = value;
                }
            }
            let Ok(message) = Message::from_vec(&bytes) else { return Ok(()) };
            let zone = name("example.");
            let asked = question("www.child.example.", RecordType::A);
            match meaning(message, &zone, &asked) {
                Meaning::Answer(m) => {
                    proptest::prop_assert!(m.answers.iter().chain(&m.authorities).all(|r| zone.zone_of(&r.name)));
                    proptest::prop_assert!(m.additionals.is_empty());
                }
                Meaning::Referral(r) => {
                    proptest::prop_assert!(zone.zone_of(&r.zone) && r.zone != zone && r.zone.zone_of(&asked.name));
                    let foreign = r.servers.iter().find(|s| !zone.zone_of(&s.name));
                    proptest::prop_assert!(foreign.is_none_or(|s| s.addresses.is_empty()));
                }
                Meaning::Lame(_) => {}
            }
        }
    }
}
