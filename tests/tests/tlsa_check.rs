//! `tlsa check` where it is most needed: against ourselves, and against a host that has a certificate of each kind.

use mta_lab::cert::Identity;
use mta_lab::lab::{Lab, Plan};
use mta_lab::mx::Behaviour;
use mta_lab::peers;
use serde_json::Value;

const HOST: &str = "mx.both.example";

/// Runs the check as JSON: how it ended, and what it said.
fn check(lab: &Lab, target: Option<&str>) -> (i32, Value) {
    let output = lab.daemon().cli(["tlsa", "check", "--json"].into_iter().chain(target)).expect("mta-cli");
    let told = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap_or(-1), told)
}

/// The rules of this name, as "verdict text".
fn rules(told: &Value, name: &str) -> Vec<String> {
    let rules = told["rules"].as_array().expect("rules").iter().filter(|rule| rule["rule"] == name);
    rules
        .map(|rule| {
            format!("{} {}", rule["verdict"].as_str().unwrap_or(""), rule["text"].as_str().unwrap_or(""))
        })
        .collect()
}

/// A host with an ECDSA and an RSA certificate.
fn both() -> Option<(Identity, Identity)> {
    if peers::missing(&["openssl"]).is_some() {
        return None;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let words = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"];
    let key = peers::run("openssl", &words, folder.path()).expect("a key").stdout;
    let key = String::from_utf8(key).expect("PEM");
    Some((Identity::self_signed(&[HOST]), Identity::self_signed_for_key(&[HOST], &key)))
}

/// Matrix row M6 (RFC 7671 8.4): a sender may see either certificate, and may look at the records of one kind alone. M7 (RFC
/// 7671 13): records that stay for more than a day keep a mistake alive for as long.
#[test]
fn a_host_with_two_certificates_needs_a_record_of_each_kind_for_each() {
    let Some((ecdsa, rsa)) = both() else { return };
    let (of_ecdsa, of_rsa) = (|s| ecdsa.leaf().tlsa(3, s, 1), |s| rsa.leaf().tlsa(3, s, 1));
    let host = Behaviour::with_tls(HOST, &ecdsa.clone().with_second(rsa.clone()));
    let mut plan = Plan::new();
    plan.site("both.example", Some(host), &[of_ecdsa(1), of_rsa(1)]);
    let mut lab = plan.start().expect("a laboratory");
    let port = lab.ports.smtp;

    let (exit, told) = check(&lab, Some(HOST));
    assert_eq!(exit, 0, "{told:#}");
    let served = told["served"].as_array().expect("chains");
    assert_eq!(served.len(), 4, "each kind, with a name and without: {told:#}");
    for chain in served {
        let own = if chain["key"] == "RSA" { of_rsa(1) } else { of_ecdsa(1) };
        assert_eq!(chain["matched"].as_str(), Some(own.to_string().to_lowercase().as_str()), "{told:#}");
    }
    assert!(rules(&told, "tlsa-record").iter().all(|rule| rule.starts_with("ok ")), "{told:#}");
    assert_eq!(rules(&told, "ttl"), [""; 0], "{told:#}");

    // Without a record for the RSA certificate, who sees that one does not send; it says what to publish.
    let mut publish = |records: &[hickory_proto::rr::rdata::TLSA], ttl: Option<u32>| {
        lab.internet.change("both.example", |mut zone| {
            zone.records.retain(|record| record.record_type() != hickory_proto::rr::RecordType::TLSA);
            let zone = if let Some(ttl) = ttl { zone.ttl(ttl) } else { zone };
            records.iter().fold(zone, |zone, record| zone.tlsa("mx", port, record.clone()))
        });
        lab.publish();
        check(&lab, Some(HOST))
    };
    let (exit, told) = publish(&[of_ecdsa(1)], None);
    assert_eq!(exit, 1, "{told:#}");
    let served = rules(&told, "served");
    assert!(served.iter().any(|rule| rule.starts_with("fail ") && rule.contains(" RSA, ")), "{told:#}");
    assert!(!served.iter().any(|rule| rule.starts_with("fail ") && rule.contains(" ECDSA, ")), "{told:#}");
    let suggested = told["suggested"].as_array().expect("lines");
    let wanted = format!(" IN TLSA {}", of_rsa(1).to_string().to_lowercase());
    assert!(
        suggested.len() == 1 && suggested[0].as_str().is_some_and(|it| it.ends_with(&wanted)),
        "{told:#}"
    );

    // A second kind of record for one certificate alone: who looks at that kind does not send to the other.
    let (exit, told) = publish(&[of_ecdsa(1), of_rsa(1), of_ecdsa(0)], None);
    assert_eq!(exit, 1, "{told:#}");
    let lonely = "no record of kind 3 0 1 does";
    let warned = |kind: &str| {
        rules(&told, "served").iter().any(|rule| {
            rule.starts_with("warn ")
                && rule.contains(&format!(" {kind}, asked for"))
                && rule.contains(lonely)
        })
    };
    assert!(warned("RSA") && !warned("ECDSA"), "{told:#}");

    let (exit, told) = publish(&[of_ecdsa(1), of_rsa(1)], Some(86_401));
    assert_eq!(exit, 1, "{told:#}");
    assert!(
        rules(&told, "ttl").iter().any(|rule| rule.starts_with("warn ") && rule.contains("86400")),
        "{told:#}"
    );
}

/// Without a host it is this server itself that is checked: what is published for its name, what is served there, and its
/// own file. What it says shall be published is right.
#[test]
fn without_a_host_we_check_ourselves() {
    let mut plan = Plan::new();
    // The port that others use for us is the one they use for everybody.
    plan.ports.own = plan.ports.smtp;
    let mut lab = plan.start().expect("a laboratory");
    let port = lab.ports.smtp;

    let (exit, told) = check(&lab, None);
    assert_eq!((exit, &told["host"]), (2, &Value::from("mail.own.example")), "{told:#}");
    let own = rules(&told, "own-file").remove(0);
    let data = own.rsplit_once(" IN TLSA 3 1 1 ").map(|(_, data)| data.to_owned());
    let data = data.unwrap_or_else(|| panic!("it says what to publish: {own}"));
    assert!(
        own.starts_with("fail ") && own.contains(&format!("publish _{port}._tcp.mail.own.example. IN TLSA")),
        "{own}"
    );

    let publish = |lab: &mut Lab, record: hickory_proto::rr::rdata::TLSA| {
        lab.internet.change("own.example", |mut zone| {
            zone.records.retain(|record| record.record_type() != hickory_proto::rr::RecordType::TLSA);
            zone.tlsa("mail", port, record)
        });
        lab.publish();
    };
    let stale = Identity::self_signed(&["mail.own.example"]);
    publish(&mut lab, stale.leaf().tlsa(3, 1, 1));
    let (exit, told) = check(&lab, None);
    assert_eq!(exit, 1, "{told:#}");
    assert!(rules(&told, "own-file")[0].starts_with("fail "), "{told:#}");
    assert!(rules(&told, "served").iter().any(|rule| rule.starts_with("fail ")), "{told:#}");

    let digest: Vec<u8> = (0..data.len() / 2)
        .map(|at| u8::from_str_radix(&data[2 * at..2 * at + 2], 16).expect("hexadecimal"))
        .collect();
    publish(&mut lab, hickory_proto::rr::rdata::TLSA::new(3.into(), 1.into(), 1.into(), digest));
    let (exit, told) = check(&lab, None);
    assert_eq!(exit, 0, "{told:#}");
    assert!(rules(&told, "own-file")[0].starts_with("ok "), "{told:#}");
    assert!(
        rules(&told, "served").iter().all(|rule| !rule.starts_with("fail ") && !rule.starts_with("warn ")),
        "{told:#}"
    );
    let text = lab.daemon().cli(["tlsa", "check"]).expect("mta-cli");
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.starts_with(&format!("mail.own.example port {port}: published and served fit")), "{text}");
}
