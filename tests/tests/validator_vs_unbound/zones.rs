//! The zones that are compared, what each holds, what is asked, and the differences that are known.

use hickory_proto::rr::RecordType::{self, A, DS, MX, TLSA, TXT};
use mta_dane::dnssec::Status;

/// What every zone holds besides SOA and NS.
pub const RECORDS: &str = "\
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

/// Asked in every zone.
pub const QUESTIONS: [(&str, RecordType); 29] = [
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
];

/// What the parent says of a zone.
#[derive(Clone, Copy, PartialEq)]
pub enum Parent {
    Right,
    Nothing,
    Wrong,
    UnknownAlgorithm,
    UnknownDigest,
    Digest(&'static str),
}

/// One zone below `lab.`.
pub struct Spec {
    pub name: &'static str,
    pub algorithms: &'static [&'static str],
    pub sign: &'static [&'static str],
    pub parent: Parent,
    pub more: &'static str,
    /// Changes the signed zone's text.
    pub damage: fn(String) -> String,
    /// False where the server knows nothing of a zone that is delegated to it.
    pub served: bool,
    /// Seconds from now at which signatures begin and end, if not the tool's default.
    pub window: Option<(i64, i64)>,
}

impl Spec {
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            algorithms: &["ECDSAP256SHA256"],
            sign: &[],
            parent: Parent::Right,
            more: "",
            damage: |text| text,
            served: true,
            window: None,
        }
    }

    pub const fn unsigned(name: &'static str) -> Self {
        let mut spec = Self::new(name);
        spec.algorithms = &[];
        spec
    }

    pub const fn algorithms(name: &'static str, algorithms: &'static [&'static str]) -> Self {
        let mut spec = Self::new(name);
        spec.algorithms = algorithms;
        spec
    }

    pub const fn signed(name: &'static str, sign: &'static [&'static str]) -> Self {
        let mut spec = Self::new(name);
        spec.sign = sign;
        spec
    }

    pub const fn with_ds(name: &'static str, parent: Parent) -> Self {
        let mut spec = Self::new(name);
        spec.parent = parent;
        spec
    }

    pub const fn damaged(name: &'static str, damage: fn(String) -> String) -> Self {
        let mut spec = Self::new(name);
        spec.damage = damage;
        spec
    }

    pub const fn holding(mut self, more: &'static str) -> Self {
        self.more = more;
        self
    }

    pub const fn lame(mut self) -> Self {
        self.served = false;
        self
    }

    pub const fn within(name: &'static str, from: i64, to: i64) -> Self {
        let mut spec = Self::new(name);
        spec.window = Some((from, to));
        spec
    }
}

/// Deeper zones come before the zones that delegate them.
pub fn specs() -> Vec<Spec> {
    const DAY: i64 = 86_400;
    vec![
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
        Spec::unsigned("plain.optout"),
        Spec::new("signed.optout"),
        Spec::signed("optout", &["-3", "-", "-H", "0", "-A"]),
        Spec::unsigned("plain.n3"),
        Spec::signed("n3", &["-3", "-", "-H", "0"]),
        Spec::unsigned("child.plain"),
        Spec::new("island.plain"),
        Spec::unsigned("plain").holding("back CNAME mail.p256.lab.\n"),
        Spec::new("sub.parent"),
        Spec::unsigned("plain.parent"),
        Spec::new("parent"),
        Spec::with_ds("nods", Parent::Nothing),
        Spec::with_ds("wrongds", Parent::Wrong),
        Spec::with_ds("oddalgorithm", Parent::UnknownAlgorithm),
        Spec::with_ds("odddigest", Parent::UnknownDigest),
        Spec::with_ds("sha1ds", Parent::Digest("SHA-1")),
        Spec::with_ds("sha384ds", Parent::Digest("SHA-384")),
        Spec::within("expired", -20 * DAY, -5 * DAY),
        Spec::within("future", 5 * DAY, 20 * DAY),
        Spec::new("lame").lame(),
        Spec::unsigned("plainlame").lame(),
        Spec::damaged("stripped", |text| without(&text, "RRSIG", "")),
        Spec::damaged("notlsasig", |text| without(&text, "RRSIG", "TLSA")),
        Spec::damaged("nomxsig", |text| without(&text, "RRSIG", "MX")),
        Spec::damaged("tampered", |text| text.replace("192.0.2.1\n", "192.0.2.99\n")),
        Spec::damaged("tamperedkey", |text| text.replace(" 0101010101", " 0101010102")),
        Spec::new("aliases").holding(
            "to-p256 CNAME mail.p256.lab.\nto-rsa7 CNAME mail.rsa7.lab.\nto-plain CNAME mail.plain.lab.\n\
             to-expired CNAME mail.expired.lab.\nto-nothing CNAME none.nsec3.lab.\nto-optout CNAME none.optout.lab.\n\
             to-plain-nothing CNAME none.plain.lab.\n_25._tcp.x CNAME _25._tcp.mail.nsec3.lab.\n\
             there-and-back CNAME back.plain.lab.\nvia DNAME p256.lab.\nvia-plain DNAME plain.lab.\n\
             to-wild CNAME q.wild.salted.lab.\n",
        ),
    ]
}

/// Asked beside the table, in full.
pub const EXTRA: [(&str, RecordType); 14] = [
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
    ("lab.", DS),
    ("nothing-here.", A),
];

/// Where we differ on purpose, and why: zone, our status, unbound's. (The other listed difference, NSEC3 iterations beyond the
/// limit, cannot be had from BIND's tools; the validator's own tests have it.)
pub const DIFFERENCES: [(&str, Status, Status, &str); 1] = [(
    "ed448.lab.",
    Status::Insecure,
    Status::Secure,
    "Ed448 is not supported by ring; RFC 4035 5.2 then says insecure",
)];

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
