//! The TLS client: one rustls configuration per connection, because the verifier holds that connection's policy.

/// What all outbound TLS connections share: the crypto provider and the system's roots.
#[derive(Debug, Default)]
pub struct Client {}
