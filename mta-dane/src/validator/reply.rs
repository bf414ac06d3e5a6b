//! What is kept of a response: its kind and the records of class IN. Whatever is not a plain answer to the question
//! that was asked becomes a failure here, so that nothing further down meets it.

use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};

use super::TransportFailure;
use super::limits::Limits;

/// A response that may be judged.
#[derive(Debug)]
pub(super) struct Reply {
    /// The name that was asked, in normal form, and the type.
    pub(super) question: (Name, RecordType),
    /// NXDOMAIN; else it was NOERROR.
    pub(super) nxdomain: bool,
    pub(super) answers: Vec<Record>,
    pub(super) authorities: Vec<Record>,
}

/// Takes what is needed from a response; a text that says why there is nothing to judge.
pub(super) fn read(
    question: (Name, RecordType),
    response: Result<&Message, TransportFailure>,
    limits: &Limits,
) -> Result<Reply, String> {
    let message = response.map_err(|failure| failure.to_string())?;
    if message.metadata.message_type != MessageType::Response || message.metadata.op_code != OpCode::Query {
        return Err("what came is no response to a query".into());
    }
    let asked = |q: &hickory_proto::op::Query| {
        q.query_type == question.1 && q.query_class == DNSClass::IN && q.name.eq_ignore_root(&question.0)
    };
    // Some servers leave the question out of an error; an answer must repeat it.
    if message.queries.len() > 1 || !message.queries.iter().all(asked) {
        return Err("the response is to another question".into());
    }
    let nxdomain = match message.metadata.response_code {
        ResponseCode::NoError => false,
        ResponseCode::NXDomain => true,
        code => return Err(format!("the server answered {}", rcode_name(code))),
    };
    if message.queries.is_empty() {
        return Err("the response repeats no question".into());
    }
    if message.metadata.truncation {
        return Err("the response is truncated".into());
    }
    if message.answers.len() + message.authorities.len() > limits.records_per_response {
        return Err(format!("the response has more than {} records", limits.records_per_response));
    }
    let of_class_in = |records: &[Record]| {
        records.iter().filter(|r| r.dns_class == DNSClass::IN).cloned().collect::<Vec<_>>()
    };
    Ok(Reply {
        question,
        nxdomain,
        answers: of_class_in(&message.answers),
        authorities: of_class_in(&message.authorities),
    })
}

/// The mnemonic that administrators search for.
fn rcode_name(code: ResponseCode) -> String {
    match code {
        ResponseCode::ServFail => "SERVFAIL".into(),
        ResponseCode::Refused => "REFUSED".into(),
        ResponseCode::FormErr => "FORMERR".into(),
        ResponseCode::NotImp => "NOTIMP".into(),
        ResponseCode::YXDomain => "YXDOMAIN (a DNAME made the name too long)".into(),
        other => format!("with code {}", u16::from(other)),
    }
}
