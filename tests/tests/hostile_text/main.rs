//! Nothing that a stranger writes reaches a log line, a field of ours, a report, a command to another server, the output of
//! `mta-cli` or SQL as anything but harmless text: wherever he writes it, and whatever it is.
//!
//! `stranger` writes (every control, what is no UTF-8, quotes of every language, in every place), `texts` knows what is
//! hostile. Each place has a word of its own, and the words must be found again in what the server writes: so the check
//! looks where the texts really go.

mod stranger;
mod texts;

use std::net::SocketAddr;

use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan};
use mta_lab::peers::free_address;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

use crate::texts::fault;

/// Who may relay, so that servers elsewhere are met.
const ANNA: &str = "anna@own.example";
/// Her password.
const PASSWORD: &str = "correct horse";

/// What was written in these places is found again somewhere. In the others it was refused, or nobody asks for it.
const WORDS: &str = "zqfrom zqquoted zqutf zqidn zqenvid zqxenvid zqrcpt zqorcpt zqxorcpt zqowns zqmessage \
    zqsigner zqselector zqauthor zqlogin zqsni zqreplybanner zqreplyehlo zqreplymail zqreplyrcpt zqreplydata \
    zqreplydot zqname ZQKEYWORD zqrefusal zqcertificate zqhost zqclient zqwhy";

/// Everything the server wrote, and what is wrong with it.
#[derive(Default)]
struct Written {
    faults: Vec<String>,
    all: String,
}

impl Written {
    /// Looks at something the server wrote.
    fn look(&mut self, what: &str, octets: &[u8], allowed: &[char]) {
        self.faults.extend(fault(octets, allowed).map(|fault| format!("{what}: {fault}")));
        self.all.push_str(&String::from_utf8_lossy(octets));
        self.all.push('\n');
    }
}

fn site() -> (Lab, SocketAddr, Vec<String>) {
    let mut plan = Plan::new();
    let submission = free_address(88);
    let settings = [
        ("smtp.relay_networks", "[]".to_owned()),
        ("smtp.dsn_for_strangers", "true".to_owned()),
        ("smtp.max_errors", "1000".to_owned()),
        ("auth.spf", "\"reject\"".to_owned()),
        ("auth.dmarc", "\"mark\"".to_owned()),
        ("queue.retry", "[\"1h\"]".to_owned()),
        ("queue.lifetime", "\"2h\"".to_owned()),
        ("submission.listen", format!("[\"{submission}\"]")),
        ("submission.auth_in_clear", "true".to_owned()),
        ("submission.hash_memory", "\"64kB\"".to_owned()),
        ("submission.hash_passes", "1".to_owned()),
        ("submission.max_messages_per_hour", "0".to_owned()),
        ("submission.max_recipients_per_hour", "0".to_owned()),
        ("submission.max_recipients_per_day", "0".to_owned()),
        ("submission.brake_recipients", "0".to_owned()),
        ("log.level", "\"debug\"".to_owned()),
    ];
    for (key, value) in settings {
        plan.set(key, &value);
    }
    for key in ["connect", "greeting", "command", "tls", "data", "block", "end_of_data"] {
        plan.set(&format!("outbound.{key}_timeout"), "\"2s\"");
    }
    let mut recipients = stranger::servers(&mut plan);
    recipients.extend(stranger::zones(&mut plan));
    let lab = plan.start().expect("a laboratory");
    let added =
        lab.daemon().cli_with_input(["user", "add", ANNA], &format!("{PASSWORD}\n")).expect("mta-cli");
    assert!(added.status.success(), "{added:?}");
    (lab, submission, recipients)
}

/// Anna writes to every hostile server, with hostile parameters where they are taken.
fn send_out(submission: SocketAddr, recipients: &[String]) {
    let mut client = SmtpClient::open(submission).expect("a session");
    let token = base64_of(&format!("\0{ANNA}\0{PASSWORD}"));
    client.ask(&format!("AUTH PLAIN {token}")).expect("a login");
    let texts = texts::texts();
    for (n, recipient) in recipients.iter().enumerate() {
        let text = texts::xtext(&texts::framed("zqowns", &texts[n % texts.len()]));
        let mail = format!("MAIL FROM:<{ANNA}> RET=FULL ENVID={text}");
        if !client.command(&mail).expect("a reply").is_positive() {
            client.ask(&format!("MAIL FROM:<{ANNA}>")).expect("MAIL");
        }
        let rcpt = format!("RCPT TO:<{recipient}> NOTIFY=SUCCESS,FAILURE,DELAY");
        if !client.command(&format!("{rcpt} ORCPT=rfc822;{text}")).expect("a reply").is_positive() {
            client.ask(&rcpt).expect("RCPT");
        }
        client.ask("DATA").expect("DATA");
        client.send(b"X-Begin: content\r\nSubject: x\r\n\r\nx\r\n").expect("content");
        client.ask(".").expect("taken");
    }
}

fn base64_of(text: &str) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(text)
}

/// The log: each line begins as ours do, and none is forged.
fn look_at_log(lab: &Lab, written: &mut Written) {
    for line in lab.daemon().log() {
        written.look("log", line.as_bytes(), &[]);
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let is_ours = words.len() >= 3
            && words[0].starts_with("20")
            && words[0].ends_with('Z')
            && ["error", "warn", "info", "debug"].contains(&words[1]);
        if !is_ours
            || words.contains(&"event=forged")
            || line.contains('\u{fffd}') && line.contains("NOT UTF-8")
        {
            written.faults.push(format!("log: a line that is not ours: {line:?}"));
        }
    }
}

/// What lies in the mailboxes: the fields that we put in front, and whole reports but the part that is a copy.
fn look_at_mail(lab: &Lab, written: &mut Written) {
    const ENDS: [char; 3] = ['\r', '\n', '\t'];
    const OURS: [&str; 5] =
        ["Return-Path", "Delivered-To", "Received", "Authentication-Results", "X-Spam-Flag"];
    for mailbox in ["alice", "anna"] {
        for message in lab.maildir(OWN_DOMAIN, mailbox) {
            let at = |needle: &[u8]| message.windows(needle.len()).position(|it| it == needle);
            let is_report = at(b"Content-Type: multipart/report").is_some_and(|at| at < 2000);
            let end = if is_report {
                at(b"Content-Type: message/rfc822").or_else(|| at(b"Content-Type: text/rfc822-headers"))
            } else {
                // A text of several lines may have answered DATA before the content came.
                at(b"X-Begin: ").or_else(|| at(b"\n\n"))
            };
            let Some(end) = end else {
                written.faults.push(format!("{mailbox}: what is that? {}", message.escape_ascii()));
                continue;
            };
            let what = if is_report { "report" } else { "header" };
            written.look(what, &message[..end], &ENDS);
            let front = String::from_utf8_lossy(&message[..end]);
            let strange = front.lines().find(|line| {
                let name = line.split(':').next().unwrap_or_default();
                !is_report && !line.starts_with([' ', '\t']) && !OURS.contains(&name)
            });
            written.faults.extend(strange.map(|line| format!("{what}: a field that is not ours: {line:?}")));
        }
    }
}

/// What `mta-cli` prints, for people and for programs.
fn look_at_output(lab: &Lab, written: &mut Written) {
    let ids: Vec<String> = lab.list().into_iter().take(4).map(|message| message.id).collect();
    let mut commands: Vec<Vec<&str>> = vec![
        vec!["queue", "list"],
        vec!["queue", "list", "--jsonl"],
        vec!["queue", "summary", "--by", "reason"],
        vec!["queue", "summary", "--by", "sender"],
        vec!["queue", "summary", "--by", "mx"],
        vec!["trace", "--limit", "1000", "--from", "else.example"],
        vec!["trace", "--limit", "1000", "--rcpt", "example"],
        vec!["trace", "--limit", "1000", "--rcpt", "example", "--jsonl"],
        vec!["log", "-n", "1000"],
        vec!["dest", "show"],
        vec!["status"],
        vec!["user", "list"],
        vec!["report", "tls", "--day", "today"],
        vec!["explain", "hosts.example"],
        vec!["explain", "sts.example"],
        vec!["probe", "banner-lines.example"],
        vec!["probe", "named.example"],
        vec!["probe", "certificate.example"],
        vec!["dns", "lookup", "hosts.example", "MX"],
        vec!["dns", "lookup", "why.spf.example", "TXT"],
        vec!["tlsa", "check", "mx.certificate.example"],
    ];
    commands.extend(ids.iter().map(|id| vec!["queue", "show", id]));
    for mut command in commands {
        let streams = command.contains(&"--jsonl");
        for json in [false, true] {
            if json && streams {
                continue;
            }
            if json {
                command.push("--json");
            }
            let output = lab.daemon().cli(command.iter().copied()).expect("mta-cli");
            let what = command.join(" ");
            assert!(!output.stdout.is_empty(), "{what}: {output:?}");
            written.look(&what, &output.stdout, &['\n', '\t']);
            written.look(&what, &output.stderr, &['\n', '\t']);
            if json && what != "log -n 1000 --json" {
                let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&output.stdout);
                assert!(parsed.is_ok(), "{what}: {parsed:?}");
            }
        }
    }
}

/// The database: whole, its schema that of a new one, and no text in it that is not harmless.
fn look_at_database(lab: &Lab, written: &mut Written) {
    let open = |directory: &std::path::Path| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
        Connection::open_with_flags(directory.join("queue.db"), flags).expect("a database")
    };
    let schema = |database: &Connection| -> Vec<(String, String)> {
        let sql = "SELECT name, coalesce(sql, '') FROM sqlite_schema ORDER BY name";
        let mut statement = database.prepare(sql).expect("a statement");
        let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        rows.collect::<Result<_, _>>().expect("the schema")
    };
    let database = open(&lab.directory().join("state"));
    let fresh = tempfile::tempdir().expect("a directory");
    let queue = mta_queue::Queue::open(fresh.path(), mta_queue::Options::default()).expect("a queue");
    assert_eq!(schema(&database), schema(&open(fresh.path())));
    drop(queue);
    let whole: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("a check");
    assert_eq!(whole, "ok");
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let mut statement = database.prepare(tables).expect("a statement");
    let names = statement.query_map([], |row| row.get(0)).expect("rows");
    let names: Vec<String> = names.collect::<Result<_, _>>().expect("names");
    for table in names {
        let mut statement = database.prepare(&format!("SELECT * FROM \"{table}\"")).expect("a statement");
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).expect("rows");
        while let Some(row) = rows.next().expect("a row") {
            for (n, column) in columns.iter().enumerate() {
                if let ValueRef::Text(text) = row.get_ref(n).expect("a value") {
                    written.look(&format!("database {table}.{column}"), text, &[]);
                }
            }
        }
    }
}

/// What other servers heard from us.
fn look_at_commands(lab: &Lab, written: &mut Written) {
    for host in lab.hosts.values() {
        for line in host.seen().transcript.iter().filter(|line| line.starts_with("C: ")) {
            written.look("command", line.as_bytes(), &[]);
            if line.contains('\u{fffd}') {
                written.faults.push(format!("a command that is no text: {line:?}"));
            }
        }
    }
}

#[test]
fn nothing_that_a_stranger_writes_is_anything_but_harmless_text_anywhere() {
    let (lab, submission, recipients) = site();
    let mut written = Written::default();
    send_out(submission, &recipients);
    let server = lab.daemon().address();
    written.look("replies", &stranger::talk(server), &['\r', '\n']);
    written.look("replies", &stranger::write(server), &['\r', '\n']);
    written.look("replies", &stranger::log_in(submission), &['\r', '\n']);
    stranger::greet_tls(server);
    // Everything has been tried once nobody waits for a first attempt.
    let is_tried = || lab.list().iter().all(|it| it.recipients.iter().all(|one| one.attempts > 0));
    assert!(lab.wait_for_files(is_tried), "{:#?}", lab.list());

    look_at_log(&lab, &mut written);
    look_at_mail(&lab, &mut written);
    look_at_output(&lab, &mut written);
    look_at_commands(&lab, &mut written);
    look_at_database(&lab, &mut written);
    written.faults.sort();
    written.faults.dedup();
    assert!(written.faults.is_empty(), "{} faults:\n{}", written.faults.len(), written.faults.join("\n"));
    let missing: Vec<&str> = WORDS.split_whitespace().filter(|word| !written.all.contains(word)).collect();
    assert!(missing.is_empty(), "written, and found nowhere: {missing:?}");
    // What is text to us stays what it was.
    assert!(written.all.contains("zqquoted'; DROP TABLE message; --end"));
}
