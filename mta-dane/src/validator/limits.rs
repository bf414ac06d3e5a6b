//! Bounds on every kind of work that a stranger's zone or answer can cause in one lookup.
//!
//! Exceeding one makes the answer unavailable (RFC 7672 2.1.2: a lookup error), never insecure.

/// The bounds of one lookup. Each default is generous for honest zones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sub-queries, the first question included. A cold lookup needs two for each zone on the way.
    pub sub_queries: u32,
    /// Public-key operations (KeyTrap, CVE-2023-50387).
    pub signature_checks: u32,
    /// Keys of one tag and algorithm tried for one signature; more are refused (KeyTrap).
    pub keys_per_tag: usize,
    /// Signatures of one record set that are tried.
    pub signatures_per_set: usize,
    /// DNSKEY records of a zone that are kept.
    pub keys_per_zone: usize,
    /// DS records of a delegation that are tried.
    pub ds_per_delegation: usize,
    /// NSEC3 iterations (RFC 9276 3.2; CVE-2023-50868). More, and what the record proves is unavailable.
    pub nsec3_iterations: u16,
    /// NSEC3 hash operations altogether, iterations counted.
    pub nsec3_hashes: u32,
    /// Aliases followed, CNAME and DNAME together.
    pub alias_hops: usize,
    /// Records in the answer and authority sections of one response.
    pub records_per_response: usize,
    /// NSEC and NSEC3 records, each, of one zone in one response that are looked at.
    pub proofs_per_response: usize,
    /// Different signers tried for one record set or denial.
    pub signers_per_set: usize,
    /// The longest that any answer is reused, in seconds.
    pub max_ttl: u32,
    /// The longest that a denial is reused, in seconds.
    pub max_negative_ttl: u32,
    /// How long a bogus answer is reused, in seconds: short, since the fault may be a passing one.
    pub bogus_ttl: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sub_queries: 40,
            signature_checks: 100,
            keys_per_tag: 2,
            signatures_per_set: 8,
            keys_per_zone: 32,
            ds_per_delegation: 32,
            nsec3_iterations: 150,
            nsec3_hashes: 20_000,
            alias_hops: 10,
            records_per_response: 1_000,
            proofs_per_response: 32,
            signers_per_set: 3,
            max_ttl: 86_400,
            max_negative_ttl: 300,
            bogus_ttl: 30,
        }
    }
}

/// What is left of the expensive work that one lookup may do.
#[derive(Debug)]
pub(super) struct Work {
    signature_checks: u32,
    nsec3_hashes: u32,
}

impl Work {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { signature_checks: limits.signature_checks, nsec3_hashes: limits.nsec3_hashes }
    }

    /// What is left: public-key operations and hash operations.
    #[cfg(test)]
    pub(super) fn left(&self) -> (u32, u32) {
        (self.signature_checks, self.nsec3_hashes)
    }

    /// Takes one public-key operation; false where none is left.
    pub(super) fn signature_check(&mut self) -> bool {
        take(&mut self.signature_checks, 1)
    }

    /// Takes the hash operations of one NSEC3 owner name; false where they are not left.
    pub(super) fn nsec3_hash(&mut self, iterations: u16) -> bool {
        take(&mut self.nsec3_hashes, u32::from(iterations) + 1)
    }
}

fn take(left: &mut u32, count: u32) -> bool {
    match left.checked_sub(count) {
        Some(rest) => {
            *left = rest;
            true
        }
        None => false,
    }
}
