//! The built program as scripts see it: exit codes, streams, stable output.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};

use mta_core::control::{Done, Failure, Request, Response};
use serde_json::{Value, json};

fn mta(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_mta-cli"))
        .args(words)
        .current_dir(dir)
        .env_remove("COLUMNS")
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder with a configuration whose socket lies in it.
fn folder(more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!("state_dir = \"{}\"\n{more}", dir.path().display());
    std::fs::write(dir.path().join("mta.toml"), text).unwrap();
    dir
}

/// A daemon that gives these answers, one list of lines for each request; returns the requests.
fn daemon(dir: &Path, answers: Vec<Vec<Response>>) -> std::thread::JoinHandle<Vec<Request>> {
    let listener = UnixListener::bind(dir.join("control.sock")).unwrap();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut stream = stream;
        let mut requests = Vec::new();
        for answer in answers {
            let mut line = Vec::new();
            lines.read_until(b'\n', &mut line).unwrap();
            requests.push(Request::from_line(&line).unwrap());
            for response in answer {
                stream.write_all(response.to_line().as_bytes()).unwrap();
            }
        }
        requests
    })
}

fn message(reply: &str) -> Value {
    json!({
        "id": "0abcdefghjk", "status": "deferred", "from": "alice@example.org", "size_bytes": 1234,
        "received_at": "2026-11-23T22:00:00Z", "attempts": 2, "next_attempt_at": "2026-11-23T22:10:00Z",
        "last_reply": reply,
        "recipients": [{
            "address": "bob@example.net", "status": "deferred", "destination": "example.net", "attempts": 2,
            "next_attempt_at": "2026-11-23T22:10:00Z", "last_reply": reply,
        }],
        "a_field_of_a_newer_version": 1,
    })
}

fn done(count: u64) -> Response {
    Response::Done(Done { count, ..Done::default() })
}

#[test]
fn a_list_in_a_pipe_is_one_line_for_each_recipient_and_one_word_for_each_column() {
    let dir = folder("");
    let answers = vec![vec![Response::Row(message("450 4.2.0 later\r\n\u{1b}[31m")), done(1)]];
    let daemon = daemon(dir.path(), answers);
    let output = mta(dir.path(), &["queue", "list", "--config", "mta.toml", "--to=@example.net"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(
        out(&output),
        "0abcdefghjk\t2026-11-23T22:00:00Z\t1234\tdeferred\t2\t2026-11-23T22:10:00Z\talice@example.org\tbob@example.net\t\
         450 4.2.0 later\\r\\n\\u{1b}[31m\n"
    );
    let requests = daemon.join().unwrap();
    assert!(
        matches!(&requests[..], [Request::QueueList(l)] if l.select.to.as_deref() == Some("@example.net"))
    );
}

#[test]
fn json_is_one_document_with_a_schema() {
    let dir = folder("");
    daemon(dir.path(), vec![vec![Response::Row(message("x")), done(1)]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "queue", "list", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], 1);
    assert_eq!(document["messages"][0]["recipients"][0]["last_reply"], "x");
    assert_eq!(document["more"], false);
}

#[test]
fn what_is_not_there_ends_with_2() {
    let dir = folder("");
    let missing = Failure::new(mta_core::control::Code::NotFound, "no message with id xyz");
    daemon(dir.path(), vec![vec![Response::Error(missing)]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "queue", "show", "xyz"]);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(2), "mta-cli: no message with id xyz\n"));
}

#[test]
fn dropping_asks_and_without_a_terminal_needs_yes() {
    let dir = folder("");
    daemon(dir.path(), vec![vec![done(3)]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "queue", "drop", "--all"]);
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(err(&output), "mta-cli: queue drop: 3 recipients would be dropped; give --yes to do it\n");
}

#[test]
fn dropping_with_yes_counts_first_and_tells_what_was_done() {
    let dir = folder("");
    let daemon = daemon(dir.path(), vec![vec![done(3)], vec![done(2)]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "queue", "drop", "--from", "<>", "--yes"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "2 recipients dropped\n"));
    let requests = daemon.join().unwrap();
    assert!(
        matches!(&requests[..], [Request::QueueCount(a), Request::QueueDrop(b)] if a.select == b.select && b.select.from.as_deref() == Some("<>"))
    );
}

#[test]
fn a_dry_run_changes_nothing() {
    let dir = folder("");
    let daemon = daemon(dir.path(), vec![vec![done(1)]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "queue", "retry", "0abc", "--dry-run"]);
    assert_eq!(out(&output), "1 recipient would be tried again\n");
    assert!(matches!(&daemon.join().unwrap()[..], [Request::QueueCount(_)]));
}

#[test]
fn a_daemon_that_goes_away_or_speaks_nonsense_is_an_error_and_not_a_hang() {
    let dir = folder("");
    daemon(dir.path(), vec![vec![]]);
    let output = mta(dir.path(), &["-c", "mta.toml", "status"]);
    assert_eq!(output.status.code(), Some(69), "{}", err(&output));
    let dir = folder("");
    let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
    let nonsense = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut line = Vec::new();
        BufReader::new(stream.try_clone().unwrap()).read_until(b'\n', &mut line).unwrap();
        stream.write_all(b"\x1b[31m nonsense\n").unwrap();
    });
    let output = mta(dir.path(), &["-c", "mta.toml", "status"]);
    nonsense.join().unwrap();
    assert_eq!(output.status.code(), Some(70), "{}", err(&output));
    assert!(!err(&output).contains('\u{1b}'));
}

#[test]
fn output_that_cannot_be_written_is_no_success() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_mta-cli")).args(["doc", "example"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(75));
    assert!(err(&output).starts_with("mta-cli: cannot write the output"), "{}", err(&output));
}

#[test]
fn a_wrong_configuration_is_named_by_file_and_line_and_ends_with_78() {
    let dir = folder("[smtp]\nlisten = \"everywhere\"\n");
    for verb in
        [&["serve"][..], &["status"], &["queue", "list"], &["config", "show"], &["dns", "lookup", "a", "A"]]
    {
        let mut words = verb.to_vec();
        words.extend(["--config", "mta.toml"]);
        let output = mta(dir.path(), &words);
        assert_eq!(output.status.code(), Some(78), "{verb:?}");
        assert!(
            err(&output).contains("mta.toml:3: smtp.listen: found \"everywhere\"; expected a list, each entry an address and port"),
            "{}",
            err(&output)
        );
        assert!(out(&output).is_empty());
    }
    let output = mta(dir.path(), &["serve", "--config", "no-such-file"]);
    assert_eq!(output.status.code(), Some(78));
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["mta.toml"], "nothing was started or made");
}

#[test]
fn config_check_tells_errors_from_warnings() {
    let dir =
        folder("[smtp]\nrelay_networks = [\"0.0.0.0/0\"]\n[dns]\ntrust_anchor_file = \"/nonexistent\"\n");
    let output = mta(dir.path(), &["config", "check", "-c", "mta.toml"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(err(&output).lines().filter(|l| l.starts_with("warning: ")).count(), 2, "{}", err(&output));
    let output = mta(dir.path(), &["config", "check", "--json", "-c", "mta.toml"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["warnings"].as_array().unwrap().len(), 2);
}

#[test]
fn config_show_names_the_source_of_each_value() {
    let dir = folder("[queue]\nlifetime = \"90s\"\n");
    let output = mta(dir.path(), &["config", "show", "--diff", "-c", "mta.toml"]);
    assert!(out(&output).contains("[queue]\nlifetime = \"1m30s\"  # mta.toml:3\n"), "{}", out(&output));
    let output = mta(dir.path(), &["config", "show", "--defaults", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(
        document["settings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|s| s["key"] == "queue.lifetime" && s["value"] == "\"5d\"")
    );
}

#[test]
fn usage_errors_end_with_64_and_help_with_0() {
    let dir = folder("");
    for words in [
        &[][..],
        &["frobnicate"],
        &["queue"],
        &["queue", "drop"],
        &["queue", "drop", "--all", "--to", "x"],
        &["tlsa", "verify", "--chain", "/nonexistent", "--tlsa", "3 1 1 00"],
        &["dns", "lookup", "a..b", "MX"],
        &["dns", "lookup", "example.org", "NOSUCH"],
        &["doc", "man", "x"],
    ] {
        let output = mta(dir.path(), words);
        assert_eq!(output.status.code(), Some(64), "{words:?}: {}", err(&output));
        assert!(out(&output).is_empty() && !err(&output).is_empty(), "{words:?}");
    }
    for words in
        [&["--help"][..], &["queue", "--help"], &["help"], &["--version"], &["queue", "list", "--help"]]
    {
        let output = mta(dir.path(), words);
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""), "{words:?}");
    }
}

#[test]
fn other_names_of_the_program() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["sendmail", "newaliases"] {
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mta-cli"), dir.path().join(name)).unwrap();
    }
    let run = |name: &str, words: &[&str]| Command::new(dir.path().join(name)).args(words).output().unwrap();
    assert_eq!(run("newaliases", &[]).status.code(), Some(0));
    assert_eq!(run("sendmail", &["-bi"]).status.code(), Some(0));
    assert_eq!(run("sendmail", &["-q30m"]).status.code(), Some(0));
    for words in [&["-Z"][..], &["-t", "x", "-f"], &[], &["-bd"], &["-bv"]] {
        let output = run("sendmail", words);
        assert_eq!(output.status.code(), Some(64), "{words:?}");
        assert!(err(&output).starts_with("sendmail: ") && err(&output).lines().count() == 1, "{words:?}");
    }
    let config = dir.path().join("mta.toml");
    std::fs::write(&config, format!("state_dir = {:?}\n", dir.path().join("state"))).unwrap();
    let output = run("sendmail", &["-C", config.to_str().unwrap(), "root"]);
    assert_eq!(output.status.code(), Some(75), "neither daemon nor maildrop: {}", err(&output));
    assert!(err(&output).contains("the daemon does not take mail on"), "{}", err(&output));
}

#[test]
fn backup_verify_and_restore_work_on_the_files() {
    let dir = folder("");
    let run = |words: &[&str]| {
        let mut all = vec!["-c", "mta.toml"];
        all.extend(words);
        mta(dir.path(), &all)
    };
    assert_eq!(run(&["verify"]).status.code(), Some(69), "there is no queue yet");
    assert_eq!(run(&["backup", "copy.db"]).status.code(), Some(69));
    drop(mta_queue::Queue::open(dir.path(), mta_queue::Options::default()).unwrap());
    let output = run(&["verify"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "all is well: 0 messages, 0 recipients, 0 content files\n");
    let output = run(&["backup", "copy.db"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert!(out(&output).starts_with("0 messages, "), "{}", out(&output));
    assert_eq!(run(&["backup", "copy.db"]).status.code(), Some(64), "it is there already");
    let output = run(&["backup", "copies/", "--json"]);
    let moved: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(moved["moved"]["messages"], 0);
    assert_eq!(run(&["verify", "copies"]).status.code(), Some(0));
    let output = run(&["restore", "copy.db"]);
    assert_eq!(output.status.code(), Some(0), "an empty queue is in nobody's way: {}", err(&output));
    assert_eq!(run(&["restore", "copies"]).status.code(), Some(0));
    std::fs::write(dir.path().join("content/note"), "somebody's").unwrap();
    let output = run(&["verify", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let verified: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(verified["verified"]["problems"][0]["kind"], "foreign");
    let running = mta_queue::Queue::open(dir.path(), mta_queue::Options::default()).unwrap();
    for words in [&["restore", "copy.db", "--force"][..], &["verify", "--repair"]] {
        let output = run(words);
        assert_eq!(output.status.code(), Some(69), "{}", err(&output));
        assert!(err(&output).contains("in use"), "{}", err(&output));
    }
    drop(running);
    assert_eq!(
        run(&["verify", "--repair"]).status.code(),
        Some(1),
        "a foreign file is for a person to judge"
    );
}
