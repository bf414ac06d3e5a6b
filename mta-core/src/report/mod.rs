//! Reports that this server writes itself: delivery status notifications, and what the operators of other domains asked for.
//!
//! - `told`: who is told what became of a message, in one function.
//! - `digest`: what nobody else is told of, for the postmaster.
//! - `alert`: mail about one alert.
//! - `dmarc`: DMARC aggregate reports, from the verdicts to the document.
//! - `tlsrpt`: TLS reports, from the sessions to the document; `send`: on their way.
//! - `dsn`: the content of a delivery status notification; `text`: what its lines are made of.

pub mod alert;
pub mod digest;
pub mod dmarc;
pub mod dsn;
pub mod send;
mod text;
pub mod tlsrpt;
pub mod told;
