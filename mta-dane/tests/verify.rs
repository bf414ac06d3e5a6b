//! DANE-EE(3) and DANE-TA(2) against chains made for the purpose: rows E, G, H and I7 to I10 of the requirement matrix.
#![allow(clippy::unwrap_used, clippy::type_complexity)]

mod common;

use common::*;
use mta_dane::failure::{Hint, Mismatch, ResultType};
use mta_dane::reference::ReferenceId;
use mta_dane::tlsa::{Selector, TlsaRecord};
use mta_dane::verify::{AnchorSource, Judgement, MAX_CERTIFICATES, Verdict, judge};

fn ids(names: &[&str]) -> Vec<ReferenceId> {
    names.iter().map(|name| ReferenceId::parse(name).unwrap()).collect()
}

fn check(records: &[TlsaRecord], certs: &[&Cert]) -> Judgement {
    judge(records, &chain(certs), &ids(&[HOST]), NOW)
}

#[track_caller]
fn accepts(records: &[TlsaRecord], certs: &[&Cert]) {
    let judgement = check(records, certs);
    assert!(judgement.matched().is_some(), "{:?}", judgement.verdict);
}

#[track_caller]
fn refuses(records: &[TlsaRecord], certs: &[&Cert]) -> Mismatch {
    match check(records, certs).verdict {
        Verdict::NoMatch(why) => why,
        Verdict::Match(matched) => panic!("accepted: {matched:?}"),
    }
}

/// E6, RFC 6698 6: both selectors with all three matching types, for usages 2 and 3.
#[test]
fn e6_every_selector_and_matching_type() {
    let f = family();
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            accepts(&[f.leaf.record(3, selector, matching)], &[&f.leaf]);
            for anchor in [&f.middle, &f.root] {
                accepts(&[anchor.record(2, selector, matching)], &[&f.leaf, &f.middle, &f.root]);
            }
            for other in [&f.middle, &f.root] {
                refuses(&[other.record(3, selector, matching)], &[&f.leaf, &f.middle, &f.root]);
            }
        }
    }
}

/// G1, RFC 7672 3.1.1: only the first certificate counts for DANE-EE(3).
#[test]
fn g1_first_certificate_only() {
    let f = family();
    let why = refuses(&[f.leaf.record(3, 1, 1)], &[&f.middle, &f.leaf]);
    assert_eq!(why, Mismatch::NothingMatches { only_dane_ee: true, hint: Some(Hint::EndEntityNamesIssuer) });
    assert_eq!(why.result_type(), ResultType::ValidationFailure);
}

/// G2, G3, G4, RFC 7671 5.1: no name, no dates, no key usage, no CA bit, no critical extension, no chain.
#[test]
fn g2_g3_g4_nothing_but_the_bytes() {
    let odd: [(&str, fn(&mut Spec)); 12] = [
        ("other name", |s| s.dns = vec!["elsewhere.example".into()]),
        ("expired", |s| s.not_after = NOW - DAY),
        ("not yet valid", |s| s.not_before = NOW + DAY),
        ("dates reversed", |s| (s.not_before, s.not_after) = (NOW + DAY, NOW - DAY)),
        ("client only", |s| s.eku = vec![EKU_CLIENT]),
        ("CA:TRUE", |s| s.ca = Some(true)),
        ("unknown critical extension", |s| s.unknown_critical = true),
        ("version 1", |s| s.version = 1),
        ("broken SAN", |s| s.raw_san = Some(vec![0x30, 0x7f, 0x82])),
        ("broken extension list", |s| s.more = vec![(OID_BASIC.to_vec(), true, vec![0xff]); 2]),
        ("empty subject, no names", |s| (s.subject, s.dns) = (name(""), Vec::new())),
        ("broken signature", |s| s.break_signature = true),
    ];
    for (what, change) in odd {
        let leaf = Spec::leaf(HOST).with(change).signed_by(&Spec::ca("gone").self_signed());
        for selector in [0, 1] {
            let judgement = judge(&[leaf.record(3, selector, 1)], &chain(&[&leaf]), &[], NOW);
            let matched = judgement.matched().unwrap_or_else(|| panic!("{what}"));
            assert_eq!((matched.depth, matched.anchor, &matched.name), (0, None, &None), "{what}");
        }
    }
}

/// G8, RFC 7671 5.1: a record for the whole certificate does not match a bare key.
#[test]
fn g8_certificate_record_is_no_key_record() {
    let f = family();
    let spki = TlsaRecord::new(3, 0, 0, f.leaf.spki());
    refuses(&[spki], &[&f.leaf]);
    let judgement = judge(&[f.leaf.record(3, 1, 1)], &[f.leaf.spki().into()], &[], NOW);
    assert!(judgement.matched().is_none());
}

/// H1, H1a, RFC 7672 3.1.2: usage 2 names an issuer and never the server's certificate, self-signed or doubled.
#[test]
fn h1_never_the_leaf() {
    let f = family();
    let alone = Spec::leaf(HOST).with(|s| s.ca = Some(true)).self_signed();
    for selector in [0, 1] {
        for matching in [0, 1, 2] {
            refuses(&[f.leaf.record(2, selector, matching)], &[&f.leaf, &f.middle, &f.root]);
            refuses(&[f.leaf.record(2, selector, matching)], &[&f.leaf, &f.leaf, &f.middle]);
        }
        refuses(&[alone.record(2, selector, 1)], &[&alone]);
        refuses(&[alone.record(2, selector, 1)], &[&alone, &alone]);
    }
    refuses(&[alone.record(2, 0, 0)], &[&alone]);
    // "2 1 0" is no match of the leaf but a key that must have signed the topmost certificate (RFC 7671 5.2.3), and it did:
    // OpenSSL draws the line in the same place.
    let judgement = check(&[alone.record(2, 1, 0)], &[&alone]);
    assert_eq!(judgement.matched().unwrap().anchor, Some(AnchorSource::BareKey));
}

/// H2, RFC 6698 2.1.1: what is wrong below the anchor, and how it is called.
#[test]
fn h2_path_rules_below_the_anchor() {
    type Change = fn(&mut Spec);
    let none: Change = |_| {};
    let cases: [(&str, Change, Change, &str); 17] = [
        ("leaf with two signature algorithms", |s| s.two_algorithms = true, none, "not-issued-by-anchor"),
        ("leaf expired", |s| s.not_after = NOW - 1, none, "expired"),
        ("leaf not yet valid", |s| s.not_before = NOW + 1, none, "not-yet-valid"),
        ("leaf for clients", |s| s.eku = vec![EKU_CLIENT], none, "key-usage"),
        ("leaf for anything, not named", |s| s.eku = vec![EKU_ANY], none, "key-usage"),
        (
            "leaf with a signing usage of authorities only",
            |s| s.key_usage = Some(KU_CA.into()),
            none,
            "key-usage",
        ),
        ("leaf with unknown critical extension", |s| s.unknown_critical = true, none, "critical-extension"),
        ("leaf with broken names", |s| s.raw_san = Some(vec![0x30, 2, 0x82]), none, "unreadable-certificate"),
        (
            "leaf with an extension twice",
            |s| s.more = vec![(OID_EKU.into(), false, vec![0x30, 0]); 2],
            none,
            "unreadable-certificate",
        ),
        ("leaf signature broken", |s| s.break_signature = true, none, "not-issued-by-anchor"),
        ("middle expired", none, |s| s.not_after = NOW - 1, "expired"),
        ("middle is no CA", none, |s| (s.ca, s.key_usage) = (Some(false), None), "issuer-not-a-ca"),
        ("middle without basic constraints", none, |s| (s.ca, s.key_usage) = (None, None), "issuer-not-a-ca"),
        ("middle may not sign certificates", none, |s| s.key_usage = Some(KU_SIGN.into()), "issuer-not-a-ca"),
        ("middle for clients", none, |s| s.eku = vec![EKU_CLIENT], "key-usage"),
        ("middle with unknown critical extension", none, |s| s.unknown_critical = true, "critical-extension"),
        ("middle signature broken", none, |s| s.break_signature = true, "not-issued-by-anchor"),
    ];
    for (what, leaf, middle, code) in cases {
        let f = family_of(&Spec::ca("root"), &Spec::ca("middle").with(middle), &Spec::leaf(HOST).with(leaf));
        let why = refuses(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
        assert_eq!(why.code(), code, "{what}: {why}");
    }
}

/// H2: an algorithm that is not accepted any more is called that.
#[test]
fn h2_unsupported_signature() {
    // The middle's signature algorithm, in both places, becomes ecdsa-with-SHA1.
    let f = family();
    let sha256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    let mut der = f.middle.der.clone();
    for at in (0..der.len() - sha256.len()).rev() {
        if der[at..].starts_with(sha256) {
            der[at + 5..at + 8].copy_from_slice(&[0x04, 0x03, 0x01]);
        }
    }
    let middle = Cert { der, ..f.middle.clone() };
    let why = refuses(&[f.root.record(2, 1, 1)], &[&f.leaf, &middle, &f.root]);
    assert_eq!(why.code(), "unsupported-signature", "{why}");
}

/// H2: what is right or none of our business below the anchor.
#[test]
fn h2_odd_but_valid_leaves() {
    let cases: [(&str, fn(&mut Spec)); 7] = [
        ("EKU serverAuth", |s| s.eku = vec![EKU_SERVER, EKU_CLIENT]),
        ("key usage of a TLS server", |s| s.key_usage = Some(KU_SIGN.into())),
        ("CA:TRUE", |s| s.ca = Some(true)),
        ("CA:FALSE", |s| s.ca = Some(false)),
        ("unknown extension, not critical", |s| s.more = vec![(OID_UNKNOWN.into(), false, vec![1, 2, 3])]),
        ("version 1 with the name as CN", |s| (s.version, s.subject) = (1, name(HOST))),
        ("empty subject", |s| s.subject = name("")),
    ];
    for (what, change) in cases {
        let f = family_of(&Spec::ca("root"), &Spec::ca("middle"), &Spec::leaf(HOST).with(change));
        let judgement = check(&[f.middle.record(2, 1, 1)], &[&f.leaf, &f.middle]);
        assert!(judgement.matched().is_some(), "{what}: {:?}", judgement.verdict);
    }
}

/// H3, RFC 7671 5.2.2: the anchor may be an intermediate; nothing above it is asked for.
#[test]
fn h3_intermediate_as_anchor() {
    let f = family();
    let judgement = check(&[f.middle.record(2, 0, 1)], &[&f.leaf, &f.middle]);
    let matched = judgement.matched().unwrap();
    assert_eq!((matched.depth, matched.anchor), (1, Some(AnchorSource::Chain(1))));
    assert_eq!(matched.name.as_ref().unwrap().as_str(), HOST);
    let judgement = check(&[f.root.record(2, 0, 1)], &[&f.leaf, &f.middle, &f.root]);
    assert_eq!(judgement.matched().unwrap().depth, 2);
}

/// H4, RFC 7671 5.2.2: "2 0 0" works with the anchor only in DNS, root or intermediate.
#[test]
fn h4_full_certificate_absent_from_the_chain() {
    let f = family();
    for (record, sent) in
        [(f.root.record(2, 0, 0), vec![&f.leaf, &f.middle]), (f.middle.record(2, 0, 0), vec![&f.leaf])]
    {
        let judgement = check(&[record], &sent);
        assert_eq!(
            judgement.matched().unwrap().anchor,
            Some(AnchorSource::Record),
            "{:?}",
            judgement.verdict
        );
    }
    // The middle is missing: nothing links the leaf to the root.
    assert_eq!(refuses(&[f.root.record(2, 0, 0)], &[&f.leaf]), Mismatch::NotIssuedByAnchor);
}

/// H4, the cross-signed twin: DNS holds the root, the chain a certificate of the same name and key by another authority.
#[test]
fn h4_cross_certificate_of_the_same_authority() {
    let f = family();
    let foreign = Spec::ca("foreign").self_signed();
    let cross = Spec::ca("root").build(&foreign.subject, &foreign.key, &f.root.key);
    let sent = [&f.leaf, &f.middle, &cross];
    accepts(&[f.root.record(2, 0, 0)], &sent);
    accepts(&[f.root.record(2, 1, 1)], &sent);
    refuses(&[f.root.record(2, 0, 1)], &sent);
}

/// H5, RFC 7671 5.2.3: "2 1 0" matches a chain certificate with that key, else signs the topmost.
#[test]
fn h5_bare_key() {
    let f = family();
    let judgement = check(&[f.root.record(2, 1, 0)], &[&f.leaf, &f.middle]);
    assert_eq!(judgement.matched().unwrap().anchor, Some(AnchorSource::BareKey));
    let judgement = check(&[f.root.record(2, 1, 0)], &[&f.leaf, &f.middle, &f.root]);
    assert_eq!(judgement.matched().unwrap().anchor, Some(AnchorSource::Chain(2)));
    let judgement = check(&[f.middle.record(2, 1, 0)], &[&f.leaf]);
    assert_eq!(judgement.matched().unwrap().depth, 1);
    refuses(&[Spec::ca("root").self_signed().record(2, 1, 0)], &[&f.leaf, &f.middle]);
}

/// H6, RFC 7671 5.2.2: a digest cannot stand in for an anchor that was not sent.
#[test]
fn h6_digest_needs_the_anchor_in_the_chain() {
    let f = family();
    for selector in [0, 1] {
        for matching in [1, 2] {
            let why = refuses(&[f.root.record(2, selector, matching)], &[&f.leaf, &f.middle]);
            assert_eq!(why, Mismatch::NothingMatches { only_dane_ee: false, hint: None });
        }
    }
}

/// H7, RFC 7672 3.1.2, RFC 7671 5.2.1: constraints of the anchor count, whichever record names it.
#[test]
fn h7_constraints_of_the_anchor() {
    let cases: [(&str, fn(&mut Spec), &str); 6] = [
        ("path length 0 above an intermediate", |s| s.path_length = Some(0), "path-length"),
        ("anchor is no CA", |s| (s.ca, s.key_usage) = (Some(false), None), "issuer-not-a-ca"),
        ("anchor without basic constraints", |s| (s.ca, s.key_usage) = (None, None), "issuer-not-a-ca"),
        (
            "name excluded",
            |s| s.constraints = Some(dns_constraints(&[], &["example.net"])),
            "name-constraint",
        ),
        (
            "name not permitted",
            |s| s.constraints = Some(dns_constraints(&["example.org"], &[])),
            "name-constraint",
        ),
        ("anchor for clients", |s| s.eku = vec![EKU_CLIENT], "key-usage"),
    ];
    for (what, change, code) in cases {
        let f = family_of(&Spec::ca("root").with(change), &Spec::ca("middle"), &Spec::leaf(HOST));
        for (selector, matching) in [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)] {
            let why = refuses(&[f.root.record(2, selector, matching)], &[&f.leaf, &f.middle, &f.root]);
            assert_eq!(why.code(), code, "{what}");
        }
        let why = refuses(&[f.root.record(2, 0, 0)], &[&f.leaf, &f.middle]);
        assert_eq!(why.code(), code, "{what}, from DNS");
    }
    let fits = Spec::ca("root").with(|s| {
        s.path_length = Some(1);
        s.constraints = Some(dns_constraints(&["example.net"], &["bad.example.net"]));
    });
    let f = family_of(&fits, &Spec::ca("middle"), &Spec::leaf(HOST));
    accepts(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
}

/// H7: a self-issued intermediate (key roll-over) does not count towards the path length (RFC 5280 4.2.1.9).
#[test]
fn h7_self_issued_intermediates_do_not_count() {
    let root = Spec::ca("root").with(|s| s.path_length = Some(0)).self_signed();
    let next = Spec::ca("root").signed_by(&root);
    let leaf = Spec::leaf(HOST).signed_by(&next);
    accepts(&[root.record(2, 1, 1)], &[&leaf, &next, &root]);
}

/// H7: constraints bind names in the CN too, where these are what counts.
#[test]
fn h7_constraints_bind_common_names() {
    let root = Spec::ca("root").with(|s| s.constraints = Some(dns_constraints(&["example.org"], &[])));
    let leaf = Spec::leaf("").with(|s| (s.dns, s.subject) = (Vec::new(), name(HOST)));
    let f = family_of(&root, &Spec::ca("middle"), &leaf);
    let why = refuses(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
    assert_eq!(why.code(), "name-constraint");
}

/// H7, RFC 5280 4.2.1.10: constraints pass over self-issued intermediates, never over the server's certificate.
#[test]
fn h7_constraints_bind_a_self_issued_leaf() {
    let root =
        Spec::ca("root").with(|s| s.constraints = Some(dns_constraints(&["example.org"], &[]))).self_signed();
    let leaf = Spec::leaf(HOST).with(|s| s.subject = name("root")).signed_by(&root);
    assert_eq!(refuses(&[root.record(2, 1, 1)], &[&leaf, &root]).code(), "name-constraint");
}

/// H8: the anchor's own dates are not checked, and the match says so.
#[test]
fn h8_expired_anchor() {
    let f = family_of(
        &Spec::ca("root").with(|s| s.not_after = NOW - DAY),
        &Spec::ca("middle"),
        &Spec::leaf(HOST),
    );
    for selector in [0, 1] {
        let judgement = check(&[f.root.record(2, selector, 1)], &[&f.leaf, &f.middle, &f.root]);
        assert!(judgement.matched().unwrap().anchor_out_of_date);
    }
    let f = family();
    let judgement = check(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
    assert!(!judgement.matched().unwrap().anchor_out_of_date);
}

/// H9: out of order, doubled, strangers, garbage among the issuers.
#[test]
fn h9_any_order_and_strangers() {
    let f = family();
    let stranger = Spec::ca("stranger").self_signed();
    let garbage = Cert { der: b"\x30\x03abc".to_vec(), ..stranger.clone() };
    let record = [f.root.record(2, 1, 1)];
    accepts(&record, &[&f.leaf, &f.root, &f.middle]);
    accepts(&record, &[&f.leaf, &f.root, &f.root, &stranger, &f.middle, &f.middle]);
    accepts(&record, &[&f.leaf, &garbage, &f.middle, &f.root]);
    // Two authorities of one name: only one of them signed.
    let twin = Spec::ca("middle").signed_by(&f.root);
    accepts(&record, &[&f.leaf, &twin, &f.middle, &f.root]);
}

/// H9, H2: an anchor that was merely appended, or whose name was borrowed, vouches for nothing.
#[test]
fn h9_appended_anchor_is_refused() {
    let f = family();
    let stranger = Spec::ca("stranger").self_signed();
    let why = refuses(&[stranger.record(2, 0, 1)], &[&f.leaf, &f.middle, &f.root, &stranger]);
    assert_eq!(why, Mismatch::NotIssuedByAnchor);
    assert_eq!(why.result_type(), ResultType::CertificateNotTrusted);
    let namesake = Spec::ca("middle").self_signed();
    refuses(&[namesake.record(2, 1, 1)], &[&f.leaf, &namesake, &f.middle, &f.root]);
    refuses(&[stranger.record(2, 0, 0)], &[&f.leaf, &f.middle, &f.root]);
}

/// H10: bounded in certificates, bytes and signature checks.
#[test]
fn h10_bounded_work() {
    let f = family();
    let many: Vec<&Cert> =
        std::iter::once(&f.leaf).chain(std::iter::repeat_n(&f.root, MAX_CERTIFICATES)).collect();
    assert_eq!(refuses(&[f.root.record(2, 1, 1)], &many).code(), "chain-too-large");
    let big =
        Spec::ca("big").with(|s| s.more = vec![(OID_UNKNOWN.into(), false, vec![0; 65_000])]).self_signed();
    assert_eq!(refuses(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &big]).code(), "chain-too-large");
    // The bound is for DANE-TA(2) only; DANE-EE(3) looks at one certificate anyway.
    accepts(&[f.leaf.record(3, 1, 1)], &many);
    // Authorities that all signed one another: the number of paths is exponential.
    let keys: Vec<_> = (0..7).map(|_| new_key()).collect();
    let mut web = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        for issuer in [&keys[(i + 1) % 7], &keys[(i + 2) % 7]] {
            web.push(Spec::ca("web").with(|s| s.more = vec![]).build(&name("web"), issuer, key));
        }
    }
    let leaf = Spec::leaf(HOST).build(&name("web"), &keys[0], &new_key());
    let anchor = Spec::ca("web").self_signed();
    let sent: Vec<&Cert> = std::iter::once(&leaf).chain(&web).collect();
    let why = refuses(&[anchor.record(2, 0, 0)], &sent);
    assert!(matches!(why, Mismatch::TooMuchWork | Mismatch::NotIssuedByAnchor), "{why}");
}

/// H11, RFC 6698 4.1: any one match is enough, and DANE-EE(3) is taken first.
#[test]
fn h11_alternatives() {
    let f = family();
    let other = Spec::leaf(HOST).self_signed();
    let sent = [&f.leaf, &f.middle, &f.root];
    let both = [f.root.record(2, 1, 1), f.leaf.record(3, 1, 1)];
    assert_eq!(check(&both, &sent).matched().unwrap().depth, 0);
    accepts(&[other.record(3, 1, 1), f.root.record(2, 1, 1)], &sent);
    accepts(&[other.record(2, 1, 1), f.leaf.record(3, 1, 1)], &sent);
    refuses(&[other.record(2, 1, 1), other.record(3, 1, 1)], &sent);
}

/// E4, RFC 7672 3.1.3: usages 0 and 1 never authenticate, not even with the right bytes.
#[test]
fn e4_pkix_usages_match_nothing() {
    let f = family();
    for usage in [0, 1, 4, 255] {
        for cert in [&f.leaf, &f.middle, &f.root] {
            refuses(&[cert.record(usage, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
        }
    }
}

/// I1, I7 to I10, RFC 7672 3.2.2, 3.2.3: the name check that only DANE-TA(2) has.
#[test]
fn i7_names_of_dane_ta() {
    let dns = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let cases: [(&str, Vec<String>, &str, bool); 14] = [
        ("exact", dns(&["mx1.example.net"]), "", true),
        ("case", dns(&["MX1.Example.NET"]), "", true),
        ("trailing dot", dns(&["mx1.example.net."]), "", true),
        ("one of several", dns(&["a.example", "mx1.example.net"]), "", true),
        ("wildcard", dns(&["*.example.net"]), "", true),
        ("wildcard one level up", dns(&["*.net"]), "", false),
        ("partial wildcard", dns(&["mx*.example.net"]), "", false),
        ("partial wildcard, star first", dns(&["*1.example.net"]), "", false),
        ("wildcard below", dns(&["*.mx1.example.net"]), "", false),
        ("other name", dns(&["mx2.example.net"]), "", false),
        ("CN where there is no DNS-ID", dns(&[]), "mx1.example.net", true),
        ("wildcard CN where there is no DNS-ID", dns(&[]), "*.example.net", true),
        ("CN beside a DNS-ID", dns(&["mx2.example.net"]), "mx1.example.net", false),
        ("no name at all", dns(&[]), "", false),
    ];
    for (what, names, common, good) in cases {
        let leaf = Spec::leaf("").with(|s| (s.dns, s.subject) = (names, name(common)));
        let f = family_of(&Spec::ca("root"), &Spec::ca("middle"), &leaf);
        let judgement = check(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
        assert_eq!(judgement.matched().is_some(), good, "{what}: {:?}", judgement.verdict);
        if let Verdict::NoMatch(why) = judgement.verdict {
            assert_eq!(why.result_type(), ResultType::CertificateHostMismatch, "{what}");
        }
    }
}

/// I10, RFC 9525: IP addresses among the names do not count, and do not displace the CN either.
#[test]
fn i10_ip_names_do_not_count() {
    let leaf = Spec::leaf("").with(|s| {
        s.dns = Vec::new();
        s.raw_san = Some(seq(&[&tlv(0x87, &[192, 0, 2, 1])]));
        s.subject = name(HOST);
    });
    let f = family_of(&Spec::ca("root"), &Spec::ca("middle"), &leaf);
    accepts(&[f.root.record(2, 1, 1)], &[&f.leaf, &f.middle, &f.root]);
    let judgement = judge(
        &[f.root.record(2, 1, 1)],
        &chain(&[&f.leaf, &f.middle, &f.root]),
        &ids(&["192.0.2.1.example"]),
        NOW,
    );
    assert!(judgement.matched().is_none());
}

/// I1 to I3: any of the reference identifiers is enough; none at all is not.
#[test]
fn i1_any_reference_identifier() {
    let f = family();
    let sent = chain(&[&f.leaf, &f.middle, &f.root]);
    let record = [f.root.record(2, 1, 1)];
    for names in [vec![HOST], vec!["other.example", HOST], vec!["a.example", "b.example", HOST]] {
        assert!(judge(&record, &sent, &ids(&names), NOW).matched().is_some());
    }
    assert!(judge(&record, &sent, &ids(&["other.example"]), NOW).matched().is_none());
    assert!(judge(&record, &sent, &[], NOW).matched().is_none());
}

/// J7: common slips of publishers are called by name, and change no verdict.
#[test]
fn j7_hints_at_slips() {
    let f = family();
    let sent = [&f.leaf, &f.middle, &f.root];
    let hint = |record: TlsaRecord| match refuses(&[record], &sent) {
        Mismatch::NothingMatches { hint, .. } => hint,
        other => panic!("{other}"),
    };
    let swapped = |cert: &Cert, usage| TlsaRecord { selector: Selector::Cert, ..cert.record(usage, 1, 1) };
    assert_eq!(hint(f.middle.record(3, 1, 1)), Some(Hint::EndEntityNamesIssuer));
    assert_eq!(hint(f.leaf.record(2, 0, 1)), Some(Hint::AnchorNamesServer));
    assert_eq!(hint(swapped(&f.leaf, 3)), Some(Hint::OtherSelector));
    assert_eq!(hint(swapped(&f.root, 2)), Some(Hint::OtherSelector));
    assert_eq!(hint(Spec::leaf(HOST).self_signed().record(3, 1, 1)), None);
}

/// J7: a judgement describes what it saw, in text that holds no control byte.
#[test]
fn j7_what_was_seen() {
    let leaf = Spec::leaf("evil\r\nname").with(|s| s.subject = name("a\r\nb"));
    let f = family_of(&Spec::ca("root"), &Spec::ca("middle"), &leaf);
    let judgement = check(&[f.root.record(3, 1, 1)], &[&f.leaf, &f.middle]);
    let seen = &judgement.seen;
    assert_eq!(seen.len(), 2);
    assert_eq!(
        seen[0].spki_sha256.as_deref().unwrap(),
        f.leaf.record(3, 1, 1).to_string().split(' ').next_back().unwrap()
    );
    assert_eq!(seen[0].cert_sha256, f.leaf.record(3, 0, 1).to_string().split(' ').next_back().unwrap());
    assert_eq!(seen[0].dates, Some((NOW - 30 * DAY, NOW + 30 * DAY)));
    assert_eq!(seen[0].subject, "CN=a\\r\\nb");
    assert!(seen[0].names.iter().all(|name| name.chars().all(|c| !c.is_control())));
    assert!(check(&[f.root.record(3, 1, 1)], &[]).matched().is_none());
}
