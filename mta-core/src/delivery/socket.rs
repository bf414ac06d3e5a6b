//! Connecting to a program on this host by its Unix socket: blocking, within a time.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::sendmail::submit;

/// How long a program may be too busy to take a connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is tried meanwhile.
const AGAIN: Duration = Duration::from_millis(50);

/// Connects. Where the other end has stopped to take connections its listen queue is full, and a socket that blocks would
/// wait for ever (connect(2), EAGAIN).
///
/// # Errors
/// As the system reports; `TimedOut` where no connection was taken within the time.
pub(super) fn connect(path: &Path, within: Duration) -> io::Result<UnixStream> {
    let until = Instant::now() + within;
    loop {
        match submit::connect(path) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if Instant::now() >= until {
                    let text = "too busy: it takes no connection";
                    return Err(io::Error::new(io::ErrorKind::TimedOut, text));
                }
                std::thread::sleep(AGAIN);
            }
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn who_takes_no_connection_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        assert_eq!(connect(&path, PATIENCE).unwrap_err().kind(), io::ErrorKind::NotFound);
        let listener = UnixListener::bind(&path).unwrap();
        let mut open = Vec::new();
        let error = loop {
            match connect(&path, Duration::ZERO) {
                Ok(stream) => open.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        // It goes on.
        let taken = std::thread::spawn(move || listener.accept().map(|_| listener));
        assert!(connect(&path, Duration::from_secs(60)).is_ok());
        drop(taken.join().unwrap().unwrap());
    }
}
