//! The DSN extension (RFC 3461) through the whole server: passed on, honoured here, and who is told nothing.

use mta_core::control::MessageView;
use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, queue_id};
use mta_lab::mx::{Behaviour, Moment};
use mta_lab::zone::Zone;

fn plain(plan: &mut Plan, domain: &str, behaviour: Behaviour) {
    plan.site_with(domain, Some(behaviour), &[], Zone::unsigned);
}

/// A plan that tries again after a second.
fn hasty() -> Plan {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1s\"]");
    plan
}

fn with_dsn(host: &str) -> Behaviour {
    let mut behaviour = Behaviour::plain(host);
    behaviour.extensions.push("DSN".to_owned());
    behaviour
}

/// Sends a message with these arguments of MAIL and RCPT; its queue id.
fn submit(lab: &Lab, mail: &str, rcpt: &[&str], content: &[u8]) -> String {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask(&format!("MAIL FROM:{mail}")).expect("MAIL");
    for rcpt in rcpt {
        client.ask(&format!("RCPT TO:{rcpt}")).expect("RCPT");
    }
    client.ask("DATA").expect("DATA");
    client.send(&client::stuffed(content)).expect("content");
    let reply = client.command(".").expect("a reply");
    queue_id(&reply).unwrap_or_else(|| panic!("not accepted: {reply:?}"))
}

fn content(marker: &str) -> Vec<u8> {
    client::message("alice@own.example", "someone@far.example", marker, &format!("body of {marker}\n"))
}

fn is_final(message: &MessageView) -> bool {
    message.finished_at.is_some()
}

/// The notification in alice's Maildir that mentions this subject, once it is there.
fn notice(lab: &Lab, marker: &str) -> String {
    let read = || -> Option<String> {
        let stored = lab.maildir(OWN_DOMAIN, "alice");
        let mut texts = stored.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        texts.find(|text| text.contains(&format!("Subject: {marker}")))
    };
    assert!(lab.wait_for_files(|| read().is_some()), "no notification about {marker}");
    read().unwrap_or_default()
}

fn expect(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

#[test]
fn wishes_are_passed_on_to_a_next_hop_that_offers_dsn_and_honoured_here_where_it_does_not() {
    let mut plan = hasty();
    plain(&mut plan, "dsn.example", with_dsn("mx.dsn.example"));
    plain(&mut plan, "old.example", Behaviour::plain("mx.old.example"));
    let lab = plan.start().expect("a laboratory");
    let mail = "<alice@own.example> RET=HDRS ENVID=QQ+2B1";

    let success = "NOTIFY=SUCCESS,FAILURE";
    let far = format!("<a@dsn.example> {success} ORCPT=rfc822;first+2Bpart@far.example");
    let passed = submit(&lab, mail, &[&far, "<b@dsn.example> NOTIFY=NEVER"], &content("passed on"));
    lab.wait_for(&passed, is_final);
    let got = &lab.mx("mx.dsn.example").messages()[0];
    expect(&got.reverse_path, &["<alice@own.example>", " RET=HDRS", " ENVID=QQ+2B1"]);
    assert_eq!(
        got.forward_paths,
        [
            "<a@dsn.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first+2Bpart@far.example",
            "<b@dsn.example> NOTIFY=NEVER ORCPT=rfc822;b@dsn.example",
        ]
    );

    let old = format!("<a@old.example> {success} ORCPT=rfc822;first@far.example");
    let relayed = submit(&lab, mail, &[&old, "<b@old.example> NOTIFY=FAILURE"], &content("relayed"));
    lab.wait_for(&relayed, is_final);
    let got = &lab.mx("mx.old.example").messages()[0];
    assert!(!got.reverse_path.contains("RET") && !got.reverse_path.contains("ENVID"), "{got:?}");
    assert_eq!(got.forward_paths, ["<a@old.example>", "<b@old.example>"]);
    let told = notice(&lab, "relayed");
    expect(
        &told,
        &[
            "Original-Envelope-Id: QQ+1",
            "Original-Recipient: rfc822; first@far.example",
            "Final-Recipient: rfc822; a@old.example",
            "Action: relayed",
            "Status: 2.",
            "Remote-MTA: dns; mx.old.example",
            "text/rfc822-headers",
        ],
    );
    assert!(!told.contains("b@old.example") && !told.contains("body of"), "{told}");
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 1, "what was passed on is not reported here");
}

#[test]
fn local_deliveries_are_reported_when_asked_and_never_means_never() {
    let mut plan = hasty();
    let refusing = Behaviour::plain("mx.refusing.example").reply_at(Moment::Rcpt, "550 5.1.1 no such user");
    plain(&mut plan, "refusing.example", refusing);
    let lab = plan.start().expect("a laboratory");
    let mail = "<alice@own.example> ENVID=local1";
    submit(&lab, mail, &["<bob@own.example> NOTIFY=SUCCESS"], &content("delivered here"));
    let told = notice(&lab, "delivered here");
    expect(
        &told,
        &["Original-Envelope-Id: local1", "Final-Recipient: rfc822; bob@own.example", "Action: delivered"],
    );
    assert!(!told.contains("Remote-MTA"), "{told}");

    for wish in ["NOTIFY=NEVER", "NOTIFY=SUCCESS", "NOTIFY=DELAY"] {
        let rcpt = format!("<x@refusing.example> {wish}");
        let id = submit(&lab, "<alice@own.example>", &[&rcpt], &content("silence"));
        assert_eq!(lab.wait_for(&id, is_final).status, "failed");
    }
    let id = submit(&lab, "<alice@own.example>", &["<x@refusing.example>"], &content("last"));
    lab.wait_for(&id, is_final);
    notice(&lab, "last");
    let all = lab.maildir(OWN_DOMAIN, "alice");
    assert_eq!(all.len(), 2, "one of success and one of failure");
}

#[test]
fn a_failed_message_comes_back_whole_when_asked_and_within_bounds() {
    let mut plan = hasty();
    plan.set("queue.max_returned", "\"10kB\"");
    let refusing = Behaviour::plain("mx.refusing.example").reply_at(Moment::AfterDot, "554 5.6.0 not this");
    plain(&mut plan, "refusing.example", refusing);
    let lab = plan.start().expect("a laboratory");
    let rcpt = ["<x@refusing.example>"];
    submit(&lab, "<alice@own.example> RET=FULL", &rcpt, &content("small and whole"));
    let told = notice(&lab, "small and whole");
    expect(
        &told,
        &["message/rfc822", "body of small and whole", "Diagnostic-Code: smtp; 554", "Status: 5.6.0"],
    );

    let mut large = content("large and cut");
    large.extend(b"and much more of it\r\n".repeat(1000));
    submit(&lab, "<alice@own.example> RET=FULL", &rcpt, &large);
    let told = notice(&lab, "large and cut");
    expect(&told, &["text/rfc822-headers"]);
    assert!(!told.contains("much more"), "{told}");

    submit(&lab, "<alice@own.example> RET=HDRS", &rcpt, &content("headers only"));
    let told = notice(&lab, "headers only");
    assert!(told.contains("text/rfc822-headers") && !told.contains("body of"), "{told}");
}

#[test]
fn strangers_are_not_offered_dsn_and_get_few_reports_and_only_of_our_own_failures() {
    let mut plan = hasty();
    plan.set("smtp.relay_networks", "[]");
    plan.set("queue.lifetime", "\"1s\"");
    plan.set("queue.reports_to_strangers", "1");
    plain(&mut plan, "else.example", Behaviour::plain("mx.else.example"));
    let lab = plan.start().expect("a laboratory");
    let mut client = SmtpClient::connect(lab.daemon().address()).expect("a connection");
    client.reply().expect("a greeting");
    let offer = client.ask("EHLO stranger.example").expect("EHLO");
    assert!(!offer.lines.iter().any(|line| line == "DSN"), "{offer:?}");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    assert_eq!(client.command("RCPT TO:<bob@own.example> NOTIFY=SUCCESS").expect("a reply").code, 555);

    // A mailbox that cannot be written to: its mail is accepted and fails later.
    let mailbox = lab.directory().join("mail/own.example/bob");
    std::fs::create_dir_all(mailbox.parent().expect("a parent")).expect("a directory");
    std::fs::write(&mailbox, "a file where a Maildir should be").expect("a file");
    for marker in ["first", "second"] {
        let message = client::message("carol@else.example", "bob@own.example", marker, "x\n");
        let id = lab.send_content("carol@else.example", &["bob@own.example"], &message);
        assert_eq!(lab.wait_for(&id, is_final).status, "expired");
    }
    assert!(lab.mx("mx.else.example").wait_until(mta_lab::lab::WITHIN, |seen| !seen.messages.is_empty()));
    assert!(lab.wait_for_files(|| lab.list().is_empty()), "nothing more is on its way");
    assert_eq!(lab.mx("mx.else.example").messages().len(), 1, "one report an hour");
}

#[test]
fn a_notice_of_delay_comes_at_its_time_though_no_attempt_falls_due() {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    plan.set("queue.delay_notice", "\"2s\"");
    let busy = Behaviour::plain("mx.busy.example").reply_at(Moment::Rcpt, "450 4.2.0 come back later");
    plain(&mut plan, "busy.example", busy);
    let lab = plan.start().expect("a laboratory");
    let silent =
        submit(&lab, "<alice@own.example>", &["<x@busy.example> NOTIFY=FAILURE"], &content("not to be told"));
    let id = submit(&lab, "<alice@own.example> ENVID=d1", &["<x@busy.example>"], &content("waiting"));
    let told = notice(&lab, "waiting");
    expect(
        &told,
        &[
            "Original-Envelope-Id: d1",
            "Final-Recipient: rfc822; x@busy.example",
            "Action: delayed",
            "Status: 4.2.0",
            "Diagnostic-Code: smtp; 450",
            "Will-Retry-Until: ",
            "come back later",
        ],
    );
    assert_eq!(lab.show(&id).attempts, 1, "no attempt was made for it");
    assert_eq!(lab.show(&silent).attempts, 1);
    assert_eq!(lab.maildir(OWN_DOMAIN, "alice").len(), 1);
}

#[test]
fn failures_that_nobody_is_told_of_reach_the_postmaster_in_one_mail() {
    let mut plan = hasty();
    plan.set("queue.digest", "\"2s\"");
    let refusing = Behaviour::plain("mx.refusing.example").reply_at(Moment::Rcpt, "550 5.7.1 no such luck");
    plain(&mut plan, "refusing.example", refusing);
    let lab = plan.start().expect("a laboratory");
    // The bounce of the first goes to a sender who refuses it; the second has no sender at all.
    submit(&lab, "<nobody@refusing.example>", &["<one@refusing.example>"], &content("double"));
    submit(&lab, "<>", &["<two@refusing.example>"], &content("null"));
    let digests = || lab.maildir(OWN_DOMAIN, "postmaster");
    assert!(lab.wait_for_files(|| !digests().is_empty()), "no digest");
    let told = String::from_utf8_lossy(&digests()[0]).into_owned();
    expect(
        &told,
        &[
            "Subject: 2 failures that no sender was told of",
            "from <> to <nobody@refusing.example>",
            "from <> to <two@refusing.example>",
            "no such luck",
        ],
    );
    assert!(lab.wait_for_files(|| lab.list().is_empty()), "nothing more is on its way");
    assert_eq!(digests().len(), 1);
}
