//! Reports that this server writes itself: delivery status notifications now, TLS and DMARC reports later.

pub mod dsn;
