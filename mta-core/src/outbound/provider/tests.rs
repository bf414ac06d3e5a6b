use std::time::Duration;

use mta_smtp::address::Mailbox;
use mta_smtp::envelope::Recipient;
use mta_smtp::reply::{EnhancedStatus, Reply};
use proptest::prelude::*;

use super::*;
use crate::outbound::decision::Decision;
use crate::outbound::outcome::{Outcome, Reach, RecipientOutcome, Remote, Verdict};

/// A reply as a server writes it: code, status if there is one, text.
fn reply(text: &str) -> Reply {
    let (code, rest) = text.split_at(3);
    let (status, words) = EnhancedStatus::split(rest.trim_start_matches([' ', '-']));
    Reply::new(code.parse().expect("a code"), status, words)
}

const GMAIL: &str = "gmail-smtp-in.l.google.com";
const OUTLOOK: &str = "hotmail-com.olc.protection.outlook.com";
const M365: &str = "example-com.mail.protection.outlook.com";
const YAHOO: &str = "mta7.am0.yahoodns.net";

#[test]
fn known_replies_mean_what_their_provider_means() {
    use Class::*;
    let table = Table::default();
    for (host, text, class) in [
        (GMAIL, "421 4.7.28 Gmail has detected an unusual rate of mail", RateLimited),
        (GMAIL, "421 4.7.0 an unusual rate of unsolicited mail from your IP address", RateLimited),
        (GMAIL, "550 5.7.25 The sending IP address does not have a PTR record", ReverseName),
        (GMAIL, "550 5.7.1 does not meet IPv6 sending guidelines regarding PTR records", ReverseName),
        (GMAIL, "550 5.7.26 This mail is unauthenticated", Authentication),
        (GMAIL, "421 4.7.0 suspicious due to the very low reputation of the sending domain", Reputation),
        (GMAIL, "550 5.7.1 likely unsolicited mail", Content),
        (GMAIL, "452 4.2.2 The recipient's inbox is out of storage space", MailboxFull),
        (GMAIL, "450 4.2.1 is receiving mail at a rate that prevents", RateLimited),
        (OUTLOOK, "550 5.7.1 part of their network is on our block list (S3150)", Reputation),
        (OUTLOOK, "550 5.7.1 messages weren't sent; our block list (S3140)", Reputation),
        (OUTLOOK, "451 4.7.650 has been temporarily rate limited due to IP reputation (S775)", RateLimited),
        (OUTLOOK, "451 4.7.651 has been temporarily rate limited (S3114)", RateLimited),
        (OUTLOOK, "451 4.7.652 (S844)", RateLimited),
        (OUTLOOK, "550 5.7.515 Access denied, sending domain does not meet", Authentication),
        (M365, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", Reputation),
        (M365, "550 5.7.649 Access denied", Reputation),
        (M365, "451 4.7.500 Server busy. Please try again later", RateLimited),
        (YAHOO, "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", RateLimited),
        (YAHOO, "553 5.7.1 [TSS09] All messages from 192.0.2.1 will be permanently deferred", Reputation),
        (YAHOO, "421 4.7.0 [IPTS04] Messages temporarily deferred", RateLimited),
        ("mx01.mail.icloud.com", "550 5.7.1 [CS01] Message rejected due to local policy", Content),
        ("mx01.mail.icloud.com", "421 4.7.1 deferred due to excessive volume", RateLimited),
        (
            "mx00.emig.gmx.net",
            "554 gmx.net Nemesis ESMTP Service not available; Bad DNS PTR resource record.",
            ReverseName,
        ),
        ("mx-ha03.web.de", "554 web.de invalid DNS PTR resource record, IP=192.0.2.1", ReverseName),
        (
            "mx00.t-online.de",
            "554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or contact tosa@rx.t-online.de)",
            Reputation,
        ),
        ("smtp-in.orange.fr", "421 Too many connections, slow down. OFR004_104 [104]", RateLimited),
        ("smtp-in.orange.fr", "550 5.2.0 Mail rejete. Mail rejected. ofr_506 [506]", Content),
        ("mx1.free.fr", "421 Too many spams from your IP", Reputation),
        ("smtp-in.sfr.fr", "450 4.7.1 Service refused SFR_IN_101", Reputation),
        ("mx1.comcast.net", "421 Throttled RL000001", RateLimited),
        ("mx1.comcast.net", "554 Blocked BL000000", Dnsbl),
        ("mx0a-1.pphosted.com", "554 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", Reputation),
        (
            "d1.ess.barracudanetworks.com",
            "550 http://www.barracudanetworks.com/reputation/?pr=1&ip=1 bl.php",
            Dnsbl,
        ),
        ("mx.small.example", "554 5.7.1 Service unavailable; blocked using zen.spamhaus.org", Dnsbl),
        ("mx.small.example", "450 4.2.0 Greylisted, see http://postgrey", Greylisted),
        ("mx.small.example", "451 4.7.1 Greylisting in action, please come back later", Greylisted),
        ("mx.small.example", "451 Please try again in 5 minutes", Greylisted),
        ("mx.small.example", "550 5.7.25 IP name lookup failed", ReverseName),
        ("mx.small.example", "452 4.2.2 over quota", MailboxFull),
        ("mx.small.example", "550 5.7.1 SPF check failed", Authentication),
        ("mx.small.example", "421 4.7.0 too many connections", RateLimited),
        ("mx.small.example", "451 4.3.0 Temporary lookup failure", Temporary),
    ] {
        assert_eq!(table.classify(host, &reply(text)).map(|row| row.class), Some(class), "{host}: {text}");
    }
}

#[test]
fn what_is_not_about_us_is_not_explained() {
    let table = Table::default();
    for (host, text) in [
        (GMAIL, "550 5.1.1 The email account that you tried to reach does not exist"),
        ("mx.small.example", "550 5.1.1 no such user, spam trap"),
        ("mx.small.example", "250 2.0.0 greylisted once, welcome"),
        ("mx.small.example", "550 5.4.1 relay access denied"),
        // Words of one provider from another's host mean nothing.
        ("mx.small.example", "451 4.7.28 S844"),
    ] {
        assert!(table.classify(host, &reply(text)).is_none(), "{text}");
    }
}

#[test]
fn domains_of_one_provider_or_one_host_set_are_one_group() {
    let table = Table::default();
    let group = |hosts: &[&str]| table.group(hosts);
    assert_eq!(group(&["aspmx.l.google.com", "alt1.aspmx.l.google.com"]).as_deref(), Some("google"));
    assert_eq!(group(&["SMTP.GOOGLE.COM."]).as_deref(), Some("google"));
    assert_eq!(group(&[M365]).as_deref(), Some("microsoft365"));
    assert_eq!(group(&[OUTLOOK]).as_deref(), Some("outlook.com"), "the longer name counts");
    assert_eq!(
        group(&["mx1.hoster.example", "MX2.hoster.example"]),
        group(&["mx2.hoster.example", "mx1.hoster.example"])
    );
    assert_ne!(group(&["mx1.hoster.example"]), group(&["mx2.hoster.example"]));
    assert_eq!(group(&["notgoogle.com"]).as_deref(), Some("notgoogle.com"));
    assert_eq!(group(&[]), None);
}

#[test]
fn the_administrators_rows_come_first_and_errors_name_the_row() {
    let own = "[[provider]]\nname = \"google\"\ntitle = \"G\"\nmx = [\".g.example\"]\ncontact = \"x\"\n\
               [[reply]]\nprovider = \"google\"\nstatus = \"7.28\"\nclass = \"temporary\"\npause = \"5m\"\nalert = false\n";
    let table = Table::with(own).expect("good");
    assert!(table.provider(GMAIL).is_none(), "their own provider takes the place of ours");
    let row = table.classify("mx.g.example", &reply("421 4.7.28 x")).expect("a row");
    assert_eq!((row.class, row.pause(), row.alert()), (Class::Temporary, Duration::from_secs(300), false));
    for (bad, named) in [
        ("[[reply]]\nclass = \"content\"\n", "at least one"),
        ("[[reply]]\ntext = [\"Upper\"]\nclass = \"content\"\n", "lower case"),
        ("[[reply]]\ntext = [\"x\"]\nclass = \"unknown\"\n", "unknown"),
        ("[[reply]]\ntext = [\"x\"]\nprovider = \"nobody\"\nclass = \"content\"\n", "nobody"),
        ("[[reply]]\nstatus = \"7.9-3\"\nclass = \"content\"\n", "7.9-3"),
        ("[[reply]]\ncode = \"250\"\nclass = \"content\"\n", "250"),
        ("[[reply]]\ncode = \"421\"\npause = \"long\"\nclass = \"content\"\n", "long"),
        ("[[reply]]\ncode = \"421\"\nclass = \"content\"\nwhat = 1\n", "what"),
        ("nonsense", "expected"),
    ] {
        let told = Table::with(bad).expect_err(bad);
        assert!(told.contains(named), "{told}");
    }
    assert!(
        load(Some(Path::new("/nonexistent/replies"))).expect_err("no file").contains("/nonexistent/replies")
    );
}

#[test]
fn the_rows_that_come_with_the_program_are_good() {
    Table::with("").expect("they can be read");
    let table = Table::default();
    let rows = include_str!("replies.toml").matches("[[reply]]\n").count();
    assert!(rows > 100);
    assert!(table.named("google").is_some());
    for class in Class::ALL {
        assert!(
            include_str!("replies.toml").contains(&format!("class = \"{}\"", class.word())),
            "{}",
            class.word()
        );
    }
}

fn row(class: &str, pause: &str) -> Table {
    Table::with(&format!("[[reply]]\ntext = [\"the test\"]\nclass = \"{class}\"\npause = \"{pause}\"\n"))
        .expect("good")
}

fn first(table: &Table) -> &Row {
    table.classify("mx.example", &reply("451 the test")).expect("the first row")
}

#[test]
fn a_pause_grows_with_each_new_reply_and_ends_with_the_first_success() {
    let table = row("rate-limited", "10m");
    let (mut memory, mut now) = (Memory::default(), SystemTime::UNIX_EPOCH);
    let minute = Duration::from_secs(60);
    let mut waits = Vec::new();
    for _ in 0..3 {
        let Consequence::Pause(until) = memory.heard("g", first(&table), false, now, 0) else {
            panic!("a pause")
        };
        assert_eq!(
            memory.heard("g", first(&table), false, now + minute, 0),
            Consequence::Pause(until),
            "one wave"
        );
        waits.push(until.duration_since(now).expect("later").as_secs() / 60);
        now = until;
    }
    assert_eq!(waits, [10, 20, 40]);
    assert!(memory.works("g", now));
    assert!(!memory.works("g", now));
    let Consequence::Pause(until) = memory.heard("g", first(&table), false, now, u64::MAX) else {
        panic!("a pause")
    };
    let wait = until.duration_since(now).expect("later");
    assert!(wait >= 10 * minute && wait <= 12 * minute, "with jitter");
}

#[test]
fn a_missing_reverse_name_costs_ipv6_first_and_a_pause_only_without_it() {
    let table = row("reverse-name", "30m");
    let (mut memory, now) = (Memory::default(), SystemTime::UNIX_EPOCH);
    let Consequence::WithoutIpv6(until) = memory.heard("g", first(&table), true, now, 0) else { panic!() };
    assert_eq!(until, now + Duration::from_secs(86_400));
    memory.works("g", now);
    assert_eq!(
        memory.hold("g").expect("held").ipv4_until,
        Some(until),
        "success over IPv4 says nothing of IPv6"
    );
    assert!(matches!(memory.heard("g", first(&table), false, now, 0), Consequence::Pause(_)));
    let quiet = row("content", "0s");
    assert_eq!(memory.heard("other", first(&quiet), false, now, 0), Consequence::Nothing);
    assert!(memory.hold("other").is_none());
}

#[test]
fn memory_is_bounded() {
    let table = row("rate-limited", "10m");
    let mut memory = Memory::default();
    for n in 0..5_000 {
        memory.heard(&format!("g{n}"), first(&table), false, SystemTime::UNIX_EPOCH, 0);
    }
    assert!(memory.all().count() <= 1_024);
}

fn outcome(verdict: Verdict, host: &str, text: &str) -> RecipientOutcome {
    let outcome = Outcome {
        verdict,
        reach: Reach::Message,
        status: EnhancedStatus::new(5, 7, 1),
        text: String::new(),
        reply: Some(reply(text)),
        remote: Some(Remote { host: host.into(), address: None }),
        reports_passed_on: false,
    };
    RecipientOutcome { recipient: Recipient::new(Mailbox::parse("a@x.example").expect("mailbox")), outcome }
}

#[test]
fn a_block_is_final_unless_the_administrator_keeps_such_mail_for_a_time_rfc5321_4_2_1() {
    let table = Table::default();
    let day = Duration::from_secs(86_400);
    let blocked = "550 5.7.1 our block list (S3150)";
    let other = "550 5.7.1 likely unsolicited mail";
    for (text, host, age, retry, verdict) in [
        (blocked, OUTLOOK, Duration::ZERO, Duration::ZERO, Verdict::Failed),
        (blocked, OUTLOOK, Duration::ZERO, day, Verdict::Deferred),
        (blocked, OUTLOOK, day, day, Verdict::Failed),
        (other, GMAIL, Duration::ZERO, day, Verdict::Failed),
    ] {
        let mut outcomes = [outcome(Verdict::Failed, host, text)];
        let mut decision = Decision::default();
        table.explain(&mut outcomes, &mut decision, age, retry);
        assert_eq!(outcomes[0].outcome.verdict, verdict, "{text} {age:?} {retry:?}");
        assert_eq!(decision.explained.len(), 1);
        assert_eq!(decision.explained[0].kept, verdict == Verdict::Deferred);
    }
}

proptest! {
    /// Whatever is said, nothing but a permanent refusal with `retry_blocked` set changes its verdict, and no delivery ever.
    #[test]
    fn verdicts_stay(code in 400u16..600, text in "[a-z0-9 \\[\\]().]{0,60}", which in 0usize..3) {
        let table = Table::default();
        let verdict = [Verdict::Delivered, Verdict::Deferred, Verdict::Failed][which];
        let mut outcomes = [outcome(verdict, GMAIL, &format!("{code} {text}"))];
        table.explain(&mut outcomes, &mut Decision::default(), Duration::ZERO, Duration::ZERO);
        prop_assert_eq!(outcomes[0].outcome.verdict, verdict);
    }
}
