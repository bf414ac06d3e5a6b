use super::super::decision::{COPIED, CertificateRecord, HostRecord, TlsRecord, TlsaLookup, TryRecord};
use super::*;

/// 2026-11-25.
const NOW: u64 = 1_795_564_800;

fn about() -> About<'static> {
    About { domain: "example.org", relay: false, now_unix: NOW }
}

fn attempt(address: &str, key: &str, class: Option<Class>) -> TryRecord {
    let leaf = CertificateRecord {
        spki_sha256: Some(key.repeat(32)),
        subject: Some("CN=mx.example.org".into()),
        issuer: Some("CN=Some CA".into()),
        not_before: Some(NOW as i64 - 5 * 86_400),
        not_after: Some(NOW as i64 + 85 * 86_400),
        ..CertificateRecord::default()
    };
    TryRecord {
        address: address.into(),
        tls: Some(TlsRecord {
            chain: vec![leaf],
            failure: class.map(|_| "no".to_owned()),
            authenticated_by: class.is_none().then(|| "TLSA".to_owned()),
            ..TlsRecord::default()
        }),
        reason_code: class.map(|class| class.to_string()),
        ..TryRecord::default()
    }
}

fn host(tries: Vec<TryRecord>) -> HostRecord {
    HostRecord {
        host: "mx.example.org".into(),
        requirement: "dane".into(),
        tlsa: vec![TlsaLookup {
            owner: "_25._tcp.mx.example.org".into(),
            status: "secure".into(),
            records: vec![format!("3 1 1 {}", "ab".repeat(32))],
            reason: None,
        }],
        tries,
        ..HostRecord::default()
    }
}

#[test]
fn words_and_classes_are_one_to_one() {
    for (class, word) in WORDS {
        assert_eq!((Class::parse(word), class.to_string().as_str()), (Some(*class), *word));
    }
    let mut words: Vec<_> = WORDS.iter().map(|(_, word)| word).collect();
    words.sort();
    words.dedup();
    assert_eq!(words.len(), WORDS.len());
}

#[test]
fn a_stale_record_says_what_to_publish_and_what_speaks_for_it() {
    let mut host = host(vec![attempt("192.0.2.1:25", "cd", Some(Class::StaleTlsa))]);
    host.asked_again = Some("same".into());
    let told = of_host(&host, &about()).unwrap();
    assert_eq!(told.class, "stale-tlsa");
    let evidence = told.evidence.join("\n");
    for wanted in ["5 days back", "past our cache: they are the same", &"cd".repeat(32), &"ab".repeat(32)] {
        assert!(evidence.contains(wanted), "{wanted} in {evidence}");
    }
    let record = format!("_25._tcp.mx.example.org. IN TLSA 3 1 1 {}", "cd".repeat(32));
    assert_eq!(told.operator[1], format!("{COPIED}{record}"));
    assert_eq!(
        told.exception,
        [
            "[destination.\"example.org\"]",
            "dane = \"off\"",
            "until = \"2026-12-02\"",
            "reason = \"stale-tlsa at mx.example.org\""
        ]
    );
}

#[test]
fn an_old_certificate_is_no_renewal() {
    let mut one = attempt("192.0.2.1:25", "cd", Some(Class::StaleTlsa));
    one.tls.as_mut().unwrap().chain[0].not_before = Some(NOW as i64 - 300 * 86_400);
    let told = of_host(&host(vec![one]), &about()).unwrap();
    assert!(
        told.evidence.iter().any(|line| line.contains("a renewal just now does not explain it")),
        "{told:?}"
    );
    let mut one = attempt("192.0.2.1:25", "cd", Some(Class::StaleTlsa));
    one.tls.as_mut().unwrap().chain[0].not_before = Some(157_766_400);
    let told = of_host(&host(vec![one]), &about()).unwrap();
    assert!(!told.evidence.iter().any(|line| line.contains("days back")), "1975 says nothing: {told:?}");
}

#[test]
fn one_good_address_makes_it_another_server() {
    let bad = attempt("192.0.2.1:25", "cd", Some(Class::StaleTlsa));
    let good = attempt("192.0.2.2:25", "ab", None);
    for tries in [vec![bad.clone(), good.clone()], vec![good.clone(), bad.clone()]] {
        let told = of_host(&host(tries), &about()).unwrap();
        assert_eq!(told.class, "other-server");
        let evidence = told.evidence.join("\n");
        assert!(evidence.contains("192.0.2.1:25 serves cdcdcdcdcdcd\u{2026} (does not match)"), "{evidence}");
        assert!(evidence.contains("192.0.2.2:25 serves abababababab\u{2026} (matches)"), "{evidence}");
    }
    assert_eq!(of_host(&host(vec![good]), &about()), None);
    let both = vec![bad.clone(), TryRecord { address: "192.0.2.2:25".into(), ..bad }];
    let told = of_host(&host(both), &about()).unwrap();
    assert_eq!(told.class, "stale-tlsa");
    assert!(told.evidence.iter().any(|line| line.contains("serve the same key")), "{told:?}");
}

#[test]
fn the_clear_is_called_the_clear_and_a_relay_host_gets_no_exception() {
    let one = TryRecord { reason_code: Some("no-starttls".into()), ..TryRecord::default() };
    let told = of_host(&host(vec![one.clone()]), &about()).unwrap();
    assert!(told.here.iter().any(|line| line.contains("in the clear")), "{told:?}");
    let relay = About { relay: true, ..about() };
    assert!(of_host(&host(vec![one]), &relay).unwrap().exception.is_empty());
}
