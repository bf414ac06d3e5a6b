//! The transport over resolvers of the site: each question goes to the first that answers.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use mta_dane::validator::TransportFailure;

use super::client::{Client, Flags};
use super::transport::{Budget, Question, Transport, TransportFuture};

/// Resolvers read from the system's list; what is beyond is not asked (as in every libc).
const MAX_SYSTEM_RESOLVERS: usize = 3;

/// Asks resolvers that recurse for us.
#[derive(Debug)]
pub(super) struct Forward {
    client: Arc<Client>,
    servers: Vec<SocketAddr>,
    attempts: u32,
    flags: Flags,
}

impl Forward {
    pub(super) fn new(client: Arc<Client>, servers: Vec<SocketAddr>, attempts: u32, flags: Flags) -> Self {
        Self { client, servers, attempts: attempts.max(1), flags }
    }

    async fn ask_all(&self, question: &Question, budget: &Budget) -> Result<Message, TransportFailure> {
        let mut last = Err(TransportFailure::GivenUp("no resolver is configured".to_owned()));
        // What a validating resolver keeps in its cache for CD it would not give without: on a second try it may look
        // for better data.
        let flags =
            Flags { checking_disabled: self.flags.checking_disabled && !budget.is_second(), ..self.flags };
        for _ in 0..self.attempts {
            let mut servers: Vec<_> =
                self.servers.iter().copied().filter(|s| self.client.uses(s.ip())).collect();
            self.client.health.order(&mut servers);
            budget.order(&mut servers);
            for server in servers {
                match self.client.ask(server, question, flags, budget).await {
                    Ok(message) if is_answer(&message) => return Ok(message),
                    Err(TransportFailure::GivenUp(why)) => {
                        // The budget is used up: what was learnt before says more.
                        return if matches!(last, Err(TransportFailure::GivenUp(_))) {
                            Err(TransportFailure::GivenUp(why))
                        } else {
                            last
                        };
                    }
                    other => last = other,
                }
            }
            // An error code from every resolver will not be another one a moment later.
            if last.is_ok() {
                break;
            }
        }
        last
    }
}

impl Transport for Forward {
    fn ask<'a>(&'a self, question: Question, budget: &'a Budget) -> TransportFuture<'a> {
        Box::pin(async move { self.ask_all(&question, budget).await })
    }
}

/// Whether a response settles a question; other codes may be one server's own trouble.
fn is_answer(message: &Message) -> bool {
    matches!(message.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
}

/// The resolvers of a resolv.conf, with port 53.
///
/// # Errors
/// The file cannot be read, or names no resolver.
pub(super) fn system_resolvers(path: &Path) -> Result<Vec<SocketAddr>, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let found = parse_resolv_conf(&String::from_utf8_lossy(&text));
    if found.is_empty() { Err(format!("{}: no nameserver line", path.display())) } else { Ok(found) }
}

fn parse_resolv_conf(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()).flatten()
        })
        .filter_map(parse_server)
        .take(MAX_SYSTEM_RESOLVERS)
        .collect()
}

/// An address, with a scope for link-local ones (`fe80::1%eth0` or `%2`).
fn parse_server(word: &str) -> Option<SocketAddr> {
    let Some((address, scope)) = word.split_once('%') else {
        return Some(SocketAddr::new(word.parse().ok()?, 53));
    };
    let index = match scope.parse() {
        Ok(index) => index,
        Err(_) => interface_index(scope)?,
    };
    Some(std::net::SocketAddrV6::new(address.parse().ok()?, 53, 0, index).into())
}

/// The number of a network interface, as the kernel publishes it.
fn interface_index(name: &str) -> Option<u32> {
    if name.contains('/') || name.starts_with('.') {
        return None;
    }
    std::fs::read_to_string(format!("/sys/class/net/{name}/ifindex")).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_gives_its_first_three_resolvers() {
        let text = "# comment\nsearch example.org\nnameserver 192.0.2.1\nnameserver\tfe80::1%7\nnameserver junk\n\
                    options edns0\nnameserver 2001:db8::1\nnameserver 192.0.2.4\n";
        let expected: Vec<SocketAddr> = ["192.0.2.1:53", "[fe80::1%7]:53", "[2001:db8::1]:53"]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        assert_eq!(parse_resolv_conf(text), expected);
        assert!(parse_resolv_conf("nameserver\n;nameserver 192.0.2.1\n").is_empty());
    }

    #[test]
    fn an_interface_name_is_no_path() {
        assert_eq!(interface_index("../lo"), None);
        assert_eq!(interface_index(".."), None);
    }
}
