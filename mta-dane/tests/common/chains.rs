//! Chains by chance, each made again from its number and seed: a plain kind with few oddities, and a wild one that has
//! several at once, keys of every kind, cross-certificates, namesakes, twins, and records that contradict each other.

use rcgen::KeyPair;
use std::sync::Arc;

use super::*;

/// What it is, the records to judge by, the chain as it is sent.
pub type Generated = (String, Vec<TlsaRecord>, Vec<Cert>);

/// A small generator of its own, so that a seed in a failure report brings the same chain back.
struct Dice(u64);

impl Dice {
    fn seeded(number: u64, seed: u64) -> Self {
        let mixed = seed.wrapping_mul(0x9e37_79b9).wrapping_add(number).wrapping_mul(0x2545_f491_4f6c_dd1d);
        let mut dice = Self(mixed | 1);
        for _ in 0..8 {
            dice.roll(2);
        }
        dice
    }

    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % sides
    }

    fn one_in(&mut self, sides: u64) -> bool {
        self.roll(sides) == 0
    }
}

/// A chain of one to four certificates with some oddities, presented somehow, with some records.
pub fn random_case(number: u64, seed: u64) -> Generated {
    let mut dice = Dice::seeded(number, seed);
    let mut certs = vec![odd_issuer("root", &mut dice).self_signed()];
    for level in ["upper", "middle"] {
        if dice.one_in(2) {
            let issuer = certs.last().unwrap().clone();
            certs.push(odd_issuer(level, &mut dice).signed_by(&issuer));
        }
    }
    let leaf = odd_leaf(&mut dice).signed_by(certs.last().unwrap());
    certs.push(leaf);
    certs.reverse();
    let mut records = Vec::new();
    for _ in 0..=dice.roll(2) {
        let which = usize::try_from(dice.roll(certs.len() as u64)).unwrap();
        let usage = if which == 0 && !dice.one_in(4) { 3 } else { 2 };
        records.push(certs[which].record(usage, u8::from(dice.one_in(2)), dice.roll(3) as u8));
    }
    let mut sent = certs.clone();
    if dice.one_in(3) && sent.len() > 1 {
        sent.pop();
    }
    if dice.one_in(4) && sent.len() > 2 {
        sent[1..].reverse();
    }
    if dice.one_in(5) {
        sent.push(Spec::ca("stranger").self_signed());
    }
    let numbers: Vec<_> = records.iter().map(TlsaRecord::numbers).collect();
    let what = format!(
        "random {number} of seed {seed}: {} certificates, {} sent, records {numbers:?}",
        certs.len(),
        sent.len()
    );
    (what, records, sent)
}

fn odd_issuer(common: &str, dice: &mut Dice) -> Spec {
    Spec::ca(common).with(|s| odd_issuer_change(s, dice))
}

fn odd_issuer_change(s: &mut Spec, dice: &mut Dice) {
    match dice.roll(24) {
        0 => s.not_after = NOW - DAY,
        1 => s.path_length = Some(0),
        2 => s.path_length = Some(1),
        3 => (s.ca, s.key_usage) = (Some(false), None),
        4 => (s.ca, s.key_usage) = (None, None),
        5 => s.ca = None,
        6 => s.key_usage = Some(KU_SIGN.into()),
        7 => s.eku = vec![EKU_CLIENT],
        8 => s.unknown_critical = true,
        9 => s.constraints = Some(dns_constraints(&["example.net"], &[])),
        10 => s.constraints = Some(dns_constraints(&["example.org"], &[])),
        11 => s.version = 1,
        12 => s.break_signature = true,
        13 => s.not_before = NOW + DAY,
        _ => {}
    }
}

fn odd_leaf(dice: &mut Dice) -> Spec {
    Spec::leaf(HOST).with(|s| odd_leaf_change(s, dice))
}

fn odd_leaf_change(s: &mut Spec, dice: &mut Dice) {
    match dice.roll(24) {
        0 => s.not_after = NOW - DAY,
        1 => s.not_before = NOW + DAY,
        2 => s.dns = vec!["*.example.net".into()],
        3 => s.dns = vec!["other.example".into()],
        4 => (s.dns, s.subject) = (vec![], name(HOST)),
        5 => s.eku = vec![EKU_CLIENT],
        6 => s.ca = Some(true),
        7 => s.unknown_critical = true,
        8 => (s.version, s.subject) = (1, name(HOST)),
        9 => s.break_signature = true,
        10 => s.key_usage = Some(KU_CA.into()),
        _ => {}
    }
}

/// A key of a kind: mostly P-256, as it is made fastest.
fn some_key(dice: &mut Dice) -> Arc<KeyPair> {
    let algorithm = match dice.roll(10) {
        0 => return rsa_key(),
        1 => &rcgen::PKCS_ED25519,
        2 => &rcgen::PKCS_ECDSA_P384_SHA384,
        _ => &rcgen::PKCS_ECDSA_P256_SHA256,
    };
    Arc::new(KeyPair::generate_for(algorithm).unwrap())
}

fn pick<'c>(certs: &'c [Cert], dice: &mut Dice) -> &'c Cert {
    &certs[usize::try_from(dice.roll(certs.len() as u64)).unwrap()]
}

/// A chain of up to six certificates, issuers with up to two oddities, sent with gaps, doubles, cross-certificates, namesakes and
/// strangers in any order, and up to four records, some of them broken or wrong.
pub fn wild_case(number: u64, seed: u64) -> Generated {
    let mut dice = Dice::seeded(number, seed ^ 0x5eed);
    let odd = |common: &str, dice: &mut Dice| {
        let mut spec = odd_issuer(common, dice);
        if dice.one_in(5) {
            spec = spec.with(|s| odd_issuer_change(s, dice));
        }
        spec
    };
    let key = some_key(&mut dice);
    let root = odd("root", &mut dice);
    let mut certs = vec![root.build(&root.subject, &key, &key)];
    for level in 0..dice.roll(4) {
        let issuer = certs[certs.len() - 1].clone();
        // Sometimes an intermediate bears its issuer's name (self-issued, RFC 5280 6.1).
        let common = if dice.one_in(8) { "root".to_owned() } else { format!("ca{level}") };
        let spec = odd(&common, &mut dice);
        certs.push(spec.build(&issuer.subject, &issuer.key, &some_key(&mut dice)));
    }
    let issuer = certs[certs.len() - 1].clone();
    let mut leaf = odd_leaf(&mut dice);
    if dice.one_in(4) {
        leaf = leaf.with(|s| odd_leaf_change(s, &mut dice));
    }
    let leaf = leaf.build(&issuer.subject, &issuer.key, &some_key(&mut dice));

    let mut sent: Vec<Cert> = certs.iter().filter(|_| !dice.one_in(6)).cloned().collect();
    let foreign = Spec::ca("foreign").self_signed();
    let twin_of = pick(&certs, &mut dice).clone();
    let mut spec = Spec::ca("");
    spec.subject.clone_from(&twin_of.subject);
    match dice.roll(8) {
        0 => sent.push(spec.build(&foreign.subject, &foreign.key, &twin_of.key)),
        1 => sent.push(spec.build(&twin_of.subject, &twin_of.key, &twin_of.key)),
        2 => sent.push(spec.self_signed()),
        3 => sent.push(foreign),
        4 => sent.push(twin_of),
        5 => sent.push(leaf.clone()),
        _ => {}
    }
    let mut all = sent.clone();
    all.extend(certs.iter().cloned());
    if dice.one_in(2) {
        sent.reverse();
    }
    for at in (1..sent.len()).rev().filter(|_| number.is_multiple_of(3)) {
        sent.swap(at, usize::try_from(dice.roll(at as u64 + 1)).unwrap());
    }
    sent.insert(0, leaf.clone());

    let mut records = Vec::new();
    for _ in 0..=dice.roll(4) {
        let (cert, usage) = if dice.one_in(3) { (&leaf, 3) } else { (pick(&all, &mut dice), 2) };
        let usage = if dice.one_in(10) { 5 - usage } else { usage };
        let mut record = cert.record(usage, u8::from(dice.one_in(2)), dice.roll(3) as u8);
        let mut data = record.data.clone();
        match dice.roll(12) {
            0 => data.truncate(20),
            1 => data[0] ^= 1,
            2 => data.push(0),
            3 => data.truncate(1),
            _ => {}
        }
        record.data = data;
        records.push(record);
    }
    let numbers: Vec<_> = records.iter().map(|r| (r.numbers(), r.data.len())).collect();
    let what = format!(
        "wild {number} of seed {seed}: {} issuers, {} sent, records {numbers:?}",
        certs.len(),
        sent.len()
    );
    (what, records, sent)
}
