//! Reports that this server writes itself: delivery status notifications and TLS reports now, DMARC reports later.

pub mod dsn;
pub mod tlsrpt;
