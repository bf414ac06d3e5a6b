//! Whether a place outside a domain's own organization wants the domain's DMARC reports (RFC 9990 4, formerly RFC 7489 7.1).
//!
//! Without this check whoever publishes a record could have reports sent to a third party, from every server that gets his
//! mail. It fails closed: what cannot be known is no consent.

use hickory_proto::rr::{Name, RData, RecordType};
use mta_smtp::address::Mailbox;

use super::destination::Destination;
use crate::dns::Resolver;

/// Names that are looked at for one domain's organization (RFC 9989 4.10).
const MAX_WALK: usize = 8;

/// Who may be sent reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Consent {
    /// The place itself.
    Given,
    /// This one in its place, at the same host.
    Elsewhere(Mailbox),
    /// Nobody, in words.
    Refused(String),
    /// It cannot be known now, in words.
    Unknown(String),
}

/// Asks for the consent of the host of `to` to reports about `domain`. Both in A-labels, lower case.
pub(super) async fn consent(resolver: &dyn Resolver, domain: &str, to: &Mailbox) -> Consent {
    let host = to.host().to_string().to_ascii_lowercase();
    if host == domain {
        return Consent::Given;
    }
    let same = match organization(resolver, domain).await {
        Ok(own) => organization(resolver, &host).await.map(|other| own == other),
        Err(why) => Err(why),
    };
    match same {
        Ok(true) => return Consent::Given,
        Ok(false) => {}
        Err(why) => return Consent::Unknown(why),
    }
    let owner = format!("{domain}._report._dmarc.{host}");
    let texts = match texts(resolver, &owner).await {
        Ok(texts) => texts,
        Err(Failed::Name) => return Consent::Refused(format!("{owner} is no name of DNS")),
        Err(Failed::Lookup(why)) => return Consent::Unknown(why),
    };
    judge(&owner, &host, &texts)
}

/// What the records say.
fn judge(owner: &str, host: &str, texts: &[String]) -> Consent {
    let records: Vec<&String> = texts.iter().filter(|text| is_dmarc(text)).collect();
    if records.is_empty() {
        return Consent::Refused(format!("{host} did not agree: there is no v=DMARC1 at {owner}"));
    }
    let Some(rua) = records.iter().find_map(|record| tag(record, "rua")) else { return Consent::Given };
    let uri = rua.split(',').next().unwrap_or_default().trim();
    let uri = uri.split('!').next().unwrap_or_default();
    match Destination::parse(uri) {
        // To another host it would be a way to send on to yet another third party.
        Ok(Destination::Mail(mailbox)) if mailbox.host().to_string().eq_ignore_ascii_case(host) => {
            Consent::Elsewhere(mailbox)
        }
        _ => Consent::Refused(format!("{owner} names a place that is not at {host}")),
    }
}

/// The organizational domain of a name (RFC 9989 4.10.2); in words why it cannot be known.
async fn organization(resolver: &dyn Resolver, name: &str) -> Result<String, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for domain in walk(name) {
        let records = match texts(resolver, &format!("_dmarc.{domain}")).await {
            Ok(texts) => texts.into_iter().filter(|text| is_dmarc(text)).collect::<Vec<_>>(),
            Err(Failed::Name) => Vec::new(),
            Err(Failed::Lookup(why)) => return Err(why),
        };
        // More than one is none.
        if let [record] = records.as_slice() {
            found.push((domain, record.clone()));
        }
    }
    Ok(select(name, &found))
}

/// The names of the walk, the longest first.
fn walk(name: &str) -> Vec<String> {
    let labels: Vec<&str> = name.split('.').collect();
    let mut names = vec![name.to_owned()];
    let first = labels.len().saturating_sub(MAX_WALK - 1).max(1);
    names.extend((first..labels.len()).filter_map(|at| labels.get(at..)).map(|rest| rest.join(".")));
    names.truncate(MAX_WALK);
    names
}

/// Which of the domains with a record is the organization's.
fn select(name: &str, found: &[(String, String)]) -> String {
    for (domain, record) in found {
        match tag(record, "psd").map(str::to_ascii_lowercase).as_deref() {
            Some("n") => return domain.clone(),
            // A public suffix: the organization stands one label below it.
            Some("y") if domain != name => {
                let below = name.strip_suffix(domain.as_str()).and_then(|rest| rest.strip_suffix('.'));
                let label = below.and_then(|below| below.rsplit('.').next());
                return label.map_or_else(|| name.to_owned(), |label| format!("{label}.{domain}"));
            }
            _ => {}
        }
    }
    found.last().map_or_else(|| name.to_owned(), |(domain, _)| domain.clone())
}

/// The tag comes first (RFC 9989 4.8).
fn is_dmarc(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first.split_once('=').is_some_and(|(tag, value)| tag.trim() == "v" && value.trim() == "DMARC1")
}

fn tag<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    let tags = text.split(';').filter_map(|field| field.split_once('='));
    tags.map(|(tag, value)| (tag.trim(), value.trim()))
        .find(|(tag, _)| *tag == wanted)
        .map(|(_, value)| value)
}

/// Why there are no records.
enum Failed {
    /// It is no name of DNS.
    Name,
    /// It cannot be known.
    Lookup(String),
}

async fn texts(resolver: &dyn Resolver, owner: &str) -> Result<Vec<String>, Failed> {
    let name = Name::from_ascii(format!("{owner}.")).map_err(|_| Failed::Name)?;
    let answer = resolver.lookup(name, RecordType::TXT).await;
    if answer.status.is_error() {
        let reason = answer.reason.as_deref().unwrap_or_default();
        return Err(Failed::Lookup(format!("{owner} could not be looked up: {reason}")));
    }
    let text = |data: &RData| match data {
        RData::TXT(txt) => Some(String::from_utf8_lossy(&txt.txt_data.concat()).into_owned()),
        _ => None,
    };
    Ok(answer.records.iter().filter_map(|record| text(&record.data)).collect())
}

#[cfg(test)]
mod tests {
    use mta_dane::dnssec::Status;

    use super::*;
    use crate::dns::fake::FakeResolver;

    #[test]
    fn the_walk_is_bounded_and_the_organization_found() {
        assert_eq!(walk("a.b.example"), ["a.b.example", "b.example", "example"]);
        let long = walk("a.b.c.d.e.f.g.h.i.j.k.example");
        assert_eq!((long.len(), long[1].as_str(), long[7].as_str()), (8, "f.g.h.i.j.k.example", "example"));
        let found = |records: &[(&str, &str)]| {
            records.iter().map(|(d, r)| ((*d).to_owned(), format!("v=DMARC1; {r}"))).collect::<Vec<_>>()
        };
        for (name, records, expected) in [
            ("a.b.example", &[][..], "a.b.example"),
            ("a.b.example", &[("a.b.example", "p=none")], "a.b.example"),
            ("a.b.example", &[("a.b.example", "p=none"), ("b.example", "p=none")], "b.example"),
            ("a.b.example", &[("a.b.example", "psd=n"), ("b.example", "p=none")], "a.b.example"),
            ("a.b.example", &[("b.example", "p=none"), ("example", "psd=y")], "b.example"),
            ("x.a.b.example", &[("b.example", "psd=y; p=none")], "a.b.example"),
            ("b.example", &[("b.example", "psd=y")], "b.example"),
        ] {
            assert_eq!(select(name, &found(records)), expected, "{name} {records:?}");
        }
    }

    #[test]
    fn what_cannot_be_known_is_no_consent() {
        let dns = FakeResolver::new();
        let (secure, txt) = (Status::Secure, RecordType::TXT);
        for owner in ["_dmarc.r.example", "_dmarc.other.example", "_dmarc.example", "_dmarc.gone.example"] {
            dns.nxdomain(owner, secure);
        }
        dns.secure("_dmarc.a.example", txt, &["v=DMARC1; p=none"]).nodata(
            "_dmarc.mail.a.example",
            txt,
            secure,
        );
        dns.nodata("_dmarc.r.a.example", txt, secure);
        dns.secure("a.example._report._dmarc.r.example", txt, &["v=DMARC1"]);
        dns.nxdomain("a.example._report._dmarc.other.example", secure);
        dns.unavailable("a.example._report._dmarc.gone.example", txt).bogus("_dmarc.bogus.example", txt);
        let ask = |to: &str| smol::block_on(consent(&dns, "a.example", &Mailbox::parse(to).unwrap()));
        assert_eq!(ask("x@a.example"), Consent::Given);
        assert_eq!(ask("x@r.A.example"), Consent::Given, "of the same organization");
        assert_eq!(ask("x@r.example"), Consent::Given, "it agreed");
        assert!(matches!(ask("x@other.example"), Consent::Refused(_)));
        assert!(matches!(ask("x@gone.example"), Consent::Unknown(_)));
        assert!(matches!(ask("x@bogus.example"), Consent::Unknown(_)));
    }

    #[test]
    fn consent_is_a_record_and_nothing_else() {
        let owner = "a.example._report._dmarc.r.example";
        let judge = |texts: &[&str]| {
            judge(owner, "r.example", &texts.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(judge(&["v=DMARC1"]), Consent::Given);
        assert_eq!(judge(&["v=spf1 -all", "v = DMARC1 ; "]), Consent::Given);
        let other = Mailbox::parse("x@r.example").unwrap();
        assert_eq!(judge(&["v=DMARC1; rua=mailto:x@R.example!10m"]), Consent::Elsewhere(other));
        for texts in [
            &[][..],
            &["v=spf1 -all"],
            &["rua=mailto:x@r.example; v=DMARC1"],
            &["v=DMARC12"],
            &["v=dmarc1"],
            &["v=DMARC1; rua=mailto:victim@v.example"],
            &["v=DMARC1; rua=https://r.example/"],
        ] {
            assert!(matches!(judge(texts), Consent::Refused(_)), "{texts:?}");
        }
    }
}
