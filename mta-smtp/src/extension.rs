//! The service extensions a server offers in its reply to EHLO (RFC 5321 2.2), and what they do to line lengths.
//!
//! What it does: one value says which extensions are on; the EHLO reply, the parameters taken and the length of a
//! command line all follow from it. What it does not: it does not read a peer's offer (see `client`).

use crate::sasl::server::MechanismSet;

/// The longest line of an authentication exchange, CR LF included (RFC 4954 4.3).
pub const AUTH_LINE_OCTETS: usize = 12_288;

/// What is offered. PIPELINING, 8BITMIME, ENHANCEDSTATUSCODES and CHUNKING (without BINARYMIME) always are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extensions {
    /// STARTTLS (RFC 3207); offered until TLS is active.
    pub starttls: bool,
    /// The largest message taken, in octets (SIZE, RFC 1870); 0 is no limit.
    pub size_limit: u64,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// REQUIRETLS (RFC 8689); offered under TLS only.
    pub require_tls: bool,
    /// AUTH (RFC 4954) with these mechanisms; offered under TLS only.
    pub auth: MechanismSet,
    /// AUTH is offered in the clear as well: on loopback, where the administrator wants it.
    pub auth_in_clear: bool,
}

impl Extensions {
    /// What is offered at this point of a session.
    pub fn offered(&self, tls_active: bool) -> Self {
        Self {
            starttls: self.starttls && !tls_active,
            require_tls: self.require_tls && tls_active,
            auth: if tls_active || self.auth_in_clear { self.auth } else { MechanismSet::default() },
            ..*self
        }
    }

    /// The lines of the EHLO reply that follow the host name. LIMITS (RFC 9422) names how many messages a session and how
    /// many recipients a message may have.
    pub fn ehlo_lines(&self, messages: usize, recipients: usize) -> Vec<String> {
        let mut lines = vec!["PIPELINING".to_owned(), format!("SIZE {}", self.size_limit)];
        let optional = [
            (self.starttls, "STARTTLS"),
            (true, "ENHANCEDSTATUSCODES"),
            (true, "8BITMIME"),
            (self.dsn, "DSN"),
            (self.smtputf8, "SMTPUTF8"),
            (self.require_tls, "REQUIRETLS"),
            (true, "CHUNKING"),
        ];
        lines.extend(optional.iter().filter(|(on, _)| *on).map(|(_, keyword)| (*keyword).to_owned()));
        if !self.auth.is_empty() {
            let names: Vec<&str> = self.auth.iter().map(|mechanism| mechanism.name()).collect();
            lines.push(format!("AUTH {}", names.join(" ")));
        }
        lines.push(format!("LIMITS MAILMAX={messages} RCPTMAX={recipients}"));
        lines
    }

    /// The longest command line taken, CR LF included: 512 (RFC 5321 4.5.3.1.4) and what each extension adds.
    pub fn command_line_limit(&self) -> usize {
        const BASE: usize = 512;
        const SIZE: usize = 26; // RFC 1870 3
        const EIGHT_BIT_MIME: usize = 17; // RFC 6152 2
        let dsn = if self.dsn { 500 } else { 0 }; // RFC 3461 4: RCPT 500, MAIL less
        let smtputf8 = if self.smtputf8 { 10 } else { 0 }; // RFC 6531 3.4
        let require_tls = if self.require_tls { 11 } else { 0 }; // RFC 8689 2
        let auth = if self.auth.is_empty() { 0 } else { 500 }; // RFC 4954 3
        BASE + SIZE + EIGHT_BIT_MIME + dsn + smtputf8 + require_tls + auth
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sasl::server::ServerMechanism;

    #[test]
    fn tls_changes_the_offer() {
        let all = Extensions {
            starttls: true,
            size_limit: 10,
            dsn: true,
            smtputf8: true,
            require_tls: true,
            ..Extensions::default()
        };
        let plain = all.offered(false).ehlo_lines(9, 100);
        assert_eq!(
            plain,
            [
                "PIPELINING",
                "SIZE 10",
                "STARTTLS",
                "ENHANCEDSTATUSCODES",
                "8BITMIME",
                "DSN",
                "SMTPUTF8",
                "CHUNKING",
                "LIMITS MAILMAX=9 RCPTMAX=100"
            ]
        );
        let tls = all.offered(true).ehlo_lines(9, 100);
        assert!(!tls.contains(&"STARTTLS".to_owned()) && tls.contains(&"REQUIRETLS".to_owned()));
    }

    #[test]
    fn auth_is_offered_under_tls_or_where_it_may_be_in_the_clear() {
        let auth = MechanismSet::of(&[ServerMechanism::Login, ServerMechanism::ScramSha256]);
        let line = "AUTH SCRAM-SHA-256 LOGIN".to_owned();
        let offers =
            |extensions: Extensions, tls: bool| extensions.offered(tls).ehlo_lines(9, 100).contains(&line);
        let closed = Extensions { auth, ..Extensions::default() };
        let open = Extensions { auth_in_clear: true, ..closed };
        let cases = [(closed.clone(), false, false), (closed, true, true), (open, false, true)];
        for (extensions, tls, expected) in cases {
            assert_eq!(offers(extensions, tls), expected);
        }
        assert!(!offers(Extensions { auth_in_clear: true, ..Extensions::default() }, true));
    }
}
