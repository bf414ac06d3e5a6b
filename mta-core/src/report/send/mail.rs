//! The mail that carries a report: a text for people, and the report in gzip.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mta_smtp::address::Mailbox;

use crate::report::text::{paragraph, rfc2822};

/// Octets of a line of base64 (RFC 2045 6.8).
const BASE64_COLUMNS: usize = 76;

/// Everything such a mail is made of but the place it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Form {
    /// The domain that the report is about.
    pub(super) domain: String,
    /// The domain that reports.
    pub(super) submitter: String,
    /// The report's own identifier, without the brackets.
    pub(super) report_id: String,
    /// The media type of the whole.
    pub(super) whole: &'static str,
    /// Fields of its own, whole lines.
    pub(super) fields: String,
    /// What a person reads.
    pub(super) text: String,
    /// The media type of the report.
    pub(super) media_type: &'static str,
    /// The report's file name.
    pub(super) file_name: String,
}

/// Who writes to whom, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    /// The author: his domain's key signs.
    pub(super) from: &'a Mailbox,
    /// The place.
    pub(super) to: &'a Mailbox,
    /// Our host name, and the queue id of the mail: its Message-ID.
    pub(super) hostname: &'a str,
    /// The queue id.
    pub(super) id: &'a str,
    /// Now.
    pub(super) now: SystemTime,
}

impl Form {
    /// Writes the whole content, CR LF lines, ASCII.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub(super) fn write(&self, envelope: &Envelope<'_>, gzip: &[u8], out: &mut dyn Write) -> io::Result<()> {
        let Envelope { from, to, hostname, id, now } = envelope;
        let boundary = format!("mta-report-{id}-{:016x}", fastrand::u64(..));
        // The subject's form is that of RFC 8460 5.3 and RFC 9990 3.5. RFC 3834 5: nothing answers it automatically.
        write!(
            out,
            "Date: {}\r\nFrom: Mail reports <{from}>\r\nTo: <{to}>\r\nSubject: Report Domain: {}\r\n\tSubmitter: {}\r\n\t\
             Report-ID: <{}>\r\nMessage-ID: <{id}@{hostname}>\r\nAuto-Submitted: auto-generated\r\n{}\
             MIME-Version: 1.0\r\nContent-Type: {};\r\n\tboundary=\"{boundary}\"\r\n\r\n--{boundary}\r\n\
             Content-Type: text/plain; charset=us-ascii\r\nContent-Transfer-Encoding: 7bit\r\n\r\n",
            rfc2822(*now),
            self.domain,
            self.submitter,
            self.report_id,
            self.fields,
            self.whole,
        )?;
        paragraph(out, "", &self.text)?;
        write!(
            out,
            "\r\n--{boundary}\r\nContent-Type: {};\r\n\tname=\"{name}\"\r\nContent-Transfer-Encoding: base64\r\n\
             Content-Disposition: attachment;\r\n\tfilename=\"{name}\"\r\n\r\n",
            self.media_type,
            name = self.file_name,
        )?;
        out.write_all(base64(gzip).as_bytes())?;
        write!(out, "--{boundary}--\r\n")
    }
}

/// In lines.
fn base64(octets: &[u8]) -> String {
    let text = STANDARD.encode(octets);
    let mut lines = String::with_capacity(text.len() + text.len() / 38 + 2);
    for line in text.as_bytes().chunks(BASE64_COLUMNS) {
        // Base64 is ASCII.
        let _ = write!(lines, "{}\r\n", String::from_utf8_lossy(line));
    }
    lines
}

/// Compresses a document (RFC 1952).
///
/// # Errors
/// None that memory does not give.
pub(super) fn gzip(document: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(document)?;
    encoder.finish()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_header_of_rfc8460_5_3_and_the_report_as_it_was() {
        let form = Form {
            domain: "a.example".into(),
            submitter: "own.example".into(),
            report_id: "1.a.example@own.example".into(),
            whole: "multipart/report; report-type=\"tlsrpt\"",
            fields: "TLS-Report-Domain: a.example\r\n".into(),
            text: "A report.".into(),
            media_type: "application/tlsrpt+gzip",
            file_name: "own.example!a.example!0!86399.json.gz".into(),
        };
        let document = "x".repeat(3).into_bytes();
        let from = &Mailbox::parse("r@own.example").unwrap();
        let to = &Mailbox::parse("t@a.example").unwrap();
        let now = SystemTime::UNIX_EPOCH;
        let mut out = Vec::new();
        let envelope = Envelope { from, to, hostname: "mx.own.example", id: "q1", now };
        form.write(&envelope, &gzip(&document).unwrap(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "From: Mail reports <r@own.example>\r\nTo: <t@a.example>\r\n",
            "Subject: Report Domain: a.example\r\n\tSubmitter: own.example\r\n\tReport-ID: <1.a.example@own.example>\r\n",
            "Message-ID: <q1@mx.own.example>\r\nAuto-Submitted: auto-generated\r\nTLS-Report-Domain: a.example\r\n",
            "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n\tboundary=",
            "\tfilename=\"own.example!a.example!0!86399.json.gz\"\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']) && text.is_ascii());
        let encoded = text.rsplit("\r\n\r\n").next().unwrap().split("--").next().unwrap().replace("\r\n", "");
        let mut back = Vec::new();
        let packed = STANDARD.decode(encoded).unwrap();
        flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut back).unwrap();
        assert_eq!(back, document);
    }
}
