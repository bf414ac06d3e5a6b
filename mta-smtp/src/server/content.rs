//! The state in which content streams by: after DATA (RFC 5321 4.1.1.4), and chunk by chunk (BDAT, RFC 3030).

use std::time::Instant;

use crate::bdat::Checker;
use crate::data::{Decoder, Fault};
use crate::envelope::HeaderFacts;
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
    /// The end of data was found, or the last chunk is whole.
    Found,
    /// A chunk is whole, and others follow.
    Chunk,
    /// The client sends far more than it may: close.
    Overrun,
}

/// How the end is found.
#[derive(Debug)]
enum Framing {
    /// By the one dot.
    Dot(Decoder),
    /// By count.
    Chunk {
        checker: Checker,
        /// Octets of this chunk that are still to come.
        left: u64,
        /// Octets of this chunk.
        size: u64,
        last: bool,
    },
}

/// Waits for the end of data.
#[derive(Debug)]
pub(crate) struct ExpectContentEnd {
    framing: Framing,
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
    /// After DATA.
    pub(crate) fn new(now: Instant, limits: &Limits) -> Self {
        Self::with(Framing::Dot(Decoder::new(limits.content_line_octets)), now, limits)
    }

    /// After the first BDAT.
    pub(crate) fn chunked(now: Instant, limits: &Limits, size: u64, last: bool) -> Self {
        let checker = Checker::new(limits.content_line_octets);
        Self::with(Framing::Chunk { checker, left: size, size, last }, now, limits)
    }

    fn with(framing: Framing, now: Instant, limits: &Limits) -> Self {
        Self {
            framing,
            guard: HeaderGuard::new(),
            wire_octets: 0,
            size_octets: 0,
            refusal: None,
            end_by: now + limits.content_timeout,
        }
    }

    /// A further BDAT.
    pub(crate) fn next_chunk(&mut self, next_size: u64, is_last: bool) {
        if let Framing::Chunk { left, size, last, .. } = &mut self.framing {
            (*left, *size, *last) = (next_size, next_size, is_last);
        }
    }

    /// The octets of the chunk in hand.
    pub(crate) fn chunk_octets(&self) -> u64 {
        match &self.framing {
            Framing::Dot(_) => 0,
            Framing::Chunk { size, .. } => *size,
        }
    }

    /// Whether there is something to do without further input: a chunk of no octets.
    pub(crate) fn needs_no_input(&self) -> bool {
        matches!(self.framing, Framing::Chunk { left: 0, .. })
    }

    /// What the header section says, as far as it came.
    pub(crate) fn header(&self) -> HeaderFacts {
        self.guard.facts()
    }

    /// Takes the next octets from the wire.
    pub(crate) fn step(&mut self, input: &[u8], options: &Options) -> Step {
        let already_refused = self.refusal.is_some();
        let mut content = Vec::with_capacity(if already_refused { 0 } else { input.len() });
        let (consumed, found) = self.framing.take(input, &mut content);
        self.wire_octets += consumed as u64;
        if !already_refused {
            self.refusal = self.check(&content, options);
        }
        if self.refusal.is_some() {
            content = Vec::new();
        }
        let end = if found == End::NotYet && self.is_overrun(options) { End::Overrun } else { found };
        let refused = if already_refused { None } else { self.refusal.clone() };
        Step { consumed, content, refused, end }
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
        self.framing.fault().map(fault_reply)
    }

    fn is_overrun(&self, options: &Options) -> bool {
        self.refusal.is_some() && self.wire_octets > most_octets(options)
    }
}

/// The most that is read of a message that is refused.
pub(crate) fn most_octets(options: &Options) -> u64 {
    match options.extensions.size_limit {
        0 => u64::MAX,
        limit => limit.saturating_mul(OVERRUN_FACTOR).saturating_add(OVERRUN_OCTETS),
    }
}

impl Framing {
    /// Takes octets up to the end of the input or of the data; how many, and what that led to.
    fn take(&mut self, input: &[u8], content: &mut Vec<u8>) -> (usize, End) {
        match self {
            Self::Dot(decoder) => {
                let decoded = decoder.decode(input, content);
                (decoded.consumed, if decoded.ended { End::Found } else { End::NotYet })
            }
            Self::Chunk { checker, left, last, .. } => {
                let octets = usize::try_from(*left).map_or(input.len(), |left| left.min(input.len()));
                checker.check(input.get(..octets).unwrap_or_default(), content);
                *left -= octets as u64;
                match (*left, *last) {
                    (0, true) => {
                        checker.finish(content);
                        (octets, End::Found)
                    }
                    (0, false) => (octets, End::Chunk),
                    _ => (octets, End::NotYet),
                }
            }
        }
    }

    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Dot(decoder) => decoder.fault(),
            Self::Chunk { checker, .. } => checker.fault(),
        }
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
