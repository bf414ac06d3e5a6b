//! The postmaster's digest: failures that no sender is told of, in one mail a day at most, with counts and samples.
//!
//! What it does not: it decides neither what goes into it (`told`) nor when it is sent, and nothing is ever told of its own
//! failure.

use std::io::{self, Write};
use std::time::SystemTime;

use mta_queue::Pending;
use mta_smtp::address::Mailbox;

use super::text::{line, paragraph, postmaster_header, rfc2822};

/// Everything a digest is made of.
#[derive(Debug, Clone, Copy)]
pub struct Digest<'a> {
    /// Our host name.
    pub hostname: &'a str,
    /// The queue id of the digest; makes its Message-ID.
    pub id: &'a str,
    /// The postmaster.
    pub to: &'a Mailbox,
    /// What it tells.
    pub pending: &'a Pending,
    /// When it is written.
    pub now: SystemTime,
}

impl Digest<'_> {
    /// Writes the whole content, CR LF lines.
    ///
    /// # Errors
    /// Whatever writing gives.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        let Self { hostname, id, pending, .. } = self;
        let subject = format!("{} that no sender was told of", failures(pending.count));
        postmaster_header(out, hostname, self.to, &subject, id, self.now)?;
        let opening = format!(
            "Since {}, {} could not be told to a sender: mail without a sender's address (notifications, mostly), or \
             mail from outside whose sender may be forged.",
            rfc2822(pending.since),
            failures(pending.count),
        );
        paragraph(out, "", &opening)?;
        for (at, sample) in &pending.samples {
            write!(out, "\r\n{}  {}\r\n", rfc2822(*at), sample.message)?;
            paragraph(
                out,
                "    ",
                &format!("from {} to <{}>", line(&sample.reverse_path), line(&sample.recipient)),
            )?;
            paragraph(out, "    ", &format!("{} {}", line(&sample.status), line(&sample.reason)))?;
        }
        let more = pending.count.saturating_sub(pending.samples.len() as u64);
        if more > 0 {
            write!(out, "\r\nAnd {more} more.\r\n")?;
        }
        out.write_all(b"\r\n")?;
        paragraph(out, "", "What is known of each, while it is kept: mta-cli queue show ID.")
    }
}

fn failures(count: u64) -> String {
    if count == 1 { "1 failure".to_owned() } else { format!("{count} failures") }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use mta_queue::Unreported;

    use super::*;

    #[test]
    fn counts_and_samples_and_no_line_of_a_stranger() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let sample = Unreported {
            message: "1k0z87q7zn1".parse().unwrap(),
            reverse_path: "<>".into(),
            recipient: "x@y.example".into(),
            status: "5.1.1".into(),
            reason: "550 no\r\nBcc: all@example".into(),
        };
        let pending = Pending { since: at, count: 3, samples: vec![(at, sample)] };
        let to = &Mailbox::parse("postmaster@example.org").unwrap();
        let mut out = Vec::new();
        let digest = Digest { hostname: "mx.example", id: "d1", to, pending: &pending, now: at };
        digest.write(&mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for part in [
            "Subject: 3 failures that no sender was told of\r\n",
            "Auto-Submitted: auto-generated\r\n",
            "    from <> to <x@y.example>\r\n    5.1.1 550 no Bcc: all@example\r\n",
            "\r\nAnd 2 more.\r\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']), "only CR LF");
    }
}
