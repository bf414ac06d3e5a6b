//! A TLS report ready to leave (RFC 8460): the document, its form as mail, and where it goes.

use std::time::SystemTime;

use mta_queue::{Reader, StoredReport, start_of};

use super::destination::Destination;
use super::mail::{Form, gzip};
use super::{Options, Place, Preparing, Ready, Way};
use crate::dns::Resolver;
use crate::report::tlsrpt::{self, Addressed, Identity, Nowhere};

/// The largest report that leaves, compressed, in octets.
const MAX_REPORT_BYTES: usize = 8 << 20;

/// The document; `None` where nothing was counted.
///
/// # Errors
/// What the database reports, in words.
pub(super) fn document(
    reader: &Reader,
    report: &StoredReport,
    options: &Options,
    now: SystemTime,
) -> Result<Option<(Addressed, Form, Vec<u8>)>, String> {
    let counts = reader.tls_report(report.day, Some(&report.domain)).map_err(|error| error.to_string())?;
    let rows: Vec<_> = tlsrpt::rows(report.day, 0, counts).collect();
    let contact = options.contact.to_string();
    let identity = Identity { hostname: options.hostname.clone(), contact };
    let reports = tlsrpt::reports(report.day, &rows, &identity, now);
    let Some(addressed) = reports.into_iter().find(|found| found.domain == report.domain) else {
        return Ok(None);
    };
    let json = serde_json::to_vec(&addressed.report).map_err(|error| error.to_string())?;
    let gzip = gzip(&json).map_err(|error| error.to_string())?;
    let form = form(&addressed, report, options, now);
    Ok(Some((addressed, form, gzip)))
}

fn form(addressed: &Addressed, report: &StoredReport, options: &Options, now: SystemTime) -> Form {
    let (domain, submitter) = (&addressed.domain, options.submitter());
    let unix = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let (begin, end) = (unix(start_of(report.day)), unix(tlsrpt::end_of(report.day, now)));
    Form {
        domain: domain.clone(),
        // RFC 8460 5.3: the domain of contact-info.
        submitter: submitter.clone(),
        report_id: addressed.report.report_id.clone(),
        whole: "multipart/report; report-type=\"tlsrpt\"",
        // The report may be about the very host that takes it: RFC 8460 3, 5.3.1 want it delivered whatever fails, which is
        // what RFC 8689 3 has this field for.
        fields: format!(
            "TLS-Report-Domain: {domain}\r\nTLS-Report-Submitter: {submitter}\r\nTLS-Required: No\r\n"
        ),
        text: format!(
            "This is an aggregate TLS report (RFC 8460) about mail of {} to {domain}, {}. Who wants none takes the TXT \
             record at _smtp._tls.{domain} away. Questions: {}",
            options.hostname,
            tlsrpt::day_text(report.day),
            options.contact,
        ),
        media_type: "application/tlsrpt+gzip",
        file_name: format!("{submitter}!{domain}!{begin}!{end}.json.gz"),
    }
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
    let made = smol::unblock(move || document(&reader, &wanted, &shared, now)).await;
    let (_, form, gzip) = match made {
        Ok(Some(made)) => made,
        Ok(None) => return Preparing::Unwanted("no session was counted".to_owned()),
        Err(why) => return Preparing::Later(why),
    };
    let uris = match tlsrpt::lookup(resolver, &report.domain).await {
        Ok(uris) => uris,
        Err(Nowhere::Never(why)) => return Preparing::Unwanted(why),
        Err(Nowhere::Unknown(why)) => return Preparing::Later(why),
    };
    if gzip.len() > MAX_REPORT_BYTES {
        return Preparing::Unwanted(format!("the report has more than {MAX_REPORT_BYTES} octets"));
    }
    // The port of policy hosts is that of HTTPS; another only in laboratories.
    let https = options.outbound.sts.port;
    let way = |uri: &str| match Destination::parse(uri) {
        // Security decision: a stranger names the host, and what else listens there is not ours to talk to.
        Ok(Destination::Https { port: Some(port), .. }) if port != https => {
            Way::Refused(format!("no report goes to another port than {https}"))
        }
        Ok(to) => Way::To(to),
        Err(why) => Way::Refused(why.to_owned()),
    };
    let places = uris.into_iter().map(|uri| Place { way: way(&uri), uri });
    Preparing::Ready(Box::new(Ready { form, gzip, places: places.collect(), tls_required_no: true }))
}
