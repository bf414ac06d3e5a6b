//! Reports that this server writes itself: delivery status notifications and TLS reports now, DMARC reports later.
//!
//! - `told`: who is told what became of a message, in one function.
//! - `digest`: what nobody else is told of, for the postmaster.
//! - `alert`: mail about one alert.
//! - `dsn`: the content of a delivery status notification; `text`: what its lines are made of.

pub mod alert;
pub mod digest;
pub mod dsn;
mod text;
pub mod tlsrpt;
pub mod told;
