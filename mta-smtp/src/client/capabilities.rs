//! What a server offers in its reply to EHLO (RFC 5321 4.1.1.1). Unknown keywords and odd parameters are passed over.

use crate::reply::Reply;
use crate::sasl::Mechanism;

/// A server's offer. As large as this whatever the server sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// What the server calls itself.
    pub name: String,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870) is spoken.
    pub size: bool,
    /// The largest message taken in octets, where the server names one.
    pub size_limit_bytes: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// REQUIRETLS (RFC 8689).
    pub require_tls: bool,
    /// Transactions in one session (LIMITS MAILMAX, RFC 9422 4.1); more are refused.
    pub mail_max: Option<u32>,
    /// Recipients in one transaction (LIMITS RCPTMAX, RFC 9422 4.2).
    pub rcpt_max: Option<u32>,
    /// Recipient domains in one transaction (LIMITS RCPTDOMAINMAX, RFC 9422 4.3).
    pub rcpt_domain_max: Option<u32>,
    /// Bit per mechanism of AUTH (RFC 4954) that we speak.
    mechanisms: u8,
}

impl Capabilities {
    /// Reads the reply to EHLO.
    pub fn from_ehlo(reply: &Reply) -> Self {
        let mut capabilities = Self::from_helo(reply);
        for line in reply.lines.iter().skip(1) {
            capabilities.keyword(line);
        }
        capabilities
    }

    /// Reads the reply to HELO, which offers nothing.
    pub fn from_helo(reply: &Reply) -> Self {
        let name = reply.lines.first().and_then(|line| line.split_ascii_whitespace().next());
        Self { name: name.unwrap_or_default().to_owned(), ..Self::default() }
    }

    fn keyword(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => {
                self.size = true;
                // 0 and no number at all are no limit (RFC 1870 4).
                self.size_limit_bytes =
                    words.next().and_then(|word| word.parse().ok()).filter(|limit| *limit > 0);
            }
            "8BITMIME" => self.eight_bit_mime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "REQUIRETLS" => self.require_tls = true,
            "LIMITS" => words.for_each(|word| self.limit(word)),
            "AUTH" => words.for_each(|word| self.mechanism(word)),
            // The form from before RFC 2554 became a standard.
            _ => {
                if let Some(first) = keyword.strip_prefix("AUTH=") {
                    self.mechanism(first);
                    words.for_each(|word| self.mechanism(word));
                }
            }
        }
    }

    /// One limit (RFC 9422 3). What is no number, or none at all, limits nothing; unknown names are passed over.
    fn limit(&mut self, word: &str) {
        let Some((name, value)) = word.split_once('=') else { return };
        let value = value.parse().ok().filter(|value| *value > 0);
        match name.to_ascii_uppercase().as_str() {
            "MAILMAX" => self.mail_max = value,
            "RCPTMAX" => self.rcpt_max = value,
            "RCPTDOMAINMAX" => self.rcpt_domain_max = value,
            _ => {}
        }
    }

    fn mechanism(&mut self, name: &str) {
        if let Some(mechanism) = Mechanism::parse(name) {
            self.mechanisms |= bit(mechanism);
        }
    }

    /// Whether a mechanism is offered.
    pub fn offers(&self, mechanism: Mechanism) -> bool {
        self.mechanisms & bit(mechanism) != 0
    }

    /// The strongest mechanism offered.
    pub fn strongest_mechanism(&self) -> Option<Mechanism> {
        [Mechanism::ScramSha256, Mechanism::Plain, Mechanism::Login].into_iter().find(|m| self.offers(*m))
    }
}

fn bit(mechanism: Mechanism) -> u8 {
    1 << mechanism as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Capabilities {
        let reply = lines.iter().fold(Reply::new(250, None, "mx.example hello"), |r, line| r.push_line(line));
        Capabilities::from_ehlo(&reply)
    }

    #[test]
    fn keywords_in_any_case_rfc5321_2_4() {
        let offer = read(&[
            "pipelining",
            "SIZE 1000",
            "8bitmime",
            "DSN",
            "StartTls",
            "AUTH LOGIN scram-sha-256 XOAUTH2",
        ]);
        assert!(offer.pipelining && offer.size && offer.eight_bit_mime && offer.dsn && offer.starttls);
        assert!(!offer.smtputf8 && !offer.require_tls);
        assert_eq!((offer.name.as_str(), offer.size_limit_bytes), ("mx.example", Some(1000)));
        assert_eq!(offer.strongest_mechanism(), Some(Mechanism::ScramSha256));
        assert!(!offer.offers(Mechanism::Plain));
    }

    #[test]
    fn limits_rfc9422_3() {
        let offer = read(&["limits mailmax=20 RCPTMAX=0 RCPTDOMAINMAX=1 X-OTHER=9 MAILMAXIMUM"]);
        assert_eq!((offer.mail_max, offer.rcpt_max, offer.rcpt_domain_max), (Some(20), None, Some(1)));
        for junk in
            ["LIMITS", "LIMITS MAILMAX", "LIMITS MAILMAX=", "LIMITS MAILMAX=-1", "LIMITS MAILMAX=99999999999"]
        {
            assert_eq!(read(&[junk]).mail_max, None, "{junk}");
        }
    }

    #[test]
    fn junk_is_passed_over() {
        for size in ["SIZE", "SIZE 0", "SIZE -1", "SIZE 99999999999999999999", "SIZE many"] {
            let offer = read(&[size, "", "XYZZY 1 2 3", "STARTTLSX", "AUTH"]);
            assert!(offer.size && offer.size_limit_bytes.is_none() && !offer.starttls, "{size}");
            assert_eq!(offer.strongest_mechanism(), None);
        }
        assert_eq!(read(&["AUTH=LOGIN PLAIN"]).strongest_mechanism(), Some(Mechanism::Plain));
    }
}
