//! What keeps the daemon from starting: one clear sentence each, the right exit status, and nothing started.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use mta_lab::daemon::{Settings, quoted};
use mta_lab::lab::program;

/// Runs `serve` with a configuration until it ends by itself.
fn serve(folder: &Path, config: &str) -> Output {
    let file = folder.join("mta.toml");
    fs::write(&file, config).expect("a file");
    Command::new(program(folder).expect("the program"))
        .arg("serve")
        .arg("--config")
        .arg(&file)
        .stdin(Stdio::null())
        .output()
        .expect("a process")
}

fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::default();
    settings.set("smtp.listen", "[\"127.0.0.1:0\"]");
    settings.set("dns.servers", "[\"127.0.0.1:9\"]");
    settings.set("dns.recursion", "false");
    settings.set("queue.min_free_space", "\"1MB\"");
    settings.set("state_dir", &quoted(&folder.join("state").display().to_string()));
    settings
}

/// Asserts exit status and words, and that a person has to read one line only, besides warnings.
fn assert_refused(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "no {word:?} in {said}");
    }
    assert!(!said.contains("event=ready"), "{said}");
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn a_port_that_is_taken() {
    let folder = tempfile::tempdir().expect("a directory");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let mut settings = settings(folder.path());
    settings.set("smtp.listen", &format!("[\"{address}\"]"));
    assert_refused(&serve(folder.path(), &settings.to_toml()), 75, &[&address]);
}

#[test]
fn a_state_directory_that_is_a_file() {
    let folder = tempfile::tempdir().expect("a directory");
    fs::write(folder.path().join("state"), "no directory").expect("a file");
    let output = serve(folder.path(), &settings(folder.path()).to_toml());
    assert_refused(&output, 78, &["state"]);
}

#[test]
fn a_state_directory_that_is_not_ours_to_write() {
    if nix::unistd::geteuid().is_root() {
        println!("SKIPPED: root may write everywhere");
        return;
    }
    let folder = tempfile::tempdir().expect("a directory");
    let state = folder.path().join("state");
    fs::create_dir(&state).expect("a directory");
    fs::set_permissions(&state, fs::Permissions::from_mode(0o500)).expect("its mode");
    let output = serve(folder.path(), &settings(folder.path()).to_toml());
    assert_refused(&output, 78, &["state"]);
}

#[test]
fn a_database_that_is_none() {
    let folder = tempfile::tempdir().expect("a directory");
    let lab = mta_lab::lab::Plan::new().start().expect("a laboratory");
    let state = lab.directory().join("state");
    let databases: Vec<_> = fs::read_dir(&state)
        .expect("the state directory")
        .flatten()
        .filter(|entry| fs::read(entry.path()).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3")))
        .collect();
    assert_eq!(databases.len(), 1, "the queue is one database");
    let ours = folder.path().join("state");
    fs::create_dir(&ours).expect("a directory");
    fs::write(ours.join(databases[0].file_name()), "this was a shopping list\n".repeat(1000))
        .expect("a file");
    let output = serve(folder.path(), &settings(folder.path()).to_toml());
    assert_refused(&output, 78, &["state"]);
}

#[test]
fn configurations_that_cannot_be_read() {
    let folder = tempfile::tempdir().expect("a directory");
    let good = settings(folder.path()).to_toml();
    for (wrong, words) in [
        ("hostname = \n", vec!["mta.toml"]),
        ("no_such_key = 1\n", vec!["mta.toml", "no_such_key"]),
        ("smtp.max_errors = \"x\"\n", vec!["mta.toml", "smtp.max_errors", "expected"]),
        ("dns.mode = \"sometimes\"\n", vec!["mta.toml", "dns.mode", "auto"]),
        ("dns.trust_anchor_file = \"/nonexistent/anchor\"\n", vec!["/nonexistent/anchor"]),
    ] {
        let config = if wrong.starts_with("dns.") || wrong.starts_with("smtp.") {
            format!("{good}{wrong}")
        } else {
            format!("{wrong}{good}")
        };
        assert_refused(&serve(folder.path(), &config), 78, &words);
        if !wrong.contains("/nonexistent/") {
            assert!(!folder.path().join("state").exists(), "nothing was begun: {wrong}");
        }
    }
    let missing = Command::new(program(folder.path()).expect("the program"))
        .args(["serve", "--config", "/nonexistent/mta.toml"])
        .output()
        .expect("a process");
    assert_refused(&missing, 78, &["/nonexistent/mta.toml"]);
}

#[test]
fn a_second_daemon_on_the_same_state() {
    let lab = mta_lab::lab::Plan::new().start().expect("a laboratory");
    let folder = tempfile::tempdir().expect("a directory");
    let mut settings = settings(folder.path());
    settings.set("state_dir", &quoted(&lab.directory().join("state").display().to_string()));
    assert_refused(&serve(folder.path(), &settings.to_toml()), 75, &["state"]);
    let id = lab.send("carol@else.example", &["alice@own.example"]);
    assert_eq!(lab.settled(&id).status, "delivered", "the first one goes on");
}
