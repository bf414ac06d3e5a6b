//! What an administrator does to the queue of a running server, and what stands still because he wants it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Output, Stdio};

use mta_lab::lab::{self, Lab, OWN_DOMAIN, Plan};
use mta_lab::mx::{Behaviour, Moment};
use mta_lab::peers;
use mta_lab::zone::Zone;
use serde_json::Value;

/// Two sites: one that is never ready, one that takes everything. Nothing is tried a second time by itself.
fn plan() -> Plan {
    let mut plan = Plan::new();
    plan.set("queue.retry", "[\"1h\"]");
    let busy =
        Behaviour::plain("mx.busy.example").reply_at(Moment::Rcpt, "450 4.7.1 not today (id 5f3a9c81d2)");
    plan.site_with("busy.example", Some(busy), &[], Zone::unsigned);
    plan.site_with("good.example", Some(Behaviour::plain("mx.good.example")), &[], Zone::unsigned);
    plan
}

fn cli(lab: &Lab, words: &[&str]) -> Output {
    lab.daemon().cli(words.iter().copied()).expect("the tool runs")
}

/// Runs the tool, which must end so.
fn ends(lab: &Lab, words: &[&str], exit: i32) -> String {
    let output = cli(lab, words);
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(exit), "{words:?}: {told}");
    told
}

fn json(lab: &Lab, words: &[&str]) -> Value {
    let output = cli(lab, words);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{words:?}: {e}: {output:?}"))
}

/// Sends to the site that is never ready, and waits until that was found out.
fn deferred(lab: &Lab, to: &str) -> String {
    let id = lab.send("alice@own.example", &[to]);
    lab.wait_for(&id, |message| message.status == "deferred");
    id
}

#[test]
fn the_queue_is_looked_at_and_changed_by_selection() {
    let lab = plan().start().expect("a laboratory");
    let ids: Vec<String> =
        ["a", "b", "c", "d"].iter().map(|n| deferred(&lab, &format!("{n}@busy.example"))).collect();

    let summary = json(&lab, &["queue", "summary", "--by", "reason", "--json"]);
    let reason = "450 not today (id ID";
    let group = &summary["groups"][0];
    assert!(group["key"].as_str().is_some_and(|key| key.starts_with(reason)), "{summary:#}");
    assert_eq!(group["recipients"], 4, "{summary:#}");
    let by_mx = ends(&lab, &["queue", "summary", "--by", "mx"], 0);
    assert!(by_mx.starts_with("4\t0\t") && by_mx.trim_end().ends_with("\tmx.busy.example"), "{by_mx}");

    // Selectors.
    let lines = |words: &[&str]| ends(&lab, words, 0).lines().count();
    assert_eq!(
        lines(&["queue", "list", "--reason", "policy", "--next-hop", "mx.busy", "--newer-than", "1h"]),
        4
    );
    assert_eq!(lines(&["queue", "list", "--to", "b@busy.example", "--domain", "busy.example"]), 1);
    ends(&lab, &["queue", "list", "--older-than", "1h"], 2);
    ends(&lab, &["queue", "list", "--older-than", "soon"], 64);
    assert_eq!(lines(&["queue", "list", "--limit", "2", "--jsonl"]), 3, "two, and that there are more");

    // Nothing is destroyed by accident.
    let refused = ends(&lab, &["queue", "drop", "--domain", "busy.example"], 64);
    assert!(refused.contains("4 recipients would be dropped; give --yes"), "{refused}");
    ends(&lab, &["queue", "drop"], 64);
    ends(&lab, &["queue", "bounce", "--all", "--domain", "busy.example", "--yes"], 64);
    assert!(
        ends(&lab, &["queue", "bounce", &ids[0], "--dry-run"], 0)
            .starts_with("1 recipient would be returned")
    );

    // Held, and away.
    ends(&lab, &["queue", "hold", &ids[0], "--note", "a loop?"], 0);
    assert!(ends(&lab, &["queue", "list", "--status", "held"], 0).contains("a loop?"));
    assert!(ends(&lab, &["queue", "retry", &ids[0]], 2).starts_with("0 recipients"));
    ends(&lab, &["queue", "release", &ids[0]], 0);
    ends(&lab, &["queue", "drop", &ids[0], "--yes"], 0);
    assert_eq!(lab.show(&ids[0]).status, "dropped");

    // Back to the sender, with the reason.
    ends(&lab, &["queue", "bounce", &ids[1], "--note", "they are gone", "--yes"], 0);
    let told = || {
        lab.maildir(OWN_DOMAIN, "alice").iter().any(|m| String::from_utf8_lossy(m).contains("they are gone"))
    };
    assert!(lab.wait_for_files(told), "alice is told");

    // To another address, and another way.
    ends(&lab, &["queue", "redirect", &ids[2], "--to", "@good.example", "--yes"], 0);
    ends(&lab, &["queue", "reroute", &ids[3], "--via", "mx.good.example", "--yes"], 0);
    for id in &ids[2..] {
        let message = lab.wait_for(id, |message| message.finished_at.is_some());
        assert_eq!(message.status, "delivered", "{message:#?}");
    }
    let taken = lab.mx("mx.good.example").messages();
    let mut to: Vec<String> = taken.iter().flat_map(|message| message.forward_paths.clone()).collect();
    to.sort();
    assert_eq!(to.len(), 2, "{to:?}");
    assert!(to[0].contains("c@good.example") && to[1].contains("d@busy.example"), "{to:?}");

    // All of it is told.
    let story = ends(&lab, &["trace", "--rcpt", "d@busy.example"], 0);
    for part in [
        "arrived, ",
        "attempt: deferred",
        "rerouted by ",
        "via mx.good.example",
        "attempt: delivered",
        "finished: delivered",
    ] {
        assert!(story.contains(part), "{part}: {story}");
    }
    let traced = json(&lab, &["trace", &ids[2], "--json"]);
    assert_eq!(traced["messages"][0]["events"][0]["what"], "redirected", "{traced:#}");
    ends(&lab, &["trace", "--msgid", "nobody@nowhere.example"], 2);
    assert!(ends(&lab, &["top", "--once"], 0).contains("WHY IT WAITS"));
}

#[test]
fn mail_to_come_is_held_by_a_rule_and_without_a_daemon_the_queue_is_there_all_the_same() {
    let mut lab = plan().start().expect("a laboratory");
    ends(
        &lab,
        &["queue", "hold-rule", "add", "--to", "@good.example", "--reason", "they move", "--until", "1d"],
        0,
    );
    let id = lab.send("alice@own.example", &["x@good.example"]);
    let message = lab.wait_for(&id, |message| message.status == "held");
    assert_eq!(message.recipients[0].note.as_deref(), Some("rule 1: they move"));
    ends(&lab, &["queue", "hold-rule", "remove", "1"], 0);
    ends(&lab, &["queue", "hold-rule", "remove", "1"], 2);

    lab.daemon_mut().stop().expect("stopped");
    let listed = ends(&lab, &["queue", "list", "--status", "held"], 0);
    assert!(listed.contains(&id) && listed.contains("the daemon does not answer"), "{listed}");
    ends(&lab, &["queue", "release", &id], 0);
    ends(&lab, &["log"], 69);
    ends(&lab, &["status"], 69);
    lab.daemon_mut().launch().expect("started");
    lab.wait_for(&id, |message| message.status == "delivered");
}

#[test]
fn what_is_paused_stands_still_across_a_restart() {
    let mut lab = plan().start().expect("a laboratory");
    ends(&lab, &["pause", "out", "--reason", "maintenance"], 0);
    ends(&lab, &["pause", "sideways"], 64);
    let id = lab.send("alice@own.example", &["x@good.example"]);
    // Local delivery goes on.
    let own = lab.send("alice@own.example", &["bob@own.example"]);
    lab.wait_for(&own, |message| message.status == "delivered");
    lab.daemon_mut().stop().expect("stopped");
    lab.daemon_mut().launch().expect("started");
    let status = ends(&lab, &["status"], 1);
    assert!(status.contains("PAUSED") && status.contains("maintenance"), "{status}");
    let own = lab.send("alice@own.example", &["bob@own.example"]);
    lab.wait_for(&own, |message| message.status == "delivered");
    assert_eq!((lab.show(&id).status.as_str(), lab.show(&id).attempts), ("queued", 0));
    assert_eq!(json(&lab, &["dest", "show", "good.example", "--json"])["destinations"][0]["paused"], true);

    // A single destination stays behind when the rest moves on.
    ends(&lab, &["dest", "pause", "good.example", "--until", "1d"], 0);
    ends(&lab, &["resume", "out"], 0);
    ends(&lab, &["resume", "out"], 2);
    deferred(&lab, "y@busy.example");
    assert_eq!(lab.show(&id).attempts, 0);
    ends(&lab, &["dest", "resume", "good.example"], 0);
    lab.wait_for(&id, |message| message.status == "delivered");

    // Clients keep their mail and come again.
    ends(&lab, &["pause", "in"], 0);
    let mut stream = BufReader::new(std::net::TcpStream::connect(lab.daemon().address()).expect("connected"));
    let mut greeting = String::new();
    stream.read_line(&mut greeting).expect("a greeting");
    assert!(greeting.starts_with("421 4.3.2 "), "{greeting}");
    ends(&lab, &["resume", "in"], 0);
    lab.send("alice@own.example", &["bob@own.example"]);
}

#[test]
fn the_log_is_followed_by_selection() {
    let lab = plan().start().expect("a laboratory");
    let first = deferred(&lab, "a@busy.example");
    let lines = ends(&lab, &["log", "-n", "50", "--qid", &first], 0);
    assert!(lines.lines().count() >= 2 && lines.lines().all(|line| line.contains(&first)), "{lines}");
    ends(&lab, &["log", "--level", "loud"], 64);

    let program = lab::program(lab.directory()).expect("the program");
    let mut child = Command::new(program)
        .args(["log", "-f", "-n", "1", "--event", "accepted", "--jsonl", "--config"])
        .arg(lab.daemon().config_file())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    // The first line was there before: from now on nothing is missed.
    assert!(lines.next().expect("a line").expect("read").contains(&first));
    let second = lab.send("alice@own.example", &["bob@own.example"]);
    let line: Value = serde_json::from_str(&lines.next().expect("a line").expect("read")).expect("JSON");
    assert_eq!(
        (&line["facts"]["qid"], &line["facts"]["event"]),
        (&Value::from(second), &Value::from("accepted"))
    );
    child.kill().expect("killed");
    child.wait().expect("ended");
}

/// Runs the tool on a terminal of so many columns, where a question is answered with this; how it ended and what was seen.
fn on_terminal(lab: &Lab, columns: usize, words: &str, answer: &str) -> (i32, String) {
    let program = lab::program(lab.directory()).expect("the program");
    let config = lab.daemon().config_file();
    let command =
        format!("stty cols {columns}; exec {} --config {} {words}", program.display(), config.display());
    let mut child = Command::new("script")
        .args(["-q", "-e", "-c", &command, "/dev/null"])
        .env_remove("COLUMNS")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a terminal");
    let (mut input, mut output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut seen, mut octet) = (Vec::new(), [0]);
    while output.read(&mut octet).is_ok_and(|count| count > 0) {
        seen.push(octet[0]);
        if seen.ends_with(b"[y/N] ") {
            input.write_all(answer.as_bytes()).expect("answered");
        }
    }
    let status = child.wait().expect("ended");
    (status.code().unwrap_or(-1), String::from_utf8_lossy(&seen).replace('\r', ""))
}

#[test]
fn on_a_terminal_lines_fit_and_what_cannot_be_undone_is_asked() {
    if peers::missing(&["script", "stty"]).is_some() {
        return;
    }
    let lab = plan().start().expect("a laboratory");
    let id = deferred(&lab, "somebody.with.a.long.name@busy.example");
    for words in [format!("queue show {id}"), format!("trace {id}")] {
        let (exit, text) = on_terminal(&lab, 62, &words, "");
        assert_eq!(exit, 0, "{text}");
        assert!(text.contains("not today") && text.lines().count() > 6, "{text}");
        for line in text.lines() {
            // A word alone may be longer than a line.
            assert!(line.chars().count() <= 62 || !line.trim().contains(' '), "{line:?} in\n{text}");
        }
    }
    let (_, list) = on_terminal(&lab, 80, "queue list", "");
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("ID ") && lines[2].starts_with(&id), "{list}");
    assert!(lines[3].contains("somebody.with.a.long.name@busy.example  450 "), "{list}");

    let (exit, text) = on_terminal(&lab, 80, "queue drop --domain busy.example", "n\n");
    assert!(
        exit != 0 && text.contains("Drop 1 recipient?") && text.contains("nothing was changed"),
        "{text}"
    );
    assert_eq!(lab.show(&id).status, "deferred");
    let (exit, text) = on_terminal(&lab, 80, "queue drop --domain busy.example", "y\n");
    assert!(exit == 0 && text.contains("1 recipient dropped"), "{text}");
    assert_eq!(lab.show(&id).status, "dropped");
}

/// What the administrator knows of one provider, and this server does not.
const OWN_TABLE: &str = "[[provider]]\nname = \"busy\"\ntitle = \"Busy Mail\"\nmx = [\"mx.busy.example\"]\n\
     contact = \"https://busy.example/\"\n\n[[reply]]\nprovider = \"busy\"\ntext = [\"not today\"]\n\
     class = \"rate-limited\"\nadvice = \"Ring them up: 555 0100.\"\n";

#[test]
fn a_provider_of_the_administrators_own_table_slows_its_group_until_that_is_reset() {
    let folder = tempfile::tempdir().expect("a folder");
    let table = folder.path().join("replies.toml");
    std::fs::write(&table, OWN_TABLE).expect("written");
    let mut plan = plan();
    plan.set("outbound.provider_replies_file", &format!("{:?}", table.display().to_string()));
    let lab = plan.start().expect("a laboratory");
    let destination = || json(&lab, &["dest", "show", "busy.example", "--json"])["destinations"][0].clone();
    let before = destination();
    assert!(before["slowed_by"].is_null() && before["failures"] == 0, "{before:#}");
    let id = deferred(&lab, "a@busy.example");

    // Why, and what can be done.
    let shown = ends(&lab, &["queue", "show", &id], 0);
    for part in ["Busy Mail", "Ring them up: 555 0100."] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    assert!(lab.wait_for_files(|| destination()["under_way"] == 0), "the delivery has ended");
    let slowed = destination();
    assert_eq!((&slowed["slowed_by"], &slowed["counted_for"]), (&"rate-limited".into(), &"busy".into()));
    assert!(slowed["held_back_until"].is_string(), "{slowed:#}");
    if peers::missing(&["script", "stty"]).is_none() {
        let (_, story) = on_terminal(&lab, 80, "dest show busy.example", "");
        assert!(story.contains("slowed by    its replies: rate-limited"), "{story}");
    }

    // Forgotten, all of it; what waits is due by its own time.
    ends(&lab, &["dest", "reset", "busy.example"], 0);
    let after = destination();
    assert!(after["slowed_by"].is_null() && after["held_back_until"].is_null(), "{after:#}");
    assert_eq!((&after["failures"], &after["waiting"]), (&0.into(), &1.into()), "{after:#}");
    assert!(after["at_once"].is_null() && slowed["at_once"] == 1, "{after:#}\n{slowed:#}");
    ends(&lab, &["dest", "reset", "nonesuch.example"], 2);
    ends(&lab, &["queue", "retry", &id], 0);
    lab.wait_for(&id, |message| message.attempts == 2);

    // The question before mail is sent reads the same table, and says where it is wrong.
    ends(&lab, &["explain", "busy.example"], 0);
    let probed = ends(&lab, &["probe", "busy.example"], 0);
    assert!(probed.contains("mx.busy.example"), "{probed}");
    std::fs::write(&table, "[[reply]]\nclass = \"rude\"\n").expect("written");
    let told = ends(&lab, &["explain", "busy.example"], 64);
    assert!(told.contains("outbound.provider_replies_file"), "{told}");
}

#[test]
fn without_a_daemon_everything_can_be_looked_at_and_changed() {
    let mut lab = plan().start().expect("a laboratory");
    let id = deferred(&lab, "a@busy.example");
    lab.daemon_mut().stop().expect("stopped");
    for words in [
        &["queue", "list"][..],
        &["queue", "summary", "--by", "reason"],
        &["queue", "show", &id],
        &["queue", "show", &id, "--headers"],
        &["trace", &id],
        &["dest", "show", "busy.example"],
    ] {
        let told = ends(&lab, words, 0);
        assert!(told.contains("the daemon does not answer"), "{words:?}: {told}");
    }
    let told = ends(&lab, &["queue", "hold", &id, "--note", "later"], 0);
    assert!(told.contains("1 recipient held"), "{told}");
    assert!(ends(&lab, &["queue", "list", "--status", "held"], 0).contains("later"));
}
