//! The trace line that each accepted message gets in front (RFC 5321 4.4).

use std::net::IpAddr;

use mta_smtp::address::{Domain, Host, Mailbox};
use mta_smtp::envelope::Envelope;
use mta_smtp::server::TlsInfo;

use crate::content::{Arrival, date};

/// What the trace line tells.
#[derive(Debug, Clone)]
pub(super) struct Trace<'a> {
    /// The name the client gave itself.
    pub(super) client_name: &'a str,
    /// The client's address; `None` leaves out where the message came from, as its sender wishes.
    pub(super) client: Option<IpAddr>,
    /// The user's number, where it is a program on this machine.
    pub(super) local_uid: Option<u32>,
    /// Our name.
    pub(super) hostname: &'a Domain,
    /// `SMTP`, `ESMTP` or `ESMTPS`.
    pub(super) protocol: &'a str,
    /// TLS, if it is active.
    pub(super) tls: Option<&'a TlsInfo>,
    /// The queue id.
    pub(super) id: String,
    /// The recipient, where there is only one: with more, each would learn of the others (RFC 5321 7.2).
    pub(super) recipient: Option<&'a Mailbox>,
    /// The time, as RFC 5322 3.3 writes it.
    pub(super) date: String,
}

impl<'a> Trace<'a> {
    /// What is told of a message.
    pub(super) fn of(envelope: &'a Envelope, arrival: &'a Arrival) -> Self {
        let recipient = match envelope.recipients.as_slice() {
            [only] => Some(&only.mailbox),
            _ => None,
        };
        Self {
            client_name: &arrival.client_name,
            client: (!arrival.source.hides_client()).then_some(arrival.source.client),
            local_uid: arrival.source.local.as_ref().map(|user| user.uid),
            hostname: &arrival.hostname,
            protocol: arrival.protocol,
            tls: arrival.tls.as_ref(),
            id: arrival.id.to_string(),
            recipient,
            date: date(arrival.received_at),
        }
    }

    /// The `Received:` field with its line ends.
    pub(super) fn field(&self) -> String {
        let recipient = self.recipient.map(|mailbox| format!("\r\n\tfor <{mailbox}>")).unwrap_or_default();
        if let Some(uid) = self.local_uid {
            // RFC 5322 3.6.7: no SMTP client, so no name of one.
            let (host, id, date) = (self.hostname, &self.id, &self.date);
            return format!(
                "Received: by {host} (from userid {uid})\r\n\tid {id}{recipient};\r\n\t{date}\r\n"
            );
        }
        let tls = self.tls.map(|tls| format!("(using {} with cipher {})", tls.version, tls.cipher));
        let tls = tls.unwrap_or_default();
        let from = match self.client {
            Some(client) if tls.is_empty() => format!("{}\r\n\t", self.from(client)),
            Some(client) => format!("{}\r\n\t{tls}\r\n\t", self.from(client)),
            None if tls.is_empty() => String::new(),
            None => format!("{tls}\r\n\t"),
        };
        format!(
            "Received: {from}by {host} with {protocol} id {id}{recipient};\r\n\t{date}\r\n",
            host = self.hostname,
            protocol = self.protocol,
            id = self.id,
            date = self.date,
        )
    }

    /// Where it came from.
    fn from(&self, client: IpAddr) -> String {
        let address = Host::Literal(client);
        match Host::parse(self.client_name) {
            Ok(name) => format!("from {name} ({address})"),
            // What is no domain goes where the grammar allows any text; the session let only name characters in.
            Err(_) => format!("from {address} ({address}) (HELO {})", self.client_name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_by_rfc5321_4_4() {
        let hostname = Domain::parse("mx.example").expect("a domain");
        let recipient = Mailbox::parse("\"a b\"@c.example").expect("a mailbox");
        let tls = TlsInfo {
            version: "TLSv1.3".to_owned(),
            cipher: "TLS_AES_256_GCM_SHA384".to_owned(),
            ..TlsInfo::default()
        };
        let mut trace = Trace {
            client_name: "client.example",
            client: "192.0.2.1".parse().ok(),
            local_uid: None,
            hostname: &hostname,
            protocol: "ESMTPS",
            tls: Some(&tls),
            id: "abc".to_owned(),
            recipient: Some(&recipient),
            date: "Mon, 23 Nov 2026 22:03:48 +0000".to_owned(),
        };
        assert_eq!(
            trace.field(),
            "Received: from client.example ([192.0.2.1])\r\n\t(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384)\r\n\tby \
             mx.example with ESMTPS id abc\r\n\tfor <\"a b\"@c.example>;\r\n\tMon, 23 Nov 2026 22:03:48 +0000\r\n"
        );
        (trace.client_name, trace.client, trace.tls, trace.recipient) =
            ("my_host", "2001:db8::1".parse().ok(), None, None);
        assert!(trace.field().starts_with(
            "Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1]) (HELO my_host)\r\n\tby mx.example with ESMTPS id abc;\r\n"
        ));
        trace.local_uid = Some(1000);
        assert_eq!(
            trace.field(),
            "Received: by mx.example (from userid 1000)\r\n\tid abc;\r\n\tMon, 23 Nov 2026 22:03:48 +0000\r\n"
        );
    }
}
