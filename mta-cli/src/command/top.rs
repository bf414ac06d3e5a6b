//! `top`: a screen that is drawn again and again.

use std::io::{IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use mta_core::control::{Request, TopView};
use mta_core::log::visible;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use serde_json::json;

use super::{Ended, load};
use crate::args::Watch;
use crate::client::{Client, Problem};
use crate::exit::Exit;
use crate::output::{self, bytes, relative, rough};

/// A screen where the terminal does not say how large it is.
const SCREEN: (usize, usize) = (80, 24);

/// How long the reasons are waited for, and how long between two questions.
const MAX_PENDING: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Between two looks at most, seconds.
const MAX_INTERVAL: u64 = 3_600;

pub(super) fn run(file: Option<&Path>, verb: &Watch) -> Ended {
    let (config, _) = load(file)?;
    let mut client = Client::connect(&config, false)?;
    let is_terminal = std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if verb.json {
        let view = complete(&mut client)?;
        output::print_json(json!({ "top": view }));
        return Ok(Exit::DONE);
    }
    if verb.once || !is_terminal {
        let view = complete(&mut client)?;
        let (columns, lines) = output::size().unwrap_or((SCREEN.0, usize::MAX));
        output::print(&screen(&view, None, columns, lines));
        return Ok(Exit::DONE);
    }
    watch(&mut client, Duration::from_secs(verb.interval.clamp(1, MAX_INTERVAL)))
}

/// A screen that is not drawn again: with the reasons, which those of a long queue take a moment for.
fn complete(client: &mut Client) -> Result<TopView, Problem> {
    let begun = Instant::now();
    loop {
        let view: TopView = client.ask_one(&Request::Top)?;
        if !view.reasons_pending || begun.elapsed() > MAX_PENDING {
            return Ok(view);
        }
        std::thread::sleep(ASK_AGAIN);
    }
}

/// Draws until somebody says q.
fn watch(client: &mut Client, interval: Duration) -> Ended {
    let terminal = Terminal::take()?;
    let mut before: Option<(Instant, TopView)> = None;
    loop {
        let view: TopView = client.ask_one(&Request::Top)?;
        let now = Instant::now();
        let rates = before.as_ref().map(|(then, old)| Rates::between(old, &view, now.duration_since(*then)));
        let (columns, lines) = output::size().unwrap_or(SCREEN);
        terminal.draw(&screen(&view, rates.as_ref(), columns, lines.saturating_sub(1)));
        before = Some((now, view));
        if terminal.wants_end(interval) {
            return Ok(Exit::DONE);
        }
    }
}

/// How much happened between two looks, a minute.
struct Rates {
    accepted: f64,
    delivered: f64,
    failed: f64,
}

impl Rates {
    fn between(old: &TopView, new: &TopView, time: Duration) -> Self {
        let rate = |old: u64, new: u64| {
            let count = u32::try_from(new.saturating_sub(old)).unwrap_or(u32::MAX);
            f64::from(count) / time.as_secs_f64().max(0.001) * 60.0
        };
        Self {
            accepted: rate(old.queue.accepted_total, new.queue.accepted_total),
            delivered: rate(old.queue.delivered_total, new.queue.delivered_total),
            failed: rate(old.queue.failed_total, new.queue.failed_total),
        }
    }
}

/// The screen: no line longer, and no more lines, than there is room for.
fn screen(view: &TopView, rates: Option<&Rates>, columns: usize, lines: usize) -> String {
    let now = view.at.parse::<jiff::Timestamp>().map_or_else(|_| SystemTime::now(), SystemTime::from);
    let mut out = head(view, rates, now);
    // What is left is shared between why mail waits, where it waits, and where it goes.
    let room = lines.saturating_sub(out.len() + 3);
    let (reasons, rest) = (room / 3, room - room / 3);
    let (destinations, under_way) = (rest - rest / 2, rest / 2);
    out.push(String::new());
    let pending = if view.reasons_pending { " (looking...)" } else { "" };
    out.push(format!(" WAITING  OLDEST     WHY IT WAITS{pending}"));
    for group in view.reasons.iter().take(reasons.saturating_sub(1)) {
        let oldest = group.oldest_at.as_deref().map(|at| relative(at, now)).unwrap_or_default();
        out.push(format!("{:>8}  {oldest:<9}  {}", group.recipients + group.held, visible(&group.key)));
    }
    out.push(" WAITING  NEXT       DESTINATION".to_owned());
    for found in view.destinations.iter().take(destinations.saturating_sub(1)) {
        let next = found.due_at.as_deref().map(|at| relative(at, now)).unwrap_or_default();
        let paused = if found.paused { "  PAUSED" } else { "" };
        let reply =
            found.last_reply.as_deref().map(|reply| format!("  {}", visible(reply))).unwrap_or_default();
        out.push(format!("{:>8}  {next:<9}  {}{paused}{reply}", found.waiting, visible(&found.destination)));
    }
    out.push("     OUT             NEXT HOP".to_owned());
    for (hop, count) in view.under_way.iter().take(under_way.saturating_sub(1)) {
        out.push(format!("{count:>8}             {}", visible(hop)));
    }
    let cut = |line: &String| line.chars().take(columns).collect::<String>().trim_end().to_owned() + "\n";
    out.iter().take(lines).map(cut).collect()
}

/// The lines above the tables.
fn head(view: &TopView, rates: Option<&Rates>, now: SystemTime) -> Vec<String> {
    let status = &view.status;
    let up = status.started_at.as_deref().and_then(|at| at.parse::<jiff::Timestamp>().ok());
    let up = up.and_then(|at| now.duration_since(SystemTime::from(at)).ok()).map_or(0, |up| up.as_secs());
    let first = if view.running {
        format!("mta {} on {}, up {}, {}", status.version, visible(&status.hostname), rough(up), view.at)
    } else {
        format!("the daemon does not run; the queue as it lies there, {}", view.at)
    };
    let queue = &view.queue;
    let mut lines = vec![
        first,
        format!(
            "queue    {} messages, {}; {} wait, {} held, {} damaged",
            queue.messages,
            bytes(queue.content_bytes),
            queue.waiting,
            queue.held,
            queue.damaged
        ),
        format!("sessions {} in, {} deliveries out", status.sessions, status.deliveries),
        match rates {
            Some(r) => format!(
                "a minute {:.0} accepted, {:.0} delivered, {:.0} failed",
                r.accepted, r.delivered, r.failed
            ),
            None => format!(
                "in all   {} accepted, {} delivered, {} failed",
                queue.accepted_total, queue.delivered_total, queue.failed_total
            ),
        },
    ];
    for pause in &status.paused {
        lines.push(format!("PAUSED   {} by {}: {}", pause.name, visible(&pause.by), visible(&pause.reason)));
    }
    for alert in &status.alerts {
        lines.push(format!("ALERT    {}", visible(&alert.text)));
    }
    lines
}

/// The terminal, taken over for a screen and given back as it was.
struct Terminal {
    before: Termios,
}

impl Terminal {
    fn take() -> Result<Self, Problem> {
        let failed =
            |error| Problem::new(Exit::INTERNAL, format!("top: the terminal cannot be used: {error}"));
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        // ^C comes as a character, so that the terminal is always given back.
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        let terminal = Self { before };
        terminal.write("\x1b[?1049h\x1b[?25l");
        Ok(terminal)
    }

    fn write(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    fn draw(&self, screen: &str) {
        // Each line clears what was behind it, so that nothing flickers.
        let lines: String = screen.lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
        self.write(&format!("\x1b[H{lines}\x1b[J"));
    }

    /// Waits so long for a key; true for q, ^C, ^D or the end of input.
    fn wants_end(&self, interval: Duration) -> bool {
        let until = Instant::now() + interval;
        let input = std::io::stdin();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec {
                tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut ready = [PollFd::from_borrowed_fd(input.as_fd(), PollFlags::IN)];
            match poll(&mut ready, Some(&timeout)) {
                Ok(0) => return false,
                Ok(_) => {}
                // A window that changed its size is drawn anew.
                Err(_) => return false,
            }
            let mut key = [0];
            match input.lock().read(&mut key) {
                Ok(1) if matches!(key, [b'q' | b'Q' | 3 | 4]) => return true,
                Ok(1) => {}
                _ => return true,
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.write("\x1b[?25h\x1b[?1049l");
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use mta_core::control::{DestinationView, GroupView};

    use super::*;

    #[test]
    fn everything_fits_80_by_24() {
        let group = |n: u64| GroupView {
            key: format!("reason {n} {}", "x".repeat(200)),
            recipients: n,
            ..<_>::default()
        };
        let destination = |n: u64| DestinationView {
            destination: format!("d{n}.example"),
            waiting: n,
            last_reply: Some("\u{1b}[31m red".into()),
            ..<_>::default()
        };
        let mut view = TopView {
            at: "2026-11-23T22:00:00Z".into(),
            running: true,
            reasons: (0..10).map(group).collect(),
            destinations: (0..10).map(destination).collect(),
            under_way: (0..10).map(|n| (format!("mx:d{n}.example"), n)).collect(),
            ..TopView::default()
        };
        view.queue.waiting = 7;
        let text = screen(&view, None, 80, 23);
        assert!(text.lines().count() <= 23, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(
            text.contains("7 wait") && text.contains("d1.example") && text.contains("mx:d1.example"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        // In no terminal at all it does not fall over.
        assert_eq!(screen(&view, None, 0, 0), "");
    }
}
