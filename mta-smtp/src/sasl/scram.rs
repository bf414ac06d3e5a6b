//! SCRAM-SHA-256, client side (RFC 5802, RFC 7677): one struct per message that is awaited.
//!
//! The server's signature is always verified; its iteration count is bounded, because it decides how much we compute.
//! Channel binding is not offered: the message carries `n,,`, and there is room for `p=` in [`ChannelBinding`].

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::{SecureRandom, SystemRandom};
use ring::{digest, hmac, pbkdf2};

use super::{ChannelBinding, Credentials, SaslError};

/// The smallest iteration count taken (RFC 7677 4).
const MIN_ITERATIONS: u32 = 4096;
/// The largest iteration count we compute for a server: about half a second on a small machine.
pub const MAX_ITERATIONS: u32 = 600_000;
/// The longest server message looked at, in octets.
const MAX_MESSAGE_BYTES: usize = 2048;
/// Octets of randomness in our nonce.
const NONCE_BYTES: usize = 18;

/// Nothing was sent yet.
pub(super) struct Start {
    credentials: Credentials,
    gs2_header: &'static str,
    nonce: String,
}

/// `client-first-message` was sent.
pub(super) struct ClientFirst {
    credentials: Credentials,
    gs2_header: &'static str,
    nonce: String,
    bare: String,
}

/// `client-final-message` was sent.
pub(super) struct ClientFinal {
    server_key: hmac::Key,
    auth_message: String,
}

impl Start {
    pub(super) fn new(credentials: Credentials, binding: ChannelBinding) -> Result<Self, SaslError> {
        let mut random = [0; NONCE_BYTES];
        SystemRandom::new().fill(&mut random).map_err(|_| SaslError::NoRandom)?;
        Ok(Self::with_nonce(credentials, binding, BASE64.encode(random)))
    }

    fn with_nonce(credentials: Credentials, binding: ChannelBinding, nonce: String) -> Self {
        let gs2_header = match binding {
            ChannelBinding::Unsupported => "n,,",
        };
        Self { credentials, gs2_header, nonce }
    }

    pub(super) fn first(self) -> (Vec<u8>, ClientFirst) {
        // `=` and `,` in the name are escaped (RFC 5802 5.1, saslname).
        let name = self.credentials.username.replace('=', "=3D").replace(',', "=2C");
        let bare = format!("n={name},r={}", self.nonce);
        let message = format!("{}{bare}", self.gs2_header).into_bytes();
        let Self { credentials, gs2_header, nonce } = self;
        (message, ClientFirst { credentials, gs2_header, nonce, bare })
    }
}

impl ClientFirst {
    pub(super) fn challenge(self, message: &[u8]) -> Result<(Vec<u8>, ClientFinal), SaslError> {
        let server_first = text(message)?;
        let ServerFirst { nonce, salt, iterations } = ServerFirst::parse(server_first)?;
        // It must be ours with something added, else the server chose all of it.
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(SaslError::NonceMismatch);
        }
        let mut salted_password = [0; digest::SHA256_OUTPUT_LEN];
        let password = self.credentials.password.as_bytes();
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, password, &mut salted_password);

        let without_proof = format!("c={},r={nonce}", BASE64.encode(self.gs2_header));
        let auth_message = format!("{},{server_first},{without_proof}", self.bare);
        let salted = hmac::Key::new(hmac::HMAC_SHA256, &salted_password);
        let client_key = hmac::sign(&salted, b"Client Key");
        let stored_key = digest::digest(&digest::SHA256, client_key.as_ref());
        let signature =
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, stored_key.as_ref()), auth_message.as_bytes());
        let proof: Vec<u8> = client_key.as_ref().iter().zip(signature.as_ref()).map(|(a, b)| a ^ b).collect();
        let server_key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&salted, b"Server Key").as_ref());
        let message = format!("{without_proof},p={}", BASE64.encode(proof)).into_bytes();
        Ok((message, ClientFinal { server_key, auth_message }))
    }
}

impl ClientFinal {
    pub(super) fn verify(self, message: &[u8]) -> Result<(), SaslError> {
        let first = text(message)?.split(',').next().unwrap_or_default();
        if first.starts_with("e=") {
            return Err(SaslError::ServerError);
        }
        let signature = first.strip_prefix("v=").ok_or(SaslError::Malformed)?;
        let signature = BASE64.decode(signature).map_err(|_| SaslError::Malformed)?;
        // Compares in constant time.
        hmac::verify(&self.server_key, self.auth_message.as_bytes(), &signature)
            .map_err(|_| SaslError::ServerNotAuthenticated)
    }
}

/// `server-first-message`: `r=nonce,s=salt,i=count[,extensions]`.
struct ServerFirst {
    nonce: String,
    salt: Vec<u8>,
    iterations: NonZeroU32,
}

impl ServerFirst {
    fn parse(message: &str) -> Result<Self, SaslError> {
        if message.starts_with("m=") {
            return Err(SaslError::UnknownExtension);
        }
        let mut fields = message.split(',');
        let mut field =
            |name: &str| fields.next().and_then(|field| field.strip_prefix(name)).ok_or(SaslError::Malformed);
        let nonce = field("r=")?.to_owned();
        let salt = BASE64.decode(field("s=")?).map_err(|_| SaslError::Malformed)?;
        let count: u64 = field("i=")?.parse().map_err(|_| SaslError::Malformed)?;
        let bounded =
            u32::try_from(count).ok().filter(|count| (MIN_ITERATIONS..=MAX_ITERATIONS).contains(count));
        let iterations = bounded.and_then(NonZeroU32::new).ok_or(SaslError::IterationCount(count))?;
        if salt.is_empty() {
            return Err(SaslError::Malformed);
        }
        Ok(Self { nonce, salt, iterations })
    }
}

fn text(message: &[u8]) -> Result<&str, SaslError> {
    if message.len() > MAX_MESSAGE_BYTES {
        return Err(SaslError::Malformed);
    }
    std::str::from_utf8(message).map_err(|_| SaslError::Malformed)
}

opaque_debug!(Start, ClientFirst, ClientFinal);

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange printed in RFC 7677 3.
    const NONCE: &str = "rOprNGfwEbeRWgbNEkqO";
    const SERVER_FIRST: &str =
        "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
    const CLIENT_FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                                p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
    const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";

    fn first() -> (Vec<u8>, ClientFirst) {
        let credentials = Credentials::new("user", "pencil").unwrap();
        Start::with_nonce(credentials, ChannelBinding::Unsupported, NONCE.to_owned()).first()
    }

    #[test]
    fn the_example_of_rfc7677() {
        let (message, state) = first();
        assert_eq!(message, b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let (message, state) = state.challenge(SERVER_FIRST.as_bytes()).unwrap();
        assert_eq!(std::str::from_utf8(&message).unwrap(), CLIENT_FINAL);
        assert_eq!(state.verify(SERVER_FINAL.as_bytes()), Ok(()));
    }

    #[test]
    fn a_server_that_does_not_know_the_password_is_found_out() {
        for (last, expected) in [
            ("v=AAAATRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=", SaslError::ServerNotAuthenticated),
            ("v=", SaslError::ServerNotAuthenticated),
            ("v=!", SaslError::Malformed),
            ("", SaslError::Malformed),
            ("e=other-error", SaslError::ServerError),
        ] {
            let (_, state) = first().1.challenge(SERVER_FIRST.as_bytes()).unwrap();
            assert_eq!(state.verify(last.as_bytes()), Err(expected), "{last}");
        }
    }

    #[test]
    fn hostile_first_messages() {
        let cases: [(&str, SaslError); 9] = [
            ("r=rOprNGfwEbeRWgbNEkqO,s=W22Z,i=4096", SaslError::NonceMismatch),
            ("r=else,s=W22Z,i=4096", SaslError::NonceMismatch),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=1", SaslError::IterationCount(1)),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4294967296", SaslError::IterationCount(4_294_967_296)),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=99999999999999999999", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,s=,i=4096", SaslError::Malformed),
            ("r=rOprNGfwEbeRWgbNEkqOx,i=4096,s=W22Z", SaslError::Malformed),
            ("m=x,r=rOprNGfwEbeRWgbNEkqOx,s=W22Z,i=4096", SaslError::UnknownExtension),
            ("", SaslError::Malformed),
        ];
        for (message, expected) in cases {
            assert_eq!(first().1.challenge(message.as_bytes()).err(), Some(expected), "{message}");
        }
        assert_eq!(first().1.challenge(&[b'r'; 3000]).err(), Some(SaslError::Malformed));
        assert_eq!(first().1.challenge(b"r=\xff").err(), Some(SaslError::Malformed));
    }

    #[test]
    fn separators_in_the_name_are_escaped() {
        let credentials = Credentials::new("a,b=c", "x").unwrap();
        let start = Start::with_nonce(credentials, ChannelBinding::Unsupported, "n".to_owned());
        assert_eq!(start.first().0, b"n,,n=a=2Cb=3Dc,r=n");
    }
}
