//! An unbound that validates what the laboratory's forwarder gives it: the independent judge of zones and of our verdicts.

use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;

use crate::zone::name;

/// How long it may take to begin.
const START: Duration = Duration::from_secs(10);

/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// A running unbound; it ends when this is dropped.
pub struct Unbound {
    process: Child,
    address: SocketAddr,
    directory: tempfile::TempDir,
}

impl Unbound {
    /// Starts one on a free port of 127.0.0.1. `None` where it is not installed.
    ///
    /// # Panics
    /// It is installed and does not begin.
    pub fn start(forwarder: SocketAddr, anchor: &str) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, crate::lab::free_port()));
        let anchor_file = directory.path().join("anchor");
        std::fs::write(&anchor_file, anchor).expect("a file");
        let file = directory.path().join("unbound.conf");
        std::fs::write(&file, config(address.port(), &anchor_file, forwarder)).expect("a file");
        let stderr = std::fs::File::create(log(directory.path())).expect("a file");
        let mut command = Command::new("unbound");
        command.arg("-c").arg(&file).arg("-d").stdout(Stdio::null()).stderr(stderr);
        let process = command.spawn().ok()?;
        let mut unbound = Self { process, address, directory };
        unbound.wait();
        Some(unbound)
    }

    /// Ready once it takes TCP connections on its port.
    fn wait(&mut self) {
        let begun = std::time::Instant::now();
        while TcpStream::connect(self.address).is_err() {
            let ended = self.process.try_wait().expect("a process");
            assert!(ended.is_none() && begun.elapsed() < START, "unbound did not begin: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it answers.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log(self.directory.path())).unwrap_or_default()
    }

    /// Asks it, with DO and AD set.
    pub fn ask(&self, qname: &str, rtype: RecordType) -> Message {
        let mut query = Message::new(77, MessageType::Query, OpCode::Query);
        query.add_query(Query::query(name(qname), rtype));
        let mut edns = Edns::new();
        edns.set_dnssec_ok(true).set_max_payload(4096);
        query.set_edns(edns);
        query.metadata.recursion_desired = true;
        query.metadata.authentic_data = true;
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        socket.set_read_timeout(Some(ANSWER)).expect("a timeout");
        socket.send_to(&query.to_vec().expect("a query"), self.address).expect("a query sent");
        let mut buffer = [0; 8192];
        let length = socket.recv(&mut buffer).expect("an answer");
        Message::from_vec(&buffer[..length]).expect("a DNS message")
    }
}

fn log(directory: &Path) -> PathBuf {
    directory.join("log")
}

fn config(port: u16, anchor: &Path, forwarder: SocketAddr) -> String {
    format!(
        "server:\n do-daemonize: no\n username: \"\"\n chroot: \"\"\n pidfile: \"\"\n use-syslog: no\n \
         interface: 127.0.0.1@{port}\n do-not-query-localhost: no\n module-config: \"validator iterator\"\n \
         trust-anchor-file: {anchor}\n local-zone: \"example.\" nodefault\n verbosity: 1\n do-ip6: no\n \
         val-log-level: 2\n ede: yes\n qname-minimisation: no\n aggressive-nsec: no\n num-threads: 1\n\
         forward-zone:\n name: \".\"\n forward-addr: {ip}@{upstream}\nremote-control:\n control-enable: no\n",
        anchor = anchor.display(),
        ip = forwarder.ip(),
        upstream = forwarder.port(),
    )
}

impl Drop for Unbound {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
