//! The show for a newcomer: one message to each of a handful of domains, and what became of it and why.
//!
//! Every verdict is read from the daemon's own records and checked against what the scripted hosts and the mailbox
//! really hold. Nothing in the table is assumed: expectations only decide about the tick at its end.

mod exhibits;
mod observe;
mod table;

use std::io;

use serde::Serialize;

pub use exhibits::{Exhibit, exhibits};
pub use table::print;

use crate::lab::{Lab, OWN_DOMAIN, Plan, Ports};

/// Who sends the messages of the show.
pub const SENDER: &str = "alice@own.example";

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Handed over to the MX host, or into the mailbox.
    Delivered,
    /// Still in the queue, to be tried again.
    Delayed,
    /// Given up, and returned to its sender.
    Returned,
    /// The records and what really arrived do not agree, or there is no verdict at all.
    Unclear,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Delivered => "DELIVERED",
            Self::Delayed => "DELAYED",
            Self::Returned => "RETURNED",
            Self::Unclear => "UNCLEAR",
        })
    }
}

/// How the connection was protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// The peer's identity was proved by a TLSA record.
    Dane,
    /// Encrypted, with nobody to vouch for the peer.
    Encrypted,
    /// Plain text.
    Plain,
    /// Nothing was sent.
    None,
    /// It never left this host.
    Local,
}

/// One line of the table.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// The recipient domain.
    pub domain: &'static str,
    /// What the domain shows.
    pub shows: &'static str,
    /// What DNSSEC said: of the MX records, or of what was looked up last.
    pub dnssec: String,
    /// What TLS and DANE came to.
    pub tls: String,
    /// How the message was protected on its way.
    pub protection: Protection,
    /// What became of the message.
    pub verdict: Verdict,
    /// Why, from the daemon's decision record.
    pub why: String,
    /// Whether verdict and protection are the expected ones.
    pub as_expected: bool,
    /// The queue id.
    pub queue_id: String,
    /// The daemon's account of it, sentence by sentence.
    pub story: Vec<String>,
}

/// The laboratory of the show, running; on the real ports if this process is in a namespace of its own.
///
/// # Errors
///
/// A port is taken, or the daemon does not start.
pub fn start(in_namespace: bool) -> io::Result<(Lab, Vec<Exhibit>)> {
    start_on(Plan::on_ports(if in_namespace { Ports::REAL } else { Ports::free() }))
}

/// The same, on a plan that may hold settings of its own.
///
/// # Errors
///
/// A port is taken, or the daemon does not start.
pub fn start_on(mut plan: Plan) -> io::Result<(Lab, Vec<Exhibit>)> {
    // The first attempt decides; nothing is tried again while somebody looks.
    plan.set("queue.retry", "[\"1h\"]");
    plan.set("queue.delay_notice", "\"0s\"");
    let exhibits = exhibits(&mut plan);
    Ok((plan.start()?, exhibits))
}

/// Sends one message to each exhibit, all at once, and tells what became of them.
///
/// # Errors
///
/// The daemon took no mail.
pub fn run(lab: &Lab, exhibits: &[Exhibit]) -> io::Result<Vec<Row>> {
    let mut sent = Vec::new();
    for exhibit in exhibits {
        let mailbox = if exhibit.domain == OWN_DOMAIN { "bob" } else { "someone" };
        let recipient = format!("{mailbox}@{}", exhibit.domain);
        let content =
            crate::client::message(SENDER, &recipient, exhibit.shows, "Hello from the laboratory.\n");
        let id = lab.send_content(SENDER, &[&recipient], &content);
        sent.push((exhibit, id, content));
    }
    Ok(sent.into_iter().map(|(exhibit, id, content)| observe::row(lab, exhibit, &id, &content)).collect())
}
