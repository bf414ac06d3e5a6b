//! The state in which content streams by (RFC 5321 4.1.1.4, after DATA).

use std::time::Instant;

use crate::data::{Decoder, Fault};
use crate::reply::Reply;
use crate::server::guard::{HeaderFault, HeaderGuard};
use crate::server::{Limits, Options};

/// How often the size limit a refused message may still be read before the connection is closed.
const OVERRUN_FACTOR: u64 = 2;

/// How much may always be read beyond the limit, so that small limits leave room to hear our refusal.
const OVERRUN_OCTETS: u64 = 1024 * 1024;

/// What one step over the input gave.
#[derive(Debug)]
pub(crate) struct Step {
    /// How many octets of the input were used.
    pub(crate) consumed: usize,
    /// Content for the driver; empty once the message is refused.
    pub(crate) content: Vec<u8>,
    /// The message was refused in this step.
    pub(crate) refused: Option<Reply>,
    /// What the step ended with.
    pub(crate) end: End,
}

/// Whether there is more to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The end of data is not here yet.
    NotYet,
    /// The end of data was found.
    Found,
    /// The client sends far more than it may: close.
    Overrun,
}

/// Waits for the end of data.
#[derive(Debug)]
pub(crate) struct ExpectContentEnd {
    decoder: Decoder,
    guard: HeaderGuard,
    /// Octets taken from the wire.
    wire_octets: u64,
    /// Octets of content.
    pub(crate) size_octets: u64,
    /// The refusal the client hears at the end of data.
    pub(crate) refusal: Option<Reply>,
    /// When the whole content must be here.
    pub(crate) end_by: Instant,
}

impl ExpectContentEnd {
    pub(crate) fn new(now: Instant, limits: &Limits) -> Self {
        Self {
            decoder: Decoder::new(limits.content_line_octets),
            guard: HeaderGuard::new(),
            wire_octets: 0,
            size_octets: 0,
            refusal: None,
            end_by: now + limits.content_timeout,
        }
    }

    /// Takes the next octets from the wire.
    pub(crate) fn step(&mut self, input: &[u8], options: &Options) -> Step {
        let already_refused = self.refusal.is_some();
        let mut content = Vec::with_capacity(if already_refused { 0 } else { input.len() });
        let decoded = self.decoder.decode(input, &mut content);
        self.wire_octets += decoded.consumed as u64;
        if !already_refused {
            self.refusal = self.check(&content, options);
        }
        if self.refusal.is_some() {
            content = Vec::new();
        }
        let end = match decoded.ended {
            true => End::Found,
            false if self.is_overrun(options) => End::Overrun,
            false => End::NotYet,
        };
        let refused = if already_refused { None } else { self.refusal.clone() };
        Step { consumed: decoded.consumed, content, refused, end }
    }

    /// Looks for a reason to refuse. The first fault in the order of the octets is named, however they came: what
    /// the decoder put out ends before its fault, and what the guard sees ends where the message gets too big.
    fn check(&mut self, content: &[u8], options: &Options) -> Option<Reply> {
        let limit = if options.extensions.size_limit == 0 { u64::MAX } else { options.extensions.size_limit };
        let room = usize::try_from(limit.saturating_sub(self.size_octets)).unwrap_or(usize::MAX);
        self.size_octets = self.size_octets.saturating_add(content.len() as u64);
        if let Err(fault) = self.guard.watch(content.get(..room).unwrap_or(content), &options.limits) {
            return Some(header_reply(fault));
        }
        if content.len() > room {
            return Some(Reply::with_status(552, (5, 3, 4), "message too big"));
        }
        self.decoder.fault().map(fault_reply)
    }

    fn is_overrun(&self, options: &Options) -> bool {
        let limit = options.extensions.size_limit;
        let most = limit.saturating_mul(OVERRUN_FACTOR).saturating_add(OVERRUN_OCTETS);
        self.refusal.is_some() && limit > 0 && self.wire_octets > most
    }
}

fn fault_reply(fault: Fault) -> Reply {
    let text = match fault {
        Fault::BareCr => "message refused: a carriage return without a line feed",
        Fault::BareLf => "message refused: a line feed without a carriage return",
        Fault::Nul => "message refused: a NUL octet",
        Fault::LineTooLong => "message refused: a line is too long",
    };
    Reply::with_status(550, (5, 6, 0), text)
}

fn header_reply(fault: HeaderFault) -> Reply {
    match fault {
        HeaderFault::Loop => Reply::with_status(554, (5, 4, 6), "too many hops: this message loops"),
        HeaderFault::TooBig => Reply::with_status(552, (5, 3, 4), "header section too big"),
    }
}
