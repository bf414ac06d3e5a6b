//! Requests, answers and frames of the delivery process. The head of the module above says what they mean.

use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The protocol's version. Both ends are the same program, but an upgrade may leave one of them running.
pub const VERSION: u32 = 1;

/// The status of a delivery that found all places taken for long (RFC 3463 3.4, X.3.2: the system takes none now).
pub const ALL_TAKEN: (u16, u16) = (3, 2);

/// The largest frame that is no content, octets: a `.forward` comes back in one.
pub const MAX_FRAME: usize = 128 * 1024;

/// The largest frame of content, octets.
pub const MAX_CONTENT_FRAME: usize = 64 * 1024;

/// What is asked: one message to one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The protocol's version.
    pub version: u32,
    /// As whom.
    pub user: String,
    /// Where to.
    pub place: Place,
    /// The message.
    pub letter: Letter,
}

/// A place of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// His mailbox, wherever the configuration says it lies.
    Mailbox {
        /// Whether his `.forward` is looked at first.
        forward: bool,
    },
    /// A file that an alias or his `.forward` names.
    File {
        /// Where; a Maildir where it ends in a slash.
        path: PathBuf,
        /// Whether it is his `.forward` that names it.
        of_forward: bool,
    },
    /// A command that an alias or his `.forward` names.
    Pipe {
        /// For the shell.
        command: String,
        /// Whether it is his `.forward` that names it.
        of_forward: bool,
    },
}

/// What has to be known of the message besides its content. Texts hold no control characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// Unique for message and place, the same at every attempt.
    pub unique: String,
    /// The reverse-path with its brackets.
    pub reverse_path: String,
    /// Whom it was sent to.
    pub recipient: String,
    /// When it was received, seconds since 1970.
    pub received_at: u64,
    /// The name of this host.
    pub hostname: String,
}

/// What comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Send the content.
    Go,
    /// The user's `.forward`: it goes there.
    Forward(String),
    /// It is there, on stable storage.
    Delivered(String),
    /// Not now.
    Deferred {
        /// The subject and detail of the enhanced status code.
        status: (u16, u16),
        /// Cause and remedy.
        text: String,
    },
    /// Never.
    Failed {
        /// The subject and detail of the enhanced status code.
        status: (u16, u16),
        /// Cause.
        text: String,
    },
}

impl Answer {
    /// Not now.
    pub fn deferred(status: (u16, u16), text: impl Into<String>) -> Self {
        Self::Deferred { status, text: text.into() }
    }

    /// Never.
    pub fn failed(status: (u16, u16), text: impl Into<String>) -> Self {
        Self::Failed { status, text: text.into() }
    }
}

/// Writes a frame.
///
/// # Errors
/// What the socket reports; a frame that is too large.
pub fn write_frame(to: &mut dyn Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(frame)
}

/// Reads a frame of at most `max` octets.
///
/// # Errors
/// What the socket reports; its end; a frame that is too large.
pub fn read_frame(from: &mut dyn Read, max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(frame)
}

/// Writes a value as a frame.
///
/// # Errors
/// As [`write_frame`].
pub fn send<T: Serialize>(to: &mut dyn Write, value: &T) -> io::Result<()> {
    write_frame(to, &serde_json::to_vec(value)?)
}

/// Reads a value.
///
/// # Errors
/// As [`read_frame`]; what is no such value.
pub fn receive<T: DeserializeOwned>(from: &mut dyn Read) -> io::Result<T> {
    Ok(serde_json::from_slice(&read_frame(from, MAX_FRAME)?)?)
}

/// The content as it comes in frames. Its end is the empty frame; the end of the connection before it is an error.
pub struct Frames<R> {
    from: R,
    /// Octets of the frame at hand that are still to come.
    left: usize,
    ended: bool,
}

impl<R: Read> Frames<R> {
    /// The content that follows on `from`.
    pub fn new(from: R) -> Self {
        Self { from, left: 0, ended: false }
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.ended {
            let mut length = [0; 4];
            self.from.read_exact(&mut length)?;
            self.left = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            if self.left > MAX_CONTENT_FRAME {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too large"));
            }
            self.ended = self.left == 0;
        }
        if self.ended || buffer.is_empty() {
            return Ok(0);
        }
        let most = self.left.min(buffer.len());
        let count = self.from.read(buffer.get_mut(..most).unwrap_or_default())?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn content_without_its_end_is_an_error() {
        let mut wire = Vec::new();
        write_frame(&mut wire, b"abc").unwrap();
        let mut read = Vec::new();
        assert!(Frames::new(&wire[..]).read_to_end(&mut read).is_err());
        write_frame(&mut wire, b"").unwrap();
        let mut read = Vec::new();
        Frames::new(&wire[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abc");
    }

    proptest! {
        #[test]
        fn any_octets_are_refused_or_read(bytes in any::<Vec<u8>>()) {
            let _ = receive::<Request>(&mut &bytes[..]);
            let _ = receive::<Answer>(&mut &bytes[..]);
            let _ = Frames::new(&bytes[..]).read_to_end(&mut Vec::new());
        }

        #[test]
        fn frames_read_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..50), 0..10)) {
            let mut wire = Vec::new();
            for part in &parts {
                write_frame(&mut wire, part).unwrap();
            }
            write_frame(&mut wire, b"").unwrap();
            let mut read = Vec::new();
            Frames::new(&wire[..]).read_to_end(&mut read).unwrap();
            prop_assert_eq!(read, parts.concat());
        }
    }
}
