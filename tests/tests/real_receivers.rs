//! We deliver to real servers, each vouched for by its TLSA record, with every extension both sides speak: Debian's Exim, and
//! Python's aiosmtpd. Postfix is in `real_esmtp` and `real_postfix`.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use mta_lab::cert::Identity;
use mta_lab::client::{self, SmtpClient};
use mta_lab::lab::{Lab, OWN_DOMAIN, Plan, WITHIN, queue_id};
use mta_lab::peers::{Service, exim, find, needs_root, run};

/// A laboratory with a signed domain whose only host is vouched for by a record of this identity; the host's address, and ours.
fn planned(domain: &str, identity: &Identity) -> (Plan, SocketAddr, SocketAddr) {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    plan.site(domain, None, &[identity.leaf().tlsa(3, 1, 1)]);
    let host = (plan.address_of(&format!("mx.{domain}")), plan.ports.smtp).into();
    let own = (std::net::Ipv4Addr::LOCALHOST, plan.ports.own).into();
    (plan, host, own)
}

fn write_identity(folder: &Path, identity: &Identity) {
    fs::write(folder.join("chain.pem"), identity.chain_pem()).expect("written");
    fs::write(folder.join("key.pem"), identity.key_pem()).expect("written");
}

/// Sends a message with these arguments of MAIL and RCPT, which is to be delivered to its host over proven TLS.
fn deliver(lab: &Lab, mail: &str, rcpt: &str, content: &[u8], log: impl Fn() -> String) {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask(&format!("MAIL FROM:{mail}")).expect("MAIL");
    client.ask(&format!("RCPT TO:{rcpt}")).expect("RCPT");
    client.ask("DATA").expect("DATA");
    client.send(&client::stuffed(content)).expect("content");
    let reply = client.command(".").expect("a reply");
    let id = queue_id(&reply).unwrap_or_else(|| panic!("not accepted: {reply:?}"));
    let shown = lab.settled(&id);
    assert_eq!(shown.status, "delivered", "{shown:#?}\n{}", log());
    let delivered = |line: &str| line.contains(&format!("qid={id} event=delivered"));
    let line = lab.daemon().wait_for_log(WITHIN, delivered).expect("a line of the delivery");
    assert!(line.contains(" tls=TLSv1.3") && line.contains(" dane=verified"), "{line}");
}

/// Waits for a message that holds this text in a folder; the message.
fn arrived(lab: &Lab, folder: &Path, marker: &str, log: impl Fn() -> String) -> String {
    let read = || -> Option<String> {
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut texts = files.filter_map(|file| fs::read(file.path()).ok());
        texts.find_map(|it| String::from_utf8(it).ok().filter(|text| text.contains(marker)))
    };
    assert!(lab.wait_for_files(|| read().is_some()), "nothing with {marker}\n{}", log());
    read().unwrap_or_default()
}

fn expect(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in\n{text}");
    }
}

/// Exim as an MX host that offers all it has, stores what it takes, and sends its reports by way of us.
fn exim_receives(folder: &Path, exim: &Path, listens: SocketAddr, own: SocketAddr) -> Service {
    let text = format!(
        "primary_hostname = mx.exim.example\nexim_path = {exim}\nspool_directory = {folder}/spool\n\
         log_file_path = {folder}/%slog\npid_file_path = {folder}/pid\nexim_user = Debian-exim\n\
         exim_group = Debian-exim\ntrusted_users = root\nkeep_environment =\ndeliver_drop_privilege\n\
         local_interfaces = {ip}\ndaemon_smtp_ports = {port}\ntls_advertise_hosts = *\n\
         tls_certificate = {folder}/chain.pem\ntls_privatekey = {folder}/key.pem\ndsn_advertise_hosts = *\n\
         chunking_advertise_hosts = *\npipelining_advertise_hosts = *\nsmtputf8_advertise_hosts = *\n\
         host_lookup =\nrfc1413_hosts =\nlog_selector = +smtp_mailauth +received_recipients +tls_peerdn\n\
         domainlist ours = exim.example\nacl_smtp_rcpt = rcpt\nbegin acl\nrcpt:\n  accept domains = +ours\n\
         begin routers\nbox:\n  driver = accept\n  domains = +ours\n  transport = store\n\
         back:\n  driver = manualroute\n  transport = out\n  route_list = * {own_ip}\n  self = send\n\
         begin transports\nstore:\n  driver = appendfile\n  directory = {folder}/mail\n  maildir_format\n  user = Debian-exim\n\
         out:\n  driver = smtp\n  port = {own_port}\n  allow_localhost\n  hosts_avoid_tls = *\n",
        exim = exim.display(),
        folder = folder.display(),
        ip = listens.ip(),
        port = listens.port(),
        own_ip = own.ip(),
        own_port = own.port(),
    );
    fs::write(folder.join("exim.conf"), text).expect("written");
    run("chown", &["-R", "Debian-exim:", "."], folder).expect("chown");
    run("chown", &["root:", "exim.conf"], folder).expect("chown");
    let conf = folder.join("exim.conf").display().to_string();
    Service::start(&exim.display().to_string(), &["-C", &conf, "-bdf", "-q1h"], folder, listens)
        .expect("Exim")
}

#[test]
fn exim_takes_all_that_both_speak_under_dane() {
    let Some(exim) = exim() else { return };
    if needs_root() {
        return;
    }
    let exim = exim.canonicalize().expect("a path");
    let identity = Identity::self_signed(&["whatever"]);
    let (plan, address, own) = planned("exim.example", &identity);
    let folder = tempfile::Builder::new().prefix("mta-exim-").tempdir().expect("a directory");
    write_identity(folder.path(), &identity);
    let _exim = exim_receives(folder.path(), &exim, address, own);
    let offer =
        SmtpClient::open(address).and_then(|mut it| it.ask("EHLO look.lab.example")).expect("an offer");
    for word in ["PIPELINING", "SIZE", "8BITMIME", "CHUNKING", "DSN", "STARTTLS", "SMTPUTF8"] {
        assert!(offer.lines.iter().any(|line| line.starts_with(word)), "{word}: {offer:?}");
    }
    let lab = plan.start().expect("a laboratory");
    let log = || {
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        format!("{}{}{}", read("mainlog"), read("paniclog"), lab.daemon().log().join("\n"))
    };
    let mail = folder.path().join("mail/new");

    // DSN, SIZE and eight bits; dots at line starts.
    let content = "From: <alice@own.example>\r\nSubject: with wishes\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
                   müde\r\n.\r\n..x\r\n"
        .as_bytes();
    let wishes = "<alice@own.example> BODY=8BITMIME RET=HDRS ENVID=toExim1";
    let rcpt = "<box@exim.example> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;first@else.example";
    deliver(&lab, wishes, rcpt, content, log);
    let stored = arrived(&lab, &mail, "with wishes", log);
    expect(&stored, &["müde\n.\n..x\n", " with esmtps ", "TLS1.3", "helo=mail.own.example"]);
    // Exim reports, by way of us: nobody but Exim does.
    let inbox = lab.directory().join("mail").join(OWN_DOMAIN).join("alice/new");
    let told = arrived(&lab, &inbox, "toExim1", log);
    expect(&told, &["Action: delivered", "mx.exim.example", "Final-Recipient: rfc822;box@exim.example"]);
    assert_eq!(fs::read_dir(&inbox).expect("a mailbox").count(), 1);

    // Addresses and header in UTF-8.
    let content = "From: <alice@own.example>\r\nSubject: привет\r\n\r\nтекст\r\n".as_bytes();
    deliver(&lab, "<alice@own.example> SMTPUTF8 BODY=8BITMIME", "<ящик@exim.example>", content, log);
    let stored = arrived(&lab, &mail, "привет", log);
    expect(&stored, &["текст", "utf8esmtps"]);

    // Three at once, pipelined, and one that is large.
    let large = "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(30_000);
    let large = client::message("alice@own.example", "box@exim.example", "two megabytes", &large);
    let to = ["a@exim.example", "b@exim.example", "c@exim.example"];
    let id = lab.send_content("alice@own.example", &to, &large);
    assert_eq!(lab.settled(&id).status, "delivered", "{}", log());
    let stored = arrived(&lab, &mail, "two megabytes", log);
    assert!(stored.len() > 2_000_000, "{}", stored.len());
}

const RECEIVER: &str = r#"
import asyncio, json, ssl, sys
from aiosmtpd.smtp import SMTP

class Handler:
    count = 0
    async def handle_DATA(self, server, session, envelope):
        Handler.count += 1
        seen = {"from": envelope.mail_from, "to": envelope.rcpt_tos, "mail": envelope.mail_options,
                "utf8": envelope.smtp_utf8, "tls": session.ssl is not None,
                "content": envelope.original_content.decode("utf-8")}
        with open("mail/%d" % Handler.count, "w", encoding="utf-8") as file:
            json.dump(seen, file, ensure_ascii=False)
        return "250 OK"

async def main(ip, port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain("chain.pem", "key.pem")
    make = lambda: SMTP(Handler(), hostname="mx.python.example", tls_context=context, require_starttls=True,
                        enable_SMTPUTF8=True, data_size_limit=5000000)
    server = await asyncio.get_running_loop().create_server(make, ip, port)
    await server.serve_forever()

asyncio.run(main(sys.argv[1], int(sys.argv[2])))
"#;

#[test]
fn aiosmtpd_takes_all_that_both_speak_under_dane() {
    // The system's own Python, which is what Debian's packages are for.
    let python = "/usr/bin/python3";
    let folder = tempfile::Builder::new().prefix("mta-python-").tempdir().expect("a directory");
    if find(python).is_none() || run(python, &["-c", "import aiosmtpd"], folder.path()).is_err() {
        println!("SKIPPED: python3-aiosmtpd is not installed");
        return;
    }
    let identity = Identity::self_signed(&["whatever"]);
    let (plan, address, _) = planned("python.example", &identity);
    write_identity(folder.path(), &identity);
    fs::create_dir(folder.path().join("mail")).expect("a directory");
    fs::write(folder.path().join("receive.py"), RECEIVER).expect("written");
    let (ip, port) = (address.ip().to_string(), address.port().to_string());
    let _receiver =
        Service::start(python, &["receive.py", &ip, &port], folder.path(), address).expect("aiosmtpd");
    let lab = plan.start().expect("a laboratory");
    let log = || lab.daemon().log().join("\n");
    let mail = folder.path().join("mail");

    let content = "From: <alice@own.example>\r\nSubject: eight bits\r\n\r\nmüde\r\n.\r\n..x\r\n".as_bytes();
    deliver(&lab, "<alice@own.example> BODY=8BITMIME", "<box@python.example>", content, log);
    let seen = arrived(&lab, &mail, "eight bits", log);
    expect(
        &seen,
        &["\"tls\": true", "BODY=8BITMIME", "SIZE=", "müde\\r\\n.\\r\\n..x\\r\\n", "\"utf8\": false"],
    );

    let content = "From: <alice@own.example>\r\nSubject: привет\r\n\r\nтекст\r\n".as_bytes();
    deliver(&lab, "<alice@own.example> SMTPUTF8 BODY=8BITMIME", "<ящик@python.example>", content, log);
    let seen = arrived(&lab, &mail, "привет", log);
    expect(&seen, &["\"utf8\": true", "ящик@python.example", "текст"]);

    // What is larger than its SIZE comes back, and is not sent first.
    let large =
        client::message("alice@own.example", "box@python.example", "too large", &"x\n".repeat(2_600_000));
    let id = lab.send_content("alice@own.example", &["box@python.example"], &large);
    assert_eq!(lab.wait_for(&id, |it| it.finished_at.is_some()).status, "failed", "{}", log());
    assert_eq!(fs::read_dir(&mail).expect("a folder").count(), 2);
}
