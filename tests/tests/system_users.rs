//! Mail for the users of the system: aliases, mboxes, `.forward`, commands; and whoever tries to abuse them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::process::Command;

use mta_core::delivery::process::protocol::{
    Answer, Letter, Place, Request, VERSION, receive, send, write_frame,
};
use mta_lab::client::SmtpClient;
use mta_lab::lab::{Lab, Plan, WITHIN};
use mta_lab::mx::Behaviour;
use mta_lab::system::{System, USERS};

const HOST: &str = "mail.own.example";

/// A server on a system of its own; nothing where this may not be.
fn started(spool_octets: Option<u64>, change: impl FnOnce(&mut Plan)) -> Option<(Lab, System)> {
    let mut system = System::new(spool_octets).expect("a namespace")?;
    let mut plan = Plan::new();
    plan.site("far.example", Some(Behaviour::plain("mx.far.example")), &[]);
    plan.set("smtp.relay_networks", "[]");
    system.settle(&mut plan);
    change(&mut plan);
    let lab = plan.start().expect("a laboratory");
    system.start_delivery(&lab.daemon().config_file()).expect("a delivery process");
    Some((lab, system))
}

fn to(name: &str) -> String {
    format!("{name}@{HOST}")
}

fn rcpt(lab: &Lab, recipient: &str) -> u16 {
    let mut client = SmtpClient::open(lab.daemon().address()).expect("a session");
    client.ask("MAIL FROM:<carol@else.example>").expect("MAIL");
    client.command(&format!("RCPT TO:<{recipient}>")).expect("a reply").code
}

/// Status and enhanced status code of a message to one recipient.
fn fate(lab: &Lab, recipient: &str) -> (String, String, String) {
    let id = lab.send("carol@else.example", &[recipient]);
    let shown = lab.settled(&id);
    let of = shown.recipients.first().expect("a recipient").clone();
    (of.status, of.last_status.unwrap_or_default(), of.last_reply.unwrap_or_default())
}

fn aliases(system: &System, text: &str, lab: &Lab) {
    fs::write(system.aliases(), text).expect("written");
    let output = lab.daemon().cli(["alias", "check"]).expect("the tool runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mail_for_names_of_this_host_lands_where_it_belongs() {
    let Some((lab, system)) = started(None, |_| ()) else { return };
    // Nobody reads root's mail yet: it is kept all the same.
    assert_eq!(fate(&lab, &to("root")).0, "delivered");
    let maildir = lab.directory().join("state/mail/root/new");
    assert_eq!(fs::read_dir(&maildir).expect("a Maildir").count(), 1);
    aliases(
        &system,
        "root: anna\npostmaster: root\nteam: anna, ben, \\anna, x@far.example\nowner-team: ben\n",
        &lab,
    );
    for name in ["root", "daemon", "postmaster", "ANNA+detail"] {
        assert_eq!(fate(&lab, &to(name)).0, "delivered", "{name}");
    }
    assert_eq!(fate(&lab, "anna@localhost").0, "delivered");
    let mbox = system.mbox("anna");
    assert_eq!(mbox.matches("From carol@else.example ").count(), 5, "{mbox}");
    assert!(mbox.contains("\nDelivered-To: daemon@mail.own.example\n"), "{mbox}");
    let found = fs::metadata(system.path("/var/mail/anna")).expect("an mbox");
    assert_eq!((found.uid(), found.gid(), found.permissions().mode() & 0o777), (USERS[0].1, 8, 0o600));
    assert!(!system.path("/var/mail/anna.lock").exists());
    assert_eq!((rcpt(&lab, &to("nobody-here")), rcpt(&lab, &to("carol"))), (550, 550));
    assert_eq!(fate(&lab, &to("team")).0, "delivered");
    assert_eq!(system.mbox("ben").matches("From carol@else.example ").count(), 1);
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
    let received = lab.mx("mx.far.example").messages().remove(0);
    assert!(received.reverse_path.starts_with("<owner-team@mail.own.example>"), "{}", received.reverse_path);
}

#[test]
fn a_forward_is_read_as_its_owner_and_loops_end() {
    let Some((lab, system)) = started(None, |_| ()) else { return };
    system
        .write_home("anna", ".forward", "# elsewhere, with a copy\n\\anna, far@far.example\n")
        .expect("written");
    assert_eq!(fate(&lab, &to("anna")).0, "delivered");
    assert_eq!(system.mbox("anna").matches("From carol").count(), 1);
    assert!(lab.mx("mx.far.example").wait_until(WITHIN, |seen| seen.messages.len() == 1));
    system.write_home("anna", ".forward", "ben\n").expect("written");
    assert_eq!(fate(&lab, &to("anna")).0, "delivered");
    assert_eq!(system.mbox("ben").matches("From carol").count(), 1);
    system.write_home("ben", ".forward", "anna\n").expect("written");
    assert_eq!(fate(&lab, &to("anna")).1, "5.4.6");
    system.write_home("ben", ".forward", "# nothing\n").expect("written");
    system.write_home("anna", ".forward", "/home/anna/box/\n").expect("written");
    assert_eq!(fate(&lab, &to("anna")).0, "delivered");
    assert_eq!(fs::read_dir(system.path("/home/anna/box/new")).expect("a Maildir").count(), 1);
    let owner = fs::metadata(system.path("/home/anna/box")).expect("a Maildir").uid();
    assert_eq!(owner, USERS[0].1);
    // Root's own files are out of her reach, whatever her list says.
    fs::write(system.path("/home/root-file"), "untouched").expect("written");
    system.write_home("anna", ".forward", "/home/root-file\n").expect("written");
    assert_eq!(fate(&lab, &to("anna")).0, "deferred");
    assert_eq!(fs::read_to_string(system.path("/home/root-file")).expect("there"), "untouched");
}

/// What delivery says of a trap, and how it is set.
type Trap<'a> = (&'a str, Box<dyn Fn() + 'a>);

#[test]
fn traps_are_seen_and_nothing_is_lost() {
    let Some((lab, system)) = started(None, |_| ()) else { return };
    let forward = system.path("/home/anna/.forward");
    let mbox = system.path("/var/mail/anna");
    fs::write(system.path("/home/target"), "untouched").expect("written");
    let traps: [Trap<'_>; 8] = [
        ("symbolic link", Box::new(|| symlink("/home/target", &mbox).expect("a link"))),
        (
            "second name",
            Box::new(|| {
                fs::write(&mbox, "old\n").expect("written");
                chown(&mbox, Some(USERS[0].1), None).expect("owned");
                fs::hard_link(&mbox, system.path("/var/mail/second")).expect("a link");
            }),
        ),
        (
            "belongs to somebody else",
            Box::new(|| {
                fs::write(&mbox, "").expect("written");
                fs::set_permissions(&mbox, fs::Permissions::from_mode(0o666)).expect("open");
                chown(&mbox, Some(USERS[1].1), None).expect("owned");
            }),
        ),
        (
            "no regular file",
            Box::new(|| {
                assert!(Command::new("mkfifo").arg(&mbox).status().expect("mkfifo").success());
                fs::set_permissions(&mbox, fs::Permissions::from_mode(0o666)).expect("open");
            }),
        ),
        (
            ".forward: it is no regular file",
            Box::new(|| {
                assert!(Command::new("mkfifo").arg(&forward).status().expect("mkfifo").success());
                fs::set_permissions(&forward, fs::Permissions::from_mode(0o644)).expect("open");
            }),
        ),
        (
            ".forward: it is larger than",
            Box::new(|| {
                system.write_home("anna", ".forward", &"ben\n".repeat(100_000)).expect("written");
            }),
        ),
        (
            ".forward: others may write it",
            Box::new(|| {
                system.write_home("anna", ".forward", "ben\n").expect("written");
                fs::set_permissions(&forward, fs::Permissions::from_mode(0o666)).expect("open");
            }),
        ),
        (
            ":include:/home/target is not followed in a .forward",
            Box::new(|| {
                system.write_home("anna", ".forward", ":include:/home/target\n").expect("written");
            }),
        ),
    ];
    for (why, set) in traps {
        drop(fs::remove_file(&mbox));
        drop(fs::remove_file(&forward));
        set();
        let (status, code, reply) = fate(&lab, &to("anna"));
        assert_eq!(status, "deferred", "{why}: {code} {reply}");
        assert!(reply.contains(why), "{why}: {reply}");
    }
    drop(fs::remove_file(&forward));
    assert_eq!(fs::read_to_string(system.path("/home/target")).expect("there"), "untouched");
    drop(fs::remove_file(system.path("/var/mail/second")));
    // All of it comes, once nothing is in the way.
    assert!(lab.daemon().cli(["queue", "retry", "--all"]).expect("the tool runs").status.success());
    assert!(
        lab.wait_for_files(|| system.mbox("anna").matches("From carol").count() == 8),
        "{}",
        system.mbox("anna")
    );
}

#[test]
fn commands_run_only_where_allowed_and_as_nobody() {
    let Some((lab, system)) = started(None, |_| ()) else { return };
    fs::create_dir(system.path("/home/open")).expect("made");
    fs::set_permissions(system.path("/home/open"), fs::Permissions::from_mode(0o777)).expect("open");
    let text = "run: \"|id -un > /home/open/who; cat > /home/open/mail\"\ngone: \"|exit 67\"\n";
    aliases(&system, text, &lab);
    assert_eq!(rcpt(&lab, &to("run")), 451);
    drop(lab);
    drop(system);

    let Some((lab, system)) = started(None, |plan| plan.set("alias.allow_pipes", "true")) else { return };
    fs::create_dir(system.path("/home/open")).expect("made");
    fs::set_permissions(system.path("/home/open"), fs::Permissions::from_mode(0o777)).expect("open");
    aliases(&system, text, &lab);
    assert_eq!(fate(&lab, &to("run")).0, "delivered");
    assert_eq!(fs::read_to_string(system.path("/home/open/who")).expect("it ran"), "nobody\n");
    assert!(
        fs::read_to_string(system.path("/home/open/mail"))
            .expect("it ran")
            .starts_with("From carol@else.example ")
    );
    assert_eq!(fate(&lab, &to("gone")).1, "5.1.1");
}

#[test]
fn a_full_disk_defers_and_leaves_nothing_partial() {
    let Some((lab, system)) = started(Some(256 * 1024), |_| ()) else { return };
    assert_eq!(fate(&lab, &to("anna")).0, "delivered");
    let before = system.mbox("anna");
    let large = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(20_000);
    let content = mta_lab::client::message("carol@else.example", &to("anna"), "large", &large);
    let id = lab.send_content("carol@else.example", &[&to("anna")], &content);
    let shown = lab.settled(&id);
    assert_eq!(shown.recipients[0].last_status.as_deref(), Some("4.3.1"), "{:?}", shown.recipients);
    assert_eq!(system.mbox("anna"), before);
    assert!(!system.path("/var/mail/anna.lock").exists());
}

/// The kinds and subjects of the alerts that are open.
fn open_alerts(lab: &Lab) -> Vec<(String, String)> {
    let status = lab.daemon().cli_json(["status", "--json"]).expect("status");
    let alerts = status["status"]["alerts"].as_array().cloned().unwrap_or_default();
    let word = |alert: &serde_json::Value, name: &str| alert[name].as_str().unwrap_or_default().to_owned();
    alerts.iter().map(|alert| (word(alert, "kind"), word(alert, "subject"))).collect()
}

#[test]
fn maildirs_on_a_full_disk_defer_raise_the_alert_and_lose_nothing() {
    // Our own Maildirs, and those of users, lie on the small disk.
    let Some((lab, system)) = started(Some(512 * 1024), |plan| {
        plan.set("domain.\"own.example\".maildir", "\"/var/mail/virtual/{domain}/{mailbox}\"");
        plan.set("local.mailbox", "\"/var/mail/{user}.dir/\"");
    }) else {
        return;
    };
    let folder = system.path("/var/mail/anna.dir");
    fs::create_dir(&folder).expect("a folder");
    chown(&folder, Some(USERS[0].1), Some(USERS[0].1)).expect("owned");
    let full = ("disk".to_owned(), "mailboxes".to_owned());
    let large = "0123456789abcdefghijklmnopqrstuvwxyz\n".repeat(20_000);
    for (recipient, maildir) in [
        ("alice@own.example".to_owned(), "/var/mail/virtual/own.example/alice"),
        (to("anna"), "/var/mail/anna.dir"),
    ] {
        assert_eq!(fate(&lab, &recipient).0, "delivered");
        assert!(!open_alerts(&lab).contains(&full));
        let content = mta_lab::client::message("carol@else.example", &recipient, "large", &large);
        let id = lab.send_content("carol@else.example", &[&recipient], &content);
        let of = lab.settled(&id).recipients.remove(0);
        assert_eq!((of.status.as_str(), of.last_status.as_deref()), ("deferred", Some("4.3.1")), "{of:?}");
        assert!(open_alerts(&lab).contains(&full), "{:?}", open_alerts(&lab));
        let count = |name: &str| fs::read_dir(system.path(maildir).join(name)).expect("a Maildir").count();
        assert_eq!((count("new"), count("tmp")), (1, 0), "nothing half lies there");
        // With more room it comes, once and whole.
        system.resize_spool(4 << 20).expect("a larger disk");
        assert!(lab.daemon().cli(["queue", "retry", &id]).expect("the tool runs").status.success());
        assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
        let files = fs::read_dir(system.path(maildir).join("new")).expect("a Maildir").flatten();
        let whole =
            files.filter(|file| fs::read_to_string(file.path()).is_ok_and(|text| text.contains(&large)));
        assert_eq!(whole.count(), 1);
        assert!(!open_alerts(&lab).contains(&full), "over");
        for file in fs::read_dir(system.path(maildir).join("new")).expect("a Maildir").flatten() {
            fs::remove_file(file.path()).expect("removed");
        }
        system.resize_spool(512 * 1024).expect("a small disk");
    }
}

#[test]
fn mail_waits_while_the_delivery_process_is_away() {
    let Some((lab, mut system)) = started(None, |_| ()) else { return };
    system.stop_delivery();
    let id = lab.send("carol@else.example", &[&to("anna")]);
    assert_eq!(lab.settled(&id).status, "deferred");
    system.start_delivery(&lab.daemon().config_file()).expect("a delivery process");
    assert!(lab.daemon().cli(["queue", "retry", "--all"]).expect("the tool runs").status.success());
    assert_eq!(lab.wait_for(&id, |message| message.status == "delivered").status, "delivered");
}

fn request(unique: &str) -> Request {
    let letter = Letter {
        unique: unique.into(),
        reverse_path: "<carol@else.example>".into(),
        recipient: to("anna"),
        received_at: 1_700_000_000,
        hostname: HOST.into(),
    };
    Request { version: VERSION, user: "anna".into(), place: Place::Mailbox { forward: true }, letter }
}

#[test]
fn a_delivery_killed_half_way_leaves_no_half_message() {
    let Some((_lab, system)) = started(None, |_| ()) else { return };
    let whole = |unique: &str| {
        let mut stream = UnixStream::connect(system.socket()).expect("connected");
        send(&mut stream, &request(unique)).expect("sent");
        assert_eq!(receive::<Answer>(&mut stream).expect("an answer"), Answer::Go);
        write_frame(&mut stream, b"Subject: whole\r\n\r\nbody\r\n").expect("sent");
        write_frame(&mut stream, b"").expect("sent");
        let answer = receive::<Answer>(&mut stream).expect("an answer");
        assert!(matches!(answer, Answer::Delivered(_)), "{answer:?}");
    };
    whole("first");
    let before = system.mbox("anna");
    let half = |unique: &str| {
        let mut stream = UnixStream::connect(system.socket()).expect("connected");
        send(&mut stream, &request(unique)).expect("sent");
        assert_eq!(receive::<Answer>(&mut stream).expect("an answer"), Answer::Go);
        let part = b"From x\r\nSubject: half\r\n\r\n".iter().copied().chain(b"line\r\n".repeat(10_000));
        write_frame(&mut stream, &part.collect::<Vec<u8>>()).expect("sent");
        // More than is kept back before it is written.
        (0..4).for_each(|_| write_frame(&mut stream, &b"line\r\n".repeat(10_000)).expect("sent"));
        stream.flush().expect("sent");
        stream
    };
    // The client goes away: it is taken back at once.
    drop(half("second"));
    let until = std::time::Instant::now() + WITHIN;
    while system.mbox("anna") != before || system.path("/var/mail/anna.lock").exists() {
        assert!(std::time::Instant::now() < until, "{}", system.mbox("anna").len());
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // The process itself is killed: the next delivery takes it back.
    let stream = half("third");
    while system.mbox("anna").len() <= before.len() {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    system.deliveries().into_iter().for_each(System::kill);
    drop(stream);
    whole("third");
    let after = system.mbox("anna");
    assert!(after.starts_with(&before), "{after}");
    assert_eq!(after.matches("\nSubject: whole\n").count(), 2, "{after}");
    assert!(!after.contains("half"), "{after}");
}

#[test]
fn one_user_cannot_hold_up_the_mail_of_the_others() {
    let Some((lab, system)) = started(None, |plan| plan.set("local.timeout", "\"8s\"")) else { return };
    let path = system.path("/var/mail/anna");
    fs::write(&path, "").expect("written");
    chown(&path, Some(USERS[0].1), None).expect("owned");
    // She locks her mailbox, and stops whatever delivers to it.
    let file = fs::File::options().write(true).open(&path).expect("opened");
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::LockExclusive).expect("locked");
    let asked = |unique: String| {
        let mut stream = UnixStream::connect(system.socket()).expect("connected");
        send(&mut stream, &request(&unique)).expect("sent");
        stream
    };
    let mut streams = Vec::new();
    for number in 0..12 {
        streams.push(asked(format!("held-{number}")));
    }
    let until = std::time::Instant::now() + WITHIN;
    while system.deliveries().len() < 3 {
        assert!(std::time::Instant::now() < until);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let stopped = system.deliveries();
    stopped.iter().for_each(|pid| {
        let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw).expect("a number");
        rustix::process::kill_process(pid, rustix::process::Signal::STOP).expect("stopped");
    });
    // A third of the ten places; the others are there for everybody else.
    assert_eq!(stopped.len(), 3);
    assert_eq!(fate(&lab, &to("ben")).0, "delivered");
    let answers: Vec<Answer> =
        streams.into_iter().map(|mut stream| receive(&mut stream).expect("an answer")).collect();
    let said = |what: &str| {
        answers
            .iter()
            .filter(|answer| matches!(answer, Answer::Deferred { text, .. } if text.contains(what)))
            .count()
    };
    let (ended, refused) = (said("was ended"), said("as many as one user may have"));
    assert!(ended >= 3 && ended + refused == answers.len(), "{answers:?}");
    drop(file);
    assert_eq!(fate(&lab, &to("anna")).0, "delivered");
}
