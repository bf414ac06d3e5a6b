//! Signatures verified by dkimpy, and keys made by the tool under test.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::lab::{Lab, OWN_DOMAIN};

/// Verifies every signature of the message on standard input with the records in the first argument; prints `a=` and
/// the verdict of each.
const VERIFIER: &str = r#"
import dkim, json, re, sys
records = json.loads(sys.argv[1])
message = sys.stdin.buffer.read()
def find(name, timeout=5):
    text = records.get(name.decode().rstrip('.'))
    return text.encode() if text else None
kinds = re.findall(rb'^DKIM-Signature:[^;]*;\s*a=([a-z0-9-]+)', re.split(rb'\r?\n\r?\n', message, maxsplit=1)[0], re.M | re.I)
for index, kind in enumerate(kinds):
    print(kind.decode(), dkim.DKIM(message).verify(idx=index, dnsfunc=find))
"#;

/// What dkimpy says of each signature of a message, in order of the algorithm: `rsa-sha256 True`.
///
/// # Panics
/// dkimpy does not run.
pub fn verified(message: &[u8], records: &Value) -> Vec<String> {
    let mut child = Command::new("/usr/bin/python3")
        .args(["-c", VERIFIER, &records.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python");
    child.stdin.take().expect("a pipe").write_all(message).expect("written");
    let output = child.wait_with_output().expect("ended");
    assert!(output.status.success(), "dkimpy failed");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

/// A command of the tool that must end so; what it printed.
///
/// # Panics
/// It ends otherwise.
pub fn tool(lab: &Lab, words: &[&str], exit: i32) -> Value {
    let output = lab.daemon().cli(words.iter().copied()).expect("the tool");
    assert_eq!(output.status.code(), Some(exit), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Publishes the records of these keys, and remembers them by their names.
///
/// # Panics
/// They are no keys as `dkim make --json` prints them.
pub fn publish(lab: &mut Lab, keys: &Value, records: &mut Value) {
    for key in keys["keys"].as_array().expect("keys") {
        let (owner, record) =
            (key["owner"].as_str().expect("a name"), key["record"].as_str().expect("a record"));
        records[owner] = record.into();
        lab.internet.change(OWN_DOMAIN, |zone| zone.txt(&format!("{owner}."), record));
    }
    lab.publish();
}

/// Lets the own domain sign: makes its keys, publishes and checks them. Their records, by name.
///
/// # Panics
/// It does not work.
pub fn sign(lab: &mut Lab) -> Value {
    let mut records = serde_json::json!({});
    let made = tool(lab, &["dkim", "make", OWN_DOMAIN, "--json"], 0);
    publish(lab, &made, &mut records);
    tool(lab, &["dkim", "check", "--json"], 0);
    records
}
