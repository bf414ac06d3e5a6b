//! The zones that are compared, what each holds, what is asked, and the differences that are known.

use hickory_proto::rr::RecordType::{self, A, DS, MX, TLSA, TXT};
use mta_dane::dnssec::Status;

/// What every zone holds besides SOA and NS.
pub(crate) const RECORDS: &str = "\
@ MX 10 mail
mail A 192.0.2.1
_25._tcp.mail TLSA 3 1 1 0101010101010101010101010101010101010101010101010101010101010101
a.ent.deep TXT \"x\"
*.wild A 192.0.2.2
*.wild MX 10 mail
*._tcp.host TLSA 3 1 1 0202020202020202020202020202020202020202020202020202020202020202
host A 192.0.2.3
*.cw CNAME mail
alias CNAME mail
_25._tcp.alias CNAME _25._tcp.mail
old DNAME new
x.new A 192.0.2.4
dangling CNAME nothing
MiXed MX 10 MAIL
";

/// Wildcards that answer for whatever the zone does not hold.
const APEX_WILDCARDS: &str = "\
* A 192.0.2.9
* MX 10 mail
*.x.y.z A 192.0.2.8
_26._tcp.mail TXT \"beside\"
";

/// Types whose data holds names or odd text, so that the canonical form counts (RFC 4034 6.2).
const TYPES: &str = "\
ptr PTR Some.Name.Example.
srv SRV 1 2 25 MIXED.Case.Example.
txt TXT \"one\" \"two \\\" three\" \"\"
caa CAA 0 issue \"ca.example\"
six AAAA 2001:db8::1
unknown TYPE65280 \\# 4 01020304
naptr NAPTR 10 20 \"u\" \"E2U+email\" \"!^.*$!mailto:a@b!\" Re.Place.Example.
rp RP Mail.Box.Example. txt
hinfo HINFO \"cpu\" \"os\"
afsdb AFSDB 1 Host.Example.
smimea SMIMEA 3 1 1 0101010101010101010101010101010101010101010101010101010101010101
many TXT \"b\"
many TXT \"a\"
many TXT \"aa\"
many TXT \"\"
";

/// Asked in every zone.
pub(crate) const QUESTIONS: [(&str, RecordType); 35] = [
    ("@", MX),
    ("@", RecordType::SOA),
    ("@", TLSA),
    ("@", DS),
    ("mail", A),
    ("mail", TLSA),
    ("mail", DS),
    ("_25._tcp.mail", TLSA),
    ("_26._tcp.mail", TLSA),
    ("_tcp.mail", TLSA),
    ("ent.deep", TXT),
    ("deep", A),
    ("none", A),
    ("zzz.none", A),
    ("0", A),
    ("x.wild", A),
    ("y.x.wild", A),
    ("x.wild", TLSA),
    ("y.x.wild", TLSA),
    ("*.wild", A),
    ("_25._tcp.host", TLSA),
    ("_25._tcp.host", MX),
    ("x.cw", A),
    ("alias", A),
    ("_25._tcp.alias", TLSA),
    ("x.old", A),
    ("none.old", A),
    ("dangling", A),
    ("mixed", MX),
    ("q.x.y.z", A),
    ("r.q.x.y.z", A),
    ("q.y.z", A),
    ("y.x.cw", TLSA),
    ("_25._tcp.x.host", TLSA),
    ("*", A),
];

/// What the parent says of a zone.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Parent {
    Right,
    Nothing,
    Wrong,
    UnknownAlgorithm,
    UnknownDigest,
    Digest(&'static str),
    /// The right DS, and one of a key that is not there yet.
    Standby,
    /// The right DS, and one of an algorithm nobody implements.
    AndUnknown,
    /// A right SHA-1 digest beside a wrong SHA-256 digest of the same key (RFC 4509 3).
    Sha1BesideWrong,
}

/// Which keys a zone has beside the one that its parent names.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Keys {
    Single,
    /// That one signs the keys, another the rest: what most signed zones have.
    Split,
    /// Two more that sign nothing yet.
    Prepublished,
    /// A revoked one that still signs (RFC 5011 2.1).
    Revoked,
}

/// One zone below `lab.`.
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) algorithms: &'static [&'static str],
    pub(crate) sign: &'static [&'static str],
    pub(crate) parent: Parent,
    pub(crate) more: &'static str,
    /// Changes the signed zone's text.
    pub(crate) damage: fn(String) -> String,
    /// False where the server knows nothing of a zone that is delegated to it.
    pub(crate) served: bool,
    /// Seconds from now at which signatures begin and end, if not the tool's default.
    pub(crate) window: Option<(i64, i64)>,
    pub(crate) keys: Keys,
}

impl Spec {
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            algorithms: &["ECDSAP256SHA256"],
            sign: &[],
            parent: Parent::Right,
            more: "",
            damage: |text| text,
            served: true,
            window: None,
            keys: Keys::Single,
        }
    }

    pub(crate) const fn unsigned(name: &'static str) -> Self {
        let mut spec = Self::new(name);
        spec.algorithms = &[];
        spec
    }

    pub(crate) const fn algorithms(name: &'static str, algorithms: &'static [&'static str]) -> Self {
        let mut spec = Self::new(name);
        spec.algorithms = algorithms;
        spec
    }

    pub(crate) const fn signed(name: &'static str, sign: &'static [&'static str]) -> Self {
        let mut spec = Self::new(name);
        spec.sign = sign;
        spec
    }

    pub(crate) const fn with_ds(name: &'static str, parent: Parent) -> Self {
        let mut spec = Self::new(name);
        spec.parent = parent;
        spec
    }

    pub(crate) const fn damaged(name: &'static str, damage: fn(String) -> String) -> Self {
        let mut spec = Self::new(name);
        spec.damage = damage;
        spec
    }

    pub(crate) const fn holding(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    pub(crate) const fn lame(mut self) -> Self {
        self.served = false;
        self
    }

    pub(crate) const fn with_keys(name: &'static str, keys: Keys) -> Self {
        let mut spec = Self::new(name);
        spec.keys = keys;
        spec
    }

    pub(crate) const fn within(name: &'static str, from: i64, to: i64) -> Self {
        let mut spec = Self::new(name);
        spec.window = Some((from, to));
        spec
    }
}

/// Deeper zones come before the zones that delegate them.
pub(crate) fn specs() -> Vec<Spec> {
    const DAY: i64 = 86_400;
    vec![
        Spec::algorithms("rsa5", &["RSASHA1"]),
        Spec::algorithms("rsa256", &["RSASHA256"]),
        Spec::algorithms("rsa512", &["RSASHA512"]),
        Spec::algorithms("rsa7", &["NSEC3RSASHA1"]),
        Spec::new("p256"),
        Spec::algorithms("p384", &["ECDSAP384SHA384"]),
        Spec::algorithms("ed25519", &["ED25519"]),
        Spec::algorithms("ed448", &["ED448"]),
        Spec::algorithms("two", &["ECDSAP256SHA256", "RSASHA256"]),
        Spec::signed("nsec3", &["-3", "-", "-H", "0"]),
        Spec::signed("salted", &["-3", "aabbccdd", "-H", "10"]),
        Spec::signed("iter150", &["-3", "-", "-H", "150"]),
        Spec::unsigned("far.a.b.optout"),
        Spec::new("signed.a.b.optout"),
        Spec::unsigned("plain.optout"),
        Spec::new("signed.optout"),
        Spec::signed("optout", &["-3", "-", "-H", "0", "-A"]),
        Spec::new("far.a.b.n3"),
        Spec::unsigned("plain.n3"),
        Spec::signed("n3", &["-3", "-", "-H", "0"]),
        Spec::unsigned("child.plain"),
        Spec::new("island.plain"),
        Spec::unsigned("plain").holding("back CNAME mail.p256.lab.\n"),
        Spec::new("far.a.b.parent"),
        Spec::unsigned("near.b.parent"),
        Spec::new("sub.parent"),
        Spec::unsigned("plain.parent"),
        Spec::new("parent"),
        Spec::with_ds("nods", Parent::Nothing),
        Spec::with_ds("wrongds", Parent::Wrong),
        Spec::with_ds("oddalgorithm", Parent::UnknownAlgorithm),
        Spec::with_ds("odddigest", Parent::UnknownDigest),
        Spec::with_ds("sha1ds", Parent::Digest("SHA-1")),
        Spec::with_ds("sha384ds", Parent::Digest("SHA-384")),
        Spec::with_ds("standby", Parent::Standby),
        Spec::with_ds("andunknown", Parent::AndUnknown),
        Spec::with_ds("sha1besidewrong", Parent::Sha1BesideWrong),
        Spec::with_keys("split", Keys::Split),
        Spec::with_keys("prepublished", Keys::Prepublished),
        Spec::with_keys("revoked", Keys::Revoked),
        Spec::new("apexwild").holding(APEX_WILDCARDS),
        Spec::signed("apexwild3", &["-3", "-", "-H", "0"]).holding(APEX_WILDCARDS),
        Spec::signed("apexwildopt", &["-3", "-", "-H", "0", "-A"]).holding(APEX_WILDCARDS),
        Spec::unsigned("apexwildplain").holding(APEX_WILDCARDS),
        Spec::new("types").holding(TYPES),
        Spec::within("expired", -20 * DAY, -5 * DAY),
        Spec::within("future", 5 * DAY, 20 * DAY),
        Spec::new("lame").lame(),
        Spec::unsigned("plainlame").lame(),
        Spec::damaged("stripped", |text| without(&text, "RRSIG", "")),
        Spec::damaged("notlsasig", |text| without(&text, "RRSIG", "TLSA")),
        Spec::damaged("nomxsig", |text| without(&text, "RRSIG", "MX")),
        Spec::damaged("nonsec", |text| without(&text, "NSEC", "")),
        Spec::damaged("nonsecsig", |text| without(&text, "RRSIG", "NSEC")),
        Spec::damaged("nokeysig", |text| without(&text, "RRSIG", "DNSKEY")),
        Spec::damaged("nokeys", |text| without(&text, "DNSKEY", "")),
        Spec::damaged("nosoasig", |text| without(&text, "RRSIG", "SOA")),
        Spec::damaged("bitmap", |text| text.replace(" NSEC TLSA", " NSEC")),
        Spec::damaged("tampered", |text| text.replace("192.0.2.1\n", "192.0.2.99\n")),
        Spec::damaged("tamperedkey", |text| text.replace(" 0101010101", " 0101010102")),
        Spec::new("aliases").holding(
            "to-p256 CNAME mail.p256.lab.\nto-rsa7 CNAME mail.rsa7.lab.\nto-plain CNAME mail.plain.lab.\n\
             to-expired CNAME mail.expired.lab.\nto-nothing CNAME none.nsec3.lab.\nto-optout CNAME none.optout.lab.\n\
             to-plain-nothing CNAME none.plain.lab.\n_25._tcp.x CNAME _25._tcp.mail.nsec3.lab.\n\
             there-and-back CNAME back.plain.lab.\nvia DNAME p256.lab.\nvia-plain DNAME plain.lab.\n\
             to-wild CNAME q.wild.salted.lab.\n*.wildout CNAME mail.p256.lab.\n*.wildplain CNAME mail.plain.lab.\n\
             one CNAME two\ntwo CNAME one\nself CNAME self\nring DNAME ring2\nring2 DNAME ring\nlong DNAME longer\n\
             longer DNAME p256.lab.\nto-deep CNAME far.a.b.parent.lab.\nto-lame CNAME mail.lame.lab.\n\
             to-nods CNAME mail.nods.lab.\nto-stripped CNAME mail.stripped.lab.\nto-ent CNAME deep.nsec3.lab.\n",
        ),
    ]
}

/// Asked beside the table, in full.
pub(crate) const EXTRA: [(&str, RecordType); 41] = [
    ("to-p256.aliases.lab.", A),
    ("to-rsa7.aliases.lab.", A),
    ("to-plain.aliases.lab.", A),
    ("to-expired.aliases.lab.", A),
    ("to-nothing.aliases.lab.", A),
    ("to-optout.aliases.lab.", A),
    ("to-plain-nothing.aliases.lab.", A),
    ("_25._tcp.x.aliases.lab.", TLSA),
    ("there-and-back.aliases.lab.", A),
    ("mail.via.aliases.lab.", A),
    ("mail.via-plain.aliases.lab.", A),
    ("to-wild.aliases.lab.", A),
    ("q.wildout.aliases.lab.", A),
    ("r.q.wildplain.aliases.lab.", A),
    ("one.aliases.lab.", A),
    ("self.aliases.lab.", A),
    ("x.ring.aliases.lab.", A),
    ("mail.long.aliases.lab.", A),
    ("to-deep.aliases.lab.", MX),
    ("to-lame.aliases.lab.", A),
    ("to-nods.aliases.lab.", A),
    ("to-stripped.aliases.lab.", A),
    ("to-ent.aliases.lab.", A),
    ("ptr.types.lab.", RecordType::PTR),
    ("srv.types.lab.", RecordType::SRV),
    ("txt.types.lab.", TXT),
    ("caa.types.lab.", RecordType::CAA),
    ("six.types.lab.", RecordType::AAAA),
    ("unknown.types.lab.", RecordType::Unknown(65280)),
    ("naptr.types.lab.", RecordType::NAPTR),
    ("rp.types.lab.", RecordType::Unknown(17)),
    ("hinfo.types.lab.", RecordType::HINFO),
    ("afsdb.types.lab.", RecordType::Unknown(18)),
    ("smimea.types.lab.", RecordType::SMIMEA),
    ("many.types.lab.", TXT),
    ("b.parent.lab.", A),
    ("a.b.parent.lab.", DS),
    ("a.b.optout.lab.", A),
    ("b.optout.lab.", DS),
    ("lab.", DS),
    ("nothing-here.", A),
];

/// Where we differ on purpose, and why: zone, our status, unbound's. (The other listed difference, NSEC3 iterations beyond the
/// limit, cannot be had from BIND's tools; the validator's own tests have it.)
pub(crate) const DIFFERENCES: [(&str, Status, Status, &str); 3] = [
    (
        "ed448.lab.",
        Status::Insecure,
        Status::Secure,
        "Ed448 is not supported by ring; RFC 4035 5.2 then says insecure",
    ),
    (
        "sha1besidewrong.lab.",
        Status::Bogus,
        Status::Secure,
        "a SHA-1 digest counts for nothing beside a SHA-256 digest (RFC 4509 3); unbound tries both",
    ),
    (
        "nosoasig.lab.",
        Status::Secure,
        Status::Bogus,
        "a denial is proven by NSEC; the SOA record beside it proves nothing and only shortens its TTL where it is signed",
    ),
];

/// Zones of which `named` and `nsd` give different things, so that only what came from `named`, as with unbound, is compared:
/// `named` sends no signatures of a zone whose NSEC records are broken.
pub(crate) const SERVERS_DIFFER: [&str; 2] = ["nonsec.lab.", "nonsecsig.lab."];

/// Drops the lines of a signed zone in dnssec-signzone's one-line form (`-O full`) with this type and covered type.
fn without(text: &str, rtype: &str, covered: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let hit = words.get(3) == Some(&rtype) && (covered.is_empty() || words.get(4) == Some(&covered));
        if !hit {
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}
