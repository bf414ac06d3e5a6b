//! DKIM signing through the whole server: keys made by the tool, published in the laboratory's zone, used once seen there,
//! and every signature verified by dkimpy.

use std::time::Instant;

use mta_lab::dkimpy::{publish, tool, verified};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN};
use mta_lab::mx::Behaviour;
use mta_lab::peers;
use serde_json::Value;

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
