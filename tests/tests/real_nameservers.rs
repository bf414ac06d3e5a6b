//! Against real name servers: zones signed by ldns and by BIND's tools, served by nsd, reached through unbound.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use mta_lab::cert::Identity;
use mta_lab::lab::Plan;
use mta_lab::mx::Behaviour;
use mta_lab::peers::{free_address, missing, nsd, run, unbound};

/// Who signs the zones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signer {
    Ldns,
    Bind,
}

impl Signer {
    fn programs(self) -> [&'static str; 2] {
        match self {
            Self::Ldns => ["ldns-keygen", "ldns-signzone"],
            Self::Bind => ["dnssec-keygen", "dnssec-signzone"],
        }
    }

    /// Makes a key for a zone; the stem of its files. Its DNSKEY record is put into the zone file.
    fn key(self, folder: &Path, zone: &str) -> String {
        let output = match self {
            Self::Ldns => run("ldns-keygen", &["-a", "ECDSAP256SHA256", "-k", zone], folder),
            Self::Bind => run("dnssec-keygen", &["-q", "-a", "ECDSAP256SHA256", "-f", "KSK", zone], folder),
        };
        String::from_utf8_lossy(&output.expect("a key").stdout).trim().to_owned()
    }

    /// Signs a zone file; the signed file.
    fn sign(self, folder: &Path, zone: &str, file: &str, key: &str, nsec3: bool) -> PathBuf {
        let mut arguments = match self {
            Self::Ldns => vec!["-o", zone],
            Self::Bind => vec!["-q", "-z", "-o", zone, "-d", ".", "-S", "-K", "."],
        };
        match (self, nsec3) {
            (Self::Ldns, true) => arguments.extend(["-n", "-p"]),
            (Self::Bind, true) => arguments.extend(["-3", "-"]),
            _ => {}
        }
        arguments.extend([file, key]);
        if self == Self::Bind {
            arguments.pop();
        }
        run(self.programs()[1], &arguments, folder).expect("a signed zone");
        folder.join(format!("{file}.signed"))
    }
}

/// The DS records of a signed child zone, as records for its parent.
fn ds_of(folder: &Path, key: &str, signer: Signer) -> String {
    let file = format!("{key}.key");
    let output = match signer {
        Signer::Ldns => run("ldns-key2ds", &["-n", "-2", &file], folder),
        Signer::Bind => run("dnssec-dsfromkey", &["-2", &file], folder),
    };
    String::from_utf8_lossy(&output.expect("a DS record").stdout).into_owned()
}

/// Signs a root zone and `example.` with these records below it; both files, and the root's key.
fn signed_tree(
    signer: Signer,
    nsec3: bool,
    folder: &Path,
    server: IpAddr,
    records: &str,
) -> (PathBuf, PathBuf, String) {
    let apex = |zone: &str| {
        let ns = if zone == "." { "ns.".to_owned() } else { format!("ns.{zone}") };
        format!(
            "{zone} 300 IN SOA {ns} host.{ns} 1 3600 600 86400 60\n{zone} 300 IN NS {ns}\n{ns} 300 IN A {server}\n"
        )
    };
    let dnskey = |key: &str| fs::read_to_string(folder.join(format!("{key}.key"))).expect("a key file");
    let child_key = signer.key(folder, "example.");
    let child = format!("{}{records}{}", apex("example."), dnskey(&child_key));
    fs::write(folder.join("child"), child).expect("a file");
    let child_file = signer.sign(folder, "example.", "child", &child_key, nsec3);
    let root_key = signer.key(folder, ".");
    let delegation = format!("example. 300 IN NS ns.example.\nns.example. 300 IN A {server}\n");
    let ds = ds_of(folder, &child_key, signer);
    fs::write(folder.join("root"), format!("{}{delegation}{ds}{}", apex("."), dnskey(&root_key)))
        .expect("a file");
    (signer.sign(folder, ".", "root", &root_key, nsec3), child_file, root_key)
}

/// Two domains over such a tree: one whose record matches, one whose key is another.
fn through(signer: Signer, nsec3: bool) {
    let [keygen, signzone] = signer.programs();
    let converter = if signer == Signer::Ldns { "ldns-key2ds" } else { "dnssec-dsfromkey" };
    if missing(&[keygen, signzone, converter, "nsd", "unbound"]).is_some() {
        return;
    }
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let port = plan.ports.smtp;
    let (good, other) = (Identity::self_signed(&["mx"]), Identity::self_signed(&["mx"]));
    let good_at = plan.host("mx.good.example", Some(Behaviour::with_tls("mx.good.example", &good)));
    let wrong_at = plan.host("mx.wrong.example", Some(Behaviour::with_tls("mx.wrong.example", &other)));
    let folder = tempfile::tempdir().expect("a directory");
    let folder = folder.path();

    let (server, resolver) = (free_address(53), free_address(54));
    let tlsa = good.leaf().tlsa(3, 1, 1);
    let records = format!(
        "good.example. 300 IN MX 10 mx.good.example.\nmx.good.example. 300 IN A {good_at}\n\
         _{port}._tcp.mx.good.example. 300 IN TLSA {tlsa}\n\
         wrong.example. 300 IN MX 10 mx.wrong.example.\nmx.wrong.example. 300 IN A {wrong_at}\n\
         _{port}._tcp.mx.wrong.example. 300 IN TLSA {tlsa}\n"
    );
    let (root_file, child_file, root_key) = signed_tree(signer, nsec3, folder, server.ip(), &records);

    let _nsd = nsd(folder, server, &[(".", &root_file), ("example.", &child_file)]).expect("nsd");
    let _unbound = unbound(folder, resolver, server, None).expect("unbound");
    let anchor = folder.join(format!("{root_key}.key"));
    plan.set("dns.servers", &format!("[\"{resolver}\"]"));
    plan.set("dns.trust_anchor_file", &format!("\"{}\"", anchor.display()));
    let lab = plan.start().expect("a laboratory");
    let delivered = lab.send("alice@own.example", &["someone@good.example"]);
    let refused = lab.send("alice@own.example", &["someone@wrong.example"]);
    let unknown = lab.send("alice@own.example", &["someone@nobody.example"]);
    let delivered = lab.settled(&delivered);
    assert_eq!(delivered.status, "delivered", "{delivered:#?}");
    let text = serde_json::to_string(&delivered.history).unwrap_or_default();
    assert!(text.contains("\"authenticated_by\""), "{text}");
    let refused = lab.settled(&refused);
    assert_eq!(refused.status, "deferred", "{refused:#?}");
    assert!(lab.mx("mx.wrong.example").messages().is_empty());
    let unknown = lab.settled(&unknown);
    assert_eq!(unknown.status, "failed", "{unknown:#?}");
}

#[test]
fn zones_signed_by_ldns_with_nsec() {
    through(Signer::Ldns, false);
}

#[test]
fn zones_signed_by_ldns_with_nsec3() {
    through(Signer::Ldns, true);
}

#[test]
fn zones_signed_by_bind_with_nsec() {
    through(Signer::Bind, false);
}

#[test]
fn zones_signed_by_bind_with_nsec3() {
    through(Signer::Bind, true);
}
