//! `[report]`: what is counted for the operators of other domains, and sent to them.

use std::sync::Arc;
use std::time::Duration;

use mta_smtp::address::Mailbox;

use super::{Config, MailAddress};
use crate::inbound;
use crate::report::send;

/// Reports to other domains.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Days for which TLS sessions are counted.
    pub tls_days: u32,
    /// Whether TLS reports are sent.
    pub tls_send: bool,
    /// Days for which messages are counted for DMARC reports.
    pub dmarc_days: u32,
    /// Whether DMARC aggregate reports are sent.
    pub dmarc_send: bool,
    /// The author of reports by mail; unset is the postmaster.
    pub from: Option<MailAddress>,
    /// Whom to ask about them; unset is the author.
    pub contact: Option<MailAddress>,
    /// They leave within this time after midnight.
    pub delay: Duration,
}

impl Config {
    /// The options of what sends reports.
    pub fn report_options(&self) -> send::Options {
        let mailbox = |address: &Option<MailAddress>| {
            address.as_ref().and_then(|address| Mailbox::parse(address.as_ref()).ok())
        };
        let postmaster = || {
            inbound::postmaster(&self.inbound_options(), &self.accounts())
                .unwrap_or_else(|| Mailbox::postmaster(self.host_domain()))
        };
        let from = mailbox(&self.report.from).unwrap_or_else(postmaster);
        send::Options {
            hostname: self.effective_hostname().to_string(),
            contact: mailbox(&self.report.contact).unwrap_or_else(|| from.clone()),
            from,
            tls: self.report.tls_send,
            dmarc: self.report.dmarc_send,
            delay: self.report.delay,
            outbound: Arc::new(self.outbound_options()),
        }
    }
}
