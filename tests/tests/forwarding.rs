//! Mail that is forwarded to somebody elsewhere: the ARC set that it leaves with, verified by dkimpy, and the way back of a
//! bounce to its rewritten sender (SRS).

use std::io::Write as _;
use std::process::{Command, Stdio};

use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};
use mta_lab::mx::{Behaviour, Received};
use mta_lab::peers;
use mta_lab::zone::Zone;
use serde_json::{Value, json};

/// A domain whose mail host seals by dkimpy.
const AUTHOR: &str = "author.example";

/// Verifies the chain of the message on standard input, with the records in the first argument: its state, and how many
/// sets it has.
const VERIFIER: &str = r#"
import dkim, json, sys
records = json.loads(sys.argv[1])
def find(name, timeout=5):
    text = records.get(name.decode().rstrip('.'))
    return text.encode() if text else None
cv, results, reason = dkim.arc_verify(sys.stdin.buffer.read(), dnsfunc=find)
print((cv or b'').decode(), len(results), 'pass' if all(r['as-valid'] for r in results) else reason)
"#;

/// Seals the message on standard input; the arguments are the key's file and the domain.
const SEALER: &str = r#"
import dkim, sys
message, key, domain = sys.stdin.buffer.read(), open(sys.argv[1], 'rb').read(), sys.argv[2].encode()
sys.stdout.buffer.write(b''.join(dkim.arc_sign(message, b's1', domain, key, domain)) + message)
"#;

fn python(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("a pipe").write_all(input).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "dkimpy failed");
    output.stdout
}

fn verified(message: &Received, records: &Value) -> String {
    let said = python(VERIFIER, &[&records.to_string()], &message.content);
    String::from_utf8_lossy(&said).trim().to_owned()
}

/// Whether dkimpy can seal: it needs the library authres for that.
fn cannot_seal() -> bool {
    let imports = Command::new("/usr/bin/python3").args(["-c", "import dkim, authres"]).output();
    peers::missing(&["openssl"]).is_some() || !imports.is_ok_and(|output| output.status.success())
}

/// A laboratory in which 127.0.0.1 is a stranger unless it is told otherwise, with an alias to far away.
fn laboratory(change: impl FnOnce(&mut Plan)) -> Lab {
    let mut plan = Plan::new();
    plan.set("smtp.relay_networks", "[]");
    plan.site("far.example", Some(Behaviour::plain("mx.far.example")), &[]);
    plan.site("sender.example", Some(Behaviour::plain("mx.sender.example")), &[]);
    change(&mut plan);
    let lab = plan.start().expect("a laboratory");
    tool(&lab, &["alias", "add", "fwd@own.example", "x@far.example"]);
    lab
}

fn tool(lab: &Lab, words: &[&str]) -> Value {
    let output = lab.daemon().cli(words.iter().copied()).expect("the tool");
    assert!(output.status.success(), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Makes keys for the own domain and lets them sign; their records.
fn keys(lab: &mut Lab) -> Value {
    let made = tool(lab, &["dkim", "make", OWN_DOMAIN, "--json"]);
    let mut records = json!({});
    for key in made["keys"].as_array().expect("keys") {
        let text = |name: &str| key[name].as_str().expect("a text").to_owned();
        records[text("owner")] = text("record").into();
        lab.internet.change(OWN_DOMAIN, |zone| zone.txt(&format!("{}.", text("owner")), &text("record")));
    }
    lab.publish();
    tool(lab, &["dkim", "check", "--json"]);
    records
}

/// What arrives far away of a message that a stranger sends to the alias.
fn forwarded(lab: &Lab, content: &[u8]) -> Received {
    let before = lab.mx("mx.far.example").messages().len();
    let id = lab.send_content("carol@sender.example", &["fwd@own.example"], content);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() > before));
    lab.mx("mx.far.example").messages().remove(before)
}

fn text(message: &Received) -> String {
    String::from_utf8_lossy(&message.content).replace("\r\n", "\n").replace("\n\t", " ")
}

/// The path in MAIL, without what stands behind it.
fn sender(message: &Received) -> &str {
    message.reverse_path.split(' ').next().unwrap_or_default()
}

/// The same until the daemon has seen what the tool did to its keys: it looks once a second.
fn sealed(lab: &Lab, content: &[u8]) -> Received {
    let deadline = std::time::Instant::now() + WITHIN;
    loop {
        let message = forwarded(lab, content);
        if text(&message).contains("ARC-Seal: i=") {
            return message;
        }
        assert!(std::time::Instant::now() < deadline, "never sealed: {:?}", lab.daemon().log().last());
    }
}

fn plain() -> Vec<u8> {
    let mut content =
        b"Authentication-Results: mail.own.example; dmarc=pass header.from=bank.example\r\n".to_vec();
    content.extend(client::message("carol@sender.example", "fwd@own.example", "hello", "The text.  \n\n"));
    content
}

#[test]
fn what_is_forwarded_is_sealed_with_what_was_found_when_it_came() {
    if peers::missing(&["dkimsign"]).is_some() {
        return;
    }
    let mut lab = laboratory(|_| {});
    let unsealed = forwarded(&lab, &plain());
    assert!(!text(&unsealed).contains("ARC-"), "without a key: {}", text(&unsealed));
    let records = keys(&mut lab);
    let message = sealed(&lab, &plain());
    assert_eq!(verified(&message, &records), "pass 1 pass", "{}", text(&message));
    let text = text(&message);
    let results = text.lines().find(|line| line.starts_with("ARC-Authentication-Results:")).expect("there");
    assert!(results.starts_with("ARC-Authentication-Results: i=1; mail.own.example; spf=none"), "{results}");
    assert!(!text.contains("bank.example"), "a stranger's claim is not ours: {text}");
    assert!(text.contains("a=rsa-sha256; t=") && text.contains("cv=none; d=own.example;"), "{text}");
    let logged = |wanted: &str| lab.daemon().log().iter().any(|line| line.contains(wanted));
    assert!(
        logged("arc=\"no key\"") && logged("arc=\"i=1,cv=none,d=own.example\""),
        "{:?}",
        lab.daemon().log()
    );

    // A message of several pieces: the hash is that of the body that leaves.
    let mut large = plain();
    large.extend("A line of the body, with blanks at its end  \r\n".repeat(5_000).bytes());
    assert_eq!(verified(&sealed(&lab, &large), &records), "pass 1 pass");

    // It comes again by another way, and leaves again.
    tool(&lab, &["alias", "add", "again@own.example", "y@far.example"]);
    let before = lab.mx("mx.far.example").messages().len();
    let id = lab.send_content("bounces@far.example", &["again@own.example"], &message.content);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() > before));
    assert_eq!(verified(&lab.mx("mx.far.example").messages()[before], &records), "pass 2 pass");
}

#[test]
fn the_chain_of_another_sealer_goes_on_and_one_that_is_broken_ends() {
    if cannot_seal() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key.pem").display().to_string();
    peers::run("openssl", &["genrsa", "-traditional", "-out", &file, "2048"], folder.path()).expect("a key");
    let public =
        peers::run("openssl", &["rsa", "-in", &file, "-pubout"], folder.path()).expect("a key").stdout;
    let public: String =
        String::from_utf8(public).expect("PEM").lines().filter(|line| !line.starts_with('-')).collect();
    let record = format!("v=DKIM1; k=rsa; p={public}");
    let mut lab = laboratory(|plan| plan.zone(Zone::new(AUTHOR).txt("s1._domainkey", &record)));
    let mut records = keys(&mut lab);
    records[format!("s1._domainkey.{AUTHOR}")] = record.into();
    let mut content =
        format!("Authentication-Results: {AUTHOR}; spf=pass smtp.mailfrom=a.example\r\n").into_bytes();
    content.extend(client::message("carol@sender.example", "fwd@own.example", "hello", "The text.\n"));
    let content = python(SEALER, &[&file, AUTHOR], &content);
    assert!(content.starts_with(b"ARC-Seal:"), "{}", String::from_utf8_lossy(&content));

    let message = sealed(&lab, &content);
    let deadline = std::time::Instant::now() + WITHIN;
    let mut message = message;
    while !text(&message).contains("ARC-Seal: i=2;") {
        assert!(std::time::Instant::now() < deadline, "never sealed");
        message = forwarded(&lab, &content);
    }
    assert_eq!(verified(&message, &records), "pass 2 pass", "{}", text(&message));
    assert!(
        text(&message).contains("ARC-Authentication-Results: i=2; mail.own.example;"),
        "{}",
        text(&message)
    );
    assert!(text(&message).contains("arc=pass header.d=author.example"), "{}", text(&message));

    let broken = String::from_utf8(content).expect("text").replace("The text.", "Another text.").into_bytes();
    let ended = forwarded(&lab, &broken);
    assert!(text(&ended).contains("cv=fail; d=own.example;"), "{}", text(&ended));
    assert!(verified(&ended, &records).starts_with("fail"), "{}", verified(&ended, &records));
    // What others ended stays ended.
    tool(&lab, &["alias", "add", "again@own.example", "y@far.example"]);
    let before = lab.mx("mx.far.example").messages().len();
    let id = lab.send_content("bounces@far.example", &["again@own.example"], &ended.content);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() > before));
    let last = lab.mx("mx.far.example").messages().remove(before);
    assert!(!text(&last).contains("ARC-Seal: i=3;"), "{}", text(&last));
}

#[test]
fn what_we_did_not_verify_is_sealed_as_such_and_options_are_taken_at_a_reload() {
    if peers::missing(&["dkimsign"]).is_some() {
        return;
    }
    let mut lab = laboratory(|plan| plan.set("auth.verify", "false"));
    let records = keys(&mut lab);
    let message = sealed(&lab, &plain());
    assert_eq!(verified(&message, &records), "pass 1 pass");
    assert!(
        text(&message).contains("ARC-Authentication-Results: i=1; mail.own.example; none\n"),
        "{}",
        text(&message)
    );
    assert!(message.reverse_path.starts_with("<SRS0="), "{}", message.reverse_path);
    let settings = [("dkim.arc_seal", "false"), ("dkim.sign", "false"), ("srs.enabled", "false")];
    lab.daemon_mut()
        .change_settings(|now| settings.iter().for_each(|(key, value)| now.set(key, value)))
        .expect("a file");
    lab.daemon().reload();
    assert!(lab.daemon().wait_for_log(WITHIN, |line| line.contains("event=reloaded")).is_some());
    assert!(!lab.daemon().log().iter().any(|line| line.contains("needs a restart")));
    let message = forwarded(&lab, &plain());
    assert!(!text(&message).contains("ARC-"), "{}", text(&message));
    assert_eq!(sender(&message), "<carol@sender.example>");
}

#[test]
fn a_bounce_to_a_rewritten_sender_finds_the_sender() {
    let lab = laboratory(|_| {});
    let message = forwarded(&lab, &plain());
    let rewritten = sender(&message).trim_matches(['<', '>']).to_owned();
    assert!(rewritten.starts_with("SRS0=") && rewritten.ends_with("@own.example"), "{rewritten}");
    let bounce =
        client::message("postmaster@far.example", &rewritten, "Undelivered", "x@far.example is full.\n");
    let id = lab.send_content("", &[&rewritten], &bounce);
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.sender.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
    let back = lab.mx("mx.sender.example").messages().remove(0);
    assert_eq!((sender(&back), back.forward_paths.join(" ").as_str()), ("<>", "<carol@sender.example>"));
    assert!(text(&back).contains("Subject: Undelivered"), "{}", text(&back));

    // Nobody can send through it, or make another.
    for (sender, recipient) in [
        ("<eve@far.example>", rewritten.clone()),
        ("<>", rewritten.replace("carol", "victim")),
        ("<>", rewritten.replace("=sender.example=", "=far.example=")),
        ("<>", rewritten.replacen("SRS0=", "SRS0=x", 1)),
        ("<>", format!("SRS0=AAAAAAAA=AA=sender.example=carol@{OWN_DOMAIN}")),
        ("<>", format!("SRS1=AAAAAAAA=sender.example==x=y=z.example=carol@{OWN_DOMAIN}")),
        ("<>", old_address(&lab)),
    ] {
        let mut session = SmtpClient::open(lab.daemon().address()).expect("a session");
        session.ask(&format!("MAIL FROM:{sender}")).expect("MAIL");
        let reply = session.command(&format!("RCPT TO:<{recipient}>")).expect("a reply");
        assert_eq!(reply.code, 550, "{sender} to {recipient}: {reply:?}");
    }
}

/// An address that was made here a month ago.
fn old_address(lab: &Lab) -> String {
    use mta_core::auth::srs::{Decoded, Srs};
    use mta_smtp::address::{Domain, Mailbox};
    let copy = tempfile::tempdir().expect("a folder");
    for file in std::fs::read_dir(lab.directory().join("state")).expect("the state directory").flatten() {
        if file.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(file.path(), copy.path().join(file.file_name())).expect("a copy");
        }
    }
    let queue = mta_queue::Queue::open(copy.path(), mta_queue::Options::default()).expect("a queue");
    let secret = queue.secret("srs", Vec::new()).expect("the secret");
    queue.close();
    let srs = Srs::new(&[secret], Domain::parse(OWN_DOMAIN).expect("a domain"));
    let now = jiff::Timestamp::now().as_second().unsigned_abs();
    let sender = Mailbox::parse("carol@sender.example").expect("a mailbox");
    let fresh = srs.encode(&sender, now).expect("rewritten");
    assert_eq!(srs.decode(&fresh, now), Decoded::Mailbox(sender.clone()));
    srs.encode(&sender, now - 30 * 86_400).expect("rewritten").to_string()
}

#[test]
fn our_own_notice_about_a_forward_goes_to_the_sender_himself() {
    let lab = laboratory(|plan| plan.set("smtp.relay_networks", "[\"127.0.0.0/8\"]"));
    lab.mx("mx.far.example")
        .set_behaviour(Behaviour::plain("mx.far.example").reply_to("x@far.example", "550 5.1.1 nobody"));
    let id = lab.send_content("carol@sender.example", &["fwd@own.example"], &plain());
    assert_eq!(lab.settled(&id).status, "delivered");
    assert!(lab.mx("mx.sender.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
    let notice = lab.mx("mx.sender.example").messages().remove(0);
    assert_eq!(sender(&notice), "<>");
    assert!(text(&notice).contains("To: <carol@sender.example>"), "{}", text(&notice));
}
