//! Where own recursion begins: the root servers built in, a hints file, or plain addresses.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr as _;

use hickory_proto::rr::Name;

use crate::dns::options::{Options, RootHints};

/// The addresses of the root servers A to M, as the root zone's managers publish them.
const ROOT_SERVERS: [(Ipv4Addr, Ipv6Addr); 13] = [
    (Ipv4Addr::new(198, 41, 0, 4), Ipv6Addr::new(0x2001, 0x503, 0xba3e, 0, 0, 0, 2, 0x30)),
    (Ipv4Addr::new(170, 247, 170, 2), Ipv6Addr::new(0x2801, 0x1b8, 0x10, 0, 0, 0, 0, 0xb)),
    (Ipv4Addr::new(192, 33, 4, 12), Ipv6Addr::new(0x2001, 0x500, 2, 0, 0, 0, 0, 0xc)),
    (Ipv4Addr::new(199, 7, 91, 13), Ipv6Addr::new(0x2001, 0x500, 0x2d, 0, 0, 0, 0, 0xd)),
    (Ipv4Addr::new(192, 203, 230, 10), Ipv6Addr::new(0x2001, 0x500, 0xa8, 0, 0, 0, 0, 0xe)),
    (Ipv4Addr::new(192, 5, 5, 241), Ipv6Addr::new(0x2001, 0x500, 0x2f, 0, 0, 0, 0, 0xf)),
    (Ipv4Addr::new(192, 112, 36, 4), Ipv6Addr::new(0x2001, 0x500, 0x12, 0, 0, 0, 0, 0xd0d)),
    (Ipv4Addr::new(198, 97, 190, 53), Ipv6Addr::new(0x2001, 0x500, 1, 0, 0, 0, 0, 0x53)),
    (Ipv4Addr::new(192, 36, 148, 17), Ipv6Addr::new(0x2001, 0x7fe, 0, 0, 0, 0, 0, 0x53)),
    (Ipv4Addr::new(192, 58, 128, 30), Ipv6Addr::new(0x2001, 0x503, 0xc27, 0, 0, 0, 2, 0x30)),
    (Ipv4Addr::new(193, 0, 14, 129), Ipv6Addr::new(0x2001, 0x7fd, 0, 0, 0, 0, 0, 1)),
    (Ipv4Addr::new(199, 7, 83, 42), Ipv6Addr::new(0x2001, 0x500, 0x9f, 0, 0, 0, 0, 0x42)),
    (Ipv4Addr::new(202, 12, 27, 33), Ipv6Addr::new(0x2001, 0xdc3, 0, 0, 0, 0, 0, 0x35)),
];

/// The root servers that the options name.
///
/// # Errors
/// The hints file cannot be read, or names no root server with an address.
pub(in crate::dns) fn root_servers(options: &Options) -> Result<Vec<SocketAddr>, String> {
    match &options.root_hints {
        RootHints::BuiltIn => Ok(ROOT_SERVERS
            .iter()
            .flat_map(|(v4, v6)| [SocketAddr::from((*v4, 53)), SocketAddr::from((*v6, 53))])
            .collect()),
        RootHints::Servers(servers) if servers.is_empty() => Err("no root server is given".to_owned()),
        RootHints::Servers(servers) => Ok(servers.clone()),
        RootHints::File(path) => {
            let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
            let servers = parse(&text, options.authoritative_port);
            if servers.is_empty() {
                return Err(format!(
                    "{}: no root server; expected lines like \". 3600000 NS a.root-servers.net.\" and \
                     \"a.root-servers.net. 3600000 A 198.41.0.4\"",
                    path.display()
                ));
            }
            Ok(servers)
        }
    }
}

/// The addresses of the root's name servers in a hints file; lines that are neither NS, A nor AAAA are passed over.
fn parse(text: &str, port: u16) -> Vec<SocketAddr> {
    let mut root_names = HashSet::new();
    let mut addresses: Vec<(Name, IpAddr)> = Vec::new();
    for line in text.lines() {
        let line = line.split(';').next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        let (Some(owner), [.., rtype, data]) = (words.first(), words.as_slice()) else { continue };
        if rtype.eq_ignore_ascii_case("NS") && *owner == "." {
            root_names.extend(absolute(data));
        } else if rtype.eq_ignore_ascii_case("A") || rtype.eq_ignore_ascii_case("AAAA") {
            addresses.extend(absolute(owner).zip(data.parse().ok()));
        }
    }
    let of_root = addresses.into_iter().filter(|(owner, _)| root_names.contains(owner));
    of_root.map(|(_, address)| SocketAddr::new(address, port)).collect()
}

fn absolute(text: &str) -> Option<Name> {
    let mut name = Name::from_str(text).ok()?.to_lowercase();
    name.set_fqdn(true);
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hints_file_gives_the_roots_servers_only() {
        let text = "; comment\n.  3600000  NS  A.ROOT-SERVERS.NET.\nA.root-servers.net. 3600000 A 198.41.0.4 ; v4\n\
                    a.root-servers.net. 3600000 AAAA 2001:503:ba3e::2:30\nb.other.example. 3600000 A 192.0.2.1\njunk\n";
        let expected: Vec<SocketAddr> =
            ["198.41.0.4:5300", "[2001:503:ba3e::2:30]:5300"].iter().map(|t| t.parse().unwrap()).collect();
        assert_eq!(parse(text, 5300), expected);
    }

    #[test]
    fn the_built_in_hints_are_thirteen_servers_of_two_families() {
        let servers = root_servers(&Options::default()).unwrap();
        assert_eq!(servers.len(), 26);
        assert_eq!(servers.iter().collect::<HashSet<_>>().len(), 26);
        assert!(servers.contains(&"[2001:503:c27::2:30]:53".parse().unwrap()));
    }

    #[test]
    fn an_unreadable_or_empty_hints_file_says_so() {
        let missing =
            Options { root_hints: RootHints::File("/nonexistent/hints".into()), ..Options::default() };
        assert!(root_servers(&missing).unwrap_err().contains("/nonexistent/hints"));
        let none = Options { root_hints: RootHints::Servers(Vec::new()), ..Options::default() };
        assert!(root_servers(&none).is_err());
    }
}
