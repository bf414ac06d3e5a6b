//! `status`: what the daemon does and how much waits.

use std::fmt::Write;
use std::path::Path;
use std::time::SystemTime;

use mta_core::control::{Request, StatusView};
use mta_core::log::visible;
use serde_json::json;

use super::{Ended, load};
use crate::args::Status;
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
    Ok(match (client.is_daemon(), status.alerts.is_empty()) {
        (false, _) => Exit::UNREACHABLE,
        (true, false) => Exit::PROBLEMS,
        (true, true) => Exit::DONE,
    })
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
    for alert in &status.alerts {
        let subject = if alert.subject.is_empty() { String::new() } else { format!(" {}", alert.subject) };
        line("ALERT", &format!("{}{subject}: {}", alert.kind, alert.text));
        line("", &format!("what to do: {}", alert.remedy));
        let (first, last) = (relative(&alert.first_at, now), relative(&alert.last_at, now));
        line("", &format!("first seen {first}, last {last}, {} in all", alert.count));
    }
    out
}
