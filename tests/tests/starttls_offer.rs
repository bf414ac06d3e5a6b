//! The receiving side of DANE: TLS is there for everybody who asks, whoever he is and whatever name he asks for.

use std::io;
use std::time::Duration;

use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, Plan};
use mta_lab::peers;

fn with(settings: &[(&str, &str)]) -> Lab {
    let mut plan = Plan::new();
    for (key, value) in settings {
        plan.set(key, value);
    }
    plan.start().expect("a laboratory")
}

/// EHLO offers STARTTLS, STARTTLS is answered 220, and the handshake comes about.
fn is_offered_and_works(client: &mut SmtpClient, when: &str) {
    let offer = client.ask("EHLO [192.0.2.1]").unwrap_or_else(|error| panic!("{when}: {error}"));
    assert!(offer.lines.iter().any(|line| line == "STARTTLS"), "{when}: {offer:?}");
    let reply = client.command("STARTTLS").expect("a reply");
    assert_eq!(reply.code, 220, "{when}: {reply:?}");
    let chain = client.start_tls("mail.own.example").unwrap_or_else(|error| panic!("{when}: {error}"));
    assert_eq!(chain.len(), 1, "{when}");
    client.ask("EHLO [192.0.2.1]").unwrap_or_else(|error| panic!("{when}: {error}"));
}

/// Matrix row M1 (RFC 7672 9.2): a sender that finds our TLSA records must find STARTTLS, else its mail waits. So nobody is
/// refused it: no stranger, nobody who is at a limit or has made mistakes, in no session, at no EHLO.
#[test]
fn everybody_is_offered_starttls_whoever_he_is() {
    for relay_networks in ["[]", "[\"127.0.0.0/8\"]"] {
        let lab = with(&[
            ("smtp.relay_networks", relay_networks),
            ("smtp.max_sessions_per_client", "3"),
            ("smtp.max_recipients", "100"),
        ]);
        let server = lab.daemon().address();
        let connect = || SmtpClient::open(server).expect("a session");

        let mut limited = connect();
        limited.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
        for _ in 0..100 {
            limited.ask("RCPT TO:<alice@own.example>").expect("RCPT");
        }
        let over = limited.command("RCPT TO:<postmaster@own.example>").expect("a reply");
        assert_eq!(over.code, 452, "{over:?}");
        // EHLO ends the transaction.
        is_offered_and_works(&mut limited, "after too many recipients");

        let mut clumsy = connect();
        for wrong in ["FROBNICATE", "RCPT TO:<alice@own.example>", "MAIL FROM:nobody", "HELO"] {
            let reply = clumsy.command(wrong).expect("a reply");
            assert!(!reply.is_positive(), "{wrong}: {reply:?}");
        }
        is_offered_and_works(&mut clumsy, "after mistakes");

        // The third of three.
        let mut last = connect();
        let mut one_more = SmtpClient::connect(server).expect("a connection");
        assert_eq!(
            one_more.reply().expect("a reply").code,
            421,
            "no session at all, in place of one without TLS"
        );
        is_offered_and_works(&mut last, "at the limit of sessions");

        // And again when there is room.
        drop((limited, clumsy, last));
        let open = || SmtpClient::open(server).ok();
        let again = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(20));
            open()
        });
        let mut again = again.take(500).flatten().next().expect("a session that ended makes room");
        is_offered_and_works(&mut again, "after having been turned away");
    }
}

/// What `openssl s_client` says of a session.
fn s_client(lab: &Lab, arguments: &[&str]) -> io::Result<String> {
    let server = lab.daemon().address().to_string();
    let mut all = vec!["s_client", "-starttls", "smtp", "-showcerts", "-connect", &server];
    all.extend(arguments);
    let output = peers::run("openssl", &all, lab.directory())?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Matrix row M2 (RFC 7672 8.1): senders ask for the name of the MX host, for their idea of it, or for none; each gets the
/// chain that the published record vouches for.
#[test]
fn openssl_gets_the_default_chain_whatever_name_it_asks_for() {
    if peers::missing(&["openssl"]).is_some() {
        return;
    }
    let lab = with(&[]);
    let own =
        std::fs::read_to_string(lab.directory().join("state/tls/certificate.pem")).expect("the own chain");
    let own: String = own.split_whitespace().collect();
    for version in ["-tls1_3", "-tls1_2"] {
        for asked in [
            &["-noservername"][..],
            &["-servername", "mail.own.example"],
            &["-servername", "own.example"],
            &["-servername", "unknown.example"],
            &["-servername", "under_score.example"],
            &["-servername", "192.0.2.1"],
        ] {
            let mut arguments = vec![version];
            arguments.extend(asked);
            let told = s_client(&lab, &arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"));
            let told: String = told.split_whitespace().collect();
            assert!(told.contains(&own), "{arguments:?}: {told}");
        }
    }
}
