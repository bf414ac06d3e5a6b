//! A small HTTPS client: one GET or one POST, one response, nothing else.
//!
//! What it does: the request, and a response whose status is 200, whose body is plain text, and whose size and time are
//! bounded; of the response to a POST the status alone counts. What it does not: no redirect is followed (RFC 8461 3.3),
//! nothing is cached, compressed or kept open, and no proxy is used. It resolves no name and decides on no certificate: it is given a TLS stream to a proven host.

use std::fmt;
use std::io;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Octets of status line and header at most.
const MAX_HEAD_BYTES: usize = 16 << 10;
/// Header fields at most.
const MAX_FIELDS: usize = 64;
/// Octets of one chunk's size line at most, extensions included.
const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Octets read at a time.
const READ_BYTES: usize = 4096;

/// Why there is no body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpError {
    /// The connection failed or ended too early.
    Connection(String),
    /// The server answered with another status than 200.
    Status(u16),
    /// What came is no HTTP response, or one that this client does not take.
    Response(String),
    /// The body is not `text/plain`.
    ContentType(String),
    /// The body is larger than was allowed, in octets.
    TooLarge(usize),
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(why) => write!(f, "connection: {why}"),
            Self::Status(status @ 300..=399) => {
                write!(f, "HTTP status {status}: a redirect, which is not followed (RFC 8461 3.3)")
            }
            Self::Status(status) => write!(f, "HTTP status {status}"),
            Self::Response(why) => write!(f, "no HTTP response: {why}"),
            Self::ContentType(found) => write!(f, "content type {found} in place of text/plain"),
            Self::TooLarge(bound) => write!(f, "more than {bound} bytes"),
        }
    }
}

impl std::error::Error for HttpError {}

impl From<io::Error> for HttpError {
    fn from(error: io::Error) -> Self {
        Self::Connection(error.to_string())
    }
}

/// How the body ends (RFC 9112 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Chunked,
    Length(usize),
    /// With the connection; TLS tells a true end from a cut one.
    Close,
}

/// Asks for `path` at `host` over a stream that leads there, and returns the body. The caller sets the deadline.
///
/// # Errors
/// Everything but a whole `200` response with a `text/plain` body of at most `max_body_bytes`.
pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
    max_body_bytes: usize,
) -> Result<Vec<u8>, HttpError> {
    let mut reader = Reader { stream, buffer: Vec::new() };
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mta\r\nAccept: text/plain\r\nAccept-Encoding: identity\r\n\
         Connection: close\r\n\r\n"
    );
    reader.stream.write_all(request.as_bytes()).await?;
    reader.stream.flush().await?;
    match reader.head().await? {
        Framing::Chunked => reader.chunks(max_body_bytes).await,
        Framing::Length(length) if length > max_body_bytes => Err(HttpError::TooLarge(max_body_bytes)),
        Framing::Length(length) => reader.exactly(length).await,
        Framing::Close => reader.rest(max_body_bytes).await,
    }
}

/// Sends a document to `path` at `host` over a stream that leads there. The caller sets the deadline.
///
/// # Errors
/// Everything but a response that says it was taken (RFC 9110 15.3).
pub async fn post<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    host: &str,
    path: &str,
    media_type: &str,
    document: &[u8],
) -> Result<(), HttpError> {
    let mut reader = Reader { stream, buffer: Vec::new() };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mta\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n",
        document.len()
    );
    reader.stream.write_all(head.as_bytes()).await?;
    reader.stream.write_all(document).await?;
    reader.stream.flush().await?;
    match reader.status().await? {
        200..=299 => Ok(()),
        status => Err(HttpError::Status(status)),
    }
}

/// What was read and is not used yet, and where more comes from.
struct Reader<S> {
    stream: S,
    buffer: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads some more; false at the end.
    async fn more(&mut self) -> Result<bool, HttpError> {
        let mut some = [0; READ_BYTES];
        let count = self.stream.read(&mut some).await?;
        self.buffer.extend(some.iter().take(count));
        Ok(count > 0)
    }

    async fn must_have_more(&mut self) -> Result<(), HttpError> {
        if self.more().await? { Ok(()) } else { Err(HttpError::Connection("ended too early".to_owned())) }
    }

    /// Takes `count` octets from the front of what was read.
    fn take(&mut self, count: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(count.min(self.buffer.len()));
        std::mem::replace(&mut self.buffer, rest)
    }

    /// The status line and header, judged.
    async fn head(&mut self) -> Result<Framing, HttpError> {
        loop {
            if let Some((framing, length)) = parse_head(&self.buffer)? {
                self.take(length);
                return Ok(framing);
            }
            if self.buffer.len() > MAX_HEAD_BYTES {
                return Err(HttpError::Response(format!("a header of more than {MAX_HEAD_BYTES} bytes")));
            }
            self.must_have_more().await?;
        }
    }

    /// The status of a whole head.
    async fn status(&mut self) -> Result<u16, HttpError> {
        loop {
            let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
            let mut response = httparse::Response::new(&mut fields);
            match response.parse(&self.buffer) {
                Ok(httparse::Status::Complete(_)) => {
                    return response.code.ok_or_else(|| HttpError::Response("no status".to_owned()));
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_HEAD_BYTES => {}
                Ok(httparse::Status::Partial) => {
                    return Err(HttpError::Response(format!("a header of more than {MAX_HEAD_BYTES} bytes")));
                }
                Err(error) => return Err(HttpError::Response(error.to_string())),
            }
            self.must_have_more().await?;
        }
    }

    async fn exactly(&mut self, length: usize) -> Result<Vec<u8>, HttpError> {
        while self.buffer.len() < length {
            self.must_have_more().await?;
        }
        Ok(self.take(length))
    }

    /// Up to the end of the connection.
    async fn rest(&mut self, max_bytes: usize) -> Result<Vec<u8>, HttpError> {
        while self.buffer.len() <= max_bytes {
            if !self.more().await? {
                return Ok(std::mem::take(&mut self.buffer));
            }
        }
        Err(HttpError::TooLarge(max_bytes))
    }

    /// A chunked body (RFC 9112 7.1). Trailers are not waited for: nothing in them counts.
    async fn chunks(&mut self, max_bytes: usize) -> Result<Vec<u8>, HttpError> {
        let mut body = Vec::new();
        loop {
            let size = self.chunk_size().await?;
            if size == 0 {
                return Ok(body);
            }
            if size > max_bytes - body.len() {
                return Err(HttpError::TooLarge(max_bytes));
            }
            let chunk = self.exactly(size + 2).await?;
            let Some(data) = chunk.strip_suffix(b"\r\n") else {
                return Err(HttpError::Response("a chunk that does not end where it said".to_owned()));
            };
            body.extend_from_slice(data);
        }
    }

    async fn chunk_size(&mut self) -> Result<usize, HttpError> {
        loop {
            match httparse::parse_chunk_size(&self.buffer) {
                Ok(httparse::Status::Complete((length, size))) => {
                    self.take(length);
                    // What does not fit is too large anyway.
                    return Ok(usize::try_from(size).unwrap_or(usize::MAX));
                }
                Ok(httparse::Status::Partial) if self.buffer.len() <= MAX_CHUNK_LINE_BYTES => {
                    self.must_have_more().await?;
                }
                _ => return Err(HttpError::Response("a chunk without a size".to_owned())),
            }
        }
    }
}

/// The framing and the length of a whole head; `None` while it is not whole. Interim responses are none we asked for.
fn parse_head(bytes: &[u8]) -> Result<Option<(Framing, usize)>, HttpError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Partial) => return Ok(None),
        Ok(httparse::Status::Complete(length)) => length,
        Err(error) => return Err(HttpError::Response(error.to_string())),
    };
    match response.code {
        Some(200) => {}
        Some(status) => return Err(HttpError::Status(status)),
        None => return Err(HttpError::Response("no status".to_owned())),
    }
    let framing = framing(response.headers)?;
    Ok(Some((framing, length)))
}

fn framing(fields: &[httparse::Header<'_>]) -> Result<Framing, HttpError> {
    let values = |name: &'static str| {
        let of_name = fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        of_name.map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    let types: Vec<String> = values("Content-Type").collect();
    let media_type = |value: &str| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match types.as_slice() {
        [one] if media_type(one) == "text/plain" => {}
        [] => return Err(HttpError::ContentType("(none)".to_owned())),
        [one, ..] => {
            let short: String = one.chars().take(60).collect();
            return Err(HttpError::ContentType(format!("\"{}\"", short.escape_debug())));
        }
    }
    if values("Content-Encoding").any(|value| !value.eq_ignore_ascii_case("identity")) {
        return Err(HttpError::Response("a body with an encoding that was not asked for".to_owned()));
    }
    let encodings: Vec<String> = values("Transfer-Encoding").collect();
    let lengths: Vec<String> = values("Content-Length").collect();
    match (encodings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::Close),
        ([one], []) if one.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        ([], [one]) if !one.is_empty() && one.bytes().all(|b| b.is_ascii_digit()) => {
            // What does not fit is too large anyway.
            Ok(Framing::Length(one.parse().unwrap_or(usize::MAX)))
        }
        // Two lengths, a length beside chunks, several encodings: somebody plays games (RFC 9112 6.3).
        _ => Err(HttpError::Response("no single statement of the body's length".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use proptest::prelude::*;

    use super::*;

    /// Answers with fixed bytes, some at a time; notes what was asked.
    struct Canned {
        answer: Vec<u8>,
        step: usize,
        asked: Vec<u8>,
    }

    impl AsyncRead for Canned {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            to: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let count = self.step.min(to.len()).min(self.answer.len());
            to[..count].copy_from_slice(&self.answer[..count]);
            self.answer.drain(..count);
            Poll::Ready(Ok(count))
        }
    }

    impl AsyncWrite for Canned {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
            self.asked.extend_from_slice(from);
            Poll::Ready(Ok(from.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn fetch(answer: &[u8], step: usize) -> Result<Vec<u8>, HttpError> {
        let mut canned = Canned { answer: answer.to_vec(), step, asked: Vec::new() };
        let body = smol::block_on(get(&mut canned, "mta-sts.example", "/.well-known/mta-sts.txt", 100));
        let asked = String::from_utf8(canned.asked).unwrap();
        assert!(
            asked.starts_with("GET /.well-known/mta-sts.txt HTTP/1.1\r\nHost: mta-sts.example\r\n"),
            "{asked}"
        );
        body
    }

    const PLAIN: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n";

    #[test]
    fn bodies_in_every_framing_and_any_pieces() {
        for rest in [
            "Content-Length: 5\r\n\r\nhello",
            "Content-Length: 5\r\n\r\nhello and what follows is not read",
            "\r\nhello",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "Transfer-Encoding: Chunked\r\n\r\n2;x=y\r\nhe\r\n03\r\nllo\r\n0\r\nTrailer: x\r\n\r\n",
            "Content-Encoding: identity\r\ncontent-length: 5\r\n\r\nhello",
        ] {
            for step in [1, 2, 7, 4096] {
                assert_eq!(
                    fetch(format!("{PLAIN}{rest}").as_bytes(), step).as_deref(),
                    Ok(&b"hello"[..]),
                    "{rest}"
                );
            }
        }
        let typed =
            "HTTP/1.0 200 Fine\r\ncontent-type: Text/Plain; charset=utf-8\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(fetch(typed.as_bytes(), 9), Ok(Vec::new()));
    }

    #[test]
    fn a_document_is_taken_or_not() {
        let send = |answer: &str, step| {
            let mut canned = Canned { answer: answer.as_bytes().to_vec(), step, asked: Vec::new() };
            let taken = smol::block_on(post(&mut canned, "r.example", "/v1", "application/x", b"body"));
            let asked = String::from_utf8(canned.asked).unwrap();
            assert!(asked.starts_with("POST /v1 HTTP/1.1\r\nHost: r.example\r\n"), "{asked}");
            assert!(asked.ends_with("Content-Length: 4\r\nConnection: close\r\n\r\nbody"), "{asked}");
            taken.map_err(|error| error.to_string())
        };
        let endless = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(MAX_HEAD_BYTES + READ_BYTES));
        for step in [1, 4096] {
            assert_eq!(send("HTTP/1.1 200 OK\r\n\r\n", step), Ok(()));
            assert_eq!(send("HTTP/1.1 201 Created\r\nContent-Type: text/html\r\n\r\nx", step), Ok(()));
            for (answer, word) in [
                ("HTTP/1.1 302 Found\r\nLocation: https://x/\r\n\r\n", "redirect"),
                ("HTTP/1.1 500 Oops\r\n\r\n", "status 500"),
                ("HTTP/1.1 100 Continue\r\n\r\n", "status 100"),
                ("220 mx.example ESMTP\r\n", "no HTTP response"),
                ("HTTP/1.1 200 OK\r\n", "ended too early"),
                ("", "ended too early"),
                (&endless, "header of more than"),
            ] {
                let refused = send(answer, step).expect_err(answer);
                assert!(refused.contains(word), "{answer}: {refused}");
            }
        }
    }

    #[test]
    fn everything_else_is_an_error_that_says_what_it_is() {
        let head = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n");
        let long = "x".repeat(200);
        let many = "X: y\r\n".repeat(MAX_FIELDS + 1);
        let endless = format!("{PLAIN}X: {}\r\n\r\n", "y".repeat(MAX_HEAD_BYTES + READ_BYTES));
        for (answer, word) in [
            (String::new(), "ended too early"),
            ("HTTP/1.1 200 OK\r\nContent-Ty".to_owned(), "ended too early"),
            ("220 mx.example ESMTP\r\n".to_owned(), "no HTTP response"),
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "status 404"),
            ("HTTP/1.1 301 Moved\r\nLocation: https://evil.example/\r\n\r\n".to_owned(), "redirect"),
            ("HTTP/1.1 100 Continue\r\n\r\n".to_owned(), "status 100"),
            ("HTTP/1.1 204 Nothing\r\n\r\n".to_owned(), "status 204"),
            (head(""), "(none)"),
            (head("Content-Type: text/html\r\n"), "text/html"),
            (head("Content-Type: text/plain\r\nContent-Type: text/html\r\n"), "content type"),
            (head("Content-Type: text/plainer\r\n"), "text/plainer"),
            (format!("{PLAIN}Content-Encoding: gzip\r\n\r\n"), "encoding"),
            (format!("{PLAIN}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"), "length"),
            (format!("{PLAIN}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), "length"),
            (format!("{PLAIN}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "length"),
            (format!("{PLAIN}Content-Length: -5\r\n\r\nhello"), "length"),
            (format!("{PLAIN}Content-Length: 5\r\n\r\nhell"), "ended too early"),
            (format!("{PLAIN}Content-Length: 101\r\n\r\n"), "more than 100 bytes"),
            (format!("{PLAIN}Content-Length: 99999999999999999999999999\r\n\r\n"), "more than 100 bytes"),
            (format!("{PLAIN}\r\n{long}"), "more than 100 bytes"),
            (
                format!("{PLAIN}Transfer-Encoding: chunked\r\n\r\nc8\r\n{long}\r\n0\r\n\r\n"),
                "more than 100 bytes",
            ),
            (format!("{PLAIN}Transfer-Encoding: chunked\r\n\r\nfffffff\r\n"), "more than 100 bytes"),
            (format!("{PLAIN}Transfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n"), "chunk"),
            (format!("{PLAIN}Transfer-Encoding: chunked\r\n\r\nhello\r\n"), "chunk"),
            (format!("{PLAIN}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"), "ended too early"),
            (head(&many), "no HTTP response"),
            (endless, "header of more than"),
        ] {
            for step in [3, 4096] {
                let error = fetch(answer.as_bytes(), step).expect_err(&answer).to_string();
                assert!(error.contains(word), "{answer}: {error}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_response_panics_or_exceeds_the_bound(tail in any::<Vec<u8>>(), chunked in any::<bool>(), step in 1usize..50) {
            let framing = if chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            let mut answer = format!("{PLAIN}{framing}\r\n").into_bytes();
            answer.extend(tail);
            if let Ok(body) = fetch(&answer, step) {
                prop_assert!(body.len() <= 100);
            }
        }
    }
}
