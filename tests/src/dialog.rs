//! SMTP dialogs as text files that a mail administrator can read (`tests/dialogs/*.txt`).
//!
//! | line | meaning |
//! | --- | --- |
//! | `# text` | a remark |
//! | `C: text`, `C+ text` | the client sends this line, with CR LF; `C+` where no reply is waited for before it |
//! | `C> text` | the client sends exactly this; `\r`, `\n`, `\0`, `\\` and `\xHH` are understood, nothing is added |
//! | `C* 1000 text` | the client sends the text (as for `C>`) this many times over |
//! | `S: text` | the server sends exactly this line; `*` stands for any text |
//! | `S= 250` | the server sends a whole reply, of one or more lines, with this code |
//! | `TLS` | the handshake; the client takes any certificate |
//! | `CLOSED` | the server has closed the connection |
//! | `SILENT` | the server has nothing to say until the client speaks again |
//! | `CONNECT` | the client opens another connection and leaves this one as it is |

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::client::SmtpClient;

/// One line of a dialog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The client sends these bytes.
    Send(Vec<u8>),
    /// The server sends a line like this.
    Line(String),
    /// The server sends a whole reply with this code.
    Reply(u16),
    /// TLS begins.
    Tls,
    /// The server has closed.
    Closed,
    /// The server waits.
    Silent,
    /// A new connection.
    Connect,
}

/// A step and the line of the file it stands in.
pub type Dialog = Vec<(usize, Step)>;

/// Where a dialog went another way than its file says, or is not written as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialogError {
    /// The line of the file.
    pub line: usize,
    /// What was expected and what came.
    pub text: String,
}

impl fmt::Display for DialogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

impl std::error::Error for DialogError {}

/// Reads a dialog.
///
/// # Errors
///
/// The first line that is none of the kinds above.
pub fn parse(text: &str) -> Result<Dialog, DialogError> {
    let mut steps = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index + 1;
        let wrong = |text: &str| DialogError { line: line_number, text: text.to_owned() };
        let argument = line.get(2..).unwrap_or_default();
        let argument = argument.strip_prefix(' ').unwrap_or(argument);
        let step = match line {
            "" => continue,
            line if line.starts_with('#') => continue,
            "TLS" => Step::Tls,
            "CLOSED" => Step::Closed,
            "SILENT" => Step::Silent,
            "CONNECT" => Step::Connect,
            line if line.starts_with("C:") || line.starts_with("C+") => {
                Step::Send(format!("{argument}\r\n").into_bytes())
            }
            line if line.starts_with("C>") => {
                Step::Send(unescape(argument).ok_or_else(|| wrong("bad escape"))?)
            }
            line if line.starts_with("C*") => {
                let (count, text) =
                    argument.split_once(' ').ok_or_else(|| wrong("C* needs a number and a text"))?;
                let count: usize = count.parse().map_err(|_| wrong("C* needs a number"))?;
                Step::Send(unescape(text).ok_or_else(|| wrong("bad escape"))?.repeat(count))
            }
            line if line.starts_with("S:") => Step::Line(argument.to_owned()),
            line if line.starts_with("S=") => {
                Step::Reply(argument.trim().parse().map_err(|_| wrong("S= needs a reply code"))?)
            }
            _ => return Err(wrong("begins with nothing a dialog knows")),
        };
        steps.push((line_number, step));
    }
    Ok(steps)
}

/// Plays a dialog against a server.
///
/// # Errors
///
/// The first step that went another way.
pub fn play(dialog: &Dialog, server: SocketAddr) -> Result<(), DialogError> {
    let connect = || SmtpClient::connect(server);
    let mut client = connect().map_err(|error| DialogError { line: 0, text: error.to_string() })?;
    let mut before = Vec::new();
    for (line, step) in dialog {
        let failed = |text: String| DialogError { line: *line, text };
        let io_failed = |error: io::Error| failed(error.to_string());
        match step {
            Step::Send(bytes) => client.send(bytes).map_err(io_failed)?,
            Step::Line(pattern) => {
                let found =
                    client.line().map_err(|error| failed(format!("expected {pattern:?}: {error}")))?;
                if !matches(pattern, &found) {
                    return Err(failed(format!("expected {pattern:?}, the server said {found:?}")));
                }
            }
            Step::Reply(code) => {
                let reply = client.reply().map_err(|error| failed(format!("expected {code}: {error}")))?;
                if reply.code != *code {
                    return Err(failed(format!("expected {code}, the server said {reply:?}")));
                }
            }
            Step::Tls => drop(client.start_tls("server.example").map_err(io_failed)?),
            Step::Closed => match client.line() {
                Ok(found) => return Err(failed(format!("expected an end, the server said {found:?}"))),
                Err(error) if is_end(&error) => {}
                Err(error) => return Err(io_failed(error)),
            },
            Step::Silent => client.is_silent().map_err(io_failed)?,
            Step::Connect => before.push(std::mem::replace(&mut client, connect().map_err(io_failed)?)),
        }
    }
    Ok(())
}

/// Whether reading failed because the server ended the connection.
fn is_end(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    )
}

/// Whether a text is like a pattern in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = parts.collect();
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The bytes a text with escapes stands for.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'r' => b'\r',
            b'n' => b'\n',
            b'0' => 0,
            b'\\' => b'\\',
            b'x' => {
                let digits = [rest.next()?, rest.next()?];
                u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?
            }
            _ => return None,
        });
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        for (pattern, text, expected) in [
            ("250 ok", "250 ok", true),
            ("250 ok", "250 okay", false),
            ("250 *", "250 queued as 4711", true),
            ("*queued*", "250 queued as 4711", true),
            ("250 * as *", "250 queued as 4711", true),
            ("250 *1", "250 queued as 4711", true),
            ("250 *2", "250 queued as 4711", false),
            ("250-*", "250 x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn a_dialog_is_read_line_by_line() {
        let dialog = parse("# remark\nS: 220 *\nC: EHLO x\nS= 250\nC> a\\r\\n\\x00\nC* 3 ab\nCLOSED\n");
        let steps: Vec<Step> = dialog.expect("a dialog").into_iter().map(|(_, step)| step).collect();
        let expected = [
            Step::Line("220 *".to_owned()),
            Step::Send(b"EHLO x\r\n".to_vec()),
            Step::Reply(250),
            Step::Send(b"a\r\n\0".to_vec()),
            Step::Send(b"ababab".to_vec()),
            Step::Closed,
        ];
        assert_eq!(steps, expected);
        assert_eq!(parse("S: 220\nX: what").expect_err("no dialog").line, 2);
    }
}
