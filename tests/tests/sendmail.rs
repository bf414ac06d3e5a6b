//! sendmail(1): mail from programs on this machine, with the daemon up and down, from root and from others.

use std::fs;
use std::io::Write;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};

/// Nobody: a user who is neither root nor the service's.
const NOBODY: u32 = 65534;

/// A laboratory, and where its sockets and its maildrop lie.
struct Site {
    lab: Lab,
    _top: tempfile::TempDir,
}

impl Deref for Site {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

/// A laboratory whose local users are those of the own domain, and that lets other users in.
fn started(set: &[(&str, &str)]) -> Site {
    let mut plan = Plan::new();
    plan.set("sendmail.origin", "\"own.example\"");
    let top = tempfile::Builder::new().prefix("mta-run-").tempdir().expect("a directory");
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).expect("a mode");
    plan.set("runtime_dir", &format!("{:?}", top.path().join("run")));
    plan.set("sendmail.maildrop", &format!("{:?}", top.path().join("maildrop")));
    for (key, value) in set {
        plan.set(key, value);
    }
    fs::create_dir(top.path().join("run")).expect("a directory");
    fs::set_permissions(top.path().join("run"), fs::Permissions::from_mode(0o755)).expect("a mode");
    let lab = plan.start().expect("a laboratory");
    for path in [lab.directory().to_owned(), lab.directory().join("daemon")] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    Site { lab, _top: top }
}

/// Where the maildrop of this laboratory is, by its configuration.
fn maildrop(lab: &Lab) -> PathBuf {
    let config = lab.daemon().config_file();
    mta_core::config::Config::load(&config).expect("a configuration").maildrop()
}

fn dropped(lab: &Lab) -> Vec<PathBuf> {
    fs::read_dir(maildrop(lab)).expect("a maildrop").map(|entry| entry.expect("an entry").path()).collect()
}

/// Runs sendmail, as another user where one is named.
fn sendmail(lab: &Lab, uid: Option<u32>, words: &[&str], input: &[u8]) -> Output {
    under_name(lab, "sendmail", uid, words, input)
}

fn under_name(lab: &Lab, name: &str, uid: Option<u32>, words: &[&str], input: &[u8]) -> Output {
    let program = mta_lab::lab::program(lab.directory()).expect("the program");
    let mut command = Command::new(program);
    command.arg("--config").arg(lab.daemon().config_file()).arg(name).args(words);
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("sendmail runs");
    // One that refuses its arguments reads nothing.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("an end")
}

fn expect(output: &Output, code: i32) {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{out}{err}");
}

/// Waits for so many messages in a mailbox, as text.
fn mailbox(lab: &Lab, name: &str, count: usize) -> Vec<String> {
    assert!(
        lab.wait_for_files(|| lab.maildir(OWN_DOMAIN, name).len() >= count),
        "{name} has not got {count} messages"
    );
    let found = lab.maildir(OWN_DOMAIN, name);
    assert_eq!(found.len(), count, "{name}");
    found.iter().map(|octets| String::from_utf8_lossy(octets).replace("\r\n", "\n")).collect()
}

#[test]
fn mail_of_a_program_is_delivered_with_what_it_lacked() {
    let lab = started(&[]);
    let input = "From root Mon Nov 23 22:03:48 2026\nTo: Alice <alice>\nBcc: bob@own.example\nSubject: caf\u{e9}\n\n\
                 caf\u{e9}\n10%\r100%\n..\n.\nnot any more\n";
    let output =
        sendmail(&lab, None, &["-t", "-f", "carol@else.example", "-F", "Carol J. Else"], input.as_bytes());
    expect(&output, 0);
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "cron mails what is printed");
    for name in ["alice", "bob"] {
        let text = mailbox(&lab, name, 1).remove(0);
        assert!(text.starts_with("Return-Path: <carol@else.example>\n"), "{text}");
        for part in [
            "\nReceived: by mail.own.example (from userid ",
            "\nMessage-ID: <",
            "\nDate: ",
            "\nFrom: \"Carol J. Else\" <carol@else.example>\n",
            "\nSubject: caf\u{e9}\n",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        let shows = text.contains("\nBcc:") || (name == "alice" && text.contains("bob@"));
        assert!(!shows, "a blind copy is nobody's to see: {text}");
        assert!(text.ends_with("\n\ncaf\u{e9}\n10%\n100%\n..\n"), "{text}");
    }
    let output = sendmail(&lab, None, &["-v", "-i", "alice"], b"Subject: dots\n\n.\nmore\n");
    expect(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).contains("queued as "), "{output:?}");
    assert!(mailbox(&lab, "alice", 2).iter().any(|text| text.ends_with("\n\n.\nmore\n")));
}

#[test]
fn mail_handed_in_while_the_daemon_is_down_is_taken_once() {
    let mut lab = started(&[]);
    lab.lab.daemon_mut().kill();
    for n in 0..3 {
        let input = format!("Subject: {n}\n\nwhile it was down\n");
        expect(&sendmail(&lab, None, &["alice", "someone@nowhere-known.example"], input.as_bytes()), 0);
    }
    assert_eq!(dropped(&lab).len(), 3);
    lab.lab.daemon_mut().launch().expect("it starts");
    let mut subjects: Vec<_> = mailbox(&lab, "alice", 3)
        .iter()
        .map(|text| text.lines().find(|line| line.starts_with("Subject: ")).unwrap_or_default().to_owned())
        .collect();
    subjects.sort();
    assert_eq!(subjects, ["Subject: 0", "Subject: 1", "Subject: 2"]);
    assert!(lab.wait_for_files(|| dropped(&lab).is_empty()));
    lab.lab.daemon_mut().kill();
    lab.lab.daemon_mut().launch().expect("it starts");
    expect(&sendmail(&lab, None, &["alice"], b"Subject: last\n\n"), 0);
    mailbox(&lab, "alice", 4);
}

#[test]
fn what_is_paused_waits_in_the_maildrop_and_the_next_mail_takes_it_along() {
    let lab = started(&[]);
    lab.daemon().cli(["pause", "in", "--reason", "a test"]).expect("paused");
    let output = sendmail(&lab, None, &["-v", "alice"], b"Subject: kept\n\n");
    expect(&output, 0);
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("kept in "), "{output:?}");
    assert_eq!(dropped(&lab).len(), 1);
    lab.daemon().cli(["resume", "in"]).expect("resumed");
    expect(&sendmail(&lab, None, &["alice"], b"Subject: next\n\n"), 0);
    mailbox(&lab, "alice", 2);
    assert!(lab.wait_for_files(|| dropped(&lab).is_empty()));
}

#[test]
fn what_cannot_be_delivered_comes_back() {
    let lab = started(&[]);
    expect(&sendmail(&lab, None, &["-f", "alice", "nobody-here"], b"Subject: x\n\ntext\n"), 0);
    let text = mailbox(&lab, "alice", 1).remove(0);
    assert!(text.starts_with("Return-Path: <>\n") && text.contains("nobody-here@own.example"), "{text}");
}

#[test]
fn wrong_mail_is_refused_with_the_right_code() {
    let lab = started(&[("smtp.message_size_limit", "\"64kB\"")]);
    for (words, input, code) in [
        (&["-t"][..], "Subject: nobody\n\n".to_owned(), 65),
        (&[], "x\n".to_owned(), 64),
        (&["a b"], "x\n".to_owned(), 64),
        (&["alice", "-f", "x"], "x\n".to_owned(), 64),
        (&["-f", "a\nRCPT TO:<b@c.example>", "alice"], "x\n".to_owned(), 64),
        (&["alice"], "x\n".repeat(60_000), 65),
    ] {
        let output = sendmail(&lab, None, words, input.as_bytes());
        expect(&output, code);
        assert!(output.stderr.starts_with(b"sendmail: "), "{words:?}");
    }
    assert!(lab.list().is_empty() && dropped(&lab).is_empty());
}

#[test]
fn smtp_by_hand_may_be_fed_whole() {
    let lab = started(&[]);
    let script = "EHLO x\nMAIL FROM:<alice@own.example>\nRCPT TO:<bob@own.example>\nDATA\nSubject: by hand\n\n..dot\n.\n\
                  MAIL FROM:<>\nRCPT TO:<alice@own.example>\nBDAT 6\nA: b\r\nBDAT 5 LAST\n\r\nx\r\nQUIT\n";
    let output = sendmail(&lab, None, &["-bs"], script.as_bytes());
    expect(&output, 0);
    let codes: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.get(3..4) != Some("-"))
        .map(|line| line.chars().take(3).collect())
        .collect();
    assert_eq!(codes.join(" "), "220 250 250 250 354 250 250 250 250 250 221", "{output:?}");
    assert!(mailbox(&lab, "bob", 1)[0].ends_with("Subject: by hand\n\n.dot\n"));
    assert!(mailbox(&lab, "alice", 1)[0].contains("\nA: b\n\nx\n"));
}

/// Any other user: what he sends carries his name, he sees his own mail alone, and nobody's in the maildrop.
#[test]
fn other_users_hand_in_mail_without_any_right() {
    if !nix::unistd::geteuid().is_root() || single_user() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let mut lab = started(&[("sendmail.any_sender", "false")]);
    let user = Some(NOBODY);
    if under_name(&lab, "newaliases", user, &[], b"").status.code() != Some(0) {
        eprintln!("SKIPPED: the program lies where no other user reaches it");
        return;
    }
    lab.daemon().cli(["pause", "out", "--reason", "a test"]).expect("paused");
    expect(&sendmail(&lab, user, &["alice"], b"Subject: online\n\n"), 0);
    expect(&sendmail(&lab, None, &["bob"], b"Subject: of root\n\n"), 0);
    let refused = sendmail(&lab, user, &["-f", "root@own.example", "alice"], b"Subject: forged\n\n");
    expect(&refused, 77);
    expect(&sendmail(&lab, user, &["-f", "", "alice"], b"Subject: null sender\n\n"), 0);
    let listed = under_name(&lab, "mailq", user, &[], b"");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!listed.contains("bob@own.example"), "{listed}");

    lab.lab.daemon_mut().kill();
    expect(&sendmail(&lab, user, &["alice"], b"Subject: offline\n\n"), 0);
    let file = dropped(&lab).remove(0);
    let look = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).uid(NOBODY - 1).gid(NOBODY - 1);
        command.output().expect("it runs").status.success()
    };
    let (folder, file) = (maildrop(&lab).display().to_string(), file.display().to_string());
    assert!(!look(&["ls", &folder]), "nobody may list the maildrop");
    assert!(!look(&["cat", &file]), "nor read a file there");
    assert!(!look(&["rm", "-f", &file]), "nor delete one");
    // Somebody hands in what is no work of sendmail's, and what would be somebody else's.
    let hostile = format!("{folder}/{}", "0".repeat(32));
    let line = format!("umask 0; echo garbage > {hostile} && chmod 640 {hostile}");
    let mut shell = Command::new("sh");
    assert!(shell.args(["-c", &line]).uid(NOBODY).gid(NOBODY).status().expect("sh runs").success());
    lab.lab.daemon_mut().launch().expect("it starts");
    let online = mailbox(&lab, "alice", 3);
    assert!(online.iter().all(|text| text.contains(&format!("(from userid {NOBODY})"))), "{online:?}");
    let told = lab.daemon().wait_for_log(WITHIN, |line| line.contains("event=maildrop-refused"));
    assert!(told.is_some_and(|line| line.contains(&format!("uid={NOBODY}"))));
    assert!(
        lab.wait_for_files(|| dropped(&lab)
            .iter()
            .all(|path| path.display().to_string().contains("refused-")))
    );
}

/// A null client: everything goes to another host, and what leaves looks as if it came from the domain that takes the answers.
#[test]
fn a_host_that_only_sends_writes_as_the_domain_that_takes_the_answers() {
    let mut lab = started(&[
        ("sendmail.origin", "\"router.lan\""),
        ("rewrite.sender_domain", "\"example.org\""),
        ("rewrite.from_domains", "[\"router.lan\", \"localhost\"]"),
    ]);
    let words = ["-t", "-i"];
    let input = b"To: alice@own.example, ops <root>\nCc: admin@localhost\nFrom: root (Cron Daemon)\nSubject: one\n\nx\n";
    expect(&sendmail(&lab, None, &words, input), 0);
    let text = mailbox(&lab, "alice", 1).remove(0);
    for part in [
        "Return-Path: <root@example.org>\n",
        "\nFrom: root@example.org (Cron Daemon)\n",
        "\nTo: alice@own.example, ops <root@example.org>\n",
        "\nCc: admin@example.org\n",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    // In the envelope alone, where that is wanted; bare names are completed all the same.
    lab.lab
        .daemon_mut()
        .change_settings(|settings| settings.set("rewrite.header", "false"))
        .expect("written");
    lab.daemon().reload();
    assert!(lab.daemon().wait_for_log(WITHIN, |line| line.contains("event=reloaded")).is_some());
    let input = b"To: alice@own.example, ops <root>\nCc: admin@localhost\nSubject: two\n\nx\n";
    expect(&sendmail(&lab, None, &words, input), 0);
    let texts = mailbox(&lab, "alice", 2);
    let text = texts.iter().find(|text| text.contains("Subject: two")).expect("the second");
    for part in ["Return-Path: <root@example.org>\n", "ops <root@router.lan>\n", "\nCc: admin@localhost\n"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

/// A script that loops: what it hands in beyond its hour waits in the maildrop, and is not lost.
#[test]
fn mail_of_one_user_beyond_the_bound_of_an_hour_waits() {
    let site = started(&[("sendmail.max_messages_per_hour", "2")]);
    if !nix::unistd::geteuid().is_root() || single_user() {
        println!("SKIPPED: needs root, to become somebody else");
        return;
    }
    for n in 0..4 {
        let input = format!("Subject: number {n}\n\nx\n");
        expect(&sendmail(&site, Some(NOBODY), &["alice"], input.as_bytes()), 0);
    }
    expect(&sendmail(&site, None, &["alice"], b"Subject: root is not counted\n\nx\n"), 0);
    assert!(site.wait_for_files(|| dropped(&site).len() == 2), "two wait");
    let texts = mailbox(&site, "alice", 3);
    assert_eq!(texts.iter().filter(|text| text.contains("Subject: number")).count(), 2);
    let told = site.daemon().log().iter().filter(|line| line.contains("event=local-rate")).count();
    assert_eq!(told, 1, "said once");
}

/// `newaliases` checks the files for everybody, and has the daemon read them for administrators alone.
#[test]
fn only_an_administrator_has_the_aliases_read_again() {
    let lab = started(&[("local.enable", "true")]);
    if !nix::unistd::geteuid().is_root() || single_user() {
        println!("SKIPPED: needs root, to become somebody else");
        return;
    }
    let run = |name: &str, uid: Option<u32>, words: &[&str]| under_name(&lab, name, uid, words, b"");
    expect(&run("newaliases", None, &[]), 0);
    for (name, words) in [("newaliases", &[][..]), ("sendmail", &["-bi"])] {
        let output = run(name, Some(NOBODY), words);
        expect(&output, 77);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.lines().count() == 1 && said.contains("admin_group"), "cause and remedy: {said}");
    }
}

/// In a namespace of one user nobody else can be.
fn single_user() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        map.split_ascii_whitespace()
            .nth(2)
            .and_then(|count| count.parse::<u64>().ok())
            .is_some_and(|count| count < 70_000)
    })
}
