//! REQUIRETLS and TLS-Required: No (RFC 8689) through the whole server: rows L4, L5 and L6 of the DANE matrix.

use hickory_proto::rr::rdata::TLSA;
use mta_core::control::MessageView;
use mta_lab::cert::Identity;
use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, queue_id};
use mta_lab::mx::Behaviour;
use mta_lab::zone::Zone;

/// A host that offers REQUIRETLS, and a record for its key.
fn good(domain: &str) -> (Behaviour, TLSA) {
    let host = format!("mx.{domain}");
    let identity = Identity::self_signed(&[&host]);
    let tlsa = identity.leaf().tlsa(3, 1, 1);
    let mut behaviour = Behaviour::with_tls(&host, &identity);
    behaviour.extensions.push("REQUIRETLS".to_owned());
    (behaviour, tlsa)
}

/// A session inside TLS.
fn session(lab: &Lab) -> SmtpClient {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("STARTTLS").expect("STARTTLS");
    client.start_tls("mail.own.example").expect("TLS");
    let offer = client.ask("EHLO client.lab.example").expect("EHLO");
    assert!(offer.lines.iter().any(|line| line == "REQUIRETLS"), "{offer:?}");
    client
}

fn submit(lab: &Lab, parameters: &str, to: &str, header: &str) -> String {
    let mut client = session(lab);
    client.ask(&format!("MAIL FROM:<alice@own.example>{parameters}")).expect("MAIL");
    client.ask(&format!("RCPT TO:<{to}>")).expect("RCPT");
    client.ask("DATA").expect("DATA");
    client.send(format!("{header}Subject: to {to}\r\n\r\nthe secret body\r\n").as_bytes()).expect("content");
    let reply = client.command(".").expect("a reply");
    queue_id(&reply).unwrap_or_else(|| panic!("not accepted: {reply:?}"))
}

fn status(message: &MessageView) -> (String, String) {
    let recipient = &message.recipients[0];
    (message.status.clone(), recipient.last_reply.clone().unwrap_or_default())
}

#[test]
fn l4_a_message_with_require_tls_goes_to_proven_hosts_that_promise_the_same_or_comes_back() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let site = |plan: &mut Plan, domain: &str, change: &dyn Fn(&mut Behaviour, &mut Vec<TLSA>)| {
        let (mut behaviour, tlsa) = good(domain);
        let mut records = vec![tlsa];
        change(&mut behaviour, &mut records);
        plan.site(domain, Some(behaviour), &records);
    };
    site(&mut plan, "good.example", &|_, _| {});
    site(&mut plan, "no-promise.example", &|behaviour, _| {
        behaviour.extensions.retain(|extension| extension != "REQUIRETLS");
    });
    site(&mut plan, "wrong-key.example", &|_, tlsa| {
        *tlsa = vec![Identity::self_signed(&["other"]).leaf().tlsa(3, 1, 1)];
    });
    site(&mut plan, "unusable.example", &|_, tlsa| {
        *tlsa = vec![Identity::self_signed(&["other"]).leaf().tlsa(0, 0, 1)];
    });
    site(&mut plan, "untrusted.example", &|_, tlsa| tlsa.clear());
    site(&mut plan, "no-tls.example", &|behaviour, _| behaviour.identity = None);
    let (behaviour, tlsa) = good("unsigned.example");
    plan.site_with("unsigned.example", Some(behaviour), &[tlsa], Zone::unsigned);
    let lab = plan.start().expect("a laboratory");

    let send = |domain: &str| submit(&lab, " REQUIRETLS", &format!("x@{domain}"), "");
    let good = lab.settled(&send("good.example"));
    assert_eq!(good.status, "delivered", "{good:#?}");
    let got = &lab.mx("mx.good.example").messages()[0];
    assert!(got.tls.is_some() && got.reverse_path.contains(" REQUIRETLS"), "{got:?}");
    for (domain, code) in [
        ("no-promise.example", "5.7.30"),
        ("wrong-key.example", "5.7.10"),
        ("unusable.example", "5.7.10"),
        ("untrusted.example", "5.7.10"),
        ("no-tls.example", "5.7.10"),
        ("unsigned.example", "5.7.10"),
    ] {
        let shown = lab.settled(&send(domain));
        let (status, reply) = status(&shown);
        assert_eq!(status, "failed", "{domain}: {shown:#?}");
        let host = format!("mx.{domain}");
        assert!(lab.mx(&host).messages().is_empty(), "{domain}");
        let notices = || -> Vec<String> {
            let stored = lab.maildir(OWN_DOMAIN, "alice");
            stored.iter().map(|it| String::from_utf8_lossy(it).into_owned()).collect()
        };
        let mine = || {
            notices().into_iter().find(|text| text.contains(&format!("Final-Recipient: rfc822; x@{domain}")))
        };
        assert!(lab.wait_for_files(|| mine().is_some()), "{domain}: no notification; {reply}");
        let told = mine().unwrap_or_default();
        assert!(told.contains(&format!("Status: {code}")), "{domain}: {told}");
        assert!(told.contains("REQUIRETLS") && !told.contains("the secret body"), "{told}");
    }
    // Whoever asks for the whole message back gets its header section all the same (RFC 8689 5).
    let id = submit(&lab, " REQUIRETLS RET=FULL", "full@unsigned.example", "");
    assert_eq!(lab.settled(&id).status, "failed");
    let all = || lab.maildir(OWN_DOMAIN, "alice");
    let whole = |text: &Vec<u8>| String::from_utf8_lossy(text).contains("the secret body");
    assert!(lab.wait_for_files(|| all().len() == 7) && !all().iter().any(whole));
}

#[test]
fn l4_require_tls_is_taken_inside_tls_only() {
    let lab = Plan::new().start().expect("a laboratory");
    let mut client = SmtpClient::connect(lab.daemon().address()).expect("a connection");
    client.reply().expect("a greeting");
    let offer = client.ask("EHLO client.lab.example").expect("EHLO");
    assert!(!offer.lines.iter().any(|line| line == "REQUIRETLS"), "{offer:?}");
    assert_eq!(client.command("MAIL FROM:<alice@own.example> REQUIRETLS").expect("a reply").code, 555);
}

#[test]
fn l5_tls_required_no_lets_this_message_past_the_policy_and_no_other() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let (behaviour, _) = good("wrong-key.example");
    let wrong = Identity::self_signed(&["other"]).leaf().tlsa(3, 1, 1);
    plan.site("wrong-key.example", Some(behaviour), std::slice::from_ref(&wrong));
    plan.site("no-tls.example", Some(Behaviour::plain("mx.no-tls.example")), &[wrong]);
    let lab = plan.start().expect("a laboratory");
    let no = "TLS-Required: No\r\n";
    for domain in ["wrong-key.example", "no-tls.example"] {
        let to = format!("x@{domain}");
        assert_eq!(lab.settled(&submit(&lab, "", &to, "")).status, "deferred", "{domain}");
    }
    for (domain, over_tls) in [("wrong-key.example", true), ("no-tls.example", false)] {
        let to = format!("y@{domain}");
        let id = submit(&lab, "", &to, no);
        lab.daemon().cli(["queue", "retry", &id]).expect("queue retry");
        let shown = lab.wait_for(&id, |message| message.status == "delivered");
        let got = lab.mx(&format!("mx.{domain}")).messages();
        let mine: Vec<_> =
            got.iter().filter(|it| it.forward_paths[0].starts_with(&format!("<{to}>"))).collect();
        assert_eq!((mine.len(), mine[0].tls.is_some()), (1, over_tls), "{shown:#?}");
    }
    // REQUIRETLS overrides the header.
    let id = submit(&lab, " REQUIRETLS", "z@wrong-key.example", no);
    lab.daemon().cli(["queue", "retry", &id]).expect("queue retry");
    let shown = lab.wait_for(&id, |message| message.finished_at.is_some());
    assert_eq!(shown.status, "failed", "{shown:#?}");
}

#[test]
fn l6_the_operator_may_ignore_tls_required_no() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    plan.set("outbound.honour_tls_required_no", "false");
    let (behaviour, _) = good("wrong-key.example");
    let wrong = Identity::self_signed(&["other"]).leaf().tlsa(3, 1, 1);
    plan.site("wrong-key.example", Some(behaviour), &[wrong]);
    let lab = plan.start().expect("a laboratory");
    let id = submit(&lab, "", "x@wrong-key.example", "TLS-Required: No\r\n");
    assert_eq!(lab.settled(&id).status, "deferred");
    assert!(lab.mx("mx.wrong-key.example").messages().is_empty());
}
