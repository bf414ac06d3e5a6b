//! Certificates: several at once, chosen by what a client can use, and taken up when their files change.

use std::path::{Path, PathBuf};

use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::peers::{missing, run};

/// Makes a certificate with a new key of this kind in a folder, as ACME clients lay it out.
fn make(folder: &Path, kind: &[&str]) {
    std::fs::create_dir_all(folder).expect("a folder");
    let mut arguments = vec!["req", "-x509", "-nodes", "-newkey"];
    arguments.extend(kind);
    arguments.extend(["-keyout", "privkey.pem", "-out", "fullchain.pem", "-subj", "/CN=x", "-days", "30"]);
    arguments.extend(["-addext", "subjectAltName=DNS:mail.own.example"]);
    run("openssl", &arguments, folder).expect("a certificate");
}

const ECDSA: &[&str] = &["ec", "-pkeyopt", "ec_paramgen_curve:P-256"];
const RSA: &[&str] = &["rsa:2048"];

fn start(folders: &[&PathBuf]) -> Lab {
    let mut plan = Plan::new();
    let folders: Vec<String> =
        folders.iter().map(|folder| format!("{:?}", folder.display().to_string())).collect();
    plan.set("tls.certificate_dirs", &format!("[{}]", folders.join(", ")));
    plan.set("tls.watch_interval", "\"1s\"");
    plan.start().expect("a laboratory")
}

/// The leaf that is served now.
fn served(lab: &Lab) -> Vec<u8> {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("STARTTLS").expect("STARTTLS");
    client.start_tls("mail.own.example").expect("TLS").swap_remove(0).to_vec()
}

#[test]
fn both_kinds_of_key_stand_side_by_side() {
    if missing(&["openssl"]).is_some() {
        return;
    }
    let top = tempfile::tempdir().expect("a directory");
    let (ecdsa, rsa) = (top.path().join("ecdsa"), top.path().join("rsa"));
    make(&ecdsa, ECDSA);
    make(&rsa, RSA);
    let lab = start(&[&ecdsa, &rsa]);
    let server = lab.daemon().address().to_string();
    for (more, expected) in [
        (&["-sigalgs", "ECDSA+SHA256"][..], "ecPublicKey"),
        (&["-sigalgs", "RSA-PSS+SHA256:RSA+SHA256"], "rsaEncryption"),
        (&["-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"], "rsaEncryption"),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"], "ecPublicKey"),
        (&[], "ecPublicKey"),
    ] {
        for name in [
            &["-servername", "mail.own.example"][..],
            &["-servername", "unknown.example"],
            &["-noservername"],
        ] {
            let mut arguments = vec!["s_client", "-starttls", "smtp", "-connect", &server];
            arguments.extend(more);
            arguments.extend(name);
            let output = run("openssl", &arguments, top.path()).expect("a session");
            let pem = top.path().join("served.pem");
            std::fs::write(&pem, output.stdout).expect("written");
            let shown = run("openssl", &["x509", "-in", "served.pem", "-noout", "-text"], top.path())
                .expect("a certificate");
            let text = String::from_utf8_lossy(&shown.stdout).into_owned();
            assert!(text.contains(expected), "{arguments:?}: {text}");
        }
    }
    let records = lab.daemon().log().iter().filter(|line| line.contains("event=tlsa ")).count();
    assert_eq!(records, 2, "a record to publish for each key");
}

#[test]
fn a_renewed_certificate_is_taken_up_and_a_broken_one_is_not() {
    if missing(&["openssl"]).is_some() {
        return;
    }
    let top = tempfile::tempdir().expect("a directory");
    let folder = top.path().join("live");
    make(&folder, ECDSA);
    let lab = start(&[&folder]);
    let first = served(&lab);
    let mut open = SmtpClient::open(lab.daemon().address()).expect("a session");
    open.ask("STARTTLS").expect("STARTTLS");
    open.start_tls("mail.own.example").expect("TLS");

    make(&folder, ECDSA);
    // The files are looked at while handshakes come.
    assert!(lab.wait_for_files(|| served(&lab) != first), "{}", lab.daemon().log().join("\n"));
    let second = served(&lab);
    open.ask("EHLO still.here.example").expect("the session goes on");

    std::fs::write(folder.join("privkey.pem"), "damaged").expect("written");
    let alarmed = |line: &str| line.contains("event=alert kind=certificate");
    assert!(lab.wait_for_files(|| {
        assert_eq!(served(&lab), second, "the old one is shown on");
        lab.daemon().log().iter().any(|line| alarmed(line))
    }));
    let status = lab.daemon().cli_json(["status", "--json"]).expect("status");
    assert!(status.to_string().contains("the new certificate cannot be used"), "{status}");

    // A reload says what is wrong and changes nothing.
    lab.daemon().reload();
    let refused = lab.daemon().wait_for_log(WITHIN, |line| line.contains("event=reload-failed"));
    assert!(refused.is_some_and(|line| line.contains("privkey.pem")));
    assert_eq!(served(&lab), second);

    make(&folder, ECDSA);
    let cleared = |line: &String| line.contains("event=alert-cleared kind=certificate");
    assert!(lab.wait_for_files(|| served(&lab) != second && lab.daemon().log().iter().any(cleared)));
}
