//! What the operations on users take.

use std::fmt;

use mta_queue::{StoredScram, StoredSecret};
use serde::{Deserialize, Serialize};

/// A new user.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserArguments {
    /// The login name.
    pub name: String,
    /// What is kept of the password.
    pub secret: SecretArguments,
    /// No SCRAM keys are kept.
    pub scram_off: bool,
    /// The name is also a mailbox.
    pub mailbox: bool,
    /// How many octets it may hold; 0 or nothing is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// A change to a user; what is not set stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserChangeArguments {
    /// The login name.
    pub name: String,
    /// What is kept of another password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretArguments>,
    /// Whether SCRAM keys are kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scram_off: Option<bool>,
    /// Whether it may log in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
    /// Whether the name is also a mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<bool>,
    /// How many octets it may hold; 0 is no bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<u64>,
}

/// What is granted to a user, or taken from it: one of the two.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GrantArguments {
    /// The login name.
    pub name: String,
    /// To send as this address, as any of this `@domain`, or as `*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sender: Option<String>,
    /// To log in with the certificate of this SHA-256 fingerprint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// It is taken away.
    pub remove: bool,
}

/// What is kept of a password. Its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SecretArguments {
    /// The hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// The keys of SCRAM-SHA-256.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scram: Option<ScramArguments>,
}

/// The keys of SCRAM-SHA-256.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScramArguments {
    salt: Vec<u8>,
    iterations: u32,
    stored_key: Vec<u8>,
    server_key: Vec<u8>,
}

impl fmt::Debug for SecretArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretArguments")
    }
}

impl From<StoredSecret> for SecretArguments {
    fn from(secret: StoredSecret) -> Self {
        let scram = secret.scram.map(|keys| ScramArguments {
            salt: keys.salt,
            iterations: keys.iterations,
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        });
        Self { password: secret.password, scram }
    }
}

impl SecretArguments {
    /// As the queue's database keeps it.
    pub fn stored(&self) -> StoredSecret {
        let scram = self.scram.clone().map(|keys| StoredScram {
            salt: keys.salt,
            iterations: keys.iterations,
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        });
        StoredSecret { password: self.password.clone(), scram }
    }
}
