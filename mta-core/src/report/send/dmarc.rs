//! A DMARC aggregate report ready to leave (RFC 9990): the document, its form as mail, and where it goes.

use std::time::SystemTime;

use mta_queue::{DmarcCounts, Reader, StoredReport, start_of};

use super::destination::{Destination, MAX_DESTINATIONS};
use super::external::{Consent, consent};
use super::mail::{Form, gzip};
use super::{Options, Place, Preparing, Ready, Way};
use crate::dns::Resolver;
use crate::report::dmarc::{Document, PublishedPolicy, Row, xml};
use crate::report::tlsrpt::{day_text, end_of};

/// Octets of a mail besides the report in base64, at most.
const MAIL_BYTES: usize = 4_096;

/// What a day's counters give.
struct Made {
    form: Form,
    gzip: Vec<u8>,
    policy: PublishedPolicy,
}

/// The document.
fn made(counts: DmarcCounts, options: &Options, now: SystemTime) -> Result<Made, String> {
    let policy: PublishedPolicy = serde_json::from_str(&counts.policy).map_err(|error| error.to_string())?;
    // A row of another version, which cannot be read, is left out like one that found no room.
    let mut left_out = counts.left_out;
    let mut rows: Vec<(Row, u64)> = Vec::new();
    for (data, messages) in counts.rows {
        match serde_json::from_str(&data) {
            Ok(row) => rows.push((row, messages)),
            Err(_) => left_out = left_out.saturating_add(messages),
        }
    }
    let unix = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (begin, end) = (unix(start_of(counts.day)), unix(end_of(counts.day, now)));
    let (domain, submitter) = (counts.domain, options.submitter());
    // RFC 9990 3.5: the same report is the same one, however often it is sent.
    let report_id = format!("{begin}-{end}.{domain}@{}", options.hostname);
    let contact = options.contact.to_string();
    let document = xml(&Document {
        organization: &options.hostname,
        contact: &contact,
        report_id: &report_id,
        range: (begin, end),
        domain: &domain,
        policy: &policy,
        rows: &rows,
        left_out,
    });
    let gzip = gzip(document.as_bytes()).map_err(|error| error.to_string())?;
    let form = Form {
        text: format!(
            "This is a DMARC aggregate report (RFC 9990) about mail with an author of {domain} that came to {}, {}. Who \
             wants none takes the tag rua out of the TXT record at _dmarc.{domain}. Questions: {contact}",
            options.hostname,
            day_text(counts.day),
        ),
        file_name: format!("{submitter}!{domain}!{begin}!{end}.xml.gz"),
        domain,
        submitter,
        report_id,
        whole: "multipart/mixed",
        fields: String::new(),
        media_type: "application/gzip",
    };
    Ok(Made { form, gzip, policy })
}

/// Everything about one report.
pub(super) async fn prepare(
    resolver: &dyn Resolver,
    reader: Reader,
    report: &StoredReport,
    options: &Options,
    now: SystemTime,
) -> Preparing {
    let (wanted, shared) = (report.clone(), options.clone());
    let result = smol::unblock(move || {
        let counts =
            reader.dmarc_counts(wanted.day, Some(&wanted.domain)).map_err(|error| error.to_string())?;
        // No message was told apart: there is nothing to report but that.
        let counts = counts.into_iter().next().filter(|counts| !counts.rows.is_empty());
        counts.map(|counts| made(counts, &shared, now)).transpose()
    })
    .await;
    let Made { form, gzip, policy } = match result {
        Ok(Some(made)) => made,
        Ok(None) => return Preparing::Unwanted("no message was counted".to_owned()),
        Err(why) => return Preparing::Later(why),
    };
    let mut places: Vec<Place> = Vec::new();
    for (uri, max_bytes) in &policy.rua {
        let way = if places.iter().filter(|place| !matches!(place.way, Way::Refused(_))).count()
            >= MAX_DESTINATIONS
        {
            Way::Refused(format!("more than {MAX_DESTINATIONS} places for one report"))
        } else {
            way(resolver, &report.domain, uri, *max_bytes, &gzip).await
        };
        places.push(Place { uri: uri.clone(), way });
    }
    Preparing::Ready(Box::new(Ready { form, gzip, places, tls_required_no: false }))
}

/// Whether the report goes to a place.
async fn way(resolver: &dyn Resolver, domain: &str, uri: &str, max_bytes: usize, gzip: &[u8]) -> Way {
    // What verified the record took the scheme off.
    let uri = if uri.contains(':') { uri.to_owned() } else { format!("mailto:{uri}") };
    let mailbox = match Destination::parse(&uri) {
        Ok(Destination::Mail(mailbox)) => mailbox,
        Ok(Destination::Https { .. }) => return Way::Refused("DMARC reports leave by mail only".to_owned()),
        Err(why) => return Way::Refused(why.to_owned()),
    };
    // RFC 9990 3.5: after compression and encoding.
    let size = gzip.len().saturating_mul(4) / 3 * 78 / 76 + MAIL_BYTES;
    if max_bytes > 0 && size > max_bytes {
        return Way::Refused(format!(
            "the report has up to {size} octets, and no more than {max_bytes} are wanted"
        ));
    }
    match consent(resolver, domain, &mailbox).await {
        Consent::Given => Way::To(Destination::Mail(mailbox)),
        Consent::Elsewhere(mailbox) => Way::To(Destination::Mail(mailbox)),
        Consent::Refused(why) => Way::Refused(why),
        Consent::Unknown(why) => Way::Unknown(why),
    }
}
