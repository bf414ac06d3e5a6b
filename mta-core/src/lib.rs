//! The runtime of the mail server: the only crate that knows sockets, DNS, TLS streams, time and users.
//!
//! This page is the architecture. What a user sees is in the README, what each option does in `mta.toml(5)`.
//!
//! # The crates
//!
//! ```text
//! mta-cli ──> mta-core ──> mta-dane    DANE policy, certificate judge, DNSSEC validator: no I/O, no clock
//!    │           ├───────> mta-queue   the only crate that knows SQL; blocking
//!    │           └───────> mta-smtp    grammar and both session state machines: no I/O, no clock
//!    └──> mta-queue                    reading the queue while the daemon is down
//! tests ──> all                        the laboratory: a private Internet for the whole server
//! ```
//!
//! Every state machine has one shape: `handle(now, input)` takes what happened, `poll()` says what to do next until it
//! says wait. Policy never runs inside a machine: it asks, the driver here answers. So a machine can be tested with any
//! split of its input and any clock, without a socket.
//!
//! # The life of a message
//!
//! In: [`net`] accepts a connection; [`inbound`] drives `mta_smtp::server` over it, answers its questions (who may send
//! to whom, from [`account`] and the configured networks), streams the content into the queue's writer, lets the stages of
//! `content` look at the message and change its header section (the trace line is one of them), and says `250` only after
//! the queue's commit was synced.
//!
//! Programs on this machine hand in mail by [`mod@sendmail`]: over a socket whose peer the kernel names, or through a
//! directory while nobody answers there. Both end in a session like any other.
//!
//! Out: [`outbound::scheduler`] claims the due recipients of a destination, as many at once as its hosts are found to
//! take and as [`outbound::breaker`] allows while the fault may be ours; [`routing`] says where they go. Mail for our own
//! domains goes to [`delivery`]. Everything else goes to [`mod@outbound::attempt`]: `mta_dane::discovery` asks
//! [`dns`], [`sts`] knows the domain's MTA-STS policy, [`outbound::tls_policy`] joins what both demand with the
//! administrator's rules, the connection is made and verified, the content streamed. One typed outcome per recipient and
//! one decision record come back; the queue stores both, with the next attempt or the notification ([`report::dsn`]) and
//! the counters for TLS reports ([`report::tlsrpt`]), in one transaction. Who is told what of it, the
//! sender, the postmaster or nobody, is decided in [`report::told`].
//!
//! Once a day: what was counted of both directions goes to the domains that ask for it ([`report::send`]).
//!
//! # What is promised
//!
//! * `250` means: on stable storage. A kill at any instant loses nothing that was acknowledged.
//! * A failed DANE check is never sent past. The one place that decides is [`outbound::tls_policy`]; an error in DNS is
//!   an error there, never "no DANE". The one exception is a message whose own header says `TLS-Required: No` (RFC 8689),
//!   where the administrator lets that count.
//! * Every attempt leaves its decision record; log line, `queue show` and notification tell the same story from it.
//! * A panic in one session or one attempt ends that one alone.

pub mod account;
pub mod alert;
pub mod auth;
pub mod clock;
pub mod config;
mod content;
pub mod control;
pub mod daemon;
pub mod delivery;
pub mod dns;
pub mod inbound;
pub mod inspect;
pub mod log;
pub mod net;
pub mod outbound;
pub mod pause;
pub mod privilege;
pub mod report;
pub mod routing;
pub mod sendmail;
pub mod stop;
pub mod sts;
pub mod tls;
pub mod user;
