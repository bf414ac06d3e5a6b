//! One lookup: the machine that hands out sub-queries and takes responses.

use std::sync::Arc;

use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};

use super::{QueryId, Step, TransportFailure, Validator};
use crate::dnssec::{Answer, Status};

/// One question on its way to an answer.
#[derive(Debug)]
pub struct Lookup {
    validator: Arc<Validator>,
    name: Name,
    rtype: RecordType,
}

impl Lookup {
    /// Begins a lookup. Nothing is asked before the first [`Lookup::poll`].
    pub fn new(validator: Arc<Validator>, name: Name, rtype: RecordType) -> Self {
        Self { validator, name, rtype }
    }

    /// What to do next. `now_unix` is the wall clock in seconds since 1970.
    pub fn poll(&mut self, now_unix: u64) -> Step {
        let _ = (now_unix, &self.validator);
        Step::Done(Box::new(Answer::error(
            self.name.clone(),
            self.rtype,
            Status::Unavailable,
            "not validated",
        )))
    }

    /// Takes the response to a sub-query, or the reason why there is none. An unknown or repeated id is ignored.
    pub fn handle(&mut self, now_unix: u64, id: QueryId, response: Result<&Message, TransportFailure>) {
        let _ = (now_unix, id, response);
    }
}
