//! Verification of strangers' mail.

use std::time::Duration;

use crate::config::table::{OptionSpec, bounded, option};

/// The rows of this file.
pub(super) fn rows() -> Vec<OptionSpec> {
    let mut rows = actions();
    rows.extend(bounds());
    rows.push(option(
        "srs.enabled",
        "true",
        "false",
        |c, _| &mut c.srs.enabled,
        "Whether the sender of mail that is forwarded becomes an address of ours (SRS), so that the next server's SPF finds \
         that we may send it. Bounces to it go on to the sender, for three weeks; nobody else can make such an address.",
    ));
    rows.push(option(
        "srs.domain",
        "\"\"",
        "\"example.org\"",
        |c, _| &mut c.srs.domain,
        "The domain of such addresses; its mail has to come here. Unset means the host name where it is a domain of ours, \
         else the first of our domains.",
    ));
    rows.push(option(
        "dkim.sign",
        "true",
        "false",
        |c, _| &mut c.dkim.sign,
        "Whether mail of smtp.relay_networks and of users, and what this server writes itself, is signed with the keys \
         of the From field's domain, or of the nearest domain above it that has any.",
    ));
    rows.push(option(
        "dkim.arc_seal",
        "true",
        "false",
        |c, _| &mut c.dkim.arc_seal,
        "Whether mail that is forwarded to somebody elsewhere gets an ARC set (RFC 8617) with what we found when it came, \
         made with the key of the address that forwards, or else of srs.domain or of the host. The next server may go by \
         it where forwarding broke SPF. A chain that others began gets no set where it was not verified here.",
    ));
    rows
}

fn actions() -> Vec<OptionSpec> {
    vec![
        option(
            "auth.verify",
            "true",
            "false",
            |c, _| &mut c.auth.verify,
            "Whether mail from outside is verified: SPF (RFC 7208), DKIM (RFC 6376), DMARC (RFC 9989), ARC (RFC 8617), and \
             whether the client's address has a name. Fields Authentication-Results that claim to be ours are removed in \
             any case.",
        ),
        option(
            "auth.dmarc",
            "\"mark\"",
            "\"reject\"",
            |c, _| &mut c.auth.dmarc,
            "What follows where DMARC fails, as far as the domain of the From field asks for it. \"reject\" refuses (550 \
             5.7.1) where it publishes p=reject, and marks for p=quarantine; \"mark\" marks both. The default follows RFC \
             9989 7.4: mailing lists and forwarders break what was signed, so a domain's wish alone should not refuse \
             mail. Set \"reject\" where nobody here reads mailing lists, or name their sealers in trusted_sealers. A \
             message with no From field, several, or authors of several domains counts as one that fails.",
        ),
        option(
            "auth.spf",
            "\"accept\"",
            "\"mark\"",
            |c, _| &mut c.auth.spf,
            "What follows where the domain of the sender, or of the name given in HELO, says by -all that the client may \
             not send for it. \"reject\" refuses with 550 5.7.23. Forwarded mail fails here, so DMARC is the better \
             judge: where that passes, nothing follows from SPF.",
        ),
        option(
            "auth.dkim",
            "\"accept\"",
            "\"mark\"",
            |c, _| &mut c.auth.dkim,
            "What follows where signatures are there and none holds. \"reject\" refuses with 550 5.7.20. RFC 6376 6.1 asks to \
             treat such mail as unsigned, which is the default.",
        ),
        option(
            "auth.arc",
            "\"accept\"",
            "\"mark\"",
            |c, _| &mut c.auth.arc,
            "What follows where an ARC chain is there and broken. \"reject\" refuses with 550 5.7.29.",
        ),
        option(
            "auth.iprev",
            "\"accept\"",
            "\"mark\"",
            |c, _| &mut c.auth.iprev,
            "What follows where the client's address has no name, or one that does not lead back to it. \"reject\" refuses \
             with 550 5.7.25, as some large providers do.",
        ),
        option(
            "auth.trusted_sealers",
            "[]",
            "[\"lists.example.net\"]",
            |c, _| &mut c.auth.trusted_sealers,
            "Forwarders and mailing lists whose word counts: where the last seal of an intact ARC chain is of one of these \
             domains and says that DMARC passed before, a failure of DMARC has no consequence.",
        ),
    ]
}

fn bounds() -> Vec<OptionSpec> {
    vec![
        bounded(
            "auth.max_signatures",
            "10",
            (1, 50),
            |c, _| &mut c.auth.max_signatures,
            "DKIM signatures of one message that are looked at, from the top. What is beyond them counts as policy.",
        ),
        bounded(
            "auth.max_lookups",
            "100",
            (20, 1000),
            |c, _| &mut c.auth.max_lookups,
            "DNS lookups for the client of one message, and as many again for its signatures and DMARC. RFC 7208 4.6.4 \
             bounds those of SPF besides.",
        ),
        bounded(
            "auth.timeout",
            "\"20s\"",
            (Duration::from_secs(1), Duration::from_secs(120)),
            |c, _| &mut c.auth.timeout,
            "How long all lookups for one message may take. What is not known by then is temperror, and the message is \
             taken. Clients wait ten minutes for the reply (RFC 5321 4.5.3.2.6).",
        ),
    ]
}
