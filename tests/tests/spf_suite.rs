//! The public test suite of SPF (RFC 7208) against our evaluator: all of its cases, through the same function that judges
//! a session.
//!
//! It is fetched at test time from the package that publishes it (`tests/spf-suite/fetch`). Where it cannot be had this
//! test fails: a suite that was not run proves nothing.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

use hickory_proto::rr::rdata::{A, AAAA, CNAME, MX, PTR, TXT};
use hickory_proto::rr::{Name, RData, RecordType};
use mta_core::auth::facts::{Facts, Found, Question, name};
use mta_core::auth::spf::{Checked, Request, check};
use serde::Deserialize;
use serde_json::Value;

/// Cases in the suite. Fewer would mean that it was not read as a whole.
const CASES: usize = 203;

/// The text that a failure without an explanation has in the suite.
const DEFAULT: &str = "DEFAULT";

/// Aliases followed.
const MAX_ALIASES: usize = 8;

#[derive(Deserialize)]
struct Part {
    description: String,
    tests: BTreeMap<String, Case>,
    zonedata: BTreeMap<String, Vec<Value>>,
}

#[derive(Deserialize)]
struct Case {
    helo: String,
    host: String,
    mailfrom: String,
    result: Value,
    explanation: Option<String>,
}

/// The zone of one part of the suite.
struct Zone<'a>(&'a BTreeMap<String, Vec<Value>>);

impl Zone<'_> {
    /// What DNS would say. The suite's rules: names in any case; TIMEOUT holds for every type without a record before it;
    /// a record of type SPF stands for TXT, too, where there is no TXT.
    fn found(&self, question: &Question) -> Found {
        let mut asked = question.0.clone();
        for _ in 0..MAX_ALIASES {
            let records = self.0.iter().find(|(owner, _)| name(owner).as_ref() == Some(&asked));
            let Some((_, records)) = records else { return Found::NoName };
            let has = |wanted: &str| records.iter().any(|record| record.get(wanted).is_some());
            let kind = match question.1 {
                RecordType::A => "A",
                RecordType::AAAA => "AAAA",
                RecordType::MX => "MX",
                RecordType::PTR => "PTR",
                _ if has("TXT") => "TXT",
                _ => "SPF",
            };
            let mut data = Vec::new();
            for record in records {
                if record == "TIMEOUT" && data.is_empty() {
                    return Found::Failed("timeout".to_owned());
                }
                match record.get(kind) {
                    Some(value) if value != "NONE" => data.push(rdata(question.1, value)),
                    _ => {}
                }
            }
            if !data.is_empty() {
                return Found::Records(data);
            }
            let alias = records.iter().find_map(|record| record.get("CNAME")?.as_str());
            match alias {
                Some(target) => asked = name(target).expect("a name"),
                None => return Found::NoData,
            }
        }
        Found::Failed("a loop of aliases".to_owned())
    }
}

fn rdata(rtype: RecordType, value: &Value) -> RData {
    let text = || value.as_str().expect("a text");
    match rtype {
        RecordType::A => RData::A(A(text().parse().expect("an address"))),
        RecordType::AAAA => RData::AAAA(AAAA(text().parse().expect("an address"))),
        RecordType::PTR => RData::PTR(PTR(name(text()).expect("a name"))),
        RecordType::CNAME => RData::CNAME(CNAME(name(text()).expect("a name"))),
        RecordType::MX => {
            let preference = value[0].as_u64().expect("a number");
            let host = name(value[1].as_str().expect("a name")).unwrap_or_else(Name::root);
            RData::MX(MX::new(u16::try_from(preference).expect("small"), host))
        }
        _ => {
            let strings = match value {
                Value::Array(strings) => {
                    strings.iter().map(|it| octets(it.as_str().expect("a text"))).collect()
                }
                _ => vec![octets(text())],
            };
            RData::TXT(TXT::from_bytes(strings.iter().map(Vec::as_slice).collect()))
        }
    }
}

fn octets(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn run(zone: &Zone<'_>, case: &Case) -> Checked {
    let client: IpAddr = case.host.parse().expect("an address");
    let sender =
        if case.mailfrom.is_empty() { format!("postmaster@{}", case.helo) } else { case.mailfrom.clone() };
    let mut facts = Facts::default();
    loop {
        let request = Request {
            client,
            helo: &case.helo,
            sender: &sender,
            receiver: "receiver.example",
            now_seconds: 0,
        };
        match check(&facts, &request) {
            Ok(checked) => return checked,
            Err(question) => {
                let found = zone.found(&question);
                facts.learn(question, found);
            }
        }
    }
}

fn suite() -> Vec<Part> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = manifest.join("../target/spf-suite");
    let file = folder.join("rfc7208-tests.json");
    if !file.is_file() {
        let fetched = Command::new(manifest.join("spf-suite/fetch")).arg(&folder).output().expect("started");
        let said = String::from_utf8_lossy(&fetched.stderr).into_owned();
        assert!(fetched.status.success(), "the suite cannot be fetched (python3 with pip and yaml?): {said}");
    }
    serde_json::from_slice(&std::fs::read(&file).expect("readable")).expect("the suite's form")
}

#[test]
fn all_cases_of_the_public_suite() {
    let (mut cases, mut wrong) = (0, Vec::new());
    for part in suite() {
        let zone = Zone(&part.zonedata);
        for (id, case) in &part.tests {
            cases += 1;
            let checked = run(&zone, case);
            let got = checked.result.to_string();
            let allowed = match &case.result {
                Value::Array(some) => some.iter().any(|one| one == &got),
                one => one == &got,
            };
            let explained = match case.explanation.as_deref() {
                None => true,
                Some(DEFAULT) => checked.explanation.is_none(),
                Some(text) => checked.explanation.as_deref() == Some(text),
            };
            if !allowed || !explained {
                wrong.push(format!(
                    "{} / {id}: {checked:?}, not {} {:?}",
                    part.description, case.result, case.explanation
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(cases, CASES, "the whole suite");
}
