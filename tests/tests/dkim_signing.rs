//! DKIM signing through the whole server: keys made by the tool, published in the laboratory's zone, used once seen there,
//! and every signature verified by dkimpy.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};
use mta_lab::mx::Behaviour;
use mta_lab::peers;
use serde_json::Value;

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

fn verified(message: &[u8], records: &Value) -> Vec<String> {
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
fn tool(lab: &Lab, words: &[&str], exit: i32) -> Value {
    let output = lab.daemon().cli(words.iter().copied()).expect("the tool");
    assert_eq!(output.status.code(), Some(exit), "{words:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

/// Publishes the records of these keys.
fn publish(lab: &mut Lab, keys: &Value, records: &mut Value) {
    for key in keys["keys"].as_array().expect("keys") {
        let (owner, record) =
            (key["owner"].as_str().expect("a name"), key["record"].as_str().expect("a record"));
        records[owner] = record.into();
        lab.internet.change(OWN_DOMAIN, |zone| zone.txt(&format!("{owner}."), record));
    }
    lab.publish();
}

/// Sends a message to far away and gives what arrived.
fn sent(lab: &Lab) -> Vec<u8> {
    let count = lab.mx("mx.far.example").messages().len();
    let id = lab.send("alice@own.example", &["x@far.example"]);
    assert_eq!(lab.settled(&id).status, "delivered");
    lab.mx("mx.far.example").messages().remove(count).content
}

/// The same until it is signed with this selector: the daemon looks at its keys once a second.
fn signed_with(lab: &Lab, selector: &str) -> Vec<u8> {
    let deadline = Instant::now() + WITHIN;
    loop {
        let message = sent(lab);
        if String::from_utf8_lossy(&message).contains(&format!("s={selector};")) {
            return message;
        }
        assert!(Instant::now() < deadline, "never signed with {selector}");
    }
}

/// The selector of the first of these keys.
fn selector(keys: &Value) -> String {
    keys["keys"][0]["selector"].as_str().expect("a selector").to_owned()
}

#[test]
fn keys_are_made_published_used_rotated_and_retired() {
    if peers::missing(&["dkimsign"]).is_some() {
        return;
    }
    let mut plan = Plan::new();
    plan.site("far.example", Some(Behaviour::plain("mx.far.example")), &[]);
    let mut lab = plan.start().expect("a laboratory");
    let mut records = serde_json::json!({});
    let made = tool(&lab, &["dkim", "make", OWN_DOMAIN, "--json"], 0);
    assert_eq!(made["keys"].as_array().map(Vec::len), Some(2));
    tool(&lab, &["dkim", "check", "--json"], 1);
    assert!(!String::from_utf8_lossy(&sent(&lab)).contains("DKIM-Signature"), "nobody could verify it yet");
    publish(&mut lab, &made, &mut records);
    tool(&lab, &["dkim", "check", "--json"], 0);
    let signed = signed_with(&lab, &selector(&made));
    assert_eq!(verified(&signed, &records), ["ed25519-sha256 True", "rsa-sha256 True"]);

    // What the server writes itself is signed, too: the domain above its name has keys.
    let id = lab.send("alice@own.example", &["x@nowhere.example"]);
    lab.settled(&id);
    assert!(lab.wait_for_files(|| !lab.maildir(OWN_DOMAIN, "alice").is_empty()));
    let notice = lab.maildir(OWN_DOMAIN, "alice").pop().expect("a notification");
    assert_eq!(verified(&notice, &records), ["ed25519-sha256 True", "rsa-sha256 True"]);

    // The old keys sign until the new ones are seen.
    let rotated = tool(&lab, &["dkim", "rotate", OWN_DOMAIN, "--json"], 0);
    tool(&lab, &["dkim", "check", "--json"], 1);
    publish(&mut lab, &rotated, &mut records);
    tool(&lab, &["dkim", "check", "--json"], 0);
    let signed = signed_with(&lab, &selector(&rotated));
    assert_eq!(verified(&signed, &records), ["ed25519-sha256 True", "rsa-sha256 True"]);
    let old = selector(&made);
    tool(&lab, &["dkim", "retire", OWN_DOMAIN, &old, "--json"], 1);
    tool(&lab, &["dkim", "retire", OWN_DOMAIN, &old, "--yes", "--json"], 0);
    assert_eq!(tool(&lab, &["dkim", "list", "--json"], 0)["keys"].as_array().map(Vec::len), Some(3));
}
