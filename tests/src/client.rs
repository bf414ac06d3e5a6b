//! A plain SMTP client for tests, written apart from the daemon's own: says what it is told, reads whole replies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// How long a reply may take before a test fails.
pub const REPLY_WITHIN: Duration = Duration::from_secs(30);

/// A reply: its code and its lines without the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The three digits.
    pub code: u16,
    /// The text of each line.
    pub lines: Vec<String>,
}

impl Reply {
    /// Whether it says yes.
    pub fn is_positive(&self) -> bool {
        (200..400).contains(&self.code)
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// One SMTP connection.
pub struct SmtpClient {
    stream: BufReader<Stream>,
}

impl SmtpClient {
    /// Connects; the greeting is still to be read.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream: BufReader::new(Stream::Plain(stream)) })
    }

    /// Connects to a port that speaks TLS from the start, with this configuration; the greeting is still to be read.
    pub fn connect_tls(address: SocketAddr, config: Arc<ClientConfig>) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(REPLY_WITHIN))?;
        stream.set_write_timeout(Some(REPLY_WITHIN))?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(address.ip());
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(connection, stream);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self { stream: BufReader::new(Stream::Tls(Box::new(tls))) })
    }

    /// Connects, reads the greeting and says EHLO.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::connect(address)?;
        client.expect_positive()?;
        client.ask("EHLO client.lab.example")?;
        Ok(client)
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)?;
        self.stream.get_mut().flush()
    }

    /// The next line without its end. An error of kind `UnexpectedEof` where the server has closed.
    pub fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        if self.stream.read_until(b'\n', &mut bytes)? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
        }
        let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The next whole reply.
    pub fn reply(&mut self) -> io::Result<Reply> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            let code = line.get(..3).and_then(|digits| digits.parse().ok());
            let Some(code) = code else { return Err(io::Error::other(format!("no reply line: {line}"))) };
            lines.push(line.get(4..).unwrap_or_default().to_owned());
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(Reply { code, lines });
            }
        }
    }

    /// Makes sure that the server has sent nothing that was not read yet. What is still on its way is not seen: use it
    /// after a reply that must have been the last.
    pub fn is_silent(&mut self) -> io::Result<()> {
        let buffered = String::from_utf8_lossy(self.stream.buffer()).into_owned();
        if buffered.is_empty() {
            Ok(())
        } else {
            Err(io::Error::other(format!("the server went on: {buffered:?}")))
        }
    }

    /// Sends a command and reads the reply to it.
    pub fn command(&mut self, command: &str) -> io::Result<Reply> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Sends a command whose reply must be positive.
    pub fn ask(&mut self, command: &str) -> io::Result<Reply> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.expect_positive().map_err(|error| io::Error::other(format!("{command}: {error}")))
    }

    fn expect_positive(&mut self) -> io::Result<Reply> {
        let reply = self.reply()?;
        if reply.is_positive() { Ok(reply) } else { Err(io::Error::other(format!("{reply:?}"))) }
    }

    /// Begins TLS (the command was sent and answered already), whatever certificate the server has; its chain.
    pub fn start_tls(&mut self, server_name: &str) -> io::Result<Vec<CertificateDer<'static>>> {
        let Stream::Plain(plain) = self.stream.get_ref() else {
            return Err(io::Error::other("TLS is on already"));
        };
        let name = ServerName::try_from(server_name.to_owned()).map_err(io::Error::other)?;
        let connection =
            ClientConnection::new(Arc::new(trusting_config()), name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(connection, plain.try_clone()?);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        let chain = tls.conn.peer_certificates().unwrap_or_default().to_vec();
        self.stream = BufReader::new(Stream::Tls(Box::new(tls)));
        Ok(chain)
    }

    /// Ends TLS (close_notify) and sends these bytes behind it, as they are.
    pub fn end_tls(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Stream::Tls(tls) = self.stream.get_mut() else {
            return Err(io::Error::other("TLS is not on"));
        };
        tls.conn.send_close_notify();
        tls.flush()?;
        tls.sock.write_all(bytes)
    }

    /// Sends one message; the reply to the end of data, or to the first command that was refused.
    pub fn deliver(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<Reply> {
        let mut reply = self.command(&format!("MAIL FROM:<{from}>"))?;
        for recipient in to {
            if reply.is_positive() {
                reply = self.command(&format!("RCPT TO:<{recipient}>"))?;
            }
        }
        if reply.is_positive() {
            reply = self.command("DATA")?;
        }
        if !reply.is_positive() {
            return Ok(reply);
        }
        self.send(&stuffed(content))?;
        self.send(b".\r\n")?;
        self.reply()
    }
}

/// Sends one message over a connection of its own and ends it.
pub fn send_message(server: SocketAddr, from: &str, to: &[&str], content: &[u8]) -> io::Result<Reply> {
    let mut client = SmtpClient::open(server)?;
    let reply = client.deliver(from, to, content)?;
    client.command("QUIT")?;
    Ok(reply)
}

/// Content with its dots doubled at line starts; it must end with CR LF.
pub fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut stuffed = Vec::with_capacity(content.len() + 16);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            stuffed.push(b'.');
        }
        stuffed.extend(line);
    }
    stuffed
}

/// A short message with these header fields and this body text, lines ended by CR LF.
pub fn message(from: &str, to: &str, subject: &str, body: &str) -> Vec<u8> {
    let body = body.replace('\n', "\r\n");
    format!(
        "From: <{from}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: Mon, 23 Nov 2026 12:00:00 +0000\r\n\
         Message-ID: <{}@lab.example>\r\n\r\n{body}\r\n",
        fastrand::u64(..)
    )
    .into_bytes()
}

/// A TLS client that takes any certificate: for tests that look at what the server does, not at who it is.
pub fn trusting_config() -> ClientConfig {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = Arc::new(TakesAny(Arc::clone(&provider)));
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring knows the default versions")
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth()
}

#[derive(Debug)]
struct TakesAny(Arc<CryptoProvider>);

impl ServerCertVerifier for TakesAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
