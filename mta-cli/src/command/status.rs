//! `status`: what the daemon does and how much waits; `reload`.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use mta_core::control::{Request, StatusView};
use mta_core::log::visible;
use serde_json::json;

use super::{Ended, load};
use crate::args::{Reload, Status};
use crate::client::Client;
use crate::exit::Exit;
use crate::output::{self, bytes, relative};

pub(super) fn run(file: Option<&Path>, verb: &Status) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let mut status: StatusView = client.ask_one(&Request::Status)?;
    if !client.is_daemon() {
        status.hostname = config.effective_hostname().to_string();
    }
    if verb.json {
        output::print_json(json!({ "status": status }));
    } else {
        output::print(&text(&status));
    }
    Ok(match (client.is_daemon(), status.alerts.is_empty() && status.paused.is_empty()) {
        (false, _) => Exit::UNREACHABLE,
        (true, false) => Exit::PROBLEMS,
        (true, true) => Exit::DONE,
    })
}

/// Has the daemon read its configuration again. It is checked here first: a mistake is told without a daemon, too.
pub(super) fn reload(file: Option<&Path>, verb: &Reload) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let mut keys = Vec::new();
    client.ask_all(&Request::Reload, &mut |row: Waiting| keys.push(row.key))?;
    if verb.json {
        output::print_json(json!({ "reloaded": true, "needs_restart": keys }));
    } else {
        output::print("reloaded\n");
        for key in &keys {
            output::print(&format!("{} needs a restart\n", visible(key)));
        }
    }
    Ok(Exit::DONE)
}

/// A key that waits for a restart.
#[derive(serde::Deserialize)]
struct Waiting {
    key: String,
}

/// The status for a person.
fn text(status: &StatusView) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(out, "{name:<12} {}", visible(value));
    };
    let now = SystemTime::now();
    match (&status.started_at, status.pid) {
        (Some(at), Some(pid)) if status.running => {
            line(
                "daemon",
                &format!("mta {} runs as process {pid}, started {}", status.version, relative(at, now)),
            );
        }
        _ if status.running => line("daemon", &format!("mta {} runs", status.version)),
        _ => line("daemon", "does not run"),
    }
    line("host", &status.hostname);
    if status.running {
        line("config", status.config.as_deref().unwrap_or("none: development default"));
        line("listening", &status.listen.join(", "));
        line("sessions", &format!("{} in, {} out", status.sessions, status.deliveries));
        line("dns", &status.dns);
    }
    if let Some(record) = &status.tlsa {
        line("publish", record);
    }
    let queue = &status.queue;
    let plural = if queue.messages == 1 { "message" } else { "messages" };
    line("queue", &format!("{} {plural}, {}", queue.messages, bytes(queue.content_bytes)));
    line("recipients", &format!("{} wait, {} held, {} damaged", queue.waiting, queue.held, queue.damaged));
    line(
        "in all",
        &format!(
            "{} accepted, {} delivered, {} failed",
            queue.accepted_total, queue.delivered_total, queue.failed_total
        ),
    );
    if let (Some(written), Some(started)) = (status.written_bytes, &status.started_at) {
        let a_day = per_day(written, started, now);
        line("written", &format!("{} to the disk for the queue, {} a day", bytes(written), bytes(a_day)));
    }
    for pause in &status.paused {
        let until = pause.until.as_deref().map(|until| format!(" until {until}")).unwrap_or_default();
        let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
        line(
            "PAUSED",
            &format!("{} since {} by {}{until}{reason}", pause.name, relative(&pause.since, now), pause.by),
        );
    }
    for alert in &status.alerts {
        let subject = if alert.subject.is_empty() { String::new() } else { format!(" {}", alert.subject) };
        line("ALERT", &format!("{}{subject}: {}", alert.kind, alert.text));
        line("", &format!("what to do: {}", alert.remedy));
        let (first, last) = (relative(&alert.first_at, now), relative(&alert.last_at, now));
        line("", &format!("first seen {first}, last {last}, {} in all", alert.count));
    }
    out
}

/// What was written since the start, as so much a day; a start of less than an hour ago counts as an hour.
fn per_day(written: u64, started: &str, now: SystemTime) -> u64 {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let started = started.parse::<jiff::Timestamp>().map_or(0, |at| at.as_second().unsigned_abs());
    let seconds = now.saturating_sub(started).max(3_600);
    u64::try_from(u128::from(written) * 86_400 / u128::from(seconds)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn octets_a_day() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(864_000);
        assert_eq!(per_day(1_000, "1970-01-09T00:00:00Z", now), 500);
        assert_eq!(per_day(10, "1970-01-10T23:59:59Z", now), 240, "the first hour");
    }
}
