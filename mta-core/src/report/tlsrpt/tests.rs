//! From decision records to sessions, and from counters to the report of RFC 8460.

use mta_queue::{TlsFailure, TlsPolicy, TlsPolicyCount, TlsPolicyType, TlsSession, start_of};
use serde_json::{Value, json};

use super::*;
use crate::outbound::decision::{
    CertificateRecord, Decision, HostRecord, MxRecord, ReuseRecord, StsRecord, TlsRecord, TlsaLookup,
    TriageRecord, TryRecord,
};

fn mx(domain: &str, status: &str) -> Option<MxRecord> {
    Some(MxRecord { domain: domain.into(), status: status.into(), ..MxRecord::default() })
}

fn host(requirement: &str, tries: Vec<TryRecord>) -> HostRecord {
    HostRecord { host: "mx.example".into(), requirement: requirement.into(), tries, ..HostRecord::default() }
}

fn with_tlsa(requirement: &str, tries: Vec<TryRecord>) -> HostRecord {
    let records = vec!["3 1 1 ab12".to_owned(), "1 1 1 cd34 (unusable: usage 1)".to_owned()];
    HostRecord {
        base_domain: Some("base.example".into()),
        tlsa: vec![
            TlsaLookup { owner: "x".into(), status: "absent (secure)".into(), ..TlsaLookup::default() },
            TlsaLookup { owner: "y".into(), status: "secure".into(), records, reason: None },
        ],
        ..host(requirement, tries)
    }
}

fn connection(starttls: &str) -> TryRecord {
    TryRecord {
        address: "192.0.2.1:25".into(),
        source: Some("192.0.2.9".into()),
        greeting: Some("mx.example".into()),
        starttls: starttls.into(),
        ..TryRecord::default()
    }
}

fn tls(tls: TlsRecord, result_type: Option<&str>) -> TryRecord {
    let starttls = if tls.failure.is_some() { "failed" } else { "done" };
    TryRecord { tls: Some(tls), result_type: result_type.map(str::to_owned), ..connection(starttls) }
}

fn good() -> TryRecord {
    tls(TlsRecord { version: Some("TLSv1.3".into()), ..TlsRecord::default() }, None)
}

/// A certificate came and was refused.
fn refused(result_type: &str, code: &str) -> TryRecord {
    let record = TlsRecord {
        failure: Some("refused".into()),
        chain: vec![CertificateRecord::default()],
        ..TlsRecord::default()
    };
    TryRecord { reason_code: Some(code.into()), ..tls(record, Some(result_type)) }
}

fn policy(mode: &str) -> StsRecord {
    StsRecord {
        mode: mode.into(),
        mx: vec!["mx.example".into()],
        max_age: Some(86_400),
        ..StsRecord::default()
    }
}

fn fault(result_type: &str) -> StsRecord {
    StsRecord { fault: Some("why".into()), result_type: Some(result_type.into()), ..StsRecord::default() }
}

fn decision(host: HostRecord, sts: Option<StsRecord>) -> Decision {
    Decision { mx: mx("example", "secure"), hosts: vec![host], sts, ..Decision::default() }
}

/// Policy type, policy domain, result type, reason code.
type Told<'a> = (&'a str, &'a str, &'a str, &'a str);

fn told(sessions: &[TlsSession]) -> Vec<Told<'_>> {
    fn line(session: &TlsSession) -> Told<'_> {
        let failure = session.failure.as_ref();
        let result = failure.map_or("ok", |failure| &failure.result_type);
        let code = failure.and_then(|failure| failure.reason_code.as_deref()).unwrap_or_default();
        (session.policy.policy_type.as_str(), &session.policy.policy_domain, result, code)
    }
    sessions.iter().map(line).collect()
}

/// L7, L8, L10, L12: every result type of RFC 8460 4.3, under the policies that the session was subject to.
#[test]
fn l8_every_result_type_and_l10_each_policy_once() {
    let listed = |host: HostRecord| HostRecord { sts: Some("listed".into()), ..host };
    let not_listed = |host: HostRecord| HostRecord { sts: Some("not listed".into()), ..host };
    let unusable = |host: HostRecord| HostRecord { result_type: Some("tlsa-invalid".into()), ..host };
    let skipped = |kind: &str, class: &str| HostRecord {
        skipped: Some("why".into()),
        result_type: Some(kind.into()),
        triage: Some(TriageRecord { class: class.into(), ..TriageRecord::default() }),
        ..host("none-possible", Vec::new())
    };
    let untrusted = |kind: &str| {
        let record = TlsRecord {
            untrusted: Some("expired".into()),
            untrusted_type: Some(kind.into()),
            ..TlsRecord::default()
        };
        tls(record, None)
    };
    let cases: Vec<(&str, Decision, Vec<Told<'_>>)> = vec![
        (
            "no policy",
            decision(host("opportunistic", vec![good()]), None),
            vec![("no-policy-found", "example", "ok", "")],
        ),
        (
            "no policy, no TLS",
            decision(host("opportunistic", vec![connection("not offered")]), None),
            vec![("no-policy-found", "example", "starttls-not-supported", "")],
        ),
        (
            "a handshake that failed, then plaintext",
            decision(
                host(
                    "opportunistic",
                    vec![refused("validation-failure", "tls-failed"), connection("not used")],
                ),
                None,
            ),
            vec![("no-policy-found", "example", "validation-failure", "tls-failed")],
        ),
        (
            "a session that an earlier message opened",
            decision(
                host("opportunistic", vec![TryRecord { reused: Some(ReuseRecord::default()), ..good() }]),
                None,
            ),
            vec![],
        ),
        ("L12", decision(with_tlsa("dane", vec![connection("not used")]), None), vec![]),
        ("DANE", decision(with_tlsa("dane", vec![good()]), None), vec![("tlsa", "base.example", "ok", "")]),
        (
            "two addresses",
            decision(with_tlsa("dane", vec![refused("validation-failure", "stale-tlsa"), good()]), None),
            vec![
                ("tlsa", "base.example", "validation-failure", "stale-tlsa"),
                ("tlsa", "base.example", "ok", ""),
            ],
        ),
        (
            "DANE-TA, name",
            decision(with_tlsa("dane", vec![refused("certificate-host-mismatch", "name-mismatch")]), None),
            vec![("tlsa", "base.example", "certificate-host-mismatch", "name-mismatch")],
        ),
        (
            "DANE-TA, dates",
            decision(with_tlsa("dane", vec![refused("certificate-expired", "expired")]), None),
            vec![("tlsa", "base.example", "certificate-expired", "expired")],
        ),
        (
            "DANE-TA, chain",
            decision(with_tlsa("dane", vec![refused("certificate-not-trusted", "broken-chain")]), None),
            vec![("tlsa", "base.example", "certificate-not-trusted", "broken-chain")],
        ),
        (
            "DANE, STARTTLS refused",
            decision(with_tlsa("dane", vec![connection("refused")]), None),
            vec![("tlsa", "base.example", "starttls-not-supported", "")],
        ),
        (
            "all unusable",
            decision(unusable(with_tlsa("encrypt", vec![good()])), None),
            vec![("tlsa", "base.example", "tlsa-invalid", "")],
        ),
        (
            "bogus TLSA",
            decision(skipped("dnssec-invalid", "tlsa-lookup"), None),
            vec![("tlsa", "mx.example", "dnssec-invalid", "tlsa-lookup")],
        ),
        (
            "DANE mandatory",
            decision(skipped("dane-required", "dane-required"), None),
            vec![("tlsa", "mx.example", "dane-required", "dane-required")],
        ),
        (
            "enforce",
            decision(listed(host("verify", vec![good()])), Some(policy("enforce"))),
            vec![("sts", "example", "ok", "")],
        ),
        (
            "enforce, dates",
            decision(
                listed(host("verify", vec![refused("certificate-expired", "not-trusted")])),
                Some(policy("enforce")),
            ),
            vec![("sts", "example", "certificate-expired", "not-trusted")],
        ),
        (
            "enforce, not listed",
            decision(
                HostRecord { skipped: Some("why".into()), ..not_listed(host("none-possible", vec![])) },
                Some(policy("enforce")),
            ),
            vec![("sts", "example", "validation-failure", "mx-not-listed-in-sts-policy")],
        ),
        (
            "testing, all well",
            decision(listed(host("opportunistic", vec![good()])), Some(policy("testing"))),
            vec![("sts", "example", "ok", "")],
        ),
        (
            "testing, name",
            decision(
                listed(host("opportunistic", vec![untrusted("certificate-host-mismatch")])),
                Some(policy("testing")),
            ),
            vec![("sts", "example", "certificate-host-mismatch", "expired")],
        ),
        (
            "testing, not listed",
            decision(not_listed(host("opportunistic", vec![good()])), Some(policy("testing"))),
            vec![("sts", "example", "validation-failure", "mx-not-listed-in-sts-policy")],
        ),
        (
            "L10: unusable records, and a policy that proves the host",
            decision(unusable(listed(with_tlsa("verify", vec![good()]))), Some(policy("enforce"))),
            vec![("tlsa", "base.example", "tlsa-invalid", ""), ("sts", "example", "ok", "")],
        ),
        (
            "DANE decides, a policy for other hosts is no matter of this one",
            decision(with_tlsa("dane", vec![good()]), Some(policy("enforce"))),
            vec![("tlsa", "base.example", "ok", "")],
        ),
        (
            "a policy that cannot be fetched",
            decision(host("opportunistic", vec![good()]), Some(fault("sts-policy-fetch-error"))),
            vec![("sts", "example", "sts-policy-fetch-error", "why")],
        ),
        (
            "a policy that is none",
            decision(host("opportunistic", vec![good()]), Some(fault("sts-policy-invalid"))),
            vec![("sts", "example", "sts-policy-invalid", "why")],
        ),
        (
            "a policy host that nobody vouches for",
            decision(host("opportunistic", vec![good()]), Some(fault("sts-webpki-invalid"))),
            vec![("sts", "example", "sts-webpki-invalid", "why")],
        ),
        (
            "mode none",
            decision(host("opportunistic", vec![good()]), Some(policy("none"))),
            vec![("no-policy-found", "example", "ok", "")],
        ),
        (
            "bogus MX",
            Decision {
                mx: mx("example", "bogus"),
                result_type: Some("dnssec-invalid".into()),
                ..Decision::default()
            },
            vec![("tlsa", "example", "dnssec-invalid", "")],
        ),
        (
            "an address literal",
            Decision {
                mx: mx("192.0.2.1", "literal"),
                ..decision(host("opportunistic", vec![good()]), None)
            },
            vec![],
        ),
        (
            "a relay host",
            Decision { mx: None, ..decision(with_tlsa("dane", vec![good()]), None) },
            vec![("tlsa", "base.example", "ok", "")],
        ),
    ];
    for (name, decision, expected) in cases {
        assert_eq!(told(&sessions(&decision)), expected, "{name}");
    }
}

#[test]
fn l7_policies_and_sessions_are_named_as_rfc8460_4_4_wants() {
    let failed =
        sessions(&decision(with_tlsa("dane", vec![refused("validation-failure", "stale-tlsa")]), None));
    let expected = TlsSession {
        policy: TlsPolicy {
            domain: "example".into(),
            policy_type: TlsPolicyType::Tlsa,
            policy_domain: "base.example".into(),
            policy: vec!["3 1 1 ab12".into(), "1 1 1 cd34".into()],
            mx_patterns: Vec::new(),
        },
        failure: Some(TlsFailure {
            result_type: "validation-failure".into(),
            mx_host: Some("mx.example".into()),
            helo: Some("mx.example".into()),
            sending_ip: Some("192.0.2.9".into()),
            receiving_ip: Some("192.0.2.1".into()),
            reason_code: Some("stale-tlsa".into()),
        }),
    };
    assert_eq!(failed, [expected]);
    let host = HostRecord { sts: Some("listed".into()), ..host("verify", vec![good()]) };
    let sts = sessions(&decision(host, Some(policy("enforce"))));
    assert_eq!(sts[0].policy.policy, ["version: STSv1", "mode: enforce", "mx: mx.example", "max_age: 86400"]);
    assert_eq!(sts[0].policy.mx_patterns, ["mx.example"]);
}

fn identity() -> Identity {
    Identity { hostname: "Company-X".into(), contact: "sts-reporting@company-x.example".into() }
}

/// The example of RFC 8460 appendix B, field by field.
#[test]
fn the_report_is_that_of_rfc8460_appendix_b() {
    let failure =
        |result: &str, sending: &str, host: &str, receiving: Option<&str>, reason: Option<&str>| TlsFailure {
            result_type: result.into(),
            mx_host: Some(host.into()),
            helo: None,
            sending_ip: Some(sending.into()),
            receiving_ip: receiving.map(str::to_owned),
            reason_code: reason.map(str::to_owned),
        };
    let text = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let count = TlsPolicyCount {
        policy: TlsPolicy {
            domain: "company-y.example".into(),
            policy_type: TlsPolicyType::Sts,
            policy_domain: "company-y.example".into(),
            policy: text(&[
                "version: STSv1",
                "mode: testing",
                "mx: *.mail.company-y.example",
                "max_age: 86400",
            ]),
            mx_patterns: text(&["*.mail.company-y.example"]),
        },
        successes: 5326,
        failures: 303,
        details: vec![
            (
                failure(
                    "certificate-expired",
                    "2001:db8:abcd:12::1",
                    "mx1.mail.company-y.example",
                    None,
                    None,
                ),
                100,
            ),
            (
                failure(
                    "starttls-not-supported",
                    "2001:db8:abcd:13::1",
                    "mx2.mail.company-y.example",
                    Some("203.0.113.56"),
                    None,
                ),
                200,
            ),
            (
                failure(
                    "validation-failure",
                    "198.51.100.62",
                    "mx-backup.mail.company-y.example",
                    Some("203.0.113.58"),
                    Some("X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"),
                ),
                3,
            ),
        ],
    };
    let day = parse_day("2016-04-01", std::time::UNIX_EPOCH).unwrap();
    assert_eq!(day_text(day), "2016-04-01");
    let rows: Vec<Row> = rows(day, 0, vec![count]).collect();
    let reports = reports(day, &rows, &identity(), start_of(day + 1));
    assert_eq!((reports.len(), reports[0].domain.as_str()), (1, "company-y.example"));
    let found: Value = serde_json::to_value(&reports[0].report).unwrap();
    let expected = json!({
        "organization-name": "Company-X",
        "date-range": {
            "start-datetime": "2016-04-01T00:00:00Z",
            "end-datetime": "2016-04-01T23:59:59Z"
        },
        "contact-info": "sts-reporting@company-x.example",
        "report-id": format!("{day}.company-y.example@Company-X"),
        "policies": [{
            "policy": {
                "policy-type": "sts",
                "policy-string": ["version: STSv1", "mode: testing", "mx: *.mail.company-y.example", "max_age: 86400"],
                "policy-domain": "company-y.example",
                "mx-host": ["*.mail.company-y.example"]
            },
            "summary": {
                "total-successful-session-count": 5326,
                "total-failure-session-count": 303
            },
            "failure-details": [{
                "result-type": "certificate-expired",
                "sending-mta-ip": "2001:db8:abcd:12::1",
                "receiving-mx-hostname": "mx1.mail.company-y.example",
                "failed-session-count": 100
            }, {
                "result-type": "starttls-not-supported",
                "sending-mta-ip": "2001:db8:abcd:13::1",
                "receiving-mx-hostname": "mx2.mail.company-y.example",
                "receiving-ip": "203.0.113.56",
                "failed-session-count": 200
            }, {
                "result-type": "validation-failure",
                "sending-mta-ip": "198.51.100.62",
                "receiving-ip": "203.0.113.58",
                "receiving-mx-hostname": "mx-backup.mail.company-y.example",
                "failed-session-count": 3,
                "failure-reason-code": "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"
            }]
        }]
    });
    assert_eq!(found, expected);
    assert_eq!(serde_json::from_value::<Report>(found).unwrap(), reports[0].report);
}

/// L11: the operator of a host hears of all sessions with it, and not for whose mail they were.
#[test]
fn l11_the_operator_of_the_host_gets_a_report_of_its_own() {
    let count = |domain: &str, successes, failures| TlsPolicyCount {
        policy: TlsPolicy {
            domain: domain.into(),
            policy_type: TlsPolicyType::Tlsa,
            policy_domain: "mx.host.example".into(),
            policy: vec!["3 1 1 aa".into()],
            mx_patterns: Vec::new(),
        },
        successes,
        failures,
        details: if failures == 0 {
            Vec::new()
        } else {
            vec![(TlsFailure { result_type: "validation-failure".into(), ..TlsFailure::default() }, failures)]
        },
    };
    let rows: Vec<Row> = rows(1, 0, vec![count("a.example", 3, 1), count("b.example", 4, 2)]).collect();
    let reports = reports(1, &rows, &identity(), start_of(1) + std::time::Duration::from_secs(3_600));
    let domains: Vec<_> = reports.iter().map(|addressed| addressed.domain.as_str()).collect();
    assert_eq!(domains, ["a.example", "b.example", "mx.host.example"]);
    let host = &reports[2].report;
    assert_eq!(host.policies.len(), 1);
    let summary = host.policies[0].summary;
    assert_eq!((summary.total_successful_session_count, summary.total_failure_session_count), (7, 3));
    assert_eq!(host.policies[0].failure_details.len(), 1);
    assert_eq!(host.policies[0].failure_details[0].failed_session_count, 3);
    assert!(!serde_json::to_string(host).unwrap().contains("a.example"));
}

#[test]
fn days_are_read() {
    let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(86_400 * 20_000 + 5);
    assert_eq!(parse_day("today", now), Ok(20_000));
    assert_eq!(parse_day("yesterday", now), Ok(19_999));
    assert_eq!(parse_day("1970-01-02", now), Ok(1));
    for wrong in ["", "tomorrow", "2026-13-01", "1.1.2026", "2026-11-25T00:00:00Z\u{7}"] {
        assert!(parse_day(wrong, now).is_err(), "{wrong}");
    }
}
