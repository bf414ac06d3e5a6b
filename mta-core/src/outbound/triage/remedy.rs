//! The words of a triage: cause, evidence, and what either side can do, class by class.

use hickory_proto::rr::Name;
use mta_dane::dnssec::Status;
use mta_dane::reference::text;
use mta_dane::tlsa::TlsaRecord;

use super::super::decision::{COPIED, CertificateRecord, HostRecord, TriageRecord, TryRecord};
use super::{Class, failures};

/// How long the exception that is offered holds, in days.
const EXCEPTION_DAYS: i64 = 7;
/// A certificate younger than this counts as freshly renewed: 90-day certificates are renewed after 60 days.
const FRESH_DAYS: i64 = 60;
/// Certificates dated before this (2000-01-01) say nothing: tools that do not care put anything there.
const FIRST_PLAUSIBLE: i64 = 946_684_800;
const DAY: i64 = 86_400;

/// What a triage needs to know of the attempt.
#[derive(Debug, Clone, Copy)]
pub(in crate::outbound) struct About<'a> {
    /// The recipient domain whose rules applied.
    pub(in crate::outbound) domain: &'a str,
    /// Whether the host is a relay host of our own choice.
    pub(in crate::outbound) relay: bool,
    /// When the attempt began, seconds since 1970.
    pub(in crate::outbound) now_unix: u64,
}

/// The triage of one class at a host.
pub(super) fn host(class: Class, host: &HostRecord, about: &About<'_>) -> TriageRecord {
    let mut triage = TriageRecord {
        class: class.to_string(),
        cause: cause(class, host),
        evidence: evidence(class, host, about),
        operator: operator(class, host),
        ..TriageRecord::default()
    };
    here(class, host, about, &mut triage);
    triage
}

/// The triage of a lookup that decides about the whole domain.
pub(super) fn lookup(class: Class, status: Status, name: &Name, about: &About<'_>) -> TriageRecord {
    let (cause, operator) = lookup_words(status.to_string().as_str(), "MX", &text(name));
    let mut here = vec![check_lookup(&text(name), "MX")];
    here.push(format!(
        "No exception is possible: without MX records that can be believed nobody knows where mail for {} belongs.",
        about.domain
    ));
    let operator = vec![capital(&operator) + "."];
    TriageRecord { class: class.to_string(), cause, operator, here, ..TriageRecord::default() }
}

/// The cause of a failed lookup, and what the zone's operator can do.
fn lookup_words(status: &str, rtype: &str, name: &str) -> (String, String) {
    if status == Status::Bogus.to_string() {
        return (
            format!(
                "the DNSSEC signatures over the {rtype} records of {name} do not hold: the zone is signed wrongly, its \
                 signatures have expired, or somebody forges its answers"
            ),
            format!(
                "sign the zone of {name} anew, or make its DS record fit its keys; https://dnsviz.net shows the chain"
            ),
        );
    }
    (
        format!(
            "the name servers of {name} gave no usable answer for {rtype}, which is not the same as \"no such record\""
        ),
        format!(
            "let every name server of {name} answer {rtype} questions, with an empty answer where there is no record"
        ),
    )
}

fn check_lookup(name: &str, rtype: &str) -> String {
    format!(
        "See what is wrong with \"mta-cli dns lookup {name} {rtype}\". The mail waits and is tried again."
    )
}

fn cause(class: Class, host: &HostRecord) -> String {
    let leaf_issuer =
        last(host).and_then(|top| top.issuer.clone()).unwrap_or_else(|| "its issuer".to_owned());
    match class {
        Class::StaleTlsa => {
            "the server's key is not the one that its TLSA record names; most often the key was \
                             renewed and the record was not"
                .to_owned()
        }
        Class::AnchorNotSent => format!(
            "the TLSA record names an issuer by its digest, and the server does not send that issuer's certificate: its \
             chain ends with one that was issued by {leaf_issuer}"
        ),
        Class::OtherIssuer => {
            "the server's certificate comes from another issuer than the one that the TLSA record \
                               names: the certification authority was changed, and the record was not"
                .to_owned()
        }
        Class::PublishingSlip => slip(host),
        Class::NameMismatch => {
            "the certificate leads to the issuer that the TLSA record names, but is for another \
                                name; DANE-TA(2) checks the name, DANE-EE(3) would not"
                .to_owned()
        }
        Class::Expired => {
            "a certificate has expired; DANE-TA(2) checks dates, DANE-EE(3) would not".to_owned()
        }
        Class::NotYetValid => {
            "a certificate is not valid yet, or the clock of this server is wrong".to_owned()
        }
        Class::BrokenChain => {
            "the chain of certificates does not lead to the issuer that the TLSA record names".to_owned()
        }
        Class::UnreadableChain => "the server sends certificates that cannot be checked".to_owned(),
        Class::NoCertificate => "the server sends no certificate".to_owned(),
        Class::OtherServer => format!(
            "the addresses of {} are served by different servers: one has the key that TLSA names, another has not",
            host.host
        ),
        Class::TlsaUnusable => "all TLSA records of the host are of kinds that SMTP cannot use".to_owned(),
        Class::NoStartTls => {
            "the host publishes TLSA records, which promise TLS, and does not offer STARTTLS; or \
                              somebody in between removes the offer"
                .to_owned()
        }
        Class::TlsFailed => {
            "no TLS session came about, and without one nothing may be sent to this host".to_owned()
        }
        Class::NotTrusted => {
            "no certification authority that this system trusts vouches for the server".to_owned()
        }
        Class::TlsaLookup => lookup_words(failed_status(host), "TLSA", &failed_owner(host)).0,
        Class::AddressLookup => lookup_words(&host.address_status, "address", &host.host).0,
        Class::MxLookup => "the MX records could not be had".to_owned(),
        Class::StsNotListed => format!(
            "the MTA-STS policy of the domain (mode enforce) does not list {}: the policy is out of date, or somebody put \
             another host into the MX records",
            host.host
        ),
        Class::DaneRequired => {
            "DANE is mandatory for this destination by a rule here, and the destination does not \
                                have what it takes"
                .to_owned()
        }
    }
}

/// The slip, as the judge of certificates found it.
fn slip(host: &HostRecord) -> String {
    let failure = failures(host).find_map(|one| one.tls.as_ref()?.failure.clone()).unwrap_or_default();
    match failure.split_once(": ") {
        Some((_, slip)) => slip.to_owned(),
        None => "the TLSA record holds the right data in the wrong fields".to_owned(),
    }
}

/// The sentence about one connection whose certificate did not do, for whoever reads nothing else: which record, which key.
pub(in crate::outbound) fn told(failure: &str, host: &HostRecord) -> String {
    let served = leaf_of(host.tries.last()).and_then(|leaf| leaf.spki_sha256.as_deref()).map(short);
    let published = host.tlsa.iter().find(|lookup| !lookup.records.is_empty());
    match (served, published) {
        (Some(served), Some(lookup)) => {
            let first = lookup.records.first().map(|record| short_record(record)).unwrap_or_default();
            let more = match lookup.records.len() {
                0 | 1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            format!(
                "{failure} (TLSA at {} is {first}{more}; the key served has SHA-256 {served})",
                lookup.owner
            )
        }
        _ => failure.to_owned(),
    }
}

/// The three numbers and the beginning of the data.
fn short_record(record: &str) -> String {
    match record.char_indices().nth(18) {
        Some((end, _)) => format!("{}\u{2026}", record.get(..end).unwrap_or(record)),
        None => record.to_owned(),
    }
}

/// What speaks for the cause, or against it.
fn evidence(class: Class, host: &HostRecord, about: &About<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if let Some(leaf) = leaf(host) {
        found.extend(served(leaf));
    }
    if matches!(class, Class::StaleTlsa | Class::OtherIssuer | Class::AnchorNotSent | Class::OtherServer) {
        found.extend(published(host));
    }
    match host.asked_again.as_deref() {
        Some("same") => {
            found.push("the TLSA records were asked for again past our cache: they are the same".to_owned());
        }
        Some("changed") => found.push(
            "the TLSA records were asked for again past our cache and had changed; the new ones do not match either"
                .to_owned(),
        ),
        _ => {}
    }
    if class == Class::StaleTlsa {
        found.extend(age(host, about));
        found.extend(whole_certificate(host));
    }
    found.extend(addresses(host));
    found
}

/// Which certificate was served.
fn served(leaf: &CertificateRecord) -> Option<String> {
    let subject = leaf.subject.as_ref()?;
    let key = leaf.spki_sha256.as_deref().unwrap_or("unreadable");
    let dates = match (leaf.not_before, leaf.not_after) {
        (Some(from), Some(to)) => format!(", valid from {} to {}", day(from), day(to)),
        _ => String::new(),
    };
    let issuer = match &leaf.issuer {
        Some(issuer) if issuer != subject => format!(", issued by {issuer}"),
        Some(_) => ", self-signed".to_owned(),
        None => String::new(),
    };
    Some(format!("served: {subject}{issuer}{dates}, key (SPKI sha256) {key}"))
}

/// Which records it should have matched.
fn published(host: &HostRecord) -> Option<String> {
    let secure = host.tlsa.iter().find(|lookup| !lookup.records.is_empty())?;
    Some(format!("published at {}: {}", secure.owner, secure.records.join(", ")))
}

/// What the certificate's date says, which is its owner's word.
fn age(host: &HostRecord, about: &About<'_>) -> Option<String> {
    let issued = leaf(host)?.not_before.filter(|issued| *issued >= FIRST_PLAUSIBLE)?;
    let days = now(about).saturating_sub(issued).checked_div(DAY)?;
    match days {
        0..=FRESH_DAYS => Some(format!(
            "the certificate is dated {} day{} back, which fits a renewal that forgot the record",
            days,
            if days == 1 { "" } else { "s" }
        )),
        61.. => Some(format!(
            "the certificate is dated {days} days back, so a renewal just now does not explain it: the record may never \
             have been right, or another server answers than the record is about"
        )),
        _ => None,
    }
}

fn whole_certificate(host: &HostRecord) -> Option<String> {
    let records = usable_records(host);
    let whole = !records.is_empty() && records.iter().all(|record| u8::from(record.selector) == 0);
    whole.then(|| {
        "the record names the whole certificate (selector 0), which changes with every renewal even where the key stays"
            .to_owned()
    })
}

/// Whether the addresses that were tried agree.
fn addresses(host: &HostRecord) -> Option<String> {
    let key = |one: &TryRecord| one.tls.as_ref()?.chain.first()?.spki_sha256.clone();
    let seen: Vec<(&str, String)> =
        host.tries.iter().filter_map(|one| Some((one.address.as_str(), key(one)?))).collect();
    let first = seen.first()?;
    if seen.iter().all(|(address, _)| *address == first.0) {
        return None;
    }
    if seen.iter().all(|(_, key)| *key == first.1) {
        return Some("all addresses that were tried serve the same key".to_owned());
    }
    let mut told: Vec<String> = Vec::new();
    for (address, key) in &seen {
        let good = host.tries.iter().any(|one| one.address == *address && super::is_proven(one));
        let line =
            format!("{address} serves {} ({})", short(key), if good { "matches" } else { "does not match" });
        if !told.contains(&line) {
            told.push(line);
        }
    }
    Some(told.join(", "))
}

/// What the operator of the host can do.
fn operator(class: Class, host: &HostRecord) -> Vec<String> {
    let mut steps = Vec::new();
    match class {
        Class::StaleTlsa | Class::OtherServer => {
            with_record(host, "If the key served is its own, publish this record beside the old one", &mut steps);
            steps.push(
                "If it is not, somebody stands between us and the server, and DANE has just done its work."
                    .to_owned(),
            );
            steps.push(
                "At the next renewal keep the key, or publish the new record two TTLs before the new key is used (RFC \
                 7671 8.1)."
                    .to_owned(),
            );
        }
        Class::AnchorNotSent => {
            steps.push(
                "Send the issuer's own certificate too, even if it is a root: under a digest record it must be in the \
                 chain (RFC 7671 5.2.2)."
                    .to_owned(),
            );
            with_record(host, "Or name the server's own key, which needs no chain", &mut steps);
        }
        Class::OtherIssuer => {
            steps.push("Publish a TLSA record for the new issuer.".to_owned());
            with_record(host, "Or name the server's own key, which outlasts a change of issuer", &mut steps);
        }
        Class::PublishingSlip => {
            with_record(host, "Correct the numbers of the record; if the key served is its own, this is right", &mut steps);
        }
        Class::NameMismatch => {
            let names =
                if host.reference_ids.is_empty() { host.host.clone() } else { host.reference_ids.join(" or ") };
            steps.push(format!("Get a certificate for {names}."));
            with_record(host, "Or name the server's own key, which needs no name", &mut steps);
        }
        Class::Expired | Class::NotYetValid => {
            steps.push("Renew the certificate and load it.".to_owned());
            with_record(host, "Or name the server's own key, which depends on no date", &mut steps);
        }
        Class::BrokenChain | Class::UnreadableChain | Class::NoCertificate => steps.push(
            "Send the server's certificate and every certificate up to the issuer that TLSA names, and nothing else."
                .to_owned(),
        ),
        Class::TlsaUnusable => {
            steps.push("Publish a record that SMTP can use: usage 2 or 3, best 3 1 1 (RFC 7672 3.1).".to_owned());
        }
        Class::NoStartTls => steps
            .push("Offer STARTTLS to every client, or remove the TLSA records (RFC 7672 9.2).".to_owned()),
        Class::TlsFailed => {
            steps.push("Let the server speak TLS 1.2 or 1.3 with a certificate suite (RFC 7672 8).".to_owned());
        }
        Class::NotTrusted => steps.push(format!(
            "Get a certificate for {} from a public certification authority, or publish TLSA records in a signed zone.",
            host.host
        )),
        Class::TlsaLookup => {
            steps.push(capital(&lookup_words(failed_status(host), "TLSA", &failed_owner(host)).1) + ".");
        }
        Class::AddressLookup => {
            steps.push(capital(&lookup_words(&host.address_status, "address", &host.host).1) + ".");
        }
        Class::StsNotListed => steps.push(format!(
            "List {} in the MTA-STS policy and give its TXT record a new id, or take the host out of the MX records.",
            host.host
        )),
        Class::MxLookup => {}
        Class::DaneRequired => steps
            .push("Sign the domain's zone and the host's, and publish a TLSA record for the host.".to_owned()),
    }
    steps
}

/// A step that ends in the record that would match what is served now.
fn with_record(host: &HostRecord, why: &str, steps: &mut Vec<String>) {
    let Some(key) = leaf(host).and_then(|leaf| leaf.spki_sha256.as_ref()) else { return };
    steps.push(format!("{why}:"));
    steps.push(format!("{COPIED}{}. IN TLSA 3 1 1 {key}", owner(host)));
}

/// What the administrator here can do.
fn here(class: Class, host: &HostRecord, about: &About<'_>, triage: &mut TriageRecord) {
    if about.relay {
        triage.here.push(format!(
            "{} is the relay host configured here: its operator serves you, tell them. Until then mail waits.",
            host.host
        ));
        return;
    }
    match class {
        Class::TlsaLookup => triage.here.push(check_lookup(&failed_owner(host), "TLSA")),
        Class::AddressLookup => {
            triage.here.push(check_lookup(&host.host, "A"));
            return;
        }
        Class::StsNotListed => return sts_exception(class, host, about, triage),
        Class::NotTrusted if host.sts.is_some() => return sts_exception(class, host, about, triage),
        Class::NotTrusted | Class::DaneRequired => {
            triage.here.push(format!(
                "The demand is a rule of this server: see [destination.\"{}\"] in the configuration, and change it if it \
                 asks for more than the destination has.",
                about.domain
            ));
            return;
        }
        Class::NotYetValid => {
            triage.here.push("See whether the clock of this server is right (\"date -u\").".to_owned());
        }
        _ => triage.here.push(format!(
            "Nothing has to be done: the mail waits, and leaves once this is repaired. Tell the operator of {} by another \
             way than mail to it.",
            host.host
        )),
    }
    triage.here.push(format!(
        "If it cannot wait, except the domain from DANE for a week with these lines (mail then goes {}), reload, and \
         \"mta-cli queue retry --to @{}\":",
        match class {
            Class::NoStartTls => "in the clear, to whoever answers",
            _ => "to whoever answers, encrypted if they offer it",
        },
        about.domain
    ));
    triage.exception = exception("dane = \"off\"", &format!("{class} at {}", host.host), about);
}

/// An exception from the domain's own MTA-STS policy.
fn sts_exception(class: Class, host: &HostRecord, about: &About<'_>, triage: &mut TriageRecord) {
    triage.here.push(format!(
        "Nothing has to be done: the mail waits, and leaves once this is repaired. Tell the operator of {} by another way \
         than mail to it.",
        about.domain
    ));
    triage.here.push(format!(
        "If it cannot wait, except the domain from MTA-STS for a week with these lines (mail then goes to whoever answers, \
         encrypted if they offer it), reload, and \"mta-cli queue retry --to @{}\":",
        about.domain
    ));
    triage.exception = exception("sts = false", &format!("{class} at {}", host.host), about);
}

/// The lines for the configuration.
fn exception(switch: &str, reason: &str, about: &About<'_>) -> Vec<String> {
    vec![
        format!("[destination.\"{}\"]", about.domain),
        switch.to_owned(),
        format!("until = \"{}\"", day(now(about).saturating_add(EXCEPTION_DAYS * DAY))),
        format!("reason = \"{reason}\""),
    ]
}

/// The certificate that did not do.
fn leaf(host: &HostRecord) -> Option<&CertificateRecord> {
    failures(host).find_map(|one| one.tls.as_ref()?.chain.first())
}

fn leaf_of(one: Option<&TryRecord>) -> Option<&CertificateRecord> {
    one?.tls.as_ref()?.chain.first()
}

/// The last certificate of that chain.
fn last(host: &HostRecord) -> Option<&CertificateRecord> {
    failures(host).find_map(|one| one.tls.as_ref()?.chain.last())
}

/// Where the host's TLSA records belong.
fn owner(host: &HostRecord) -> String {
    let secure = host.tlsa.iter().find(|lookup| !lookup.records.is_empty()).or_else(|| host.tlsa.first());
    secure.map_or_else(|| format!("_25._tcp.{}", host.host), |lookup| lookup.owner.clone())
}

/// Where the lookup failed.
fn failed_owner(host: &HostRecord) -> String {
    host.tlsa.last().map_or_else(|| owner(host), |lookup| lookup.owner.clone())
}

fn failed_status(host: &HostRecord) -> &str {
    host.tlsa.last().map_or("unavailable", |lookup| lookup.status.as_str())
}

/// The records in force, as the record keeps them.
fn usable_records(host: &HostRecord) -> Vec<TlsaRecord> {
    let records = host.tlsa.iter().flat_map(|lookup| &lookup.records);
    records.filter(|record| !record.contains('(')).filter_map(|record| record.parse().ok()).collect()
}

fn now(about: &About<'_>) -> i64 {
    i64::try_from(about.now_unix).unwrap_or(i64::MAX)
}

/// The day of a time, `2026-11-25`.
fn day(unix_seconds: i64) -> String {
    let text = mta_dane::der::date_text(unix_seconds);
    text.split_once('T').map_or_else(|| text.clone(), |(day, _)| day.to_owned())
}

/// Enough of a digest to tell it from another.
fn short(digest: &str) -> String {
    format!("{}\u{2026}", digest.get(..12).unwrap_or(digest))
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
