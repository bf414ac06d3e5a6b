//! What DNS said, for evaluators that do no I/O.
//!
//! An evaluator is a function of [`Facts`]: where it needs an answer that is not there yet it names the question and
//! gives up; the driver asks, adds the answer and runs it again. So there is one view of DNS, that of the daemon's own
//! resolver, every evaluator can be tested from a table, and the number of questions and their time are bounded in one
//! place. What it does not: it asks nothing itself.

use std::collections::HashMap;

use hickory_proto::rr::{Name, RData, RecordType};
use mta_dane::dnssec::{Answer, Kind};

/// A question to DNS.
pub type Question = (Name, RecordType);

/// What became of a question.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Records of the type that was asked for, aliases followed.
    Records(Vec<RData>),
    /// The name exists, and has none.
    NoData,
    /// There is no such name.
    NoName,
    /// It cannot be known now: no answer, or one that fails DNSSEC.
    Failed(String),
}

impl Found {
    /// What an answer of the resolver means here.
    pub fn of(answer: &Answer) -> Self {
        if answer.status.is_error() {
            return Self::Failed(answer.reason.clone().unwrap_or_else(|| answer.status.to_string()));
        }
        match answer.kind {
            Kind::Data => Self::Records(answer.records.iter().map(|record| record.data.clone()).collect()),
            Kind::NoData => Self::NoData,
            Kind::NxDomain => Self::NoName,
        }
    }

    /// Text records, each with its strings joined (RFC 7208 3.3, RFC 6376 3.6.2.2).
    pub fn texts(&self) -> Vec<Vec<u8>> {
        let Self::Records(records) = self else { return Vec::new() };
        let text = |data: &RData| match data {
            RData::TXT(text) => Some(text.txt_data.concat()),
            _ => None,
        };
        records.iter().filter_map(text).collect()
    }
}

/// What is known.
#[derive(Debug, Clone, Default)]
pub struct Facts(HashMap<Question, Found>);

impl Facts {
    /// What is known of a question; `None` where nobody asked.
    pub fn get(&self, question: &Question) -> Option<&Found> {
        self.0.get(question)
    }

    /// Learns an answer.
    pub fn learn(&mut self, question: Question, found: Found) {
        self.0.insert(question, found);
    }

    /// How many questions were asked.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was asked.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A domain name as strangers write it: any octets between dots, lower case, absolute. `None` where a label or the whole is
/// empty or too long (RFC 1035 2.3.4).
pub fn name(text: &str) -> Option<Name> {
    let text = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if text.split('.').any(str::is_empty) {
        return None;
    }
    let mut name = Name::from_labels(text.split('.').map(str::as_bytes)).ok()?;
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_rfc1035_2_3_4() {
        assert_eq!(name("A.Example.").map(|n| n.to_string()).as_deref(), Some("a.example."));
        let odd = name("foo:bar/b z.example").expect("any octets");
        assert_eq!(odd.num_labels(), 2);
        for wrong in ["", ".", "a..b", ".a", &"x".repeat(64), &["x"; 130].join(".")] {
            assert_eq!(name(wrong), None, "{wrong}");
        }
    }
}
