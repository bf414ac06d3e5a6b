//! The external check: somebody else on this host knows the users (LDAP, PAM) and is asked over a Unix socket.
//!
//! The protocol, one connection for each question: one line of JSON there, one line back, each ended by a line feed.
//!
//! ```text
//! {"v":1,"user":"anna@example.org","password":"...","client":"192.0.2.7","service":"submission"}
//! {"ok":true,"user":"anna@example.org"}
//! ```
//!
//! `ok` decides; `user` is optional and names the user as he is to be known here. An answer with `"error": "why"`, none at
//! all, one that is longer than `MAX_ANSWER_OCTETS` or takes longer than the time given lets nobody in and is told to the
//! client as a temporary failure.
//!
//! What it does not: it remembers nothing, and it asks for nobody who is a user in the database.

use std::io;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_io::Async;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use serde::{Deserialize, Serialize};

use super::roster::login_name;
use crate::net::within;

/// The longest answer, in octets.
const MAX_ANSWER_OCTETS: u64 = 4096;

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct External {
    /// The socket.
    pub socket: PathBuf,
    /// How long an answer may take. 10 seconds.
    pub timeout: Duration,
}

#[derive(Serialize)]
struct Asked<'a> {
    v: u32,
    user: &'a str,
    password: &'a str,
    client: IpAddr,
    service: &'a str,
}

#[derive(Deserialize)]
struct Answered {
    #[serde(default)]
    ok: bool,
    user: Option<String>,
    error: Option<String>,
}

impl External {
    /// Asks. The user's name where the answer is yes, `None` where it is no.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn check(&self, user: &str, password: &str, client: IpAddr) -> io::Result<Option<String>> {
        let asked = Asked { v: 1, user, password, client, service: "submission" };
        let mut line = serde_json::to_vec(&asked)?;
        line.push(b'\n');
        let answer = within(self.timeout, exchange(&self.socket, &line)).await?;
        let answer: Answered = serde_json::from_slice(&answer)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some(error) = answer.error {
            return Err(io::Error::other(error));
        }
        if !answer.ok {
            return Ok(None);
        }
        let name = answer.user.as_deref().unwrap_or(user);
        login_name(name).map(Some).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the answer names a user that cannot be one")
        })
    }
}

async fn exchange(socket: &Path, line: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = Async::<UnixStream>::connect(socket).await?;
    stream.write_all(line).await?;
    stream.flush().await?;
    let (mut answer, mut piece) = (Vec::new(), [0; 512]);
    loop {
        let octets = stream.read(&mut piece).await?;
        answer.extend_from_slice(piece.get(..octets).unwrap_or_default());
        if octets == 0 || answer.contains(&b'\n') {
            return Ok(answer);
        }
        if answer.len() as u64 > MAX_ANSWER_OCTETS {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the answer is too long"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of an answer; what was asked.
    fn asked(answer: &'static [u8]) -> (io::Result<Option<String>>, String) {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("check.sock");
        let listener = UnixListener::bind(&socket).expect("a socket");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a question");
            let mut line = String::new();
            BufReader::new(stream.try_clone().expect("a copy")).read_line(&mut line).expect("a line");
            // Whoever has heard enough may have gone.
            let _ = stream.write_all(answer);
            line
        });
        let external = External { socket, timeout: Duration::from_secs(10) };
        let client = "192.0.2.7".parse().expect("an address");
        let came = smol::block_on(external.check("anna@one.example", "pa\"ss\nword", client));
        (came, server.join().expect("asked"))
    }

    #[test]
    fn yes_no_and_no_answer_are_told_apart() {
        let (came, line) = asked(b"{\"ok\":true}\n");
        assert_eq!(came.expect("answered").as_deref(), Some("anna@one.example"));
        assert_eq!(
            line,
            "{\"v\":1,\"user\":\"anna@one.example\",\"password\":\"pa\\\"ss\\nword\",\
             \"client\":\"192.0.2.7\",\"service\":\"submission\"}\n"
        );
        let (came, _) = asked(b"{\"ok\":true,\"user\":\"Anna@Two.example\",\"more\":1}\n");
        assert_eq!(came.expect("answered").as_deref(), Some("anna@two.example"));
        assert_eq!(asked(b"{\"ok\":false}\n").0.expect("answered"), None);
        assert_eq!(asked(b"{}\n").0.expect("answered"), None);
        for broken in [
            &b""[..],
            b"yes\n",
            b"{\"ok\":\"yes\"}\n",
            b"{\"ok\":true,\"error\":\"the directory is down\"}\n",
            b"{\"ok\":true,\"user\":\"a\\u0000b\"}\n",
            &[b'x'; 10_000],
        ] {
            asked(broken).0.expect_err("lets nobody in");
        }
    }

    #[test]
    fn nobody_there_lets_nobody_in() {
        let external = External { socket: "/nonexistent/check.sock".into(), timeout: Duration::from_secs(1) };
        let client = "192.0.2.7".parse().expect("an address");
        smol::block_on(external.check("a@b.example", "x", client)).expect_err("not reachable");
    }
}
