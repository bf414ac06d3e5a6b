//! Hosts of MTA-STS policies: a small HTTPS server that answers by the name it is asked under, well or badly. It takes what is
//! posted, too, as hosts that collect TLS reports do.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::cert::Identity;

/// No client of a test is slower than this.
const CLIENT_WITHIN: Duration = Duration::from_secs(10);

/// What is answered to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// A policy file, as it should be served.
    Policy(String),
    /// A whole response, whatever it is.
    Raw(Vec<u8>),
    /// Nothing, until the client gives up.
    Hang,
}

impl Page {
    /// A policy with one `mx` line for each pattern and a lifetime of a day.
    pub fn policy(mode: &str, mx: &[&str]) -> Self {
        let mx: String = mx.iter().map(|pattern| format!("mx: {pattern}\r\n")).collect();
        Self::Policy(format!("version: STSv1\r\nmode: {mode}\r\n{mx}max_age: 86400\r\n"))
    }
}

/// What was posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The name it was posted under, without the port.
    pub host: String,
    /// The first line of the request.
    pub request: String,
    /// What it says it is.
    pub media_type: String,
    /// The document.
    pub body: Vec<u8>,
}

#[derive(Default)]
struct Shared {
    pages: Mutex<BTreeMap<String, Page>>,
    asked: Mutex<Vec<String>>,
    posted: Mutex<Vec<Posted>>,
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running host. Dropping it stops it.
pub struct PolicyHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl PolicyHost {
    /// Starts a host with this certificate; port 0 chooses a free one.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(address: Ipv4Addr, port: u16, identity: &Identity) -> io::Result<Self> {
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(identity.rustls_chain(), identity.rustls_key())
            .map_err(io::Error::other)?;
        let listener = TcpListener::bind((address, port))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (for_thread, config) = (Arc::clone(&shared), Arc::new(config));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if for_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (shared, config) = (Arc::clone(&for_thread), Arc::clone(&config));
                // What goes wrong here the client has to cope with.
                std::thread::spawn(move || drop(answer(stream, config, &shared)));
            }
        });
        Ok(Self { address, shared, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers requests for `mta-sts.DOMAIN` like this from now on.
    pub fn serve(&self, domain: &str, page: Page) {
        lock(&self.shared.pages).insert(format!("mta-sts.{domain}"), page);
    }

    /// Answers what is posted under this name like this from now on; with 201 unless told otherwise.
    pub fn answer_posts(&self, host: &str, response: &str) {
        lock(&self.shared.pages).insert(host.to_owned(), Page::Raw(response.as_bytes().to_vec()));
    }

    /// What was posted so far.
    pub fn posted(&self) -> Vec<Posted> {
        lock(&self.shared.posted).clone()
    }

    /// How often the policy of a domain was asked for.
    pub fn asked(&self, domain: &str) -> usize {
        let host = format!("mta-sts.{domain}");
        lock(&self.shared.asked).iter().filter(|asked| **asked == host).count()
    }
}

impl Drop for PolicyHost {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn answer(stream: TcpStream, config: Arc<ServerConfig>, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_WITHIN))?;
    stream.set_write_timeout(Some(CLIENT_WITHIN))?;
    let mut tls = StreamOwned::new(ServerConnection::new(config).map_err(io::Error::other)?, stream);
    let mut request = Vec::new();
    let mut some = [0; 1024];
    let end = loop {
        if let Some(at) = request.windows(4).position(|octets| octets == b"\r\n\r\n") {
            break at + 4;
        }
        match tls.read(&mut some)? {
            0 => return Ok(()),
            count => request.extend_from_slice(&some[..count]),
        }
    };
    let mut body = request.split_off(end);
    let request = String::from_utf8_lossy(&request).into_owned();
    let field =
        |name| request.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().to_owned();
    let host = field("Host: ").split(':').next().unwrap_or_default().to_owned();
    let length: usize = field("Content-Length: ").parse().unwrap_or(0);
    while body.len() < length {
        match tls.read(&mut some)? {
            0 => return Ok(()),
            count => body.extend_from_slice(&some[..count]),
        }
    }
    let page = lock(&shared.pages).get(&host).cloned();
    if let Some(line) = request.lines().next().filter(|line| line.starts_with("POST ")) {
        let (request, media_type) = (line.to_owned(), field("Content-Type: "));
        lock(&shared.posted).push(Posted { host: host.clone(), request, media_type, body });
        if page.is_none() {
            tls.write_all(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")?;
        }
    }
    lock(&shared.asked).push(host);
    match page {
        Some(Page::Policy(text)) if request.starts_with("GET /.well-known/mta-sts.txt ") => {
            let length = text.len();
            write!(
                tls,
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {length}\r\n\r\n{text}"
            )?;
        }
        Some(Page::Raw(bytes)) => tls.write_all(&bytes)?,
        // Until the client leaves or the time is over.
        Some(Page::Hang) => drop(tls.read(&mut some)),
        None if request.starts_with("POST ") => {}
        _ => tls.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")?,
    }
    tls.conn.send_close_notify();
    tls.flush()
}
