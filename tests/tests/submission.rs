//! Submission: users log in and send; as whom they may, how much, and what becomes of their mail.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use mta_lab::client::{Reply, SmtpClient, message};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};
use mta_lab::mx::Behaviour;
use mta_lab::peers::free_address;
use mta_lab::zone::Zone;

const ANNA: &str = "anna@own.example";
const PASSWORD: &str = "correct horse";

struct Site {
    lab: Lab,
    submission: SocketAddr,
}

fn site(settings: &[(&str, &str)]) -> Site {
    let mut plan = Plan::new();
    let submission = free_address(87);
    plan.site_with("else.example", Some(Behaviour::plain("mx.else.example")), &[], Zone::unsigned);
    plan.set("smtp.relay_networks", "[]");
    plan.set("submission.listen", &format!("[\"{submission}\"]"));
    plan.set("submission.hash_memory", "\"64kB\"");
    plan.set("submission.scram_iterations", "4096");
    for (key, value) in settings {
        plan.set(key, value);
    }
    let site = Site { lab: plan.start().expect("a laboratory"), submission };
    site.user(&["add", ANNA], PASSWORD);
    site
}

impl Site {
    /// `mta-cli user ...`, which must succeed.
    fn user(&self, arguments: &[&str], input: &str) -> String {
        let arguments = std::iter::once("user").chain(arguments.iter().copied());
        let output = self.lab.daemon().cli_with_input(arguments, &format!("{input}\n")).expect("mta-cli");
        let (said, complained) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{}: {said}{complained}", output.status);
        said.into_owned()
    }

    /// A session within TLS.
    fn open(&self) -> SmtpClient {
        let mut client = SmtpClient::open(self.submission).expect("a session");
        client.ask("STARTTLS").expect("STARTTLS");
        client.start_tls("mail.own.example").expect("TLS");
        client.ask("EHLO client.lab.example").expect("EHLO");
        client
    }

    /// A session of anna's.
    fn anna(&self) -> SmtpClient {
        let mut client = self.open();
        client.ask(&plain(ANNA, PASSWORD)).expect("a login");
        client
    }

    /// The one message that arrived elsewhere.
    fn arrived(&self) -> String {
        let host = self.lab.mx("mx.else.example");
        assert!(host.wait_until(WITHIN, |seen| !seen.messages.is_empty()), "nothing arrived");
        String::from_utf8_lossy(&host.messages()[0].content).into_owned()
    }
}

fn plain(user: &str, password: &str) -> String {
    format!("AUTH PLAIN {}", BASE64.encode(format!("\0{user}\0{password}")))
}

fn begins(reply: &Reply, code: u16, text: &str) {
    assert!(reply.code == code && reply.lines[0].starts_with(text), "{code} {text}: {reply:?}");
}

#[test]
fn a_user_logs_in_and_what_he_sends_is_completed_and_leaves() {
    let site = site(&[]);
    let mut client = SmtpClient::open(site.submission).expect("a session");
    let offer = client.ask("EHLO client.lab.example").expect("EHLO");
    assert!(!offer.lines.iter().any(|line| line.starts_with("AUTH")), "never before TLS: {offer:?}");
    begins(&client.command("MAIL FROM:<anna@own.example>").expect("a reply"), 530, "5.7.0");
    begins(&client.command(&plain(ANNA, PASSWORD)).expect("a reply"), 538, "5.7.11");
    let mut client = site.open();
    let offer = client.ask("EHLO client.lab.example").expect("EHLO");
    let auth = "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN";
    assert!(offer.lines.iter().any(|line| line == auth), "{offer:?}");
    client.ask(&plain("Anna@Own.Example", PASSWORD)).expect("a login");
    let content = b"Subject: hello\r\nTo: ben@else.example\r\nBcc: secret@else.example\r\n\r\nx\r\n";
    let reply = client.deliver(ANNA, &["ben@else.example"], content).expect("a reply");
    let id = queue_id(&reply).unwrap_or_else(|| panic!("{reply:?}"));
    let text = site.arrived();
    for part in [
        "Received: (using TLSv1.3 with cipher ",
        "\tby mail.own.example with ESMTPSA id ",
        "\r\nFrom: <anna@own.example>\r\n",
        "\r\nDate: ",
        "\r\nMessage-ID: <",
        "\r\nSubject: hello\r\n",
    ] {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
    for hidden in ["secret", "127.", "client.lab.example"] {
        assert!(!text.contains(hidden), "{hidden:?} in\n{text}");
    }
    assert_eq!(site.lab.settled(&id).status, "delivered");
    let log = site.lab.daemon().log().join("\n");
    assert!(log.contains("event=login client=127.0.0.1 user=anna@own.example mechanism=password"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("argon2id"), "no secret in the log\n{log}");
    let shown = site.lab.daemon().cli_json(["user", "show", ANNA, "--json"]).expect("user show");
    assert_eq!(shown["user"]["messages_hour"], 1);
    assert!(shown["user"]["last_login_at"].is_string(), "{shown}");
}

/// Security decision: who may use which sender.
#[test]
fn nobody_sends_as_somebody_else() {
    let site = site(&[]);
    let mut anna = site.anna();
    let mail = |client: &mut SmtpClient, from: &str| {
        client.command(&format!("MAIL FROM:<{from}>")).expect("a reply")
    };
    begins(&mail(&mut anna, "bob@own.example"), 553, "5.7.1");
    begins(&mail(&mut anna, "anna@else.example"), 553, "5.7.1");
    begins(&mail(&mut anna, "anna+shop@own.example"), 250, "2.1.0");
    anna.ask("RSET").expect("RSET");
    let forged = message("bob@own.example", "ben@else.example", "forged", "x\n");
    begins(&anna.deliver(ANNA, &["ben@else.example"], &forged).expect("a reply"), 550, "5.7.1");
    site.user(&["allow", ANNA, "Bob@own.example"], "");
    site.user(&["allow", ANNA, "@else.example"], "");
    let reply = anna.deliver("any@else.example", &["ben@else.example"], &forged).expect("a reply");
    begins(&reply, 250, "2.0.0");
    site.user(&["allow", ANNA, "bob@own.example", "--remove"], "");
    begins(&anna.deliver(ANNA, &["ben@else.example"], &forged).expect("a reply"), 550, "5.7.1");
}

#[test]
fn a_user_is_a_mailbox_and_a_disabled_one_cannot_log_in() {
    let site = site(&[]);
    let relay = site.lab.daemon().address();
    let mut stranger = SmtpClient::open(relay).expect("a session");
    let content = message("x@else.example", ANNA, "for anna", "x\n");
    let reply = stranger.deliver("x@else.example", &[ANNA], &content).expect("a reply");
    begins(&reply, 250, "2.0.0");
    assert!(site.lab.wait_for_files(|| site.lab.maildir(OWN_DOMAIN, "anna").len() == 1));
    begins(&stranger.command(&plain(ANNA, PASSWORD)).expect("a reply"), 502, "5.5.1");
    let mut open = site.anna();
    site.user(&["disable", ANNA], "");
    begins(&open.command(&format!("MAIL FROM:<{ANNA}>")).expect("a reply"), 550, "5.7.1");
    begins(&site.open().command(&plain(ANNA, PASSWORD)).expect("a reply"), 535, "5.7.8");
    let reply = stranger.deliver("x@else.example", &[ANNA], &content).expect("a reply");
    begins(&reply, 250, "2.0.0");
    site.user(&["enable", ANNA], "");
    site.user(&["passwd", ANNA], "another");
    begins(&site.open().command(&plain(ANNA, PASSWORD)).expect("a reply"), 535, "5.7.8");
    begins(&site.open().command(&plain(ANNA, "another")).expect("a reply"), 235, "2.7.0");
    site.user(&["delete", ANNA, "--yes"], "");
    begins(&site.open().command(&plain(ANNA, "another")).expect("a reply"), 535, "5.7.8");
    begins(&stranger.command("MAIL FROM:<x@else.example>").expect("a reply"), 250, "2.1.0");
    begins(&stranger.command(&format!("RCPT TO:<{ANNA}>")).expect("a reply"), 550, "5.1.1");
}

/// Guarantee: AUTH guesses are slowed, and cut after few.
#[test]
fn guessing_ends_in_silence_for_a_while() {
    let site = site(&[("submission.max_failures_per_client", "3")]);
    let mut client = site.open();
    for (user, code) in [(ANNA, 535), ("nobody@own.example", 535), (ANNA, 535)] {
        let reply = client.command(&plain(user, "wrong")).expect("a reply");
        assert_eq!(reply.code, code, "{reply:?}");
    }
    assert_eq!(client.reply().expect("a reply").code, 421);
    let mut again = SmtpClient::connect(site.submission).expect("a connection");
    begins(&again.reply().expect("a reply"), 421, "4.7.0");
    let log = site.lab.daemon().log().join("\n");
    for line in [
        "event=auth-failed client=127.0.0.1 user=anna@own.example mechanism=password reason=wrong-password failures=1",
        "reason=unknown-user failures=2",
        "event=auth-blocked client=127.0.0.1 user=anna@own.example mechanism=password what=client seconds=900",
    ] {
        assert!(log.contains(line), "{line}\n{log}");
    }
}

/// The brake: mail of a runaway is taken and held, the administrator is told, and one verb lets it go.
#[test]
fn a_runaway_is_held_and_let_go_by_one_verb() {
    let site = site(&[("submission.brake_recipients", "3")]);
    let mut anna = site.anna();
    let many = ["a@else.example", "b@else.example", "c@else.example", "d@else.example"];
    let content = message(ANNA, many[0], "many", "x\n");
    let reply = anna.deliver(ANNA, &many, &content).expect("a reply");
    let id = queue_id(&reply).unwrap_or_else(|| panic!("{reply:?}"));
    let held = site.lab.show(&id);
    assert!(held.recipients.iter().all(|recipient| recipient.status == "held"), "{held:#?}");
    let reason = "user anna@own.example is held: 4 recipients within an hour, where 0 was the most";
    let status = site.lab.daemon().cli_json(["status", "--json"]).expect("status");
    assert!(status.to_string().contains("runaway"), "{status}");
    let shown = site.lab.daemon().cli_json(["user", "show", ANNA, "--json"]).expect("user show");
    assert!(
        shown["user"]["held"]
            .as_str()
            .is_some_and(|text| reason.contains(text.split(" of an hour").next().unwrap_or("-"))),
        "{shown}"
    );
    // What comes now is held, too.
    let more = queue_id(&anna.deliver(ANNA, &many[..1], &content).expect("a reply")).expect("taken");
    assert!(site.lab.show(&more).recipients.iter().all(|recipient| recipient.status == "held"));
    let told = site.user(&["release", ANNA], "");
    assert!(told.contains("5 held recipients are let go"), "{told}");
    assert_eq!(site.lab.settled(&id).status, "delivered");
    let status = site.lab.daemon().cli_json(["status", "--json"]).expect("status");
    assert!(!status.to_string().contains("runaway"), "{status}");
    let free = queue_id(&anna.deliver(ANNA, &many, &content).expect("a reply")).expect("taken");
    assert_eq!(site.lab.settled(&free).status, "delivered");
}

#[test]
fn no_more_than_the_bounds_also_after_a_restart() {
    let mut site =
        site(&[("submission.max_messages_per_hour", "2"), ("submission.max_recipients_per_day", "3")]);
    let content = message(ANNA, "a@else.example", "one of a few", "x\n");
    let mut anna = site.anna();
    for _ in 0..2 {
        begins(&anna.deliver(ANNA, &["a@else.example"], &content).expect("a reply"), 250, "2.0.0");
    }
    begins(&anna.command(&format!("MAIL FROM:<{ANNA}>")).expect("a reply"), 450, "4.7.1");
    drop(anna);
    site.lab.daemon_mut().stop().expect("stopped");
    site.lab
        .daemon_mut()
        .change_settings(|settings| settings.unset("submission.max_messages_per_hour"))
        .expect("written");
    site.lab.daemon_mut().launch().expect("started");
    let mut anna = site.anna();
    anna.ask(&format!("MAIL FROM:<{ANNA}>")).expect("MAIL");
    begins(&anna.command("RCPT TO:<a@else.example>").expect("a reply"), 250, "2.1.5");
    begins(&anna.command("RCPT TO:<b@else.example>").expect("a reply"), 450, "4.7.1");
}

#[test]
fn users_are_made_and_imported_while_the_daemon_is_down() {
    let mut site = site(&[]);
    site.lab.daemon_mut().stop().expect("stopped");
    site.user(&["add", "ben@own.example", "--no-scram"], "pass");
    let shadow = "carl:$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1:19000:0:\n\
                  daemon:*:19000::::\n\n# no user\n";
    let arguments = ["user", "import", "/dev/stdin", "--domain", "own.example"];
    let output = site.lab.daemon().cli_with_input(arguments, shadow).expect("mta-cli");
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{complained}");
    assert!(
        said.contains("1 users added, 1 lines left out") && complained.contains("line 2:"),
        "{said}{complained}"
    );
    site.lab.daemon_mut().launch().expect("started");
    begins(&site.open().command(&plain("ben@own.example", "pass")).expect("a reply"), 235, "2.7.0");
    begins(&site.open().command(&plain("carl@own.example", "Hello world!")).expect("a reply"), 235, "2.7.0");
    begins(&site.open().command(&plain("carl@own.example", "Hello world!")).expect("a reply"), 235, "2.7.0");
    let list = site.lab.daemon().cli_json(["user", "list", "--json"]).expect("user list");
    let user = |name: &str| {
        let users = list["users"].as_array().expect("a list").clone();
        users.into_iter().find(|user| user["name"] == name).expect("a user")
    };
    assert_eq!(
        (&user("ben@own.example")["scram"], &user("carl@own.example")["scram"]),
        (&false.into(), &true.into())
    );
    assert_eq!(user("carl@own.example")["password"], "argon2id", "made anew at the first login");
    for (arguments, code) in [
        (&["user", "show", "nobody@own.example"][..], 2),
        (&["user", "add", ANNA, "--no-password"], 64),
        (&["user", "add", "a b", "--no-password"], 64),
        (&["user", "add", "word", "--no-password"], 64),
        (&["user", "delete", ANNA], 64),
        (&["user", "allow", ANNA], 64),
    ] {
        let output = site.lab.daemon().cli(arguments.iter().copied()).expect("mta-cli");
        assert_eq!(
            output.status.code(),
            Some(code),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
