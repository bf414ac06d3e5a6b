//! Submission with the programs that people and servers send with: msmtp, GNU SASL, swaks, Python, Postfix and Exim.

use std::net::SocketAddr;
use std::path::Path;

use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::mx::Behaviour;
use mta_lab::peers::{Postfix, exim, free_address, missing, needs_root, run, run_with_input};
use mta_lab::zone::Zone;

const ANNA: &str = "anna@own.example";
const PASSWORD: &str = "correct horse";

struct Site {
    lab: Lab,
    starttls: SocketAddr,
    implicit: SocketAddr,
}

fn site() -> Site {
    let mut plan = Plan::new();
    let (starttls, implicit) = (free_address(88), free_address(89));
    plan.site_with("else.example", Some(Behaviour::plain("mx.else.example")), &[], Zone::unsigned);
    plan.set("smtp.relay_networks", "[]");
    plan.set("submission.listen", &format!("[\"{starttls}\"]"));
    plan.set("submission.listen_tls", &format!("[\"{implicit}\"]"));
    plan.set("submission.hash_memory", "\"64kB\"");
    plan.set("submission.client_certificates", "true");
    let site = Site { lab: plan.start().expect("a laboratory"), starttls, implicit };
    let output = site.lab.daemon().cli_with_input(["user", "add", ANNA], PASSWORD).expect("mta-cli");
    assert!(output.status.success(), "{output:?}");
    site
}

impl Site {
    fn folder(&self) -> &Path {
        self.lab.directory()
    }

    /// The messages with these subjects, and no others, arrive elsewhere, each with the trace of a login.
    fn arrive(&self, subjects: &[&str]) {
        let host = self.lab.mx("mx.else.example");
        let log = || self.lab.daemon().log().join("\n");
        assert!(host.wait_until(WITHIN, |seen| seen.messages.len() >= subjects.len()), "{}", log());
        let messages = host.messages();
        for subject in subjects {
            let found = messages
                .iter()
                .map(|message| String::from_utf8_lossy(&message.content))
                .find(|text| text.lines().any(|line| line == format!("Subject: {subject}")));
            let text = found.unwrap_or_else(|| panic!("no {subject}\n{}", log()));
            assert!(
                text.contains(" with ESMTPSA id ") && text.to_lowercase().contains("message-id: <"),
                "{text}"
            );
        }
        assert_eq!(messages.len(), subjects.len());
    }

    fn logins(&self, mechanism: &str) -> usize {
        let wanted = format!("user=anna@own.example mechanism={mechanism}");
        self.lab
            .daemon()
            .log()
            .iter()
            .filter(|line| line.contains("event=login ") && line.contains(&wanted))
            .count()
    }
}

fn mail(subject: &str) -> String {
    format!("From: <{ANNA}>\nTo: <ben@else.example>\nSubject: {subject}\n\nx\n")
}

#[test]
fn msmtp_by_every_mechanism_both_know() {
    if missing(&["msmtp"]).is_some() {
        return;
    }
    let site = site();
    let mut subjects = Vec::new();
    for (auth, starttls) in
        [("plain", true), ("login", false), ("scram-sha-256", true), ("scram-sha-256", false)]
    {
        let subject = format!("msmtp {auth} {starttls}");
        let (port, tls) = if starttls { (site.starttls, "on") } else { (site.implicit, "off") };
        let arguments = [
            "--host=ADDRESS",
            "--port=PORT",
            "--tls=on",
            "--tls-certcheck=off",
            "--user=anna@own.example",
            "--from=anna@own.example",
            "ben@else.example",
        ];
        let mut arguments: Vec<String> = arguments
            .iter()
            .map(|text| {
                text.replace("ADDRESS", &port.ip().to_string()).replace("PORT", &port.port().to_string())
            })
            .collect();
        arguments.insert(0, format!("--tls-starttls={tls}"));
        arguments.insert(0, format!("--auth={auth}"));
        arguments.insert(0, format!("--passwordeval=echo '{PASSWORD}'"));
        arguments.insert(0, "--file=/dev/null".to_owned());
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run_with_input("msmtp", &arguments, site.folder(), mail(&subject).as_bytes()).expect("msmtp");
        subjects.push(subject);
    }
    site.arrive(&subjects.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!((site.logins("scram-sha-256"), site.logins("password")), (2, 2));
}

/// GNU SASL binds the login to the channel: SCRAM-SHA-256-PLUS with tls-exporter (RFC 9266).
#[test]
fn gnu_sasl_binds_the_login_to_the_channel() {
    if missing(&["gsasl"]).is_some() {
        return;
    }
    let site = site();
    let server = site.starttls;
    for (mechanism, more, password, good) in [
        ("SCRAM-SHA-256-PLUS", "--verbose", PASSWORD, true),
        ("SCRAM-SHA-256", "--no-cb", PASSWORD, true),
        // It could bind, and says that it was not offered: then somebody in between has changed the offer.
        ("SCRAM-SHA-256", "--verbose", PASSWORD, false),
        ("SCRAM-SHA-256-PLUS", "--verbose", "wrong", false),
    ] {
        let address = server.to_string();
        let arguments = [
            "--smtp",
            "--connect",
            &address,
            more,
            "--mechanism",
            mechanism,
            "--authentication-id",
            ANNA,
            "--password",
            password,
            "--x509-ca-file=",
        ];
        let output = run("gsasl", &arguments, site.folder());
        let log = || site.lab.daemon().log().join("\n");
        assert_eq!(output.is_ok(), good, "{mechanism} {more}: {output:?}\n{}", log());
    }
    assert_eq!(site.logins("scram-sha-256"), 2);
}

#[test]
fn swaks_and_python_log_in_and_send() {
    if missing(&["swaks", "python3"]).is_some() {
        return;
    }
    let site = site();
    for (mechanism, option, server) in
        [("PLAIN", "--tls", site.starttls), ("LOGIN", "--tls-on-connect", site.implicit)]
    {
        let server = server.to_string();
        let subject = format!("Subject: swaks {mechanism}");
        let arguments = [
            "--server",
            &server,
            option,
            "--auth",
            mechanism,
            "--auth-user",
            ANNA,
            "--auth-password",
            PASSWORD,
            "--from",
            ANNA,
            "--to",
            "ben@else.example",
            "--header",
            &subject,
            "--body",
            "x",
        ];
        run("swaks", &arguments, site.folder()).expect("swaks");
    }
    let program = "import sys, smtplib, ssl\n\
        address, starttls, implicit, password, mail = sys.argv[1:]\n\
        context = ssl._create_unverified_context()\n\
        user = 'anna@own.example'\n\
        with smtplib.SMTP(address, int(starttls)) as smtp:\n    \
            smtp.starttls(context=context)\n    \
            smtp.login(user, password)\n    \
            smtp.sendmail(user, ['ben@else.example'], mail.replace('python', 'python 1'), ['RET=HDRS'], ['NOTIFY=FAILURE'])\n    \
            try:\n        \
                smtp.sendmail('bob@own.example', ['ben@else.example'], mail)\n        \
                sys.exit('sent as somebody else')\n    \
            except smtplib.SMTPSenderRefused as refused:\n        \
                assert refused.smtp_code == 553, refused\n\
        with smtplib.SMTP_SSL(address, int(implicit), context=context) as smtp:\n    \
            smtp.login(user, password)\n    \
            smtp.sendmail(user, ['ben@else.example'], mail.replace('python', 'python 2'))\n\
        with smtplib.SMTP_SSL(address, int(implicit), context=context) as smtp:\n    \
            try:\n        \
                smtp.login(user, 'wrong')\n        \
                sys.exit('logged in')\n    \
            except smtplib.SMTPAuthenticationError as refused:\n        \
                assert refused.smtp_code == 535, refused\n";
    let (address, starttls) = (site.starttls.ip().to_string(), site.starttls.port().to_string());
    let (implicit, mail) = (site.implicit.port().to_string(), mail("python"));
    // Each listens on an address of its own.
    let program = program.replace("SMTP_SSL(address", &format!("SMTP_SSL('{}'", site.implicit.ip()));
    let arguments = ["-c", &program, &address, &starttls, &implicit, PASSWORD, &mail];
    run("python3", &arguments, site.folder()).expect("Python");
    site.arrive(&["swaks PLAIN", "swaks LOGIN", "python 1", "python 2"]);
}

/// A certificate is a login (EXTERNAL), once the administrator has said whose it is.
#[test]
fn a_certificate_logs_in_whom_it_belongs_to() {
    if missing(&["msmtp", "openssl"]).is_some() {
        return;
    }
    let site = site();
    let arguments = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-keyout",
        "client.key",
        "-out",
        "client.pem",
        "-subj",
        "/CN=anna",
        "-days",
        "30",
    ];
    run("openssl", &arguments, site.folder()).expect("a certificate");
    run("chmod", &["600", "client.key"], site.folder()).expect("chmod");
    let port = site.implicit;
    let send = |subject: &str| {
        let arguments = [
            "--file=/dev/null",
            "--auth=external",
            "--tls=on",
            "--tls-starttls=off",
            "--tls-certcheck=off",
            "--tls-cert-file=client.pem",
            "--tls-key-file=client.key",
            "--user=anna@own.example",
            "--from=anna@own.example",
            &format!("--host={}", port.ip()),
            &format!("--port={}", port.port()),
            "ben@else.example",
        ];
        run_with_input("msmtp", &arguments, site.folder(), mail(subject).as_bytes())
    };
    send("nobody's").expect_err("nobody's certificate logs nobody in");
    let output =
        run("openssl", &["x509", "-in", "client.pem", "-noout", "-fingerprint", "-sha256"], site.folder())
            .expect("a fingerprint");
    let text = String::from_utf8_lossy(&output.stdout);
    let print = text.trim().rsplit('=').next().expect("a fingerprint").to_owned();
    let output = site.lab.daemon().cli(["user", "allow", ANNA, "--certificate", &print]).expect("mta-cli");
    assert!(output.status.success(), "{output:?}");
    send("by certificate").expect("msmtp");
    site.arrive(&["by certificate"]);
    assert_eq!(site.logins("external"), 1);
}

#[test]
fn postfix_sends_through_us_as_its_smarthost() {
    if missing(&["postfix"]).is_some() || needs_root() {
        return;
    }
    let site = site();
    let folder = tempfile::Builder::new().prefix("mta-postfix-").tempdir().expect("a directory");
    let postfix =
        Postfix::start(folder.path(), free_address(27), &[], None, Some(site.starttls)).expect("Postfix");
    let password = format!("[{}]:{} {ANNA}:{PASSWORD}\n", site.starttls.ip(), site.starttls.port());
    std::fs::write(folder.path().join("password"), password).expect("written");
    postfix
        .set(&[
            "smtp_sasl_auth_enable=yes",
            &format!("smtp_sasl_password_maps=texthash:{}", folder.path().join("password").display()),
            "smtp_sasl_security_options=noanonymous",
            "smtp_tls_security_level=encrypt",
        ])
        .expect("a reload");
    let wishes = ["-N", "failure", "-V", "fromPostfix", "-R", "hdrs"];
    postfix
        .sendmail_with(&wishes, ANNA, "ben@else.example", mail("from Postfix").as_bytes())
        .expect("sendmail");
    let host = site.lab.mx("mx.else.example");
    assert!(
        host.wait_until(WITHIN, |seen| !seen.messages.is_empty()),
        "{}\n{}",
        postfix.log(),
        site.lab.daemon().log().join("\n")
    );
    site.arrive(&["from Postfix"]);
    assert_eq!(site.logins("password") + site.logins("scram-sha-256"), 1);
}

#[test]
fn exim_sends_through_us_as_its_smarthost() {
    let Some(exim) = exim() else { return };
    if needs_root() {
        return;
    }
    let site = site();
    let folder = tempfile::Builder::new().prefix("mta-exim-").tempdir().expect("a directory");
    let conf = folder.path().join("exim.conf");
    let text = format!(
        "primary_hostname = exim.lab.example\nexim_path = {exim}\nspool_directory = {folder}/spool\nlog_file_path = {folder}/%slog\n\
         exim_user = Debian-exim\nexim_group = Debian-exim\ntrusted_users = root\nkeep_environment =\n\
         tls_advertise_hosts =\nbegin acl\nbegin routers\nsmart:\n  driver = manualroute\n  transport = out\n  \
         route_list = * {ip}\n  self = send\nbegin transports\nout:\n  driver = smtp\n  port = {port}\n  \
         hosts_require_auth = *\n  hosts_require_tls = *\n  allow_localhost\n  tls_verify_hosts =\n  tls_try_verify_hosts =\n\
         begin authenticators\nplain:\n  driver = plaintext\n  public_name = PLAIN\n  client_send = ^{ANNA}^{PASSWORD}\n",
        exim = exim.display(),
        folder = folder.path().display(),
        ip = site.starttls.ip(),
        port = site.starttls.port(),
    );
    std::fs::write(&conf, text).expect("written");
    run("chown", &["-R", "Debian-exim:", "."], folder.path()).expect("chown");
    run("chown", &["root:", "exim.conf"], folder.path()).expect("chown");
    let conf = conf.display().to_string();
    let arguments = ["-C", &conf, "-odf", "-f", ANNA, "ben@else.example"];
    let sent =
        run_with_input(&exim.display().to_string(), &arguments, folder.path(), mail("from Exim").as_bytes());
    let logs = || {
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        format!("{}{}{}", read("mainlog"), read("paniclog"), site.lab.daemon().log().join("\n"))
    };
    sent.unwrap_or_else(|error| panic!("{error}\n{}", logs()));
    assert!(
        site.lab.mx("mx.else.example").wait_until(WITHIN, |seen| !seen.messages.is_empty()),
        "{}",
        logs()
    );
    site.arrive(&["from Exim"]);
}
