//! SCRAM-SHA-256 and -PLUS, server side (RFC 5802, RFC 7677): one struct per message that is awaited.
//!
//! The channel binding that the client names is compared with what the TLS session is (RFC 5802 6): a client that could
//! bind and was told by somebody in between that we cannot is found out by its `y`.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use super::{SaslError, Start, authorised, name};

/// Octets of randomness in our part of the nonce.
pub(super) const NONCE_OCTETS: usize = 18;
/// The longest message looked at, in octets.
const MAX_MESSAGE_OCTETS: usize = 2048;
/// The longest nonce taken, in characters.
const MAX_NONCE: usize = 512;

/// What a server keeps of a password (RFC 5802 3). Its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// The salt.
    pub salt: Vec<u8>,
    /// The iteration count.
    pub iterations: u32,
    /// StoredKey, 32 octets.
    pub stored_key: Vec<u8>,
    /// ServerKey, 32 octets.
    pub server_key: Vec<u8>,
}

impl ScramKeys {
    /// The keys of a password. Takes as long as the iterations make it. The password is used octet for octet; preparing it
    /// (RFC 7677 2) is the caller's.
    pub fn of(password: &str, salt: Vec<u8>, iterations: NonZeroU32) -> Self {
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password.as_bytes(), &mut salted);
        let (client_key, server_key) = client_and_server_keys(&salted);
        let stored_key = digest::digest(&digest::SHA256, &client_key).as_ref().to_vec();
        Self { salt, iterations: iterations.get(), stored_key, server_key }
    }
}

/// ClientKey and ServerKey of a salted password (RFC 5802 3).
pub fn client_and_server_keys(salted_password: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let salted = hmac::Key::new(hmac::HMAC_SHA256, salted_password);
    let key = |what: &[u8]| hmac::sign(&salted, what).as_ref().to_vec();
    (key(b"Client Key"), key(b"Server Key"))
}

/// Our part of the nonce, as text.
pub(super) fn nonce(random: &[u8]) -> String {
    BASE64.encode(random)
}

/// `client-first-message` is here; the user's keys are awaited.
pub(super) struct AwaitKeys {
    user: String,
    /// The GS2 header and the channel binding's data: what the client has to repeat.
    binding: Vec<u8>,
    first_bare: String,
    nonce: String,
}

/// `server-first-message` was sent.
pub(super) struct AwaitFinal {
    user: String,
    binding: Vec<u8>,
    first_bare: String,
    server_first: String,
    nonce: String,
    keys: ScramKeys,
}

/// `client-final-message` was judged.
pub(super) struct AwaitVerdict {
    user: String,
    /// `server-final-message`, where the client has proven itself.
    server_final: Option<Vec<u8>>,
}

/// Reads `gs2-header [reserved-mext ","] username "," nonce [extensions]`.
pub(super) fn first(start: Start, plus: bool, message: &[u8]) -> Result<AwaitKeys, SaslError> {
    let message = text(message)?;
    let (flag, rest) = message.split_once(',').ok_or(SaslError::Malformed)?;
    let (authzid, bare) = rest.split_once(',').ok_or(SaslError::Malformed)?;
    let header_octets = message.len() - bare.len();
    let mut binding = message.as_bytes().get(..header_octets).unwrap_or_default().to_vec();
    match (flag, flag.strip_prefix("p=")) {
        // RFC 5802 6: it believes that we cannot bind, and we said that we can: somebody changed what we said.
        ("y", _) if start.plus_offered => return Err(SaslError::ChannelBinding),
        ("n" | "y", _) if !plus => {}
        (_, Some(kind)) if plus => {
            binding.extend_from_slice(start.bindings.get(kind).ok_or(SaslError::ChannelBinding)?);
        }
        ("n" | "y", _) | (_, Some(_)) => return Err(SaslError::ChannelBinding),
        _ => return Err(SaslError::Malformed),
    }
    if bare.starts_with("m=") {
        return Err(SaslError::UnknownExtension);
    }
    let mut fields = bare.split(',');
    let mut field =
        |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(SaslError::Malformed);
    let user = name(saslname(field("n=")?)?.as_bytes())?;
    let client_nonce = field("r=")?;
    if !is_nonce(client_nonce) {
        return Err(SaslError::Malformed);
    }
    match authzid.strip_prefix("a=") {
        Some(authzid) => authorised(saslname(authzid)?.as_bytes(), &user)?,
        None if authzid.is_empty() => {}
        None => return Err(SaslError::Malformed),
    }
    let nonce = format!("{client_nonce}{}", start.nonce);
    Ok(AwaitKeys { user, binding, first_bare: bare.to_owned(), nonce })
}

impl AwaitKeys {
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn keys(self, keys: ScramKeys) -> (Vec<u8>, AwaitFinal) {
        let Self { user, binding, first_bare, nonce } = self;
        let server_first = format!("r={nonce},s={},i={}", BASE64.encode(&keys.salt), keys.iterations);
        let message = server_first.clone().into_bytes();
        (message, AwaitFinal { user, binding, first_bare, server_first, nonce, keys })
    }
}

impl AwaitFinal {
    /// Reads `channel-binding "," nonce ["," extensions] "," proof` and judges the proof.
    pub(super) fn message(self, message: &[u8]) -> Result<(AwaitVerdict, bool), SaslError> {
        let message = text(message)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(SaslError::Malformed)?;
        let mut fields = without_proof.split(',');
        let mut field =
            |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(SaslError::Malformed);
        let binding = BASE64.decode(field("c=")?).map_err(|_| SaslError::Malformed)?;
        if binding != self.binding {
            return Err(SaslError::ChannelBinding);
        }
        if field("r=")? != self.nonce {
            return Err(SaslError::NonceMismatch);
        }
        let proof = BASE64.decode(proof).map_err(|_| SaslError::Malformed)?;
        if proof.len() != digest::SHA256_OUTPUT_LEN {
            return Err(SaslError::Malformed);
        }
        let auth_message = format!("{},{},{without_proof}", self.first_bare, self.server_first);
        let proven = self.proves(&auth_message, &proof);
        let server_final = proven.then(|| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &self.keys.server_key);
            format!("v={}", BASE64.encode(hmac::sign(&key, auth_message.as_bytes()))).into_bytes()
        });
        Ok((AwaitVerdict { user: self.user, server_final }, proven))
    }

    /// Whether the hash of `proof XOR HMAC(StoredKey, AuthMessage)` is StoredKey (RFC 5802 3).
    fn proves(&self, auth_message: &str, proof: &[u8]) -> bool {
        let stored = hmac::Key::new(hmac::HMAC_SHA256, &self.keys.stored_key);
        let signature = hmac::sign(&stored, auth_message.as_bytes());
        let client_key: Vec<u8> = proof.iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let found = digest::digest(&digest::SHA256, &client_key);
        // Two tags under one key are compared in constant time.
        let wanted = hmac::sign(&stored, &self.keys.stored_key);
        hmac::verify(&stored, found.as_ref(), wanted.as_ref()).is_ok()
    }
}

impl AwaitVerdict {
    pub(super) fn user(&self) -> &str {
        &self.user
    }

    pub(super) fn server_final(self) -> Option<Vec<u8>> {
        self.server_final
    }
}

fn text(message: &[u8]) -> Result<&str, SaslError> {
    if message.len() > MAX_MESSAGE_OCTETS {
        return Err(SaslError::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| SaslError::Malformed)
}

/// `1*(printable without comma)` (RFC 5802 7).
fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_NONCE && text.bytes().all(|b| b.is_ascii_graphic() && b != b',')
}

/// A name in which `=2C` stands for a comma and `=3D` for an equals sign, and `=` for nothing else (RFC 5802 5.1).
fn saslname(text: &str) -> Result<String, SaslError> {
    let mut name = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('=') {
        name.push_str(before);
        let (c, behind) = match (behind.strip_prefix("2C"), behind.strip_prefix("3D")) {
            (Some(behind), _) => (',', behind),
            (_, Some(behind)) => ('=', behind),
            _ => return Err(SaslError::Malformed),
        };
        name.push(c);
        rest = behind;
    }
    name.push_str(rest);
    Ok(name)
}

opaque_debug!(ScramKeys, AwaitKeys, AwaitFinal, AwaitVerdict);
