//! The generated files in packaging/ are what the tables of verbs and options say.
//!
//! After a change to either table: `UPDATE=1 cargo test -p mta-cli --test generated`.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on stops")]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Each generated file and the words that print it.
const FILES: &[(&str, &[&str])] = &[
    ("man/mta-cli.8", &["doc", "man", "mta-cli"]),
    ("man/mta.toml.5", &["doc", "man", "mta.toml"]),
    ("config/mta.toml.example", &["doc", "example"]),
    ("completions/mta-cli.bash", &["doc", "completions", "bash"]),
    ("completions/_mta-cli", &["doc", "completions", "zsh"]),
    ("completions/mta-cli.fish", &["doc", "completions", "fish"]),
];

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn mta(words: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_mta-cli")).args(words).output().unwrap()
}

#[test]
fn committed_files_are_what_the_tables_say() {
    for (name, words) in FILES {
        let output = mta(words);
        assert!(output.status.success(), "{words:?}");
        let path = packaging().join(name);
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &output.stdout).unwrap();
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == output.stdout,
            "{name} is out of date: UPDATE=1 cargo test -p mta-cli --test generated"
        );
    }
}

#[test]
fn the_installed_configuration_is_good() {
    // As the package's postinst makes it.
    let text = std::fs::read_to_string(packaging().join("config/mta.toml")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mta.toml");
    std::fs::write(&path, text.replace("@MAILNAME@", "host.example")).unwrap();
    let output = mta(&["config", "check", "--config", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn bash_accepts_its_completion_and_completes() {
    let script = packaging().join("completions/mta-cli.bash");
    let complete = |words: &str| {
        let line = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _mta_cli; echo \"${{COMPREPLY[@]}}\"",
            script.display()
        );
        let output = Command::new("bash").args(["-euc", &line]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete("mta-cli q"), "queue");
    assert_eq!(complete("mta-cli queue l"), "list");
    assert_eq!(complete("mta-cli --config f queue list --st"), "--status");
    assert_eq!(complete("mta-cli config show --d"), "--diff --defaults");
}
