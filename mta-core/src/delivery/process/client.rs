//! The mail server's side of the delivery process: one message to one place, blocking.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use super::super::socket::{self, PATIENCE};
use super::protocol::{Answer, MAX_CONTENT_FRAME, Request, receive, send, write_frame};

/// Where the delivery process is, and how long it may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its socket.
    pub socket: PathBuf,
    /// How long it may be silent: the disk of a mailbox may be slow, a command may take its time.
    pub timeout: Duration,
}

impl Process {
    /// Asks it to put a message to a place. `open` opens the content when it is wanted.
    ///
    /// # Errors
    /// It is not there to be asked, in a sentence.
    pub fn deliver(
        &self,
        request: &Request,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    ) -> Result<Answer, String> {
        let stream = socket::connect(&self.socket, PATIENCE).map_err(|error| {
            format!("the delivery process does not answer on {} ({error})", self.socket.display())
        })?;
        Ok(self
            .talk(&stream, request, open)
            .unwrap_or_else(|error| Answer::deferred((3, 0), format!("the delivery process: {error}"))))
    }

    fn talk(
        &self,
        mut stream: &UnixStream,
        request: &Request,
        open: &dyn Fn() -> io::Result<Box<dyn Read + Send>>,
    ) -> io::Result<Answer> {
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;
        send(&mut stream, request)?;
        let answer = receive(&mut stream)?;
        if answer != Answer::Go {
            return Ok(answer);
        }
        let mut content = match open() {
            Ok(content) => content,
            // Dropping the connection takes back what was begun.
            Err(error) => return Ok(Answer::deferred((3, 0), format!("the queue's content: {error}"))),
        };
        let sent = send_content(&mut *content, stream);
        match sent {
            Ok(()) => {}
            Err(Sent::Content(error)) => {
                return Ok(Answer::deferred((3, 0), format!("the queue's content: {error}")));
            }
            // It may have said why before it stopped reading.
            Err(Sent::Socket(error)) => return receive(&mut stream).map_err(|_| error),
        }
        match receive(&mut stream)? {
            Answer::Go | Answer::Forward(_) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "no last answer"))
            }
            answer => Ok(answer),
        }
    }
}

/// Why content was not sent.
enum Sent {
    /// It could not be read.
    Content(io::Error),
    /// It could not be written.
    Socket(io::Error),
}

fn send_content(content: &mut dyn Read, mut stream: &UnixStream) -> Result<(), Sent> {
    let mut buffer = vec![0; MAX_CONTENT_FRAME];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Sent::Content(error)),
        };
        write_frame(&mut stream, buffer.get(..count).unwrap_or_default()).map_err(Sent::Socket)?;
        if count == 0 {
            return Ok(());
        }
    }
}
