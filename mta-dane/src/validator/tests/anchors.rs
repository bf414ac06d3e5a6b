//! Trust anchors: their files, and what follows from having none.

use hickory_proto::dnssec::{Algorithm, DigestType, PublicKey as _};
use hickory_proto::rr::Name;
use hickory_proto::rr::RecordType::{self, MX};

use crate::dnssec::Status;
use crate::validator::testing::*;
use crate::validator::{CacheLimits, Limits, TrustAnchors, Validator};

const KEY_20326: &str = "AwEAAaz/tAm8yTn4Mfeh5eyI96WSVexTBAvkMgJzkKTOiW1vkIbzxeF3+/4RgWOq7HrxRixHlFlExOLAJr5emLvN7SWXgnLh4+B5xQlNVz8Og8kvArMtNROxVQuCaSnIDdD5LKyWbRd2n9WGe2R8PzgCmr3EgVLrjyBxWezF0jLHwVN8efS3rCj/EWgvIWgb9tarpVUDK/b58Da+sqqls3eNbuv7pr+eoZG+SrDK6nWeL3c6H5Apxz7LjVc1uTIdsIXxuOLYA4/ilBmSVIzuDWfdRUfhHdY6+cn8HFRm+2hM8AnXGXws9555KrUB5qihylGa8subX2Nn6UwNR1AkUTV74bU=";

const DS_20326: &str = "E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D";

fn parse(text: &str) -> TrustAnchors {
    TrustAnchors::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn the_files_of_distributions_are_read() {
    let split =
        KEY_20326.as_bytes().chunks(56).map(|c| String::from_utf8_lossy(c).into_owned()).collect::<Vec<_>>();
    let pieces = split.join("\n\t\t");
    let quoted = split.join("\"\n   \"");
    let as_ds = [
        format!(". 172800 IN DS 20326 8 2 {DS_20326}"),
        format!(".\tIN\tDS\t20326 8 2 {DS_20326} ; the root\n"),
        format!(". DS 20326 8 2 (\n {} \n {} )", &DS_20326[..30], &DS_20326[30..]),
        format!("trust-anchors {{ . initial-ds 20326 8 2 \"{DS_20326}\"; }};"),
    ];
    let as_key = [
        format!(". IN DNSKEY 257 3 8 {KEY_20326}"),
        format!(
            "; comment\n$ORIGIN .\n.\t86400\tIN\tDNSKEY\t257 3 8 {KEY_20326} ;{{id = 20326 (ksk), size = 2048b}} ;;state=2 [  VALID  ]\n"
        ),
        format!(". IN DNSKEY 257 3 8 (\n\t\t{pieces}\n\t\t) ; KSK"),
        format!("# BIND\ntrust-anchors {{\n  # root\n  . initial-key 257 3 8 \"{quoted}\";\n}};\n"),
        format!("managed-keys\n{{\n . initial-key 257 3 8 \"{pieces}\"; /* old\n style */ }};"),
        format!("trusted-keys {{ \".\" 257 3 8 \"{KEY_20326}\"; }};"),
    ];
    for text in &as_ds {
        let anchors = parse(text);
        let mut expected = TrustAnchors::empty();
        let (_, built_in) =
            TrustAnchors::built_in().closest(&Name::root()).map(|(n, a)| (n.clone(), a.clone())).unwrap();
        expected.add_ds(Name::root(), built_in.ds[0].clone());
        assert_eq!(anchors, expected, "{text}");
    }
    for text in &as_key {
        let anchors = parse(text);
        let (_, zone) = anchors.closest(&Name::root()).unwrap();
        let key = &zone.keys[0];
        assert_eq!((zone.keys.len(), key.calculate_key_tag().unwrap()), (1, 20326), "{text}");
        // The key and the built-in digest name the same thing.
        let (_, built_in) =
            TrustAnchors::built_in().closest(&Name::root()).map(|(n, a)| (n.clone(), a.clone())).unwrap();
        assert!(built_in.ds[0].covers(&Name::root(), key).unwrap(), "{text}");
        assert_eq!(key.public_key().public_bytes().len(), 260);
    }
}

#[test]
fn several_anchors_and_private_zones() {
    let anchors = parse(&format!(
        ". IN DS 20326 8 2 {DS_20326}\n. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16\n\
         Corp.Example. 3600 IN DNSKEY 257 3 8 {KEY_20326}\n"
    ));
    assert_eq!(anchors.zones().map(ToString::to_string).collect::<Vec<_>>(), [".", "corp.example."]);
    assert_eq!(anchors.closest(&n("a.corp.example.")).unwrap().0, &n("corp.example."));
    let mut built_in = TrustAnchors::built_in();
    built_in.extend(parse(&format!("corp.example. DNSKEY 257 3 8 {KEY_20326}")));
    assert_eq!(built_in, anchors);
}

#[test]
fn files_that_cannot_be_used_are_refused_with_the_line() {
    for (text, line, what) in [
        ("", 1, "no DS or DNSKEY"),
        ("; nothing\n", 1, "no DS or DNSKEY"),
        (". IN A 192.0.2.1", 1, "expected DS or DNSKEY"),
        ("\n. IN DS 20326 8 2 E06D44", 2, "wrong length"),
        (". IN DS 20326 8 2 XYZ", 1, "hexadecimal"),
        (". IN DS 20326 8", 1, "needs"),
        (". IN DNSKEY 257 3 8 ====", 1, "base64"),
        (". IN DNSKEY 257 3 8 AwEAA", 1, "base64"),
        (". IN DNSKEY 257 2 8 AwEAAQ==", 1, "must be 3"),
        (". IN DNSKEY 385 3 8 AwEAAQ==", 1, "revoked"),
        (". IN DNSKEY 1 3 8 AwEAAQ==", 1, "zone key"),
        ("<xml>", 1, "no zone name"),
    ] {
        let error = TrustAnchors::parse(text).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
}

#[test]
fn without_an_anchor_nothing_is_secure_and_nothing_insecure() {
    let zone = || Zone::signed("example.test.").with(&["@ MX mail"]);
    let world = World::new(vec![
        Zone::signed("."),
        Zone::signed("test."),
        zone(),
        Zone::unsigned("plain.test.").with(&["@ MX m"]),
    ]);
    let mut only_other = TrustAnchors::empty();
    only_other.add_key(n("elsewhere."), world.zones[&Name::root()].keys[0].dnskey.clone());
    let mut wrong = TrustAnchors::empty();
    wrong.add_key(Name::root(), Key::new(Algorithm::ECDSAP256SHA256, 257).dnskey);
    for (anchors, status) in [
        (TrustAnchors::empty(), Status::Unavailable),
        (only_other, Status::Unavailable),
        (wrong, Status::Bogus),
    ] {
        for name in ["example.test.", "plain.test."] {
            let validator = Validator::new(anchors.clone(), Limits::default(), CacheLimits::default());
            let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
            let (answer, _) = drive(&validator.into(), NOW, name, MX, &mut upstream);
            assert_eq!(answer.status, status, "{name}: {:?}", answer.reason);
        }
    }
}

#[test]
fn a_private_anchor_makes_an_island_secure() {
    let island = Zone::signed("island.plain.test.").with(&["@ MX mail"]);
    let mut anchors = TrustAnchors::empty();
    anchors.add_ds(
        n("Island.plain.test."),
        ds_of(&n("island.plain.test."), &island.keys[0].dnskey, DigestType::SHA256),
    );
    let world =
        World::new(vec![Zone::signed("."), Zone::signed("test."), Zone::unsigned("plain.test."), island]);
    anchors.extend(world.anchors());
    let validator = Validator::new(anchors, Limits::default(), CacheLimits::default());
    let mut upstream = |name: &Name, rtype: RecordType| Ok(world.respond(name, rtype));
    let validator = validator.into();
    assert_eq!(drive(&validator, NOW, "plain.test.", MX, &mut upstream).0.status, Status::Insecure);
    assert_eq!(drive(&validator, NOW, "island.plain.test.", MX, &mut upstream).0.status, Status::Secure);
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_of_anchors_fail_otherwise_than_by_an_error(
        words in proptest::collection::vec("[ \t\n;#(){}\"/*.=]|IN|DS|DNSKEY|[0-9]{1,6}|[A-Za-z0-9+/]{1,12}", 0..60)
    ) {
        if let Ok(anchors) = TrustAnchors::parse(&words.concat()) {
            proptest::prop_assert!(!anchors.is_empty());
        }
    }
}
